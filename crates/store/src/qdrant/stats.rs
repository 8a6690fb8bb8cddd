//! Statistics of a collection on a server: a derived state with a fingerprint.
//!
//! They are kept as one point beside the collection, with the fingerprint of the documents that they
//! count. A router adds up its own writes; whenever the fingerprint is not that of the documents that
//! are there (another router wrote, or one stopped half-way), the counts are taken anew from all
//! passages, of which only terms and wordpieces travel (about 1 KB each). So they are right whoever
//! writes, and cheap when one router does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moerag_retrieve::{CorpusStats, KeyBlock, LexBlock, PassageFeatures};
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::{Condition, Filter, Value};
use sha2::{Digest, Sha256};

use super::remote::Remote;
use super::schema::{self, LEX, LIVE, Names, PIECES, REVISION};
use super::{MARK_FIELDS, QdrantStore};
use crate::error::StoreError;
use crate::tags::DOCUMENT_FIELD;

const VERSION: &str = "version";
const FINGERPRINT: &str = "fingerprint";
const STATS: &str = "stats";
/// How long statistics are believed without asking whether another router changed them.
const FRESH: Duration = Duration::from_secs(2);
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

/// What this router knows.
#[derive(Default)]
pub(super) struct State {
    current: Option<Known>,
    /// The last statistics known, right or not: good enough for the weights of stored vectors.
    last: Option<Arc<CorpusStats>>,
}

impl State {
    /// Forgets what a failed or overtaken write left uncertain; the next question counts anew.
    pub(super) fn doubt(&mut self) {
        self.current = None;
    }
}

#[derive(Clone)]
struct Known {
    stats: Arc<CorpusStats>,
    fingerprint: Fingerprint,
    version: i64,
    checked: Instant,
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
    let token_ids: Vec<u32> = schema::unpack(payload, PIECES)?;
    Ok(PassageFeatures {
        vector: Vec::new(),
        lex,
        keys: KeyBlock {
            token_ids,
            ..KeyBlock::default()
        },
    })
}

/// One collection's statistics on the server.
pub(super) struct Book<'a> {
    pub(super) remote: &'a Remote,
    pub(super) meta: String,
    pub(super) name: &'a str,
    pub(super) names: &'a Names,
}

impl Book<'_> {
    /// Statistics of what is there now.
    pub(super) async fn current(&self, state: &mut State) -> Result<Arc<CorpusStats>, StoreError> {
        if let Some(known) = &mut state.current {
            if known.checked.elapsed() < FRESH {
                return Ok(known.stats.clone());
            }
            if self.stored_version().await? == Some(known.version) {
                known.checked = Instant::now();
                return Ok(known.stats.clone());
            }
        }
        let known = self.load().await?;
        let stats = known.stats.clone();
        state.last = Some(stats.clone());
        state.current = Some(known);
        Ok(stats)
    }

    /// Statistics to weigh new passages with: the last known, however old.
    pub(super) async fn rough(&self, state: &mut State) -> Result<Arc<CorpusStats>, StoreError> {
        match &state.last {
            Some(stats) => Ok(stats.clone()),
            None => self.current(state).await,
        }
    }

    /// Records a write. On a conflict with another router the state is dropped; who asks next counts
    /// anew.
    pub(super) async fn record(&self, state: &mut State, change: Change) -> Result<(), StoreError> {
        let Some(known) = state.current.take() else {
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
        state.last = Some(stats.clone());
        if self.stored_version().await? != Some(known.version) {
            return self.invalidate().await;
        }
        let version = known.version + 1;
        self.save(&stats, Some(fingerprint), version).await?;
        state.current = Some(Known {
            stats,
            fingerprint,
            version,
            checked: Instant::now(),
        });
        Ok(())
    }

    async fn stored(&self, payload: &[&str]) -> Result<Option<HashMap<String, Value>>, StoreError> {
        let id = schema::named_id("stats", self.name);
        let found = self.remote.get(&self.meta, vec![id], payload).await?;
        Ok(found.into_iter().next().map(|point| point.payload))
    }

    async fn stored_version(&self) -> Result<Option<i64>, StoreError> {
        let payload = self.stored(&[VERSION]).await?;
        payload
            .map(|payload| schema::integer(&payload, VERSION))
            .transpose()
    }

    /// Tells every router that the stored statistics are out of date.
    pub(super) async fn invalidate(&self) -> Result<(), StoreError> {
        let version = self.stored_version().await?.unwrap_or_default() + 1;
        self.save(&CorpusStats::default(), None, version).await
    }

    async fn save(
        &self,
        stats: &CorpusStats,
        fingerprint: Option<Fingerprint>,
        version: i64,
    ) -> Result<(), StoreError> {
        let bytes = stats.to_bytes().map_err(|error| StoreError::InvalidInput {
            field: "statistics".into(),
            reason: format!("cannot be encoded: {error}"),
        })?;
        let payload = HashMap::from([
            (VERSION.to_owned(), version.into()),
            (
                FINGERPRINT.to_owned(),
                schema::packed(&fingerprint.map(|f| f.0))?,
            ),
            (STATS.to_owned(), schema::packed(&bytes)?),
        ]);
        let point = schema::bare_point(schema::named_id("stats", self.name), payload);
        self.remote.upsert(&self.meta, &[point], None).await
    }

    /// The stored statistics if they count what is there, else a count from nothing.
    async fn load(&self) -> Result<Known, StoreError> {
        let mut fingerprint = Fingerprint::default();
        let mut revisions = HashMap::new();
        self.remote
            .each(&self.names.documents, None, MARK_FIELDS, |point| {
                let mark = schema::Mark::parse(&point.payload)?;
                if mark.state != schema::MarkState::Deleting {
                    fingerprint.toggle(&mark.document_id, &mark.revision);
                    revisions.insert(mark.document_id, mark.revision);
                }
                Ok(())
            })
            .await?;
        let stored = self.stored(&[VERSION, FINGERPRINT, STATS]).await?;
        let mut version = 0;
        if let Some(payload) = stored {
            version = schema::integer(&payload, VERSION)?;
            let counted: Option<u128> = schema::unpack(&payload, FINGERPRINT)?;
            if counted == Some(fingerprint.0) {
                let bytes: Vec<u8> = schema::unpack(&payload, STATS)?;
                if let Ok(stats) = CorpusStats::from_bytes(&bytes) {
                    let stats = Arc::new(stats);
                    return Ok(Known {
                        stats,
                        fingerprint,
                        version,
                        checked: Instant::now(),
                    });
                }
            }
        }
        tracing::info!(collection = self.name, "statistics are counted anew");
        let mut stats = CorpusStats::default();
        let payload = [DOCUMENT_FIELD, REVISION, LEX, PIECES];
        self.remote
            .each(&self.names.points, None, &payload, |point| {
                let marked = revisions.get(schema::text(&point.payload, DOCUMENT_FIELD)?);
                if marked
                    .is_some_and(|r| schema::text(&point.payload, REVISION).is_ok_and(|p| p == r))
                {
                    stats.add(&countable(&point.payload)?);
                }
                Ok(())
            })
            .await?;
        self.fit_if_stale(&mut stats).await?;
        version += 1;
        self.save(&stats, Some(fingerprint), version).await?;
        Ok(Known {
            stats: Arc::new(stats),
            fingerprint,
            version,
            checked: Instant::now(),
        })
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
                    &self.names.points,
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
    pub(super) fn book<'a>(&'a self, name: &'a str, names: &'a Names) -> Book<'a> {
        Book {
            remote: &self.remote,
            meta: schema::meta(&self.options.prefix),
            name,
            names,
        }
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
