//! The owner thread of a collection's index: the only one that changes, flushes and rebuilds it.
//!
//! It follows the journal that every transaction of the truth adds to. Order within a round: insert
//! the new points, publish the state that has them, remove the old points later. So a document that is
//! being replaced is found in one of its two revisions at every moment.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::build::{Build, Built};
use super::fill::{FLUSH_AFTER, Filled, INDEX_PREFIX, insert, remove};
use super::index::{Index, VACUUM_POINTS, VACUUM_SHARE};
use super::rows::IndexMark;
use super::seal::{self, Seal};
use super::shared::{Progress, Shared};
use crate::error::StoreError;

/// Quiet time after which the shard is flushed and looked after.
const QUIET: Duration = Duration::from_millis(300);
/// Wait before the next try when the index cannot be brought up to date.
const RETRY: Duration = Duration::from_secs(5);
/// Relative change of the average passage length after which BM25 weights are computed anew.
const LENGTH_DRIFT: f32 = 0.05;
/// The same for an index with a graph, where that takes minutes: it changes which passages are looked at, a
/// little, and no score (those are computed from the present statistics).
const LARGE_LENGTH_DRIFT: f32 = 0.25;

/// What a writer tells the owner.
pub(super) enum Wake {
    /// The journal has grown.
    Changed,
    /// Finish and end.
    Stop {
        /// How long to wait for what is being built.
        build_wait: Duration,
    },
}

pub(super) struct Owner {
    shared: Arc<Shared>,
    mark: IndexMark,
    /// Journal entry up to which the shard has the inserts.
    applied: u64,
    /// Points to remove from the shard at the next flush.
    dead: HashSet<u128>,
    unflushed: usize,
    removed_since_optimize: usize,
    /// What is being built at the moment. The index is neither flushed nor replaced before its end.
    build: Option<Build>,
}

impl Owner {
    /// Opens the shard and brings it up to date, or builds it from the truth. On an error the owner is
    /// there all the same and keeps trying: what is in the truth stays readable and writable.
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let mark = IndexMark {
            dir: String::new(),
            seq: 0,
            avg_len: 0.0,
            unoptimized: 0,
        };
        let mut owner = Self {
            shared,
            mark,
            applied: 0,
            dead: HashSet::new(),
            unflushed: 0,
            removed_since_optimize: 0,
            build: None,
        };
        let opened = owner.shared.truth.index_mark().and_then(|mark| match mark {
            Some(mark) => owner.open(mark),
            None => Err(StoreError::index(&owner.shared.dir, "there is none yet")),
        });
        if let Err(reason) = opened {
            tracing::debug!(collection = owner.shared.name, %reason, "search index is built anew");
            owner.guarded("build", Self::rebuild);
        } else {
            owner.round();
        }
        owner.remove_strays();
        owner
    }

    fn open(&mut self, mark: IndexMark) -> Result<(), StoreError> {
        let dir = self.shared.dir.join(&mark.dir);
        let (dim, hnsw_from) = self.shared.shape();
        let committed = self.shared.truth.committed();
        let changes = committed.changes_after(mark.seq)?;
        let expected = usize::try_from(committed.passage_count()?).unwrap_or(usize::MAX);
        match seal::take(&dir)? {
            Seal::Intact => {}
            Seal::Broken => return Err(StoreError::index(&dir, "its files have changed")),
            Seal::Missing if expected < self.shared.options.rebuild_unclean_below => {
                return Err(StoreError::index(&dir, "it was not closed"));
            }
            Seal::Missing => {}
        }
        let index = Index::load(&dir, dim, hnsw_from)?;
        // A flushed shard has exactly the points of the state it was flushed at, or newer ones. Fewer
        // than that means files went missing.
        let found = index.count()?;
        if found.saturating_add(changes.insert.len()) < expected {
            return Err(StoreError::index(
                &dir,
                format!("it has {found} points of {expected}"),
            ));
        }
        self.applied = mark.seq;
        self.mark = mark;
        self.shared.put_index(Some(index), None);
        Ok(())
    }

    /// Works until told to stop.
    pub(super) fn run(mut self, wakes: &Receiver<Wake>) {
        let mut quiet_since = Instant::now();
        // A former process may have ended before its points got a graph.
        let mut overdue = self.points().is_ok_and(|points| self.graph_is_due(points));
        let build_wait = loop {
            let failed = self.shared.progress.borrow().failure.is_some();
            let waiting = self.unflushed > 0 || !self.dead.is_empty();
            let busy = overdue || waiting || self.build.is_some();
            let wait = match (failed, busy) {
                (true, _) => RETRY,
                (false, true) => QUIET.saturating_sub(quiet_since.elapsed()),
                (false, false) => Duration::from_secs(3_600),
            };
            match wakes.recv_timeout(wait) {
                Ok(Wake::Changed) => {
                    self.round();
                    quiet_since = Instant::now();
                }
                Ok(Wake::Stop { build_wait }) => break build_wait,
                Err(RecvTimeoutError::Disconnected) => break Duration::ZERO,
                Err(RecvTimeoutError::Timeout) if failed => self.round(),
                Err(RecvTimeoutError::Timeout) => {
                    self.guarded("look after", Self::maintain);
                    overdue = false;
                    quiet_since = Instant::now();
                }
            }
        };
        self.round();
        if let Some(build) = &self.build
            && !build.is_finished_within(build_wait)
        {
            // It has the index in its hands. What is missing there is in the journal.
            let collection = self.shared.name.as_str();
            tracing::warn!(
                collection,
                "closed before its index was built; it is begun again next time"
            );
            return;
        }
        self.guarded("build", Self::finish_build);
        let flushed = self.guarded("flush", Self::flush);
        self.shared.put_index(None, None);
        if flushed {
            self.guarded("seal", |owner| {
                seal::seal(&owner.shared.dir.join(&owner.mark.dir))
            });
        }
    }

    /// Brings the index up to the newest committed state; rebuilds it if that does not work.
    fn round(&mut self) {
        let done = self.guarded("bring up to date", Self::catch_up)
            || self.guarded("rebuild", Self::rebuild);
        if !done {
            return;
        }
        if self.build.as_ref().is_some_and(Build::is_finished) {
            self.guarded("build", Self::take_over);
        } else if self.unflushed >= FLUSH_AFTER {
            self.guarded("flush", |owner| {
                if owner.build.is_some() {
                    return owner.shared.with_index(Index::shorten_log);
                }
                owner.flush()?;
                owner.start_build(owner.points()?)
            });
        }
    }

    /// Runs a step, logs its failure and makes it known; true if it succeeded.
    fn guarded(
        &mut self,
        what: &'static str,
        step: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> bool {
        let done = catch_unwind(AssertUnwindSafe(|| step(self)))
            .unwrap_or_else(|_| Err(StoreError::index(&self.shared.dir, "it panicked")));
        let failure = done.as_ref().err().map(ToString::to_string);
        if let Some(error) = &failure {
            let collection = self.shared.name.as_str();
            tracing::warn!(collection, error, "could not {what} the search index");
        }
        let applied = self.applied;
        self.shared
            .progress
            .send_replace(Progress { applied, failure });
        done.is_ok()
    }

    fn catch_up(&mut self) -> Result<(), StoreError> {
        let target = self.shared.truth.committed();
        let changes = target.changes_after(self.applied)?;
        let inserted: HashSet<u128> = changes.insert.iter().copied().collect();
        self.shared.settled.disturb();
        self.shared
            .with_index(|index| insert(index, &target, &changes.insert))?;
        self.dead.retain(|point| !inserted.contains(point));
        self.dead.extend(changes.remove.iter().copied());
        if self.mark.avg_len == 0.0 {
            self.mark.avg_len = target.stats.avg_len();
        }
        self.applied = target.seq;
        self.unflushed += changes.insert.len() + changes.remove.len();
        self.mark.unoptimized += changes.insert.len() as u64;
        self.shared.published.store(target);
        self.shared.forget(&changes.remove);
        self.settle();
        Ok(())
    }

    /// Makes what the index has durable and lets the journal forget it. Not beside a build.
    fn flush(&mut self) -> Result<(), StoreError> {
        let dead: Vec<u128> = self.dead.iter().copied().collect();
        self.shared.with_index(|index| {
            remove(index, &dead)?;
            index.flush()
        })?;
        self.dead.clear();
        self.removed_since_optimize += dead.len();
        self.mark.seq = self.applied;
        self.shared.truth.set_index_mark(&self.mark)?;
        self.unflushed = 0;
        // The mark's own commit is newer than what is published; holding the old state would pin pages.
        let newest = self.shared.truth.committed();
        if newest.seq == self.applied {
            self.shared.published.store(newest);
        }
        self.settle();
        Ok(())
    }

    /// Says that the index is the published state, if it is.
    fn settle(&self) {
        if self.dead.is_empty() && self.applied == self.shared.published.load().seq {
            self.shared.settled.settle();
        }
    }

    /// What is done in quiet moments.
    fn maintain(&mut self) -> Result<(), StoreError> {
        self.catch_up()?;
        match &self.build {
            // A build looks at all that comes while it goes on; what it leaves waits for more.
            Some(build) if build.is_finished() => return self.take_over(),
            Some(_) => return Ok(()),
            None => self.flush()?,
        }
        let points = self.points()?;
        if self.has_drifted(points) {
            return self.start_another();
        }
        self.start_build(points)
    }

    /// Number of points in the index; it looks at all of them.
    fn points(&self) -> Result<usize, StoreError> {
        self.shared.with_index(Index::count)
    }

    /// Whether the weights of terms were computed with another average length than the present one.
    fn has_drifted(&self, points: usize) -> bool {
        let bound = match points < self.shared.options.hnsw_from_points {
            true => LENGTH_DRIFT,
            false => LARGE_LENGTH_DRIFT,
        };
        let now = self.shared.published.load().stats.avg_len();
        (now - self.mark.avg_len).abs() > bound * self.mark.avg_len.max(1.0)
    }

    /// Begins to rewrite segments if that is due.
    fn start_build(&mut self, points: usize) -> Result<(), StoreError> {
        let dead_share = self.removed_since_optimize as f64 / points.max(1) as f64;
        let vacuum = dead_share > VACUUM_SHARE && self.removed_since_optimize >= VACUUM_POINTS;
        if vacuum || self.graph_is_due(points) {
            self.removed_since_optimize = 0;
            self.build = Some(Build::optimize(&self.shared, self.mark.unoptimized)?);
        }
        Ok(())
    }

    /// Puts what was built to use and makes it durable.
    fn take_over(&mut self) -> Result<(), StoreError> {
        self.finish_build()?;
        self.flush()
    }

    /// Waits for the end of what is being built and puts it to use.
    fn finish_build(&mut self) -> Result<(), StoreError> {
        let Some(build) = self.build.take() else {
            return Ok(());
        };
        match build.finish(&self.shared)? {
            Built::Optimized { covered } => {
                self.mark.unoptimized = self.mark.unoptimized.saturating_sub(covered);
                Ok(())
            }
            Built::Filled(other) => self.replace(*other),
        }
    }

    /// Whether more than a tenth of a large collection is in no graph.
    fn graph_is_due(&self, points: usize) -> bool {
        points >= self.shared.options.hnsw_from_points && self.mark.unoptimized > points as u64 / 10
    }

    /// Puts another index, built from the truth, in place of this one.
    fn rebuild(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.finish_build() {
            tracing::debug!(%error, "what was being built is given up");
        }
        self.start_another()?;
        self.finish_build()
    }

    /// Begins to build another index; this one serves until it is there.
    fn start_another(&mut self) -> Result<(), StoreError> {
        self.remove_strays();
        self.build = Some(Build::another(&self.shared)?);
        Ok(())
    }

    /// Brings another index up to the newest committed state and puts it in place of the present one.
    fn replace(&mut self, other: Filled) -> Result<(), StoreError> {
        let Filled { index, mut mark } = other;
        let target = self.shared.truth.committed();
        let changes = target.changes_after(mark.seq)?;
        insert(&index, &target, &changes.insert)?;
        remove(&index, &changes.remove)?;
        index.flush()?;
        mark.seq = target.seq;
        mark.unoptimized += changes.insert.len() as u64;
        self.shared.truth.set_index_mark(&mark)?;

        self.applied = target.seq;
        self.mark = mark;
        self.dead.clear();
        self.unflushed = 0;
        self.removed_since_optimize = changes.remove.len();
        self.shared.put_index(Some(index), Some(target));
        self.shared.forget(&changes.remove);
        self.remove_strays();
        self.settle();
        Ok(())
    }

    /// Removes shard directories that are not the current one.
    fn remove_strays(&self) {
        for dir in shard_dirs(&self.shared.dir) {
            if dir
                .file_name()
                .is_some_and(|name| name != self.mark.dir.as_str())
                && let Err(error) = fs_err::remove_dir_all(&dir)
            {
                tracing::warn!(%error, "an old search index stays behind");
            }
        }
    }
}

fn shard_dirs(collection: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(collection).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(INDEX_PREFIX)
        })
        .map(|entry| entry.path())
        .collect()
}
