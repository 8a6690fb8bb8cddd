//! The truth of a collection: a redb database. What is committed here is there, nothing else is.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use moerag_retrieve::{CorpusStats, PassageFeatures};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::rows::{self, DocumentRow, IndexMark, Part};
use super::snapshot::{Snapshot, database_error};
use crate::error::StoreError;
use crate::passage::{Passage, point_id};
use crate::spec::CollectionSpec;
use crate::store::DocumentPut;

/// Passages whose vectors the geometry of [`CorpusStats`] is fitted to, at most. Point ids are hashes,
/// so the first so many of them are a fair sample, and the same one on every machine.
const GEOMETRY_SAMPLE: usize = 8_192;

/// An open database, or why there is none.
pub(super) type Opened = Result<Database, redb::DatabaseError>;
/// Opens the database.
pub(super) type Opener = Box<dyn Fn() -> Opened + Send + Sync>;

/// Database of one collection.
pub(super) struct Truth {
    path: Arc<Path>,
    collection: String,
    open: Opener,
    spec: CollectionSpec,
    /// `None` after a failed write: redb then wants to be opened again. Locked while writing.
    database: Mutex<Option<Database>>,
    committed: ArcSwap<Snapshot>,
}

impl Truth {
    /// Makes the tables of a new collection in an empty database.
    pub(super) fn create(
        path: &Path,
        open: &dyn Fn() -> Opened,
        spec: &CollectionSpec,
    ) -> Result<(), StoreError> {
        let fail = |error: redb::Error| database_error(path, error);
        let database = open().map_err(|error| fail(error.into()))?;
        let spec = rows::encode(spec)?;
        let stats = stats_bytes(&CorpusStats::default())?;
        let make = || -> Result<(), redb::Error> {
            let tx = begin(&database)?;
            {
                let mut meta = tx.open_table(rows::META)?;
                meta.insert(rows::META_FORMAT, &rows::FORMAT.to_le_bytes()[..])?;
                meta.insert(rows::META_SPEC, &*spec)?;
                meta.insert(rows::META_SEQ, &0u64.to_le_bytes()[..])?;
                meta.insert(rows::META_STATS, &*stats)?;
                tx.open_table(rows::DOCUMENTS)?;
                tx.open_table(rows::POINTS)?;
                tx.open_table(rows::PARTS)?;
                tx.open_table(rows::JOURNAL)?;
            }
            Ok(tx.commit()?)
        };
        make().map_err(fail)
    }

    /// Opens a collection's database; `None` if its creation was never committed. `path` stands in
    /// messages, `open` is called again whenever redb wants the file opened again.
    pub(super) fn open(
        path: &Path,
        open: Opener,
        collection: &str,
    ) -> Result<Option<Self>, StoreError> {
        let path: Arc<Path> = path.into();
        let database = open().map_err(|error| database_error(&path, error))?;
        let Some(spec) = read_meta(&path, &database, rows::META_SPEC)? else {
            return Ok(None);
        };
        let format = read_meta(&path, &database, rows::META_FORMAT)?;
        let found = format.and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        if found != Some(rows::FORMAT) {
            return Err(StoreError::Format {
                path: path.to_path_buf(),
                found: found.unwrap_or_default(),
                expected: rows::FORMAT,
            });
        }
        let spec = rows::decode("the collection's spec", &spec)?;
        let committed = ArcSwap::from_pointee(snapshot(&path, &database, None)?);
        Ok(Some(Self {
            path,
            collection: collection.to_owned(),
            open,
            spec,
            database: Mutex::new(Some(database)),
            committed,
        }))
    }

    pub(super) fn spec(&self) -> &CollectionSpec {
        &self.spec
    }

    /// The newest committed state.
    pub(super) fn committed(&self) -> Arc<Snapshot> {
        self.committed.load_full()
    }

    /// Opens the database again if a write failed; the new [`committed`](Self::committed) can be read.
    pub(super) fn heal(&self) -> Result<(), StoreError> {
        self.open_guard().map(drop)
    }

    fn open_guard(&self) -> Result<MutexGuard<'_, Option<Database>>, StoreError> {
        let mut guard = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let database = (self.open)().map_err(|error| self.fail(error))?;
            self.committed
                .store(Arc::new(snapshot(&self.path, &database, None)?));
            *guard = Some(database);
        }
        Ok(guard)
    }

    /// Runs one durable transaction. Returns only after redb has synced the file.
    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction, &Snapshot) -> Result<(T, Arc<CorpusStats>), StoreError>,
    ) -> Result<T, StoreError> {
        let mut guard = self.open_guard()?;
        let Some(database) = guard.as_ref() else {
            return Err(rows::corrupt(
                &self.path.display().to_string(),
                &"it did not open",
            ));
        };
        let done = (|| {
            let tx = begin(database).map_err(|error| database_error(&self.path, error))?;
            let (value, stats) = change(&tx, &self.committed.load())?;
            tx.commit()
                .map_err(|error| database_error(&self.path, error))?;
            Ok((value, snapshot(&self.path, database, Some(stats))?))
        })();
        match done {
            Ok((value, next)) => {
                self.committed.store(Arc::new(next));
                Ok(value)
            }
            Err(error) => {
                if matches!(error, StoreError::Database { .. }) {
                    *guard = None;
                    drop(guard);
                    // What is on disk decides whether the change happened. If the disk is still full
                    // this fails too, and the next call tries again.
                    if let Err(again) = self.heal() {
                        tracing::warn!(error = %again, "database does not open after a failed write");
                    }
                }
                Err(error)
            }
        }
    }

    /// Writes documents in one transaction; a revision that is there already is left alone.
    pub(super) fn put(&self, documents: &[DocumentPut]) -> Result<(), StoreError> {
        self.write(|tx, before| {
            let mut stats = CorpusStats::clone(&before.stats);
            let mut writer = Writer::open(self, tx)?;
            for document in documents {
                let old = writer.document(&document.document_id)?;
                if old
                    .as_ref()
                    .is_some_and(|row| row.revision == document.revision)
                {
                    continue;
                }
                if let Some(old) = old {
                    writer.remove(&document.document_id, &old, &mut stats)?;
                }
                writer.insert(document, &mut stats)?;
            }
            let stats = writer.finish(stats)?;
            Ok(((), stats))
        })
    }

    /// Deletes documents in one transaction; returns how many there were.
    pub(super) fn delete(&self, document_ids: &[String]) -> Result<usize, StoreError> {
        self.write(|tx, before| {
            let mut stats = CorpusStats::clone(&before.stats);
            let mut writer = Writer::open(self, tx)?;
            let mut deleted = 0;
            for id in document_ids {
                if let Some(row) = writer.document(id)? {
                    writer.remove(id, &row, &mut stats)?;
                    deleted += 1;
                }
            }
            let stats = writer.finish(stats)?;
            Ok((deleted, stats))
        })
    }

    /// The shard that the journal was last flushed to.
    pub(super) fn index_mark(&self) -> Result<Option<IndexMark>, StoreError> {
        let guard = self.open_guard()?;
        let Some(database) = guard.as_ref() else {
            return Ok(None);
        };
        let mark = read_meta(&self.path, database, rows::META_INDEX)?;
        mark.map(|mark| rows::decode("the index mark", &mark))
            .transpose()
    }

    /// Records that the shard holds the journal up to `mark.seq` on disk, and forgets those entries.
    pub(super) fn set_index_mark(&self, mark: &IndexMark) -> Result<(), StoreError> {
        self.write(|tx, before| {
            let fail = |error: redb::Error| database_error(&self.path, error);
            let mut meta = tx.open_table(rows::META).map_err(|e| fail(e.into()))?;
            meta.insert(rows::META_INDEX, &*rows::encode(mark)?)
                .map_err(|e| fail(e.into()))?;
            let mut journal = tx.open_table(rows::JOURNAL).map_err(|e| fail(e.into()))?;
            journal
                .retain_in(..=mark.seq, |_, _| false)
                .map_err(|e| fail(e.into()))?;
            Ok(((), before.stats.clone()))
        })
    }
}

/// The tables of one write.
struct Writer<'a> {
    truth: &'a Truth,
    meta: Table<'a, &'static str, &'static [u8]>,
    documents: Table<'a, &'static str, &'static [u8]>,
    points: Table<'a, u128, u64>,
    parts: Table<'a, (u64, u16), &'static [u8]>,
    journal: Table<'a, u64, (bool, u128)>,
    seq: u64,
    /// Passages to be appended, all at once: a run of pieces fills its pages.
    new: Vec<(u64, [Vec<u8>; Part::ALL.len()])>,
}

impl<'a> Writer<'a> {
    fn open(truth: &'a Truth, tx: &'a WriteTransaction) -> Result<Self, StoreError> {
        let open = || -> Result<Self, redb::Error> {
            Ok(Self {
                truth,
                meta: tx.open_table(rows::META)?,
                documents: tx.open_table(rows::DOCUMENTS)?,
                points: tx.open_table(rows::POINTS)?,
                parts: tx.open_table(rows::PARTS)?,
                journal: tx.open_table(rows::JOURNAL)?,
                seq: truth.committed.load().seq,
                new: Vec::new(),
            })
        };
        open().map_err(|error| truth.fail(error))
    }

    fn document(&self, id: &str) -> Result<Option<DocumentRow>, StoreError> {
        let row = self.documents.get(id).map_err(|e| self.truth.fail(e))?;
        row.map(|row| rows::decode("a row of documents", row.value()))
            .transpose()
    }

    fn journal(&mut self, insert: bool, point: u128) -> Result<(), redb::StorageError> {
        self.seq += 1;
        self.journal.insert(self.seq, (insert, point)).map(drop)
    }

    fn insert(&mut self, put: &DocumentPut, stats: &mut CorpusStats) -> Result<(), StoreError> {
        let id = put.document_id.as_str();
        let first = self.seq + 1;
        for record in &put.records {
            let Passage {
                ordinal, revision, ..
            } = &record.passage;
            let features = &record.features;
            let point = point_id(&self.truth.collection, id, revision, *ordinal).as_u128();
            let parts = [
                rows::encode_point(id, *ordinal, &features.vector, &features.lex)?,
                rows::encode_passage(&record.passage)?,
                rows::encode(&features.keys)?,
            ];
            for (part, bytes) in Part::ALL.iter().zip(&parts) {
                part.fits(id, bytes)?;
            }
            self.journal(true, point).map_err(|e| self.truth.fail(e))?;
            self.points
                .insert(point, self.seq)
                .map_err(|e| self.truth.fail(e))?;
            self.new.push((self.seq, parts));
            stats.add(features);
        }
        let passages = u32::try_from(put.records.len()).unwrap_or(u32::MAX);
        let row = rows::encode(&DocumentRow {
            revision: put.revision.clone(),
            passages,
            first,
        })?;
        self.documents
            .insert(id, &*row)
            .map_err(|error| self.truth.fail(error))?;
        Ok(())
    }

    fn remove(
        &mut self,
        id: &str,
        row: &DocumentRow,
        stats: &mut CorpusStats,
    ) -> Result<(), StoreError> {
        // It may have come in this very transaction.
        self.append()?;
        for ordinal in 0..row.passages {
            let point = point_id(&self.truth.collection, id, &row.revision, ordinal).as_u128();
            let number = self.points.remove(point).map_err(|e| self.truth.fail(e))?;
            let number = number.map(|number| number.value());
            if let Some(number) = number {
                stats.remove(&self.remove_parts(point, number)?);
            }
            self.journal(false, point).map_err(|e| self.truth.fail(e))?;
        }
        self.documents.remove(id).map_err(|e| self.truth.fail(e))?;
        Ok(())
    }

    fn append(&mut self) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let mut append = || -> Result<(), redb::Error> {
            let mut end = self.parts.upper_bound_mut(Bound::<(u64, u16)>::Unbounded)?;
            for (number, parts) in self.new.drain(..) {
                for (part, bytes) in Part::ALL.iter().zip(&parts) {
                    for (piece, bytes) in part.pieces().zip(bytes.chunks(rows::PIECE)) {
                        end.insert_before((number, piece), bytes)?;
                    }
                }
            }
            Ok(end.close()?)
        };
        append().map_err(|error| self.truth.fail(error))
    }

    /// Removes a passage and returns what its statistics were made of.
    fn remove_parts(&mut self, point: u128, number: u64) -> Result<PassageFeatures, StoreError> {
        let (mut row, mut keys) = (Vec::new(), Vec::new());
        let mut remove = || -> Result<(), redb::StorageError> {
            let all = (number, 0)..=(number, u16::MAX);
            for piece in self.parts.extract_from_if(all, |_, _| true)? {
                let (key, bytes) = piece?;
                let (_, piece) = key.value();
                if Part::Point.pieces().contains(&piece) {
                    row.extend_from_slice(bytes.value());
                } else if Part::Keys.pieces().contains(&piece) {
                    keys.extend_from_slice(bytes.value());
                }
            }
            Ok(())
        };
        remove().map_err(|error| self.truth.fail(error))?;
        let point = rows::decode_point(point, number, &row)?;
        Ok(PassageFeatures {
            vector: point.vector.to_vec(),
            lex: Arc::unwrap_or_clone(point.lex),
            keys: rows::decode("keys", &keys)?,
        })
    }

    /// Writes what follows from the rows: statistics and the journal's end.
    fn finish(mut self, mut stats: CorpusStats) -> Result<Arc<CorpusStats>, StoreError> {
        self.append()?;
        if stats.geometry_is_stale() {
            let sample = self.sample()?;
            stats.fit_geometry(sample.iter().map(|vector| &**vector));
        }
        let bytes = stats_bytes(&stats)?;
        let seq = self.seq.to_le_bytes();
        let mut write = || -> Result<(), redb::StorageError> {
            self.meta.insert(rows::META_STATS, &*bytes)?;
            self.meta.insert(rows::META_SEQ, &seq[..])?;
            Ok(())
        };
        write().map_err(|error| self.truth.fail(error))?;
        Ok(Arc::new(stats))
    }

    fn sample(&self) -> Result<Vec<Arc<[f32]>>, StoreError> {
        let points = self.points.iter().map_err(|e| self.truth.fail(e))?;
        points
            .take(GEOMETRY_SAMPLE)
            .map(|entry| {
                let (point, number) = entry.map_err(|e| self.truth.fail(e))?;
                let number = number.value();
                let row = rows::part(&self.parts, number, Part::Point);
                let row = row.map_err(|e| self.truth.fail(e))?;
                Ok(rows::decode_point(point.value(), number, &row)?.vector)
            })
            .collect()
    }
}

impl Truth {
    fn fail(&self, error: impl Into<redb::Error>) -> StoreError {
        database_error(&self.path, error)
    }
}

/// Starts a transaction whose commit returns after the file is synced.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut tx = database.begin_write()?;
    tx.set_durability(Durability::Immediate)?;
    // Two syncs a commit, and in return an open after a kill that does not walk the whole file.
    tx.set_quick_repair(true);
    Ok(tx)
}

/// Opens databases of collections as files, with a page cache of `cache_bytes`.
pub(super) fn file_opener(path: &Path, cache_bytes: usize) -> Opener {
    let path = path.to_owned();
    Box::new(move || {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        builder.create(&path)
    })
}

pub(super) fn read_meta(
    path: &Path,
    database: &Database,
    key: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table: TableDefinition<'_, &str, &[u8]> = rows::META;
        match database.begin_read()?.open_table(table) {
            Ok(meta) => Ok(meta.get(key)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    read().map_err(|error| database_error(path, error))
}

/// The newest state; `stats` are read from it unless the caller knows them.
fn snapshot(
    path: &Arc<Path>,
    database: &Database,
    stats: Option<Arc<CorpusStats>>,
) -> Result<Snapshot, StoreError> {
    let seq = read_meta(path, database, rows::META_SEQ)?
        .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
        .ok_or_else(|| rows::corrupt(&path.display().to_string(), &"it has no journal position"))?;
    let stats = match stats {
        Some(stats) => stats,
        None => {
            let bytes = read_meta(path, database, rows::META_STATS)?.unwrap_or_default();
            let stats = CorpusStats::from_bytes(&bytes);
            Arc::new(stats.map_err(|e| rows::corrupt("the collection's statistics", &e))?)
        }
    };
    Snapshot::open(path.clone(), database, seq, stats)
}

fn stats_bytes(stats: &CorpusStats) -> Result<Vec<u8>, StoreError> {
    stats.to_bytes().map_err(|error| StoreError::InvalidInput {
        field: "statistics".into(),
        reason: format!("cannot be encoded: {error}"),
    })
}
