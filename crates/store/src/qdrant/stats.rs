//! Statistics of a collection on a server: a derived state with a fingerprint.
//!
//! They are kept as one point beside the collection, with the fingerprint of the documents that they
//! count. A router adds up its own writes; whenever the fingerprint is not that of the documents that
//! are there (another router wrote, or one stopped half-way), the counts are taken anew from all
//! passages, of which only terms and wordpieces travel (about 1 KB each). So they come out right
//! whoever writes, and are cheap when one router does. What another router wrote is seen within
//! seconds; if that router stops between the documents and their statistics, when it is back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use moerag_retrieve::{CorpusStats, KeyBlock, LexBlock, PassageFeatures};
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::{Condition, Filter, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::handle::Handle;
use super::remote::Remote;
use super::schema::{self, LEX, LIVE, PIECES, REVISION};
use super::{MARK_FIELDS, QdrantStore};
use crate::error::StoreError;
use crate::tags::DOCUMENT_FIELD;

const VERSION: &str = "version";
const FINGERPRINT: &str = "fingerprint";
const STATS: &str = "stats";
/// How long statistics are believed without asking whether another router changed them.
const FRESH: Duration = Duration::from_secs(2);
/// Tries to count while nobody else writes.
const LOADS: usize = 2;
/// Passages whose vectors the geometry is fitted to.
const GEOMETRY_SAMPLE: usize = 8_192;

/// An order-independent digest of a set of `(document_id, revision)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    /// Adds a pair that is not in the set, or takes out one that is.
    pub(super) fn toggle(&mut self, document_id: &str, revision: &str) {
        let mut hash = Sha256::new();
        hash.update((document_id.len() as u64).to_le_bytes());
        hash.update(document_id);
        hash.update(revision);
        let digest: [u8; 32] = hash.finalize().into();
        let (halves, _) = digest.as_chunks::<16>();
        self.0 ^= u128::from_le_bytes(halves[0]);
    }
}

/// What this router knows for certain, or nothing.
#[derive(Default)]
pub(super) struct State(Option<Known>);

impl State {
    /// Takes the knowledge away for the time of a write, which is over with [`Book::record`]: a write that
    /// fails or is dropped half-way leaves nothing that would be believed.
    pub(super) fn begin_write(&mut self) -> Self {
        Self(self.0.take())
    }
}

#[derive(Clone)]
struct Known {
    stats: Arc<CorpusStats>,
    fingerprint: Fingerprint,
    /// Names one state of the stored statistics.
    version: String,
}

/// Statistics and when they were last right.
pub(super) struct Latest {
    pub(super) stats: Arc<CorpusStats>,
    pub(super) at: Instant,
}

/// What one write changed.
#[derive(Default)]
pub(super) struct Change {
    pub(super) added: Vec<PassageFeatures>,
    pub(super) removed: Vec<PassageFeatures>,
    /// `(document_id, revision)` that came or went.
    pub(super) toggled: Vec<(String, String)>,
}

/// Features as far as statistics read them.
pub(super) fn countable(payload: &HashMap<String, Value>) -> Result<PassageFeatures, StoreError> {
    let lex: LexBlock = schema::unpack(payload, LEX)?;
    let wordpieces: Vec<u32> = schema::unpack(payload, PIECES)?;
    Ok(PassageFeatures {
        vector: Vec::new(),
        lex,
        keys: KeyBlock {
            wordpieces,
            ..KeyBlock::default()
        },
    })
}

/// The statistics of one collection, to be read and written with its state locked.
pub(super) struct Book<'a> {
    pub(super) remote: &'a Remote,
    pub(super) meta: &'a str,
    pub(super) handle: &'a Handle,
}

impl Book<'_> {
    /// Statistics of what is there now.
    pub(super) async fn current(&self, state: &mut State) -> Result<Arc<CorpusStats>, StoreError> {
        if let Some(known) = &state.0
            && self.stored_version().await?.as_ref() == Some(&known.version)
        {
            return Ok(self.publish(&known.stats));
        }
        for _ in 0..LOADS {
            let (stats, known) = self.load().await?;
            let certain = known.is_some();
            state.0 = known;
            if certain {
                return Ok(self.publish(&stats));
            }
        }
        // Others write all the time: the last count is as good as any.
        let (stats, known) = self.load().await?;
        state.0 = known;
        Ok(self.publish(&stats))
    }

    /// Statistics to weigh new passages with: the latest known, however old.
    pub(super) async fn rough(&self, state: &mut State) -> Result<Arc<CorpusStats>, StoreError> {
        match self.handle.latest.load_full() {
            Some(latest) => Ok(latest.stats.clone()),
            None => self.current(state).await,
        }
    }

    /// Records a write that began at `before`. On a conflict with another router nothing is certain
    /// afterwards; who asks next counts anew.
    pub(super) async fn record(
        &self,
        state: &mut State,
        before: State,
        change: Change,
    ) -> Result<(), StoreError> {
        let Some(known) = before.0 else {
            return self.invalidate().await;
        };
        let mut stats = CorpusStats::clone(&known.stats);
        for features in &change.removed {
            stats.remove(features);
        }
        for features in &change.added {
            stats.add(features);
        }
        self.fit_if_stale(&mut stats).await?;
        let mut fingerprint = known.fingerprint;
        for (document_id, revision) in &change.toggled {
            fingerprint.toggle(document_id, revision);
        }
        let stats = Arc::new(stats);
        self.publish(&stats);
        match self
            .save(&stats, Some(fingerprint), Some(&known.version))
            .await?
        {
            Some(version) => {
                state.0 = Some(Known {
                    stats,
                    fingerprint,
                    version,
                });
                Ok(())
            }
            None => self.invalidate().await,
        }
    }

    fn publish(&self, stats: &Arc<CorpusStats>) -> Arc<CorpusStats> {
        let latest = Latest {
            stats: stats.clone(),
            at: Instant::now(),
        };
        self.handle.latest.store(Some(Arc::new(latest)));
        stats.clone()
    }

    async fn stored(&self, payload: &[&str]) -> Result<Option<HashMap<String, Value>>, StoreError> {
        let id = schema::named_id("stats", &self.handle.name);
        let found = self.remote.get(self.meta, vec![id], payload).await?;
        Ok(found.into_iter().next().map(|point| point.payload))
    }

    async fn stored_version(&self) -> Result<Option<String>, StoreError> {
        let payload = self.stored(&[VERSION]).await?;
        payload
            .map(|payload| schema::text(&payload, VERSION).map(str::to_owned))
            .transpose()
    }

    /// Tells every router that the stored statistics are out of date.
    pub(super) async fn invalidate(&self) -> Result<(), StoreError> {
        self.save(&CorpusStats::default(), None, None)
            .await
            .map(drop)
    }

    /// Stores statistics under a new version, which is returned if it is there afterwards. With
    /// `expected` they replace that version only: servers before 1.16 ignore this, then two routers
    /// that save within the same millisecond may overlook each other.
    async fn save(
        &self,
        stats: &CorpusStats,
        fingerprint: Option<Fingerprint>,
        expected: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let bytes = stats.to_bytes().map_err(|error| StoreError::InvalidInput {
            field: "statistics".into(),
            reason: format!("cannot be encoded: {error}"),
        })?;
        let version = Uuid::new_v4().to_string();
        let payload = HashMap::from([
            (VERSION.to_owned(), version.as_str().into()),
            (
                FINGERPRINT.to_owned(),
                schema::packed(&fingerprint.map(|f| f.0))?,
            ),
            (STATS.to_owned(), schema::packed(&bytes)?),
        ]);
        let point = schema::bare_point(schema::named_id("stats", &self.handle.name), payload);
        let unchanged =
            expected.map(|version| Filter::must([Condition::matches(VERSION, version.to_owned())]));
        self.remote
            .upsert(self.meta, &[point], unchanged.as_ref())
            .await?;
        Ok((self.stored_version().await?.as_ref() == Some(&version)).then_some(version))
    }

    /// The stored statistics if they count what is there, else a count from nothing. The second value
    /// is missing if another router wrote meanwhile.
    async fn load(&self) -> Result<(Arc<CorpusStats>, Option<Known>), StoreError> {
        // Read first: whoever records a write after this makes the version another one.
        let stored = self.stored(&[VERSION, FINGERPRINT, STATS]).await?;
        let names = &self.handle.names;
        let mut fingerprint = Fingerprint::default();
        let mut revisions = HashMap::new();
        self.remote
            .each(&names.documents, None, MARK_FIELDS, |point| {
                let mark = schema::Mark::parse(&point.payload)?;
                if mark.state != schema::MarkState::Deleting {
                    fingerprint.toggle(&mark.document_id, &mark.revision);
                    revisions.insert(mark.document_id, mark.revision);
                }
                Ok(())
            })
            .await?;
        let mut expected = None;
        if let Some(payload) = stored {
            let version = schema::text(&payload, VERSION)?.to_owned();
            let counted: Option<u128> = schema::unpack(&payload, FINGERPRINT)?;
            if counted == Some(fingerprint.0) {
                let bytes: Vec<u8> = schema::unpack(&payload, STATS)?;
                if let Ok(stats) = CorpusStats::from_bytes(&bytes) {
                    let stats = Arc::new(stats);
                    return Ok((
                        stats.clone(),
                        Some(Known {
                            stats,
                            fingerprint,
                            version,
                        }),
                    ));
                }
            }
            expected = Some(version);
        }
        tracing::info!(collection = self.handle.name, "statistics are counted anew");
        let mut stats = CorpusStats::default();
        let payload = [DOCUMENT_FIELD, REVISION, LEX, PIECES];
        self.remote
            .each(&names.points, None, &payload, |point| {
                let marked = revisions.get(schema::text(&point.payload, DOCUMENT_FIELD)?);
                if marked.map(String::as_str) == Some(schema::text(&point.payload, REVISION)?) {
                    stats.add(&countable(&point.payload)?);
                }
                Ok(())
            })
            .await?;
        self.fit_if_stale(&mut stats).await?;
        let version = self
            .save(&stats, Some(fingerprint), expected.as_deref())
            .await?;
        let stats = Arc::new(stats);
        let known = version.map(|version| Known {
            stats: stats.clone(),
            fingerprint,
            version,
        });
        Ok((stats, known))
    }

    /// Fits the geometry to a sample: the first passages in the order of their ids, which are hashes.
    async fn fit_if_stale(&self, stats: &mut CorpusStats) -> Result<(), StoreError> {
        if !stats.geometry_is_stale() {
            return Ok(());
        }
        let live = Filter::must([Condition::matches(LIVE, true)]);
        let mut sample: Vec<Vec<f32>> = Vec::new();
        let mut from = None;
        loop {
            let (points, next) = self
                .remote
                .page(
                    &self.handle.names.points,
                    Some(&live),
                    from,
                    &[],
                    &[schema::DENSE],
                    1_024,
                )
                .await?;
            sample.extend(points.iter().filter_map(|point| {
                match point.vectors.as_ref()?.get_vector_by_name(schema::DENSE)? {
                    Vector::Dense(dense) => Some(dense.data),
                    _ => None,
                }
            }));
            if next.is_none() || sample.len() >= GEOMETRY_SAMPLE {
                break;
            }
            from = next;
        }
        stats.fit_geometry(sample.iter().map(Vec::as_slice));
        Ok(())
    }
}

impl QdrantStore {
    /// The statistics of a collection, to be used with its state locked.
    pub(super) fn book<'a>(&'a self, handle: &'a Handle) -> Book<'a> {
        Book {
            remote: &self.remote,
            meta: &self.meta,
            handle,
        }
    }

    /// Statistics for searching: the latest known at once. When these are old, they are brought up to
    /// date meanwhile, so that searches never wait for what other routers write.
    pub(super) async fn latest(
        &self,
        handle: &Arc<Handle>,
    ) -> Result<Arc<CorpusStats>, StoreError> {
        let Some(latest) = handle.latest.load_full() else {
            return self
                .book(handle)
                .current(&mut *handle.stats.lock().await)
                .await;
        };
        if latest.at.elapsed() > FRESH && !handle.refreshing.swap(true, Ordering::AcqRel) {
            let (remote, meta, handle) = (self.remote.clone(), self.meta.clone(), handle.clone());
            tokio::spawn(async move {
                let book = Book {
                    remote: &remote,
                    meta: &meta,
                    handle: &handle,
                };
                if let Err(error) = book.current(&mut *handle.stats.lock().await).await {
                    tracing::warn!(collection = handle.name, %error, "statistics stay as they are");
                }
                handle.refreshing.store(false, Ordering::Release);
            });
        }
        Ok(latest.stats.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_does_not_depend_on_order_and_undoes() {
        let mut one = Fingerprint::default();
        one.toggle("a", "1");
        one.toggle("b", "2");
        let mut other = Fingerprint::default();
        other.toggle("b", "2");
        other.toggle("a", "0");
        assert_ne!(one, other);
        other.toggle("a", "0");
        other.toggle("a", "1");
        assert_eq!(one, other);
        one.toggle("a", "1");
        one.toggle("b", "2");
        assert_eq!(one, Fingerprint::default());
    }
}
