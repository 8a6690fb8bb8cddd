//! One committed state of a collection, for reading.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use moerag_retrieve::{CorpusStats, KeyBlock, PassageFeatures};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use sha2::{Digest, Sha256};

use super::rows::{self, DocumentRow, Point};
use crate::error::StoreError;
use crate::passage::{Passage, point_id};
use crate::store::ScrollPage;

/// A read transaction with its tables open. Holding one keeps its pages from being reused, so the
/// store holds two at most: the newest, and the newest that the index has caught up with.
pub(super) struct Snapshot {
    path: Arc<Path>,
    documents: ReadOnlyTable<&'static str, &'static [u8]>,
    passages: ReadOnlyTable<(&'static str, u32), &'static [u8]>,
    points: ReadOnlyTable<u128, &'static [u8]>,
    keys: ReadOnlyTable<u128, &'static [u8]>,
    key_pieces: ReadOnlyTable<(u128, u16), &'static [u8]>,
    journal: ReadOnlyTable<u64, (bool, u128)>,
    /// Last journal entry of this state.
    pub(super) seq: u64,
    pub(super) stats: Arc<CorpusStats>,
    corpus_digest: OnceLock<String>,
}

/// What the journal asks of the index.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) insert: Vec<u128>,
    pub(super) remove: Vec<u128>,
}

/// Turns any redb error into ours.
pub(super) fn database_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

impl Snapshot {
    pub(super) fn open(
        path: Arc<Path>,
        database: &Database,
        seq: u64,
        stats: Arc<CorpusStats>,
    ) -> Result<Self, StoreError> {
        let open = || -> Result<Self, redb::Error> {
            let tx = database.begin_read()?;
            Ok(Self {
                documents: tx.open_table(rows::DOCUMENTS)?,
                passages: tx.open_table(rows::PASSAGES)?,
                points: tx.open_table(rows::POINTS)?,
                keys: tx.open_table(rows::KEYS)?,
                key_pieces: tx.open_table(rows::KEY_PIECES)?,
                journal: tx.open_table(rows::JOURNAL)?,
                path: path.clone(),
                seq,
                stats,
                corpus_digest: OnceLock::new(),
            })
        };
        open().map_err(|error| database_error(&path, error))
    }

    fn fail(&self) -> impl Fn(redb::StorageError) -> StoreError + '_ {
        |error| database_error(&self.path, error)
    }

    pub(super) fn document_count(&self) -> Result<u64, StoreError> {
        self.documents.len().map_err(self.fail())
    }

    pub(super) fn passage_count(&self) -> Result<u64, StoreError> {
        self.points.len().map_err(self.fail())
    }

    pub(super) fn document(&self, id: &str) -> Result<Option<DocumentRow>, StoreError> {
        let row = self.documents.get(id).map_err(self.fail())?;
        row.map(|row| rows::decode("a row of documents", row.value()))
            .transpose()
    }

    /// All `(document_id, revision)`, sorted by id.
    pub(super) fn documents(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut all = Vec::new();
        for entry in self.documents.iter().map_err(self.fail())? {
            let (id, row) = entry.map_err(self.fail())?;
            let row: DocumentRow = rows::decode("a row of documents", row.value())?;
            all.push((id.value().to_owned(), row.revision));
        }
        Ok(all)
    }

    pub(super) fn corpus_digest(&self) -> Result<String, StoreError> {
        if let Some(digest) = self.corpus_digest.get() {
            return Ok(digest.clone());
        }
        let digest = corpus_digest(self.documents()?.iter().map(|(id, r)| (&**id, &**r)));
        Ok(self.corpus_digest.get_or_init(|| digest).clone())
    }

    /// A row of `points` through `read`, or `None` if the point is not in this state.
    pub(super) fn point<T>(
        &self,
        point: u128,
        read: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let row = self.points.get(point).map_err(self.fail())?;
        row.map(|row| read(row.value())).transpose()
    }

    /// Every point of this state, in the order of their ids (which is random with regard to content).
    pub(super) fn points(
        &self,
    ) -> Result<impl Iterator<Item = Result<Point, StoreError>> + '_, StoreError> {
        let rows = self.points.iter().map_err(self.fail())?;
        Ok(rows.map(|entry| {
            let (point, row) = entry.map_err(self.fail())?;
            rows::decode_point(point.value(), row.value())
        }))
    }

    /// Keys of a point, or `None` if the point is not in this state.
    pub(super) fn keys(&self, point: u128) -> Result<Option<KeyBlock>, StoreError> {
        let Some(rest) = self.keys.get(point).map_err(self.fail())? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(4 * rows::PIECE);
        let pieces = self.key_pieces.range((point, 0)..=(point, u16::MAX));
        for piece in pieces.map_err(self.fail())? {
            bytes.extend_from_slice(piece.map_err(self.fail())?.1.value());
        }
        bytes.extend_from_slice(rest.value());
        rows::decode("a row of keys", &bytes).map(Some)
    }

    pub(super) fn passage(
        &self,
        document_id: &str,
        ordinal: u32,
    ) -> Result<Option<Passage>, StoreError> {
        let row = self
            .passages
            .get((document_id, ordinal))
            .map_err(self.fail())?;
        row.map(|row| rows::decode("a row of passages", row.value()))
            .transpose()
    }

    /// Journal entries after `seq`, netted: a point comes once, as what became of it last.
    pub(super) fn changes_after(&self, seq: u64) -> Result<Changes, StoreError> {
        let mut last = BTreeMap::new();
        for entry in self.journal.range(seq + 1..).map_err(self.fail())? {
            let (_, change) = entry.map_err(self.fail())?;
            let (insert, point) = change.value();
            last.insert(point, insert);
        }
        let mut changes = Changes::default();
        for (point, insert) in last {
            if insert {
                changes.insert.push(point)
            } else {
                changes.remove.push(point)
            }
        }
        Ok(changes)
    }

    /// Passages after the cursor, in the order `(document_id, ordinal)`.
    pub(super) fn scroll(
        &self,
        collection: &str,
        after: Option<&str>,
        limit: usize,
        with_features: bool,
    ) -> Result<ScrollPage, StoreError> {
        let from = after.map(parse_cursor).transpose()?;
        let lower = from.as_ref().map_or(Bound::Unbounded, |(id, ordinal)| {
            Bound::Excluded((id.as_str(), *ordinal))
        });
        let range = self
            .passages
            .range::<(&str, u32)>((lower, Bound::Unbounded));
        let mut records = Vec::new();
        let mut next = None;
        for entry in range.map_err(self.fail())? {
            let (_, row) = entry.map_err(self.fail())?;
            let passage: Passage = rows::decode("a row of passages", row.value())?;
            let features = if with_features {
                Some(self.features(collection, &passage)?)
            } else {
                None
            };
            records.push((passage, features));
            if records.len() >= limit.max(1) {
                next = records
                    .last()
                    .map(|(last, _)| cursor(&last.document_id, last.ordinal));
                break;
            }
        }
        Ok(ScrollPage { records, next })
    }

    fn features(&self, collection: &str, passage: &Passage) -> Result<PassageFeatures, StoreError> {
        let point = point_id(
            collection,
            &passage.document_id,
            &passage.revision,
            passage.ordinal,
        )
        .as_u128();
        let missing = || {
            rows::corrupt(
                &self.path.display().to_string(),
                &format!("point {point:x} has no row"),
            )
        };
        let row = self
            .point(point, |row| rows::decode_point(point, row))?
            .ok_or_else(missing)?;
        let keys = self.keys(point)?;
        Ok(PassageFeatures {
            vector: row.vector.to_vec(),
            lex: Arc::unwrap_or_clone(row.lex),
            keys: keys.ok_or_else(missing)?,
        })
    }
}

/// sha256 of sorted `(document_id, revision)` pairs.
pub(crate) fn corpus_digest<'a>(sorted: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = Sha256::new();
    for (id, revision) in sorted {
        for part in [id, revision] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// Cursor behind a passage.
pub(crate) fn cursor(document_id: &str, ordinal: u32) -> String {
    format!("{ordinal}:{document_id}")
}

/// What [`cursor`] made.
pub(crate) fn parse_cursor(cursor: &str) -> Result<(String, u32), StoreError> {
    cursor
        .split_once(':')
        .and_then(|(ordinal, id)| Some((id.to_owned(), ordinal.parse().ok()?)))
        .ok_or_else(|| StoreError::InvalidInput {
            field: "cursor".into(),
            reason: "is not one that a scroll returned; start again without a cursor".into(),
        })
}
