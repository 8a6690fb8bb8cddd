//! Replies as the service gives them.

use std::ops::Range;
use std::sync::Arc;

use moerag_store::Passage;

/// Where weights come from, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The built-in, untrained prior.
    Prior,
    /// A published version whose training did not beat the prior.
    FallbackPrior,
    /// Learned weights.
    Trained,
}

/// The model that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedModel {
    /// Checkpoint version; 0 is the built-in prior.
    pub version: u64,
    /// The weakest source among the collections asked.
    pub source: Source,
    /// sha256 of the weights, hex.
    pub weights_digest: String,
    /// Embedding space of the encoder.
    pub space: String,
    /// Id of the key specification.
    pub key_spec: String,
}

/// Time of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTiming {
    /// Name of the stage.
    pub stage: &'static str,
    /// Wall time in microseconds.
    pub micros: u64,
}

/// The predicted type of a query: probabilities in the order of `moerag_model::QUERY_TYPES`;
/// empty if nothing was scored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypePrediction {
    /// `[8]`, summing to 1, or empty.
    pub posterior: Vec<f32>,
}

/// What was decided for one collection.
#[derive(Clone, Debug)]
pub struct CollectionRoute {
    /// Name.
    pub collection: String,
    /// Share of the mixture; the shares of all collections with candidates sum to 1.
    pub weight: f64,
    /// Where its weights come from.
    pub source: Source,
    /// Why they serve, for people; empty for a collection that the model has not seen.
    pub source_reason: String,
    /// Gate weights in the order of `moerag_model::HEADS`; empty without candidates.
    pub heads: Vec<f32>,
    /// Number of candidates before pruning.
    pub candidates: usize,
    /// Number of passages scored.
    pub scored: usize,
    /// Digest of the corpus statistics.
    pub stats_digest: String,
    /// Type of the query as this collection's classifier sees it.
    pub query_type: TypePrediction,
}

/// The share of one head in a passage's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadShare {
    /// g_h a_h(d) / A(d).
    pub share: f32,
    /// a_h(d).
    pub attention: f32,
}

/// One view's score of a passage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewShare {
    /// As computed.
    pub raw: f32,
    /// Standard deviations above the mean of the scored passages.
    pub z: f32,
    /// Part of the heads' logits, weighted by their shares.
    pub contribution: f32,
}

/// A passage with its attention and what made it.
#[derive(Clone, Debug)]
pub struct AttendedPassage {
    /// Collection it belongs to.
    pub collection: Arc<str>,
    /// The passage.
    pub passage: Passage,
    /// Its attention weight.
    pub attn_weight: f64,
    /// Whether the query names its title.
    pub title_named: bool,
    /// Shares in the order of `moerag_model::HEADS`.
    pub heads: Vec<HeadShare>,
    /// Scores in the order of `moerag_retrieve::VIEWS`.
    pub views: Vec<ViewShare>,
    /// Byte range in the passage's text and weight of each sentence.
    pub sentences: Vec<(Range<usize>, f32)>,
    /// Length in wordpieces as encoded.
    pub token_count: usize,
}

/// Reply to an `AttendQuery`.
#[derive(Clone, Debug)]
pub struct Attended {
    /// Passages by falling attention.
    pub passages: Vec<AttendedPassage>,
    /// The decisions.
    pub route: Routed,
    /// Sum of the weights of the passages returned.
    pub attn_mass_returned: f64,
}

/// Reply to a `RouteQuery`, and part of every reply.
#[derive(Clone, Debug)]
pub struct Routed {
    /// Gate weights, the weighted mean over collections; empty if nothing was scored.
    pub heads: Vec<f32>,
    /// The predicted type, the weighted mean over collections.
    pub query_type: TypePrediction,
    /// The model that answered.
    pub model: ServedModel,
    /// One entry per collection, by name.
    pub collections: Vec<CollectionRoute>,
    /// Length of the query in wordpieces before truncation.
    pub token_count: usize,
    /// Whether the query was cut.
    pub truncated: bool,
    /// Stages that ran.
    pub timings: Vec<StageTiming>,
    /// The text that was searched for, where it is not the query's.
    pub searched_for: Option<String>,
}
