//! The retrieved unit, its identity and its revision (DESIGN.md section 4, Ids).

use std::collections::BTreeMap;
use std::ops::Range;

use moerag_retrieve::{ANALYZER_VERSION, KeySpec, PassageFeatures};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::document::Document;

/// Part of every revision: raise it when [`split`](crate::split) would cut the same text differently.
pub const SPLITTER_VERSION: u32 = 2;

/// Version of how a document that is one passage, whatever its length, is read: 2 reads it in more than one
/// window where the encoder's is too short for it.
const WHOLE_VERSION: u8 = 2;

/// Namespace of the UUIDv5 point ids; any change makes every stored point unreachable.
const POINT_NAMESPACE: Uuid = Uuid::from_u128(0x6d6f_6572_6167_5f70_6173_7361_6765_3031);

/// The retrieved unit: a run of whole sentences of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The document it belongs to.
    pub document_id: String,
    /// Position among the passages of the document, from 0.
    pub ordinal: u32,
    /// Revision of the document it was cut from, lowercase hex.
    pub revision: String,
    /// Document title, then the heading path, joined with `" > "`; without either empty in the first
    /// passage, and the opening of the text in those after it.
    pub title: String,
    /// The text, a slice of the document's plain text.
    pub text: String,
    /// First byte in the document's plain text.
    pub start: usize,
    /// One past the last byte in the document's plain text.
    pub end: usize,
    /// Byte ranges of the sentences in `text`, ascending, not overlapping.
    pub sentences: Vec<Range<usize>>,
    /// The document's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A passage with everything computed from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassageRecord {
    /// The passage.
    pub passage: Passage,
    /// Its vector, lexical block and keys.
    pub features: PassageFeatures,
}

/// Where a passage lies in a store. Ordered by `(document_id, ordinal)`, the rule that breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassageRef {
    /// The document it belongs to.
    pub document_id: String,
    /// Position among the passages of the document.
    pub ordinal: u32,
    /// Point id; names one revision of the passage and never changes its content.
    pub point: Uuid,
}

/// Point id of a passage: UUIDv5 over (collection, document, revision, ordinal).
///
/// Every part carries its length, so that no two different tuples give the same name.
#[must_use]
pub fn point_id(collection: &str, document_id: &str, revision: &str, ordinal: u32) -> Uuid {
    let mut name = Vec::with_capacity(collection.len() + document_id.len() + revision.len() + 28);
    for part in [collection, document_id, revision] {
        name.extend_from_slice(&(part.len() as u64).to_le_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    name.extend_from_slice(&ordinal.to_le_bytes());
    Uuid::new_v5(&POINT_NAMESPACE, &name)
}

/// Revision of a document: sha256 over its content, the versions of splitter and text analysis, and
/// the key spec.
///
/// Equal revisions mean that a re-ingest has nothing to do, so everything that a passage or its
/// features are made of takes part: title, text, format, metadata, and how a `whole` document is read.
#[must_use]
pub fn revision(document: &Document, key_spec: &KeySpec) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&SPLITTER_VERSION.to_le_bytes());
    part(&ANALYZER_VERSION.to_le_bytes());
    part(key_spec.id().as_bytes());
    let whole = match document.whole {
        true => WHOLE_VERSION,
        false => 0,
    };
    part(&[document.format as u8, whole]);
    part(document.title.as_bytes());
    part(document.text.as_bytes());
    for (key, value) in &document.metadata {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_ids_tell_every_part_apart() {
        let base = point_id("c", "d", "r", 0);
        assert_eq!(base, point_id("c", "d", "r", 0));
        for other in [
            point_id("c2", "d", "r", 0),
            point_id("c", "d2", "r", 0),
            point_id("c", "d", "r2", 0),
            point_id("c", "d", "r", 1),
            point_id("cd", "", "r", 0),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn revision_follows_content_and_key_spec() {
        let document = Document {
            id: "a".into(),
            text: "One.".into(),
            ..Document::default()
        };
        let spec = KeySpec::default();
        let base = revision(&document, &spec);
        assert_eq!(
            base,
            revision(
                &Document {
                    id: "b".into(),
                    ..document.clone()
                },
                &spec
            )
        );
        let mut changed = document.clone();
        changed.metadata.insert("k".into(), "v".into());
        assert_ne!(base, revision(&changed, &spec));
        assert_ne!(
            base,
            revision(
                &Document {
                    text: "Two.".into(),
                    ..document.clone()
                },
                &spec
            )
        );
        assert_ne!(
            base,
            revision(
                &Document {
                    whole: true,
                    ..document.clone()
                },
                &spec
            )
        );
        let other = KeySpec {
            rotation_seed: spec.rotation_seed + 1,
            ..spec
        };
        assert_ne!(base, revision(&document, &other));
    }
}
