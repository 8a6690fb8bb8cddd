//! A cross-encoder: reads query and passage together and gives one score for the pair.
//!
//! Slower than the encoder by the number of candidates, and nothing of it can be stored, so it is no
//! part of serving: the trainer may ask one for pseudo-labels (`docs/teachers.md`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::bert::{Bert, Head, PaddedBatch};
use crate::config::{BertShape, check_one_label};
use crate::device::DeviceKind;
use crate::error::{EncoderError, Role};
use crate::network::{padded, read};
use crate::tokenize::TextTokenizer;
use crate::weights::{WEIGHTS_FILE, Weights};

/// Tokens of a pair at most, whatever its positions allow: what BERT cross-encoders are trained on.
const MAX_TOKENS: usize = 512;
/// Tokens of a pair at least: `CLS`, two `SEP` and a token of each text.
const MIN_TOKENS: usize = 5;

/// A BERT cross-encoder with one label (`BertForSequenceClassification`), such as
/// `cross-encoder/ms-marco-MiniLM-L-6-v2`, in Hugging Face layout.
///
/// Deterministic on CPU: a pair has the same score in every batch up to 1e-5.
#[derive(Debug)]
pub struct CrossEncoder {
    weights: PathBuf,
    shape: BertShape,
    tokenizer: TextTokenizer,
    device: DeviceKind,
    bert: Bert,
    head: Head,
}

impl CrossEncoder {
    /// Loads `config.json`, `tokenizer.json` and `model.safetensors` of `dir` on `device`, and scores
    /// one pair. No network access.
    ///
    /// # Errors
    ///
    /// Each names the file, the tensor where there is one, and the remedy.
    pub fn load(dir: &Path, device: DeviceKind) -> Result<Self, EncoderError> {
        let load = || {
            let shape = BertShape::read(dir)?;
            check_one_label(dir)?;
            let too_small = |what| EncoderError::unsupported(&dir.join("config.json"), what);
            if shape.type_vocab_size < 2 {
                return Err(too_small("type_vocab_size below 2 with pairs of texts"));
            }
            if shape.max_position_embeddings < MIN_TOKENS {
                return Err(too_small("max_position_embeddings below 5"));
            }
            let (tokenizer, _) = TextTokenizer::read(dir, shape.vocab_size)?;
            let weights = Weights::read_with_head(dir, &shape)?;
            let (bert, head) = weights.load_with_head(dir, &shape, &device.device()?)?;
            let network = CrossEncoder {
                weights: dir.join(WEIGHTS_FILE),
                shape,
                tokenizer,
                device,
                bert,
                head,
            };
            network.score(&[("a short probe", "of the weights")])?;
            Ok(network)
        };
        load().map_err(EncoderError::of_cross_encoder)
    }

    /// Scores `(query, passage)` pairs, in their order: logits, higher = more relevant. Pairs longer
    /// than 512 tokens are cut, the longer text first.
    ///
    /// All pairs make one padded batch on the calling thread (and its rayon pool): the caller
    /// chooses how many to give, and gives pairs of similar length together.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Compute`] when the device fails, [`EncoderError::NotFinite`] for a score that
    /// is no number.
    pub fn score<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
    ) -> Result<Vec<f32>, EncoderError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let most = self.shape.max_position_embeddings.min(MAX_TOKENS);
        let tokens = pairs
            .iter()
            .map(|(query, passage)| self.tokenizer.pair(query.as_ref(), passage.as_ref(), most))
            .collect::<Result<Vec<_>, _>>()?;
        // burn reports a misuse by panicking; the caller gets an error.
        let run = AssertUnwindSafe(|| self.forward(&tokens));
        let scores = catch_unwind(run).unwrap_or_else(|_| {
            Err(EncoderError::Compute(
                "the forward pass panicked; its message is in the log".into(),
            ))
        })?;
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(EncoderError::NotFinite {
                role: Role::CrossEncoder,
                path: self.weights.clone(),
            });
        }
        Ok(scores)
    }

    /// `tokens`: ids of each pair, and how many of them are its first text's.
    fn forward(&self, tokens: &[(Vec<u32>, usize)]) -> Result<Vec<f32>, EncoderError> {
        let mut lengths: Vec<usize> = tokens.iter().map(|(ids, _)| ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let (rows, seq) = padded(&self.shape, self.device, tokens.len(), longest);
        // An added row attends to its first token alone; nobody reads it.
        lengths.resize(rows, 1);
        let (mut ids, mut kinds) = (vec![0i64; rows * seq], vec![0i64; rows * seq]);
        let slots = ids.chunks_exact_mut(seq).zip(kinds.chunks_exact_mut(seq));
        for ((pair, first), (ids, kinds)) in tokens.iter().zip(slots) {
            for (slot, &id) in ids.iter_mut().zip(pair) {
                *slot = i64::from(id);
            }
            kinds[*first..pair.len()].fill(1);
        }
        let batch = PaddedBatch {
            ids,
            kinds: Some(kinds),
            lengths: &lengths,
            seq,
        };
        let hidden = self.bert.forward(batch, self.device.into(), false)?.hidden;
        let [_, d] = hidden.dims();
        let cls = hidden.reshape([rows, seq * d]).slice([0..rows, 0..d]);
        let mut scores = read(self.head.forward(cls))?;
        scores.truncate(tokens.len());
        Ok(scores)
    }
}
