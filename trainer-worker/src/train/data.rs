//! Synthetic queries turned into training examples: encoded, with candidates, views, gate inputs.
//!
//! Candidates, pruning and views are those of serving (`moerag_retrieve`); the only differences are
//! that the gold always survives and that its views are masked. 2400 queries x 128 candidates x 13
//! views are 16 MB.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moerag_encoder::EncodeOptions;
use moerag_model::{CollectionModel, CollectionWeights, DeviceKind, Example};
use moerag_retrieve::{
    Analyzer, CheapCandidate, CorpusStats, FeaturesRef, GoldMask, LexBlock, LsiBasis, MemIndex,
    QueryFeatures, TokenCodec, ViewConfig, Views, cheap_scores, encoded_text, feedback_vector,
    gate_inputs, prune,
};
use ndarray::Array2;
use rand::Rng;
use rayon::prelude::*;
use tokio_util::sync::CancellationToken;

use super::encoder::QueryEncoder;
use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use crate::synth::{SyntheticQuery, draw};

/// Queries whose candidates are looked for together.
const SEARCH_CHUNK: usize = 32;
/// Texts per call of the encoder: small enough that a cancel is heard within a second.
const ENCODE_CHUNK: usize = 128;

/// One synthetic query, ready to train on.
#[derive(Debug, Clone)]
pub struct TrainingQuery {
    /// Where it comes from.
    pub query: SyntheticQuery,
    /// Pooled vector of its text, `[d]`.
    pub vector: Vec<f32>,
    /// Pooled vector for the type classifier, `[d]`: of the text without its question words for
    /// every second query.
    pub type_vector: Vec<f32>,
    /// Views, gold, gate inputs and anchor.
    pub example: Example,
    /// Passage of each of the example's rows, index in the corpus.
    pub candidates: Vec<usize>,
    /// Never trained on.
    pub held_out: bool,
}

impl TrainingQuery {
    /// Row of the gold among the candidates.
    #[must_use]
    pub fn gold(&self) -> usize {
        self.example.gold().first().copied().unwrap_or(0)
    }
}

/// All usable queries of a corpus.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// In the order of synthesis.
    pub queries: Vec<TrainingQuery>,
    /// Candidates and views they were made with.
    pub view_config: ViewConfig,
    /// The collection's latent space; `None` for one that is too small.
    pub lsi: Option<Arc<LsiBasis>>,
    /// Queries that were made but cannot be used: nothing of the gold was left, or there was no
    /// other candidate.
    pub unusable: usize,
    /// Texts that an earlier training had encoded.
    pub known: usize,
}

impl TrainingData {
    /// Queries to train on.
    pub fn training(&self) -> impl Iterator<Item = &TrainingQuery> {
        self.queries.iter().filter(|query| !query.held_out)
    }

    /// Queries to measure on.
    pub fn held_out(&self) -> impl Iterator<Item = &TrainingQuery> {
        self.queries.iter().filter(|query| query.held_out)
    }
}

/// Whether a passage's queries are held out: a share of the passages, decided by hash.
pub(crate) fn is_held_out(corpus: &TrainingCorpus, passage: usize, seed: u64, share: f64) -> bool {
    draw(seed, &corpus.texts[passage], "held out", 0).random_bool(share.clamp(0.0, 1.0))
}

/// Inputs of [`build`].
pub(crate) struct Build<'a> {
    pub(crate) corpus: &'a TrainingCorpus,
    pub(crate) encoder: &'a QueryEncoder,
    pub(crate) codec: &'a TokenCodec,
    pub(crate) config: &'a ViewConfig,
    pub(crate) seed: u64,
    pub(crate) held_out_share: f64,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a CancellationToken,
}

/// Encodes the queries and computes their views.
pub(crate) fn build(
    input: &Build<'_>,
    queries: Vec<SyntheticQuery>,
) -> Result<TrainingData, TrainError> {
    let analyzer = Analyzer::new(input.corpus.language);
    let (encoded, known) = encode(input, &analyzer, &queries)?;
    let clock = StageClock::start(Stage::Views, queries.len(), input.progress);
    let index = MemIndex::build(&input.corpus.features, &input.corpus.stats);
    // The anchor is the untrained mixture; on the CPU whatever the device, so that a seed means
    // the same examples on all of them.
    let prior = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex)?;
    let lsi = latent_space(input)?;
    let worker = Worker {
        input,
        analyzer: &analyzer,
        prior: &prior,
    };

    let done = AtomicUsize::new(0);
    let total = queries.len();
    let made: Vec<Vec<Option<TrainingQuery>>> = queries
        .into_par_iter()
        .zip(encoded)
        .chunks(SEARCH_CHUNK)
        .map(|chunk| {
            let together: Vec<&QueryFeatures> = chunk.iter().map(|(_, e)| &e.features).collect();
            let found = index.candidates(&together, input.config.candidates_per_list);
            let mut made = Vec::with_capacity(chunk.len());
            for ((query, encoded), found) in chunk.into_iter().zip(found) {
                if input.cancel.is_cancelled() {
                    return Err(TrainError::Cancelled);
                }
                made.push(worker.query(query, encoded, found)?);
            }
            let done = done.fetch_add(made.len(), Ordering::Relaxed) + made.len();
            clock.advance(done, None);
            Ok(made)
        })
        .collect::<Result<_, TrainError>>()?;
    let queries: Vec<TrainingQuery> = made.into_iter().flatten().flatten().collect();
    let unusable = total - queries.len();
    Ok(TrainingData {
        queries,
        view_config: input.config.clone(),
        lsi: lsi.map(Arc::new),
        unusable,
        known,
    })
}

fn latent_space(input: &Build<'_>) -> Result<Option<LsiBasis>, TrainError> {
    let blocks: Vec<&LexBlock> = input.corpus.features.iter().map(|p| &p.lex).collect();
    let cancelled = || input.cancel.is_cancelled();
    let basis = LsiBasis::fit(&blocks, &input.corpus.stats, &cancelled);
    if cancelled() {
        Err(TrainError::Cancelled)
    } else {
        Ok(basis)
    }
}

struct EncodedQuery {
    features: QueryFeatures,
    type_vector: Vec<f32>,
}

fn encode(
    input: &Build<'_>,
    analyzer: &Analyzer,
    queries: &[SyntheticQuery],
) -> Result<(Vec<EncodedQuery>, usize), TrainError> {
    // Every second query goes to the type classifier without its question words.
    let bare: Vec<usize> = (0..queries.len())
        .filter(|i| {
            let query = &queries[*i];
            let purpose = format!("bare {}", query.text);
            query.bare != query.text
                && draw(input.seed, &input.corpus.texts[query.passage], &purpose, 0)
                    .random_bool(0.5)
        })
        .collect();
    let clock = StageClock::start(Stage::Encode, queries.len() + bare.len(), input.progress);
    let options = EncodeOptions::query();
    let mut encoded = Vec::with_capacity(queries.len());
    let mut known = 0;
    for chunk in queries.chunks(ENCODE_CHUNK) {
        if input.cancel.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let texts: Vec<&str> = chunk.iter().map(|query| query.text.as_str()).collect();
        let (encodings, hits) = input.encoder.encode(&texts, &options)?;
        known += hits;
        for (query, encoding) in chunk.iter().zip(encodings) {
            let dim = encoding.vector.len();
            let seq = encoding.token_ids.len();
            let tokens = Array2::from_shape_vec((seq, dim), encoding.states)
                .unwrap_or_else(|_| Array2::zeros((0, dim)));
            encoded.push(EncodedQuery {
                type_vector: encoding.vector.clone(),
                features: QueryFeatures::new(
                    analyzer,
                    query.text.clone(),
                    encoding.vector,
                    tokens,
                    encoding.token_ids,
                ),
            });
        }
        clock.advance(encoded.len(), None);
    }
    let options = options.without_tokens();
    for (done, chunk) in bare.chunks(ENCODE_CHUNK).enumerate() {
        if input.cancel.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let texts: Vec<&str> = chunk.iter().map(|i| queries[*i].bare.as_str()).collect();
        let (encodings, hits) = input.encoder.encode(&texts, &options)?;
        known += hits;
        for (i, encoding) in chunk.iter().zip(encodings) {
            encoded[*i].type_vector = encoding.vector;
        }
        clock.advance(queries.len() + done * ENCODE_CHUNK + chunk.len(), None);
    }
    Ok((encoded, known))
}

struct Worker<'a> {
    input: &'a Build<'a>,
    analyzer: &'a Analyzer,
    prior: &'a CollectionModel,
}

impl Worker<'_> {
    /// `found` are the query's candidates; `None` when it cannot be used.
    fn query(
        &self,
        query: SyntheticQuery,
        encoded: EncodedQuery,
        mut found: Vec<usize>,
    ) -> Result<Option<TrainingQuery>, TrainError> {
        let Build {
            corpus,
            config,
            codec,
            ..
        } = *self.input;
        let stats: &CorpusStats = &corpus.stats;
        let q = &encoded.features;
        let gold = match found.binary_search(&query.passage) {
            Ok(position) => position,
            Err(position) => {
                found.insert(position, query.passage);
                position
            }
        };
        if found.len() < 2 {
            return Ok(None);
        }
        let vectors: Vec<&[f32]> = found
            .iter()
            .map(|i| corpus.features[*i].vector.as_slice())
            .collect();
        let feedback = feedback_vector(q, &vectors);
        let known = found.iter().map(|i| &corpus.features[*i]);
        let cheap = cheap_scores(q, known.map(CheapCandidate::from), stats);
        let kept = prune(&cheap, config, Some(gold));
        let Some(row) = kept.iter().position(|i| *i == gold) else {
            return Ok(None);
        };
        let candidates: Vec<FeaturesRef<'_>> = kept
            .iter()
            .map(|i| FeaturesRef::from(&corpus.features[found[*i]]))
            .collect();

        let Ok(mask) = self.mask(&query, row) else {
            return Ok(None);
        };
        let views = Views::new(codec, stats);
        let tokens = views.prepare(q);
        let views = views.compute(q, &tokens, &feedback, &candidates, mask.as_ref());
        let inputs = gate_inputs(&views, q, stats);
        // Feedback is not trained: a synthetic query has one gold passage, its source, which teaches
        // that whatever else resembles it is wrong (docs/research.md has the figures).
        let example = Example::new(views.z, vec![row], inputs, None, self.prior)?;
        let held_out = is_held_out(
            corpus,
            query.passage,
            self.input.seed,
            self.input.held_out_share,
        );
        Ok(Some(TrainingQuery {
            query,
            vector: encoded.features.vector,
            type_vector: encoded.type_vector,
            example,
            candidates: kept.into_iter().map(|i| found[i]).collect(),
            held_out,
        }))
    }

    /// What the gold must not show; `Err` when nothing would be left of it.
    fn mask(&self, query: &SyntheticQuery, row: usize) -> Result<Option<GoldMask>, NothingLeft> {
        if !query.cut && query.hidden_terms.is_empty() {
            return Ok(None);
        }
        let passage = &self.input.corpus.texts[query.passage];
        let keys = &self.input.corpus.features[query.passage].keys;
        let text = encoded_text(&passage.title, &passage.text);
        // Without offsets no stem could be hidden: such a query would cheat.
        let tokenizer = self.input.encoder.encoder().tokenizer();
        let Ok(spans) = tokenizer.spans(&text, keys.seq()) else {
            return Err(NothingLeft);
        };
        let offsets: Vec<(usize, usize)> = spans
            .into_iter()
            .map(|span| (span.start, span.end))
            .collect();
        let cut = if query.cut {
            vec![query.sentence]
        } else {
            Vec::new()
        };
        let hidden: HashSet<u32> = query.hidden_terms.iter().copied().collect();
        let mask = GoldMask::new(row, self.analyzer, &text, &offsets, keys, cut, hidden);
        if mask.keeps_a_token() {
            Ok(Some(mask))
        } else {
            Err(NothingLeft)
        }
    }
}

/// The mask would leave no token of the gold.
struct NothingLeft;
