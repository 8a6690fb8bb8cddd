//! One committed state of a collection, for reading.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use moerag_retrieve::{CorpusStats, KeyBlock, PassageFeatures};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use sha2::{Digest, Sha256};

use super::rows::{self, DocumentRow, Part, Point};
use crate::error::StoreError;
use crate::passage::{Passage, point_id};
use crate::store::{ScrollPage, ScrollQuery};

/// A read transaction with its tables open. Holding one keeps its pages from being reused, so the
/// store holds two at most: the newest, and the newest that the index has caught up with.
pub(super) struct Snapshot {
    path: Arc<Path>,
    documents: ReadOnlyTable<&'static str, &'static [u8]>,
    points: ReadOnlyTable<u128, u64>,
    parts: ReadOnlyTable<(u64, u16), &'static [u8]>,
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
                points: tx.open_table(rows::POINTS)?,
                parts: tx.open_table(rows::PARTS)?,
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

    /// The points of those documents that are in this state.
    pub(super) fn points_of(
        &self,
        collection: &str,
        documents: &[String],
    ) -> Result<Vec<u128>, StoreError> {
        let mut points = Vec::new();
        for id in documents {
            let Some(row) = self.document(id)? else {
                continue;
            };
            let point = |ordinal| point_id(collection, id, &row.revision, ordinal).as_u128();
            points.extend((0..row.passages).map(point));
        }
        Ok(points)
    }

    /// The number of a point's passage, or `None` if the point is not in this state.
    pub(super) fn number(&self, point: u128) -> Result<Option<u64>, StoreError> {
        let number = self.points.get(point).map_err(self.fail())?;
        Ok(number.map(|number| number.value()))
    }

    fn part(&self, number: u64, part: Part) -> Result<Vec<u8>, StoreError> {
        rows::part(&self.parts, number, part).map_err(self.fail())
    }

    /// A point, or `None` if it is not in this state.
    pub(super) fn point(&self, point: u128) -> Result<Option<Point>, StoreError> {
        let number = self.number(point)?;
        number
            .map(|number| self.numbered(point, number))
            .transpose()
    }

    fn numbered(&self, point: u128, number: u64) -> Result<Point, StoreError> {
        rows::decode_point(point, number, &self.part(number, Part::Point)?)
    }

    /// Every point of this state, in the order of their ids (which is random with regard to content).
    pub(super) fn points(
        &self,
    ) -> Result<impl Iterator<Item = Result<Point, StoreError>> + '_, StoreError> {
        let points = self.points.iter().map_err(self.fail())?;
        Ok(points.map(|entry| {
            let (point, number) = entry.map_err(self.fail())?;
            self.numbered(point.value(), number.value())
        }))
    }

    /// The keys of a passage by its number, or `None` if it is not in this state.
    pub(super) fn keys(&self, number: u64) -> Result<Option<KeyBlock>, StoreError> {
        let bytes = self.part(number, Part::Keys)?;
        (!bytes.is_empty())
            .then(|| rows::decode("keys", &bytes))
            .transpose()
    }

    /// The metadata of a passage by its number, which tells without a look at its document.
    pub(super) fn metadata(&self, number: u64) -> Result<BTreeMap<String, String>, StoreError> {
        rows::decode_metadata(&self.part(number, Part::Passage)?)
    }

    pub(super) fn passage(
        &self,
        document_id: &str,
        ordinal: u32,
    ) -> Result<Option<Passage>, StoreError> {
        let row = self.document(document_id)?;
        row.filter(|row| ordinal < row.passages)
            .map(|row| self.passage_of(document_id, &row, ordinal))
            .transpose()
    }

    fn passage_of(
        &self,
        document_id: &str,
        row: &DocumentRow,
        ordinal: u32,
    ) -> Result<Passage, StoreError> {
        let bytes = self.part(row.first + u64::from(ordinal), Part::Passage)?;
        rows::decode_passage(document_id, &row.revision, ordinal, &bytes)
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
        query: &ScrollQuery,
    ) -> Result<ScrollPage, StoreError> {
        let (id, ordinal) = match query.after.as_deref().map(parse_cursor).transpose()? {
            Some((id, ordinal)) => (id, ordinal.saturating_add(1)),
            None => (String::new(), 0),
        };
        let mut records = Vec::new();
        let mut next = None;
        'documents: for entry in self.documents.range(id.as_str()..).map_err(self.fail())? {
            let (document, row) = entry.map_err(self.fail())?;
            let row: DocumentRow = rows::decode("a row of documents", row.value())?;
            let document = document.value();
            let first = if document == id { ordinal } else { 0 };
            for ordinal in first..row.passages {
                if !query.share.has(document, ordinal) {
                    continue;
                }
                let passage = self.passage_of(document, &row, ordinal)?;
                let features = if query.with_features {
                    Some(self.features(collection, &passage)?)
                } else {
                    None
                };
                records.push((passage, features));
                if records.len() >= query.limit.max(1) {
                    next = Some(cursor(document, ordinal));
                    break 'documents;
                }
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
        let row = self.point(point)?.ok_or_else(missing)?;
        let keys = self.keys(row.number)?;
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
