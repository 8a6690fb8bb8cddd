//! `manifest.json` and `CURRENT.json` (DESIGN.md section 6, "Checkpoint store").

use std::collections::BTreeMap;

use moerag_model::ViewConfig;
use serde::{Deserialize, Serialize};

/// Weights, f32 safetensors.
pub const MODEL_FILE: &str = "model.safetensors";
/// Warm-up queries with expected attention weights.
pub const WARMUP_FILE: &str = "warmup.json";
/// Written last: a directory without it is not a version.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The one commit point of the store.
pub const CURRENT_FILE: &str = "CURRENT.json";

/// Oldest manifest format that this build reads.
pub const OLDEST_FORMAT: u32 = 1;
/// The manifest format that this build writes.
pub const NEWEST_FORMAT: u32 = 1;

/// Where a collection's weights come from (DESIGN.md section 4, "Ship").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionStatus {
    /// Trained, and better than the prior on held-out synthetic queries.
    Trained,
    /// Training did not beat the prior: the prior's weights with the collection's statistics.
    FallbackPrior,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// sha256 of its bytes, hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What a version knows about one collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionManifest {
    /// Trained, or the prior again.
    pub status: CollectionStatus,
    /// Why these weights serve, for people; empty where nobody said.
    #[serde(default)]
    pub reason: String,
    /// The version that published these weights; later versions carry them along.
    pub published_in: u64,
    /// sha256 of the sorted (document_id, revision), hex.
    pub corpus_digest: String,
    /// Digest of the CorpusStats the views were computed with.
    pub stats_digest: String,
    /// Digest of this collection's weights: what "same weights" means.
    pub weights_digest: String,
    /// Seed of the training.
    pub seed: u64,
    /// Every hyper-parameter of the training.
    pub hyper_parameters: serde_json::Value,
    /// Measures on held-out synthetic queries.
    pub metrics: BTreeMap<String, f64>,
}

/// `manifest.json`. Immutable once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`OLDEST_FORMAT`] to [`NEWEST_FORMAT`].
    pub format_version: u32,
    /// The version; equal to the directory's name.
    pub version: u64,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The version whose other collections were carried along; 0 when there was none.
    pub base_version: u64,
    /// Size and digest of every file but this one.
    pub files: BTreeMap<String, FileEntry>,
    /// Digest of all weights; no times in it.
    pub weights_digest: String,
    /// The embedding space of queries and passages.
    pub embedding_space_id: String,
    /// Candidates, pruning, views and KeySpec of training and serving.
    pub view_config: ViewConfig,
    /// The build that trained and published.
    pub code_version: String,
    /// Per collection.
    pub collections: BTreeMap<String, CollectionManifest>,
}

/// `CURRENT.json`: what a router should serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The version to serve.
    pub version: u64,
    /// sha256 of its `manifest.json`, hex.
    pub manifest_sha256: String,
    /// A person chose it; publishing does not move it.
    pub pinned: bool,
    /// Counts the writes of this file.
    pub generation: u64,
    /// The version served before; garbage collection keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
}
