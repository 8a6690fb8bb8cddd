//! What a collection is bound to, and what a store says about it.

use moerag_retrieve::{KeySpec, Language};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// What every passage of a collection was made with. It never changes: another encoder or key spec
/// is another collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSpec {
    /// `EmbeddingSpaceId` of the encoder, as text.
    pub space: String,
    /// Dimensions of the pooled vectors.
    pub dim: u32,
    /// How token states are compressed.
    pub key_spec: KeySpec,
    /// Language of the text analysis.
    pub language: Language,
}

/// What a store says about a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Name.
    pub name: String,
    /// What it is bound to.
    pub spec: CollectionSpec,
    /// Number of committed documents.
    pub documents: u64,
    /// Number of committed passages.
    pub passages: u64,
    /// sha256 of the sorted `(document_id, revision)` pairs, lowercase hex.
    pub corpus_digest: String,
    /// `CorpusStats::digest` of its statistics.
    pub stats_digest: String,
}

/// Accepts 1 to 64 of `A-Z a-z 0-9 - _ .`, not starting with a dot.
///
/// # Errors
/// [`StoreError::InvalidName`] otherwise. Names become directory and server collection names.
pub fn check_collection_name(name: &str) -> Result<(), StoreError> {
    let accepted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(accepted) {
        Ok(())
    } else {
        Err(StoreError::InvalidName {
            name: name.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_a_directory() {
        for good in ["a", "docs-2", "a.b_C", &"x".repeat(64)] {
            assert!(check_collection_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(check_collection_name(bad).is_err(), "{bad}");
        }
    }
}
