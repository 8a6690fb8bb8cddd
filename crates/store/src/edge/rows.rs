//! The tables of a collection's database and how their rows are encoded.
//!
//! Rows are postcard; vectors in them are little-endian `f16`. A passage lies in tables by the stage
//! that reads it: `points` (search: vector and terms), `keys` with `key_pieces` (views) and `passages`
//! (reply).
//!
//! redb gives a row that does not fit a page of 4 KB the next power of two: 16 KB for keys of 9 KB. So
//! keys are cut into pieces that fill a page, and a rest that shares its page with others.

use std::sync::Arc;

use moerag_retrieve::LexBlock;
use moerag_retrieve::codec::{decode_f16, encode_f16};
use redb::TableDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::passage::PassageRef;
use uuid::Uuid;

/// Version of everything in this module; a database of another version is not opened.
pub(super) const FORMAT: u32 = 3;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
pub(super) const PASSAGES: TableDefinition<'_, (&str, u32), &[u8]> =
    TableDefinition::new("passages");
pub(super) const POINTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("points");
/// The last piece of a passage's keys, shorter than [`PIECE`].
pub(super) const KEYS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("keys");
/// The pieces before it, in order.
pub(super) const KEY_PIECES: TableDefinition<'_, (u128, u16), &[u8]> =
    TableDefinition::new("key_pieces");
/// Bytes of a piece: a page of 4,096 less what redb adds to a single row with a key of 18.
pub(super) const PIECE: usize = 4_064;
/// What the index has yet to do: sequence number -> (true: insert, false: remove; point).
pub(super) const JOURNAL: TableDefinition<'_, u64, (bool, u128)> = TableDefinition::new("journal");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_SPEC: &str = "spec";
pub(super) const META_STATS: &str = "stats";
pub(super) const META_SEQ: &str = "seq";
pub(super) const META_INDEX: &str = "index";

/// The commit mark of a document: without this row its passages do not exist.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DocumentRow {
    pub(super) revision: String,
    pub(super) passages: u32,
}

/// Which shard directory holds the journal up to which entry, flushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct IndexMark {
    /// Name of the shard's directory below the collection's.
    pub(super) dir: String,
    /// Last journal entry in it.
    pub(super) seq: u64,
    /// Average passage length when it was built: BM25 weights in it belong to about this length.
    pub(super) avg_len: f32,
    /// Points inserted since it was last optimized, which no HNSW graph has.
    pub(super) unoptimized: u64,
}

/// What search needs of a passage.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) at: PassageRef,
    pub(super) vector: Arc<[f32]>,
    pub(super) lex: Arc<LexBlock>,
}

#[derive(Serialize, Deserialize)]
struct PointRow<'a> {
    document_id: &'a str,
    ordinal: u32,
    lex: std::borrow::Cow<'a, LexBlock>,
    vector: &'a [u8],
}

/// Encodes a row of [`POINTS`].
pub(super) fn encode_point(
    document_id: &str,
    ordinal: u32,
    vector: &[f32],
    lex: &LexBlock,
) -> Result<Vec<u8>, StoreError> {
    let mut halves = Vec::with_capacity(vector.len() * 2);
    encode_f16(vector, &mut halves);
    let lex = std::borrow::Cow::Borrowed(lex);
    encode(&PointRow {
        document_id,
        ordinal,
        lex,
        vector: &halves,
    })
}

/// Decodes a row of [`POINTS`].
pub(super) fn decode_point(point: u128, bytes: &[u8]) -> Result<Point, StoreError> {
    let row: PointRow<'_> =
        postcard::from_bytes(bytes).map_err(|error| corrupt("a row of points", &error))?;
    let mut vector = vec![0.0; row.vector.len() / 2];
    decode_f16(row.vector, &mut vector);
    Ok(Point {
        at: PassageRef {
            document_id: row.document_id.to_owned(),
            ordinal: row.ordinal,
            point: Uuid::from_u128(point),
        },
        vector: vector.into(),
        lex: Arc::new(row.lex.into_owned()),
    })
}

/// The full pieces of encoded keys, and the rest.
pub(super) fn pieces(keys: &[u8]) -> (impl Iterator<Item = (u16, &[u8])>, &[u8]) {
    let full = keys.chunks_exact(PIECE);
    let rest = full.remainder();
    ((0..).zip(full), rest)
}

/// Encodes any other row.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_allocvec(value).map_err(|error| StoreError::InvalidInput {
        field: "record".into(),
        reason: format!("cannot be encoded: {error}"),
    })
}

/// Decodes any other row; `what` names the table.
pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| corrupt(what, &error))
}

pub(super) fn corrupt(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_read_back_exactly() {
        let lex = LexBlock {
            title_terms: 1,
            terms: vec![7, 8, 9],
            sentence_ends: vec![2, 3],
        };
        let vector = [0.5, -0.25, 2.0f32.powi(-14)];
        let bytes = encode_point("doc/ä", 3, &vector, &lex).unwrap();
        let point = decode_point(42, &bytes).unwrap();
        assert_eq!(
            (point.at.document_id.as_str(), point.at.ordinal),
            ("doc/ä", 3)
        );
        assert_eq!(point.at.point, Uuid::from_u128(42));
        assert_eq!(&*point.vector, vector);
        assert_eq!(*point.lex, lex);
        assert!(decode_point(42, &bytes[..bytes.len() / 2]).is_err());
    }
}
