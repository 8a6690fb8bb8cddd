//! The embedded store: redb is the truth, a qdrant-edge shard is an index over it.
//!
//! On disk, below the data directory: `LOCK`, and for each collection `collections/<name>/truth.redb`
//! and `collections/<name>/index-<id>/`. A write is acknowledged when redb has synced its transaction;
//! the shard follows the journal in the database, and any shard that is missing, behind or broken is
//! brought up to date or rebuilt from it. What a shard returns and the database does not have is
//! dropped, so no state of the shard can show a passage that is not committed.
//!
//! Vectors take a byte a dimension, in the database with a scale of their own, in the shard rotated
//! (`bytes.rs`). Candidates are ordered by the database's vector, not by the shard's score.

mod build;
mod bytes;
mod collection;
mod compact;
mod disk;
mod fill;
mod filter;
mod index;
mod owner;
#[cfg(test)]
mod power;
mod recent;
mod rows;
mod seal;
mod shared;
pub(crate) mod snapshot;
mod truth;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use moerag_retrieve::{CorpusStats, KeyBlock};
use uuid::Uuid;

use crate::check;
use crate::error::StoreError;
use crate::passage::{Passage, PassageRef};
use crate::spec::{CollectionInfo, CollectionSpec, check_collection_name};
use crate::store::{
    Candidate, CandidateQuery, ContentState, DocumentPut, PassageStore, ScrollPage, ScrollQuery,
};
use collection::{Collection, DATABASE_FILE};
use disk::{DirLock, sync_dir};
use truth::{Truth, file_opener};

/// Directory of the collections below the data directory.
const COLLECTIONS: &str = "collections";
/// Dropped collections are renamed to this before their files go. No collection has such a name.
const TRASH_PREFIX: &str = ".trash-";

/// Sizes and limits of an [`EdgeStore`].
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Bytes that have to stay free on the file system; below that ingest is refused. Default: 64 MiB.
    pub reserve_bytes: u64,
    /// Page cache of one collection's database in bytes. Default: 24 MiB.
    pub database_cache_bytes: usize,
    /// Cache of decoded vectors, terms and keys of one collection in bytes. Default: 80 MiB.
    pub row_cache_bytes: u64,
    /// Passages from which on an HNSW index is built; below, dense search is exact. Default: 50,000
    /// (about 5 ms of CPU a search).
    pub hnsw_from_points: usize,
    /// Below this many passages an index that was not closed properly is built anew at once; above, it is
    /// brought up to date, which takes a fraction of the time. Default: 20,000 (about two seconds).
    pub rebuild_unclean_below: usize,
    /// Bytes from which on a database is compacted when it is opened, if it has grown by a tenth since the
    /// last time. Default: 64 MiB.
    pub compact_from_bytes: u64,
    /// How long a write waits, when it is durable already, for searches to see it. Default: 10 s.
    pub index_wait: Duration,
    /// How long closing waits for a graph or an index that is being built. What is not done by then is left: the
    /// directory stays locked until the process or the build ends, and it is begun again after the next opening.
    /// Default: 5 s.
    pub build_wait: Duration,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 << 20,
            database_cache_bytes: 24 << 20,
            row_cache_bytes: 80 << 20,
            hnsw_from_points: 50_000,
            rebuild_unclean_below: 20_000,
            compact_from_bytes: 64 << 20,
            index_wait: Duration::from_secs(10),
            build_wait: Duration::from_secs(5),
        }
    }
}

/// Passage store in a directory of this machine; one process at a time.
///
/// Dropping it flushes the indexes, which takes a moment and blocks.
pub struct EdgeStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    options: EdgeOptions,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    /// Held while collections are made or dropped.
    changing: std::sync::Mutex<()>,
    lock: Arc<DirLock>,
}

impl EdgeStore {
    /// Opens the store in `dir`, making the directory if need be. Blocks until every index is up to
    /// date.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process uses the directory, [`StoreError::Corrupt`] or
    /// [`StoreError::Database`] if a database does not open.
    pub fn open(dir: &Path, options: EdgeOptions) -> Result<Self, StoreError> {
        let lock = Arc::new(DirLock::take(dir)?);
        let root = dir.join(COLLECTIONS);
        fs_err::create_dir_all(&root)?;
        let mut collections = BTreeMap::new();
        for entry in fs_err::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(TRASH_PREFIX) {
                fs_err::remove_dir_all(entry.path())?;
                continue;
            }
            if !entry.path().is_dir() || check_collection_name(&name).is_err() {
                continue;
            }
            match Collection::open(&name, &entry.path(), &options, &lock)? {
                Some(collection) => {
                    collections.insert(name, Arc::new(collection));
                }
                // Its creation was cut short before anything was acknowledged.
                None => fs_err::remove_dir_all(entry.path())?,
            }
        }
        let inner = Inner {
            dir: dir.to_owned(),
            options,
            collections: RwLock::new(collections),
            changing: std::sync::Mutex::new(()),
            lock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs a blocking call off the async threads: on this one if it belongs to a rayon pool.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if rayon::current_thread_index().is_some() {
            return call(&self.inner);
        }
        let inner = self.inner.clone();
        let path = inner.dir.clone();
        let task = tokio::task::spawn_blocking(move || call(&inner));
        task.await.unwrap_or_else(|error| {
            Err(StoreError::index(
                &path,
                format!("the call did not end: {error}"),
            ))
        })
    }

    /// The same for one collection.
    async fn on<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&Collection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let collection = self.inner.get(name)?;
        self.blocking(move |_| call(&collection)).await
    }

    /// Waits until searches see journal entry `seq`. What is waited for is durable already, so when
    /// the index does not follow, this only gives up.
    async fn settle(&self, name: &str, seq: u64) -> Result<(), StoreError> {
        let collection = self.inner.get(name)?;
        let mut progress = collection.shared.progress.subscribe();
        let reached = progress.wait_for(|p| p.applied >= seq || p.failure.is_some());
        match tokio::time::timeout(self.inner.options.index_wait, reached).await {
            Ok(Ok(progress)) if progress.applied >= seq => {}
            _ => tracing::warn!(
                collection = name,
                "documents are stored but not searchable yet"
            ),
        }
        Ok(())
    }
}

impl Inner {
    /// By name.
    fn all(&self) -> Vec<Arc<Collection>> {
        let collections = self.collections.read();
        let collections = collections.unwrap_or_else(PoisonError::into_inner);
        collections.values().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<Arc<Collection>, StoreError> {
        let collections = self
            .collections
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let unknown = || StoreError::UnknownCollection {
            name: name.chars().take(80).collect(),
        };
        collections.get(name).cloned().ok_or_else(unknown)
    }

    fn create(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(existing) = self.get(name) {
            return check::same_spec(name, existing.shared.truth.spec(), spec);
        }
        disk::require_room(&self.dir, self.options.reserve_bytes, 0)?;
        let root = self.dir.join(COLLECTIONS);
        let dir = root.join(name);
        fs_err::create_dir_all(&dir)?;
        let database = dir.join(DATABASE_FILE);
        let opener = file_opener(&database, self.options.database_cache_bytes);
        Truth::create(&database, &opener, spec)?;
        sync_dir(&dir)?;
        sync_dir(&root)?;
        let collection =
            Collection::open(name, &dir, &self.options, &self.lock)?.ok_or_else(|| {
                StoreError::Corrupt {
                    what: dir.display().to_string(),
                    reason: "it was not made".into(),
                }
            })?;
        let mut collections = self
            .collections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        collections.insert(name.to_owned(), Arc::new(collection));
        Ok(())
    }

    fn drop_collection(&self, name: &str) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = self
            .collections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        let Some(collection) = removed else {
            return Ok(false);
        };
        collection.close(Duration::MAX);
        let root = self.dir.join(COLLECTIONS);
        let trash = root.join(format!("{TRASH_PREFIX}{}", Uuid::new_v4().simple()));
        fs_err::rename(root.join(name), &trash)?;
        sync_dir(&root)?;
        fs_err::remove_dir_all(&trash)?;
        Ok(true)
    }
}

#[async_trait]
impl PassageStore for EdgeStore {
    async fn ensure_collection(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError> {
        check_collection_name(name)?;
        let (name, spec) = (name.to_owned(), spec.clone());
        self.blocking(move |inner| inner.create(&name, &spec)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>, StoreError> {
        self.blocking(|inner| {
            let all = inner.all();
            all.iter().map(|collection| collection.info()).collect()
        })
        .await
    }

    async fn collection(&self, name: &str) -> Result<CollectionInfo, StoreError> {
        self.on(name, |collection| collection.info()).await
    }

    async fn spec(&self, name: &str) -> Result<CollectionSpec, StoreError> {
        Ok(self.inner.get(name)?.shared.truth.spec().clone())
    }

    async fn specs(&self) -> Result<Vec<(String, CollectionSpec)>, StoreError> {
        let all = self.inner.all().into_iter().map(|found| {
            let shared = &found.shared;
            (shared.name.clone(), shared.truth.spec().clone())
        });
        Ok(all.collect())
    }

    async fn drop_collection(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.drop_collection(&name))
            .await
    }

    async fn revisions(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<HashMap<String, String>, StoreError> {
        let ids = document_ids.to_vec();
        self.on(collection, move |collection| {
            collection.read(|shared| {
                let snapshot = shared.truth.committed();
                let mut found = HashMap::with_capacity(ids.len());
                for id in &ids {
                    found.extend(snapshot.document(id)?.map(|row| (id.clone(), row.revision)));
                }
                Ok(found)
            })
        })
        .await
    }

    async fn put_documents(
        &self,
        collection: &str,
        documents: Vec<DocumentPut>,
    ) -> Result<(), StoreError> {
        let seq = self
            .on(collection, move |collection| collection.put(&documents))
            .await?;
        self.settle(collection, seq).await
    }

    async fn delete_documents(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<usize, StoreError> {
        let ids = document_ids.to_vec();
        let (deleted, seq) = self.on(collection, move |c| c.delete(&ids)).await?;
        self.settle(collection, seq).await?;
        Ok(deleted)
    }

    async fn candidates(
        &self,
        collection: &str,
        query: &CandidateQuery,
    ) -> Result<Vec<Candidate>, StoreError> {
        let query = query.clone();
        self.on(collection, move |collection| {
            check::query(&query, collection.shared.truth.spec())?;
            collection.read(|shared| shared.candidates(&query))
        })
        .await
    }

    async fn keys(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Arc<KeyBlock>>>, StoreError> {
        let refs = refs.to_vec();
        self.on(collection, move |c| c.read(|shared| shared.keys(&refs)))
            .await
    }

    async fn passages(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Passage>>, StoreError> {
        let refs = refs.to_vec();
        self.on(collection, move |c| c.read(|shared| shared.passages(&refs)))
            .await
    }

    async fn scroll(
        &self,
        collection: &str,
        query: &ScrollQuery,
    ) -> Result<ScrollPage, StoreError> {
        let (name, query) = (collection.to_owned(), query.clone());
        self.on(collection, move |collection| {
            collection.read(|shared| {
                let snapshot = shared.truth.committed();
                snapshot.scroll(&name, &query)
            })
        })
        .await
    }

    async fn documents(&self, collection: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.on(collection, |c| {
            c.read(|shared| shared.truth.committed().documents())
        })
        .await
    }

    async fn stats(&self, collection: &str) -> Result<Arc<CorpusStats>, StoreError> {
        Ok(self
            .inner
            .get(collection)?
            .shared
            .truth
            .committed()
            .stats
            .clone())
    }

    fn content_state(&self, collection: &str) -> Option<ContentState> {
        let shared = &self.inner.get(collection).ok()?.shared;
        Some(ContentState {
            opened: shared.opened,
            committed: shared.truth.committed().seq,
            searchable: shared.published.load().seq,
        })
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.blocking(|inner| {
            for collection in inner.all() {
                collection.read(|shared| {
                    shared.truth.committed().document_count()?;
                    shared.with_index(|_| Ok(()))
                })?;
            }
            Ok(())
        })
        .await
    }
}
