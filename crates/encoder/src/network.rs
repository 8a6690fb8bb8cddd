//! The loaded network: runs one padded batch and turns hidden states into what callers use.

use std::path::Path;

use burn::tensor::Tensor;

use crate::batch::{Budget, Item, Place};
use crate::bert::{Bert, Elementwise, PaddedBatch};
use crate::config::{BertShape, EncoderConfig, Pooling};
use crate::device::DeviceKind;
use crate::encoder::LoadOptions;
use crate::encoding::Encoding;
use crate::error::{EncoderError, Role};
use crate::host::HostBert;
use crate::kernels::compute;
use crate::space::EmbeddingSpaceId;
use crate::tokenize::TextTokenizer;
use crate::weights::{WEIGHTS_FILE, Weights};

/// Tokenizer, configuration and weights; immutable, shared by all workers.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: EncoderConfig,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) space: EmbeddingSpaceId,
    pub(crate) device: DeviceKind,
    elementwise: Elementwise,
    body: Body,
}

/// Who computes the layers.
#[derive(Debug)]
enum Body {
    /// burn, in f32, on any device.
    Burn(Box<Bert>),
    /// 8-bit weights on the CPU.
    Host(HostBert),
}

/// Hidden states of a batch.
struct States {
    /// `[tokens, d_model]`, padding included where there is some.
    hidden: Vec<f32>,
    /// The first token of each text in `hidden`.
    starts: Vec<usize>,
    /// CLS states after each layer, `[texts, d_model]` each.
    cls_layers: Vec<Vec<f32>>,
}

/// What to return beside the vector.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) tokens: bool,
    pub(crate) cls_layers: bool,
}

impl Network {
    /// Whether the layers are computed outside burn.
    pub(crate) fn is_host(&self) -> bool {
        matches!(self.body, Body::Host(_))
    }

    pub(crate) fn load(dir: &Path, options: &LoadOptions) -> Result<Self, EncoderError> {
        let LoadOptions {
            device, precision, ..
        } = *options;
        let int8 = !options.plain_burn && precision.is_int8_on(device)?;
        let config = EncoderConfig::read(dir)?;
        let (tokenizer, tokenizer_bytes) = TextTokenizer::read(dir, config.bert.vocab_size)?;
        let weights = Weights::read(dir, &config.bert)?;
        let space = EmbeddingSpaceId::new(&config, &weights.sha256, &tokenizer_bytes);
        let body = if int8 {
            Body::Host(HostBert::new(&weights.tensors(dir)?, &config.bert)?)
        } else {
            Body::Burn(Box::new(weights.load(
                dir,
                &config.bert,
                &device.device()?,
            )?))
        };
        let network = Network {
            config,
            tokenizer,
            space,
            device,
            elementwise: if options.plain_burn {
                Elementwise::Device
            } else {
                device.into()
            },
            body,
        };
        network.probe(dir)?;
        Ok(network)
    }

    /// Checks files without computing anything; returns the space.
    pub(crate) fn check(dir: &Path) -> Result<EmbeddingSpaceId, EncoderError> {
        let config = EncoderConfig::read(dir)?;
        let (_, tokenizer_bytes) = TextTokenizer::read(dir, config.bert.vocab_size)?;
        let weights = Weights::read(dir, &config.bert)?;
        Ok(EmbeddingSpaceId::new(
            &config,
            &weights.sha256,
            &tokenizer_bytes,
        ))
    }

    /// One encoding at loading finds weights that hold NaN, and warms the device up.
    fn probe(&self, dir: &Path) -> Result<(), EncoderError> {
        let text = self
            .tokenizer
            .prepare("", "a short probe", self.config.max_tokens, 1)?;
        let batch = text.into_iter().map(|text| Item {
            place: Place::default(),
            text,
        });
        let batch = batch.collect();
        let encoded = self.run(batch, Wanted::default())?;
        if encoded
            .iter()
            .any(|(_, encoding)| encoding.vector.iter().any(|x| !x.is_finite()))
        {
            return Err(EncoderError::NotFinite {
                role: Role::default(),
                path: dir.join(WEIGHTS_FILE),
            });
        }
        Ok(())
    }

    pub(crate) fn dim(&self) -> usize {
        self.config.bert.hidden_size
    }

    /// Input word embeddings as `[vocab_size, d_model]`, row by row.
    pub(crate) fn word_embeddings(&self) -> Result<Vec<f32>, EncoderError> {
        match &self.body {
            Body::Burn(bert) => read(bert.word_embeddings()),
            Body::Host(bert) => Ok(bert.word_embeddings().to_vec()),
        }
    }

    /// How batches are cut for this network.
    pub(crate) fn budget(&self) -> Budget {
        match &self.body {
            Body::Burn(_) => Budget::PADDED,
            Body::Host(_) => Budget::END_TO_END,
        }
    }

    /// Encodes one batch; returns each window's place with its encoding.
    pub(crate) fn run(
        &self,
        batch: Vec<Item>,
        wanted: Wanted,
    ) -> Result<Vec<(Place, Encoding)>, EncoderError> {
        let states = match &self.body {
            Body::Burn(bert) => self.run_padded(bert, &batch, wanted)?,
            Body::Host(bert) => {
                let texts: Vec<&[u32]> = batch.iter().map(|item| &item.text.ids[..]).collect();
                let output = bert.forward(&texts, wanted.cls_layers)?;
                let mut start = 0;
                let starts = texts.iter().map(|text| {
                    start += text.len();
                    start - text.len()
                });
                States {
                    starts: starts.collect(),
                    hidden: output.hidden,
                    cls_layers: output.cls_layers,
                }
            }
        };
        let d = self.dim();
        let encode = |(row, item): (usize, Item)| {
            let own = &states.hidden[states.starts[row] * d..][..item.text.ids.len() * d];
            let cls = states
                .cls_layers
                .iter()
                .map(|layer| layer[row * d..][..d].to_vec())
                .collect();
            (item.place, self.finish(item, own, cls, wanted))
        };
        Ok(batch.into_iter().enumerate().map(encode).collect())
    }

    fn run_padded(
        &self,
        bert: &Bert,
        batch: &[Item],
        wanted: Wanted,
    ) -> Result<States, EncoderError> {
        let lengths: Vec<usize> = batch.iter().map(|item| item.text.ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let (rows, seq) = padded(&self.config.bert, self.device, batch.len(), longest);
        let mut ids = vec![0i64; rows * seq];
        for (item, row) in batch.iter().zip(ids.chunks_exact_mut(seq.max(1))) {
            for (slot, &id) in row.iter_mut().zip(&item.text.ids) {
                *slot = i64::from(id);
            }
        }
        let mut padded_lengths = lengths;
        // An added row attends to its first token alone; nobody reads it.
        padded_lengths.resize(rows, 1);
        let input = PaddedBatch {
            ids,
            kinds: None,
            lengths: &padded_lengths,
            seq,
        };
        let output = bert.forward(input, self.elementwise, wanted.cls_layers)?;
        Ok(States {
            hidden: read(output.hidden)?,
            starts: (0..batch.len()).map(|row| row * seq).collect(),
            cls_layers: output
                .cls_layers
                .into_iter()
                .map(read)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Pools and normalises one text's `[tokens, d]` states.
    fn finish(
        &self,
        item: Item,
        states: &[f32],
        cls_layers: Vec<Vec<f32>>,
        wanted: Wanted,
    ) -> Encoding {
        let d = self.dim();
        let text = item.text;
        let vector = match self.config.pooling {
            Pooling::Cls => states[..d].to_vec(),
            Pooling::Mean => {
                let mut sum = vec![0.0f32; d];
                for state in states.chunks_exact(d) {
                    sum.iter_mut().zip(state).for_each(|(sum, x)| *sum += x);
                }
                sum
            }
        };
        let states = if wanted.tokens {
            let own = &states[text.lead * d..][..text.spans.len() * d];
            let mut own = own.to_vec();
            own.chunks_exact_mut(d).for_each(normalise);
            own
        } else {
            Vec::new()
        };
        let mut vector = vector;
        normalise(&mut vector);
        Encoding {
            vector,
            states,
            token_ids: text.spans.iter().map(|span| span.id).collect(),
            offsets: text
                .spans
                .iter()
                .map(|span| (span.start, span.end))
                .collect(),
            cls_layers,
            token_count: text.token_count,
            truncated: text.truncated,
        }
    }
}

/// Batch size and length after padding. wgpu compiles kernels for every new shape (0.3 to 1.4 s on a
/// software device), so there shapes come from a small set.
pub(crate) fn padded(
    shape: &BertShape,
    device: DeviceKind,
    rows: usize,
    seq: usize,
) -> (usize, usize) {
    if device == DeviceKind::Wgpu {
        let most = shape.max_position_embeddings;
        (
            rows.next_power_of_two(),
            seq.next_multiple_of(32).min(most.max(seq)),
        )
    } else {
        (rows, seq)
    }
}

/// Scales to length one; a zero vector stays zero.
fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

pub(crate) fn read(tensor: Tensor<2>) -> Result<Vec<f32>, EncoderError> {
    tensor
        .try_into_data()
        .map_err(compute)?
        .try_into_vec::<f32>()
        .map_err(compute)
}
