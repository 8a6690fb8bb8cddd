//! One open collection: its shared state and its owner thread.

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::EdgeOptions;
use super::compact::compact;
use super::disk::{DirLock, require_room};
use super::owner::{Owner, Wake};
use super::shared::Shared;
use super::truth::{Truth, file_opener};
use crate::check;
use crate::error::StoreError;
use crate::spec::CollectionInfo;
use crate::store::DocumentPut;

/// File name of a collection's database.
pub(super) const DATABASE_FILE: &str = "truth.redb";
/// Written bytes for one byte handed in: a copy-on-write tree, the shard and its log.
const WRITE_FACTOR: u64 = 4;

pub(super) struct Collection {
    pub(super) shared: Arc<Shared>,
    wakes: SyncSender<Wake>,
    owner: Mutex<Option<JoinHandle<()>>>,
}

impl Collection {
    /// Opens the collection in `dir`; `None` if it was never completely made. Blocks until the index is
    /// up to date, which means building it when it is missing.
    pub(super) fn open(
        name: &str,
        dir: &Path,
        options: &EdgeOptions,
        lock: &Arc<DirLock>,
    ) -> Result<Option<Self>, StoreError> {
        let database = dir.join(DATABASE_FILE);
        let opener = file_opener(&database, options.database_cache_bytes);
        // A full disk is no reason not to serve what is there; what is damaged, the next step finds as well.
        if let Err(error) = compact(&database, &*opener, options.compact_from_bytes) {
            tracing::warn!(collection = name, %error, "the database was not compacted");
        }
        let Some(truth) = Truth::open(&database, opener, name)? else {
            return Ok(None);
        };
        let shared = Arc::new(Shared::new(name, dir, options, lock, truth));
        let owner = Owner::start(shared.clone());
        let (wakes, inbox) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("index-{name}"))
            .spawn(move || owner.run(&inbox))?;
        Ok(Some(Self {
            shared,
            wakes,
            owner: Mutex::new(Some(thread)),
        }))
    }

    fn wake(&self) {
        // A full inbox means that the owner has yet to look, which is all a wake asks for.
        if let Err(TrySendError::Disconnected(_)) = self.wakes.try_send(Wake::Changed) {
            tracing::debug!(collection = self.shared.name, "the index owner has ended");
        }
    }

    /// Ends the owner thread; the index is flushed and closed, unless something is being built that takes
    /// longer than `build_wait`.
    pub(super) fn close(&self, build_wait: Duration) {
        let thread = self
            .owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let told = self.wakes.send(Wake::Stop { build_wait }).is_ok();
            if thread.join().is_err() || !told {
                tracing::warn!(
                    collection = self.shared.name,
                    "the index owner ended by a panic"
                );
            }
        }
    }

    /// Commits documents; returns the journal entry that searches have to reach to see them.
    pub(super) fn put(&self, documents: &[DocumentPut]) -> Result<u64, StoreError> {
        let before = self.shared.truth.committed();
        let spec = self.shared.truth.spec();
        let (mut changed, mut bytes) = (false, 0u64);
        for document in documents {
            check::document(document, spec)?;
            let stored = before.document(&document.document_id)?;
            if stored.is_none_or(|row| row.revision != document.revision) {
                changed = true;
                bytes += check::size(document);
            }
        }
        if !changed {
            return Ok(before.seq);
        }
        let reserve = self.shared.options.reserve_bytes;
        require_room(
            &self.shared.dir,
            reserve,
            bytes.saturating_mul(WRITE_FACTOR),
        )?;
        let done = self.shared.truth.put(documents);
        self.wake();
        done.map_err(|error| self.name_full_disk(error))?;
        Ok(self.shared.truth.committed().seq)
    }

    /// Deletes documents; returns how many there were, and what [`put`](Self::put) returns. Needs no
    /// free reserve: it is one of the ways to get room again.
    pub(super) fn delete(&self, document_ids: &[String]) -> Result<(usize, u64), StoreError> {
        let done = self.shared.truth.delete(document_ids);
        self.wake();
        let deleted = done.map_err(|error| self.name_full_disk(error))?;
        Ok((deleted, self.shared.truth.committed().seq))
    }

    /// A write that failed for want of room says so.
    fn name_full_disk(&self, error: StoreError) -> StoreError {
        let StoreError::Database { source, .. } = &error else {
            return error;
        };
        match &**source {
            redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                let dir = self.shared.dir.clone();
                let free = super::disk::free_bytes(&dir).unwrap_or_default();
                StoreError::DiskFull {
                    dir,
                    free,
                    needed: self.shared.options.reserve_bytes,
                }
            }
            _ => error,
        }
    }

    /// Runs a read; if the database had to be closed after a failed write, opens it and tries once more.
    pub(super) fn read<T>(
        &self,
        call: impl Fn(&Shared) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match call(&self.shared) {
            Err(StoreError::Database { source, .. })
                if matches!(
                    *source,
                    redb::Error::DatabaseClosed | redb::Error::PreviousIo
                ) =>
            {
                self.shared.truth.heal()?;
                let newest = self.shared.truth.committed();
                if newest.seq == self.shared.published.load().seq {
                    self.shared.published.store(newest);
                }
                self.wake();
                call(&self.shared)
            }
            other => other,
        }
    }

    pub(super) fn info(&self) -> Result<CollectionInfo, StoreError> {
        self.read(|shared| {
            let snapshot = shared.truth.committed();
            Ok(CollectionInfo {
                name: shared.name.clone(),
                spec: shared.truth.spec().clone(),
                documents: snapshot.document_count()?,
                passages: snapshot.passage_count()?,
                corpus_digest: snapshot.corpus_digest()?,
                stats_digest: snapshot.stats.digest(),
            })
        })
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.close(self.shared.options.build_wait);
    }
}
