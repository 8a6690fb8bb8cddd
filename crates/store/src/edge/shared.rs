//! What the readers, the writers and the owner thread of a collection share, and how it is searched.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use moerag_retrieve::KeyBlock;
use moerag_retrieve::linalg::dot;
use rayon::prelude::*;
use tokio::sync::watch;

use super::EdgeOptions;
use super::disk::DirLock;
use super::filter::edge_filter;
use super::index::{Hit, Index};
use super::recent::RecentRows;
use super::rows::Point;
use super::snapshot::Snapshot;
use super::truth::Truth;
use crate::error::StoreError;
use crate::passage::{Passage, PassageRef, point_id};
use crate::rank::{by_score, rounded};
use crate::store::{Candidate, CandidateQuery};
use crate::tags::clauses;

/// Most results asked of the shard for one list, however many ties or dead points there are.
const MAX_FETCH: usize = 50_000;

/// Rows that are worth another thread's while.
const LEAST_SHARE: usize = 24;
/// The same of texts.
const LEAST_TEXTS: usize = 4;
/// Between two looks whether the last search in an index that was replaced has ended.
const LAST_SEARCHES: Duration = Duration::from_millis(1);
/// Collections opened so far.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// How far the index is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Journal entry up to which searches see the truth.
    pub(super) applied: u64,
    /// Why the index does not follow, if it does not.
    pub(super) failure: Option<String>,
}

/// Whether the index has exactly the points of the published state. While it has, a hit is known to be
/// live without a look into the database.
#[derive(Default)]
pub(super) struct Settled {
    /// Grows with every change of the index; 0 before the first and odd while it differs from the
    /// published state. Written by the owner thread alone.
    epoch: AtomicU64,
}

impl Settled {
    /// The index is about to differ.
    pub(super) fn disturb(&self) {
        self.epoch.fetch_or(1, Ordering::SeqCst);
    }

    /// The index is the published state again.
    pub(super) fn settle(&self) {
        let before = self.epoch.fetch_or(1, Ordering::SeqCst) | 1;
        self.epoch.store(before + 1, Ordering::SeqCst);
    }

    /// The present epoch, if the index is settled.
    fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch > 0 && epoch % 2 == 0)
    }
}

/// The index together with the state that it serves.
struct Searched {
    index: Arc<Index>,
    state: Arc<Snapshot>,
    /// See [`Settled::epoch`].
    epoch: Option<u64>,
}

pub(super) struct Shared {
    pub(super) name: String,
    /// Number of this opening among all of this process.
    pub(super) opened: u64,
    pub(super) dir: PathBuf,
    pub(super) options: EdgeOptions,
    pub(super) truth: Truth,
    /// Locked for moments only, see [`searched`](Self::searched).
    index: RwLock<Option<Arc<Index>>>,
    /// The newest state whose points are all in the index: what searches see.
    pub(super) published: ArcSwap<Snapshot>,
    pub(super) settled: Settled,
    pub(super) progress: watch::Sender<Progress>,
    /// Whoever can still write into the directory keeps others from it: a build may outlive the store.
    _lock: Arc<DirLock>,
    rows: RecentRows,
}

impl Shared {
    pub(super) fn new(
        name: &str,
        dir: &Path,
        options: &EdgeOptions,
        lock: &Arc<DirLock>,
        truth: Truth,
    ) -> Self {
        Self {
            name: name.to_owned(),
            opened: OPENED.fetch_add(1, Ordering::Relaxed),
            dir: dir.to_owned(),
            options: options.clone(),
            _lock: Arc::clone(lock),
            published: ArcSwap::new(truth.committed()),
            settled: Settled::default(),
            truth,
            index: RwLock::new(None),
            progress: watch::Sender::default(),
            rows: RecentRows::new(options.row_cache_bytes),
        }
    }

    /// Dimension of the vectors, and the number of points from which on an index has a graph.
    pub(super) fn shape(&self) -> (usize, usize) {
        (
            self.truth.spec().dim as usize,
            self.options.hnsw_from_points,
        )
    }

    /// Runs `call` with the index.
    pub(super) fn with_index<T>(
        &self,
        call: impl FnOnce(&Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        call(&self.searched()?.index)
    }

    /// What searches look into now. The lock is not kept: a thread that waits for its halves
    /// ([`rayon::join`]) may begin another query meanwhile, and that would wait for whoever wants to replace
    /// the index, who would wait for this thread.
    fn searched(&self) -> Result<Searched, StoreError> {
        let slot = self.index.read().unwrap_or_else(PoisonError::into_inner);
        // Together under the lock: another index comes with its state.
        let (epoch, state) = (self.settled.epoch(), self.published.load_full());
        match slot.as_ref() {
            Some(index) => Ok(Searched {
                index: Arc::clone(index),
                state,
                epoch,
            }),
            None => {
                let failure = self.progress.borrow().failure.clone();
                Err(StoreError::index(
                    &self.dir,
                    failure.unwrap_or("it is not open".into()),
                ))
            }
        }
    }

    /// Puts another index, or none, in place of the present one, together with the state that it serves,
    /// and waits for those who still search the old one.
    pub(super) fn put_index(&self, index: Option<Index>, state: Option<Arc<Snapshot>>) {
        let mut old = {
            let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = state {
                self.settled.disturb();
                self.published.store(state);
            }
            std::mem::replace(&mut *slot, index.map(Arc::new))
        };
        // Nobody gets it any more, and no search waits for this thread.
        while let Some(Err(searched)) = old.map(Arc::try_unwrap) {
            std::thread::sleep(LAST_SEARCHES);
            old = Some(searched);
        }
    }

    /// See [`PassageStore::candidates`](crate::PassageStore::candidates).
    pub(super) fn candidates(&self, query: &CandidateQuery) -> Result<Vec<Candidate>, StoreError> {
        let Some(clauses) = clauses(&query.filter) else {
            return Ok(Vec::new());
        };
        let Searched {
            index,
            state: snapshot,
            epoch,
        } = self.searched()?;
        let points = usize::try_from(snapshot.passage_count()?).unwrap_or(usize::MAX);
        let n = query.n.min(points);
        if n == 0 {
            return Ok(Vec::new());
        }
        let filter = edge_filter(&self.name, &clauses, &snapshot)?;
        let dense = || {
            let search = |limit| index.dense(&query.vector, n, limit, points, filter.as_ref());
            let exact = |point: &Point, _| dot(&query.vector, &point.vector);
            self.list(&snapshot, epoch, n, search, exact, index.dense_error())
        };
        let lexical = || {
            if query.sparse.is_empty() {
                return Ok(Vec::new());
            }
            let search = |limit| {
                let mut hits = index.lexical(&query.sparse, limit, filter.as_ref())?;
                hits.retain(|(_, score)| *score > 0.0);
                Ok(hits)
            };
            self.list(&snapshot, epoch, n, search, |_, score| score, 0.0)
        };
        // Side by side where a core is idle.
        let (dense, lexical) = rayon::join(dense, lexical);
        let mut found = dense?;
        found.extend(lexical?);
        found.sort_unstable_by(|a, b| a.at.cmp(&b.at));
        found.dedup_by(|a, b| a.at == b.at);
        Ok(found
            .into_iter()
            .map(|point| Candidate {
                at: point.at.clone(),
                vector: point.vector.clone(),
                lex: point.lex.clone(),
            })
            .collect())
    }

    /// The best `n` live points of a list, by the score that `exact` makes of a point and of its score
    /// in the index, which is off by `error`. Reads points until none of the rest can be among the best, and
    /// asks for more where too many are dead (replaced or deleted in the truth) or too near to each other.
    fn list(
        &self,
        snapshot: &Snapshot,
        epoch: Option<u64>,
        n: usize,
        search: impl Fn(usize) -> Result<Vec<Hit>, StoreError>,
        exact: impl Fn(&Point, f32) -> f32,
        error: f32,
    ) -> Result<Vec<Arc<Point>>, StoreError> {
        // Every hit costs the shard a look-up. So near to the hundredth that rounding may have changed their order
        // are 18 points of 200,000 as a rule, and 30 for one query in ten.
        let rounded_away = if error > 0.0 { n / 4 } else { 0 };
        let mut limit = n + rounded_away + 16;
        loop {
            let hits = search(limit)?;
            // Nothing changed from before the state was loaded until now.
            let settled = epoch.is_some() && self.settled.epoch() == epoch;
            let mut live: Vec<(f32, Arc<Point>)> = Vec::with_capacity(n + n / 2);
            // The first are needed in any case; an idle core takes a share of them.
            let (first, rest) = hits.split_at(n.min(hits.len()));
            let first: Vec<Option<Arc<Point>>> = first
                .par_iter()
                .with_min_len(LEAST_SHARE)
                .map(|(point, _)| self.point(snapshot, *point, settled))
                .collect::<Result<_, _>>()?;
            let rest = rest
                .iter()
                .map(|(point, _)| self.point(snapshot, *point, settled));
            // The n-th best score is not below the least of any n.
            let mut least = f32::NEG_INFINITY;
            let mut cut_is_clear = false;
            let points = first.into_iter().map(Ok).chain(rest);
            for ((_, score), point) in hits.iter().zip(points) {
                cut_is_clear = rounded(least) > rounded(score + error);
                if cut_is_clear {
                    break;
                }
                live.extend(point?.map(|point| (exact(&point, *score), point)));
                if live.len() == n && least == f32::NEG_INFINITY {
                    least = live
                        .iter()
                        .fold(f32::INFINITY, |least, (score, _)| least.min(*score));
                }
            }
            if hits.len() < limit || cut_is_clear || limit >= MAX_FETCH {
                live.sort_unstable_by(|a, b| by_score((a.0, &a.1.at), (b.0, &b.1.at)));
                live.truncate(n);
                return Ok(live.into_iter().map(|(_, point)| point).collect());
            }
            limit = (limit * 4).min(MAX_FETCH);
        }
    }

    /// A point, if it is in the snapshot. One that is `known` to be live needs no look there if it is
    /// cached.
    fn point(
        &self,
        snapshot: &Snapshot,
        point: u128,
        known: bool,
    ) -> Result<Option<Arc<Point>>, StoreError> {
        let cached = self.rows.point(point);
        if known && cached.is_some() {
            return Ok(cached);
        }
        if cached.is_some() {
            return Ok(snapshot.number(point)?.and(cached));
        }
        let read = snapshot.point(point)?.map(Arc::new);
        if let Some(read) = &read {
            self.rows.put_point(point, read);
        }
        Ok(read)
    }

    /// Drops points that are gone from the caches.
    pub(super) fn forget(&self, gone: &[u128]) {
        for point in gone {
            self.rows.forget(*point);
        }
    }

    pub(super) fn keys(
        &self,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Arc<KeyBlock>>>, StoreError> {
        let snapshot = self.published.load_full();
        // Idle cores take a share: rows that are not cached are read and decoded.
        refs.par_iter()
            .with_min_len(LEAST_SHARE)
            .map(|at| {
                // What is cached is live, or was when its passage was found.
                let point = at.point.as_u128();
                if let Some(cached) = self.rows.keys(point) {
                    return Ok(Some(cached));
                }
                // A number is one passage's for ever, so mostly a cached one is as good as a row. Only, a
                // passage that was away and has come back has another one.
                let cached = self.rows.point(point).map(|cached| cached.number);
                let keys = |number: Option<u64>| number.map_or(Ok(None), |n| snapshot.keys(n));
                let read = match keys(cached)? {
                    Some(read) => Some(read),
                    None => keys(snapshot.number(point)?)?,
                };
                let read = read.map(Arc::new);
                if let Some(read) = &read {
                    self.rows.put_keys(point, read);
                }
                Ok(read)
            })
            .collect()
    }

    pub(super) fn passages(&self, refs: &[PassageRef]) -> Result<Vec<Option<Passage>>, StoreError> {
        let snapshot = self.published.load_full();
        // Also so that an idle thread is awake when these texts' sentences are weighed.
        refs.par_iter()
            .with_min_len(LEAST_TEXTS)
            .map(|at| {
                let passage = snapshot.passage(&at.document_id, at.ordinal)?;
                Ok(passage.filter(|passage| {
                    let id = point_id(&self.name, &at.document_id, &passage.revision, at.ordinal);
                    id == at.point
                }))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use moerag_retrieve::{KeySpec, Language};

    use super::super::EdgeStore;
    use crate::spec::CollectionSpec;
    use crate::store::PassageStore;

    /// As when a thread takes another query while it waits for a half of its own.
    #[tokio::test]
    async fn a_search_within_a_search_does_not_wait_for_who_replaces_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let store = EdgeStore::open(dir.path(), super::EdgeOptions::default()).unwrap();
        let spec = CollectionSpec {
            space: "test".into(),
            dim: 8,
            key_spec: KeySpec::of_dims(8),
            language: Language::English,
        };
        store.ensure_collection("docs", &spec).await.unwrap();
        let shared = store.inner.get("docs").unwrap().shared.clone();
        let (searching, search) = sync_channel::<()>(0);
        let (ended, end) = sync_channel(1);
        let (outer, owner) = (shared.clone(), shared.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let search_twice = move || {
            let within = outer.with_index(|_| {
                searching.send(()).unwrap();
                while outer.index.try_read().is_ok_and(|slot| slot.is_some()) {
                    std::thread::yield_now();
                }
                Ok(outer.with_index(|_| Ok(())).is_err())
            });
            ended.send(within.unwrap()).unwrap();
        };
        named("query").spawn(search_twice).unwrap();
        search.recv().unwrap();
        let replace = move || owner.put_index(None, None);
        let replacing = named("owner").spawn(replace).unwrap();
        let patience = std::time::Duration::from_secs(30);
        assert_eq!(end.recv_timeout(patience), Ok(true), "it waits for itself");
        replacing.join().unwrap();
    }
}
