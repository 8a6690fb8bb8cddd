//! The tables of a collection's database and how their rows are encoded.
//!
//! Rows are postcard; vectors in them take a byte a dimension. A passage has three parts by the stage that
//! reads them ([`Part`]).
//!
//! redb gives a row that does not fit a page of 4 KB the next power of two, and pages whose rows come in
//! random order stay a third empty. So parts are cut into pieces of an eighth of a page, under numbers that
//! grow: appended, they fill their pages. Only the small tables that lead to a number are in other orders.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use moerag_retrieve::LexBlock;
use moerag_retrieve::codec::{decode_bytes, encode_bytes};
use redb::{ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::passage::{Passage, PassageRef};
use uuid::Uuid;

/// Version of everything in this module; a database of another version is not opened.
pub(super) const FORMAT: u32 = 6;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// Point -> the number of its passage.
pub(super) const POINTS: TableDefinition<'_, u128, u64> = TableDefinition::new("points");
/// Pieces of the parts of passages: (number, piece). The number of a passage is that of the journal entry
/// which inserted it, and stands for nothing else ever after.
pub(super) const PARTS: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("parts");
/// Bytes of a piece: an eighth of a page of 4,096, less what redb adds to a row with a key of 10.
pub(super) const PIECE: usize = 496;
/// What the index has yet to do: sequence number -> (true: insert, false: remove; point).
pub(super) const JOURNAL: TableDefinition<'_, u64, (bool, u128)> = TableDefinition::new("journal");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_SPEC: &str = "spec";
pub(super) const META_STATS: &str = "stats";
pub(super) const META_SEQ: &str = "seq";
pub(super) const META_INDEX: &str = "index";
/// Bytes that the file took after it was last compacted.
pub(super) const META_COMPACTED: &str = "compacted";

/// What is read of a passage at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Search: vector and terms.
    Point,
    /// Reply: text and where it is from.
    Passage,
    /// Views: [`moerag_retrieve::KeyBlock`].
    Keys,
}

impl Part {
    /// In the order in which their pieces lie.
    pub(super) const ALL: [Self; 3] = [Self::Point, Self::Passage, Self::Keys];
    /// Most pieces of a part: 10 MB.
    const MOST: u16 = u16::MAX / 3;

    /// The pieces that a part may have.
    pub(super) fn pieces(self) -> Range<u16> {
        let first = self as u16 * Self::MOST;
        first..first + Self::MOST
    }

    /// Refuses bytes for which there are too few pieces.
    pub(super) fn fits(self, document_id: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let room = usize::from(Self::MOST) * PIECE;
        if bytes.len() <= room {
            return Ok(());
        }
        Err(StoreError::InvalidInput {
            field: document_id.to_owned(),
            reason: format!(
                "a passage takes {} bytes and {room} at most; shorten its title and metadata",
                bytes.len()
            ),
        })
    }

    /// The keys of [`PARTS`] that its pieces may have.
    pub(super) fn keys(self, number: u64) -> Range<(u64, u16)> {
        let pieces = self.pieces();
        (number, pieces.start)..(number, pieces.end)
    }
}

/// The bytes of a part of a passage; none if it is not there.
pub(super) fn part(
    parts: &impl ReadableTable<(u64, u16), &'static [u8]>,
    number: u64,
    part: Part,
) -> Result<Vec<u8>, redb::StorageError> {
    let mut bytes = Vec::with_capacity(12 * PIECE);
    for piece in parts.range(part.keys(number))? {
        bytes.extend_from_slice(piece?.1.value());
    }
    Ok(bytes)
}

/// The commit mark of a document: without this row its passages do not exist.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DocumentRow {
    #[serde(with = "digest")]
    pub(super) revision: String,
    pub(super) passages: u32,
    /// Number of the first passage; those of the others follow.
    pub(super) first: u64,
}

/// A text that as a rule is a sha256 in lowercase hex, then in half the bytes.
mod digest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Stored {
        Digest([u8; 32]),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            // Uppercase digits are read as well.
            Ok(()) if hex::encode(bytes) == text => Stored::Digest(bytes),
            _ => Stored::Text(text.to_owned()),
        }
        .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(match Stored::deserialize(from)? {
            Stored::Digest(bytes) => hex::encode(bytes),
            Stored::Text(text) => text,
        })
    }
}

/// A passage without what its document tells of it.
#[derive(Serialize, Deserialize)]
struct PassageRow<'a> {
    title: Cow<'a, str>,
    text: Cow<'a, str>,
    start: usize,
    end: usize,
    sentences: Cow<'a, [Range<usize>]>,
    metadata: Cow<'a, BTreeMap<String, String>>,
}

/// Encodes [`Part::Passage`].
pub(super) fn encode_passage(passage: &Passage) -> Result<Vec<u8>, StoreError> {
    encode(&PassageRow {
        title: Cow::Borrowed(&passage.title),
        text: Cow::Borrowed(&passage.text),
        start: passage.start,
        end: passage.end,
        sentences: Cow::Borrowed(&passage.sentences),
        metadata: Cow::Borrowed(&passage.metadata),
    })
}

/// Decodes [`Part::Passage`].
pub(super) fn decode_passage(
    document_id: &str,
    revision: &str,
    ordinal: u32,
    bytes: &[u8],
) -> Result<Passage, StoreError> {
    let row: PassageRow<'_> = decode("a passage", bytes)?;
    Ok(Passage {
        document_id: document_id.to_owned(),
        ordinal,
        revision: revision.to_owned(),
        title: row.title.into_owned(),
        text: row.text.into_owned(),
        start: row.start,
        end: row.end,
        sentences: row.sentences.into_owned(),
        metadata: row.metadata.into_owned(),
    })
}

/// Decodes the metadata alone of [`Part::Passage`].
pub(super) fn decode_metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, StoreError> {
    let row: PassageRow<'_> = decode("a passage", bytes)?;
    Ok(row.metadata.into_owned())
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
    /// Its passage's number in [`PARTS`].
    pub(super) number: u64,
    pub(super) vector: Arc<[f32]>,
    pub(super) lex: Arc<LexBlock>,
}

#[derive(Serialize, Deserialize)]
struct PointRow<'a> {
    document_id: &'a str,
    ordinal: u32,
    lex: Cow<'a, LexBlock>,
    vector: &'a [u8],
}

/// Encodes [`Part::Point`].
pub(super) fn encode_point(
    document_id: &str,
    ordinal: u32,
    vector: &[f32],
    lex: &LexBlock,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(vector.len() + 4);
    encode_bytes(vector, &mut bytes);
    let lex = Cow::Borrowed(lex);
    encode(&PointRow {
        document_id,
        ordinal,
        lex,
        vector: &bytes,
    })
}

/// Decodes [`Part::Point`].
pub(super) fn decode_point(point: u128, number: u64, bytes: &[u8]) -> Result<Point, StoreError> {
    let row: PointRow<'_> =
        postcard::from_bytes(bytes).map_err(|error| corrupt("a point", &error))?;
    Ok(Point {
        at: PassageRef {
            document_id: row.document_id.to_owned(),
            ordinal: row.ordinal,
            point: Uuid::from_u128(point),
        },
        number,
        vector: decode_bytes(row.vector).into(),
        lex: Arc::new(row.lex.into_owned()),
    })
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
    fn revisions_read_back_and_digests_take_half_the_bytes() {
        for (revision, most) in [
            ("ab".repeat(32), 36),
            ("AB".repeat(32), 70),
            ("r".into(), 8),
        ] {
            let row = DocumentRow {
                revision: revision.clone(),
                passages: 1,
                first: 2,
            };
            let bytes = encode(&row).unwrap();
            assert!(bytes.len() <= most, "{revision}: {}", bytes.len());
            let read: DocumentRow = decode("a document", &bytes).unwrap();
            assert_eq!((read.revision, read.passages, read.first), (revision, 1, 2));
        }
    }

    #[test]
    fn points_read_back() {
        let lex = LexBlock {
            title_terms: 1,
            terms: vec![7, 8, 9],
            sentence_ends: vec![2, 3],
        };
        let vector = [0.5, -0.25, 0.0];
        let bytes = encode_point("doc/ä", 3, &vector, &lex).unwrap();
        let point = decode_point(42, 7, &bytes).unwrap();
        assert_eq!(
            (
                point.at.document_id.as_str(),
                point.at.ordinal,
                point.number
            ),
            ("doc/ä", 3, 7)
        );
        assert_eq!(point.at.point, Uuid::from_u128(42));
        for (a, b) in point.vector.iter().zip(vector) {
            assert!((a - b).abs() <= 0.5 / 254.0, "{a} {b}");
        }
        assert_eq!(*point.lex, lex);
        assert!(decode_point(42, 7, &bytes[..bytes.len() / 2]).is_err());
    }
}
