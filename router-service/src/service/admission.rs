//! Who may work now, who waits, who is turned away.
//!
//! Queries, ingest streams and passage streams have permits of their own, so that none of them
//! can starve another. A batch costs as much as its queries would one by one, and is turned away
//! under the same condition.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::domain::{RouterError, Stage, Stages};

/// When a client that was turned away should come back.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The same for streams, which last longer.
const STREAM_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Sizes of the queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permits {
    /// Queries worked on at the same time; 0 means twice the number of cores.
    pub queries: usize,
    /// Queries that work or wait; beyond it they are turned away. At least `limits.batch`.
    pub queued_queries: usize,
    /// Ingest streams at the same time.
    pub ingest_streams: usize,
    /// Passage streams at the same time.
    pub passage_streams: usize,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            queries: 0,
            queued_queries: 256,
            ingest_streams: 4,
            passage_streams: 4,
        }
    }
}

/// The queues.
#[derive(Debug)]
pub(super) struct Admission {
    queued: Arc<Semaphore>,
    running: Arc<Semaphore>,
    ingest: Arc<Semaphore>,
    passages: Arc<Semaphore>,
    permits: Permits,
}

impl Admission {
    pub(super) fn new(permits: &Permits, cores: usize) -> Self {
        let queries = if permits.queries == 0 {
            2 * cores
        } else {
            permits.queries
        };
        let permits = Permits {
            queries,
            ..permits.clone()
        };
        Self {
            queued: Arc::new(Semaphore::new(permits.queued_queries)),
            running: Arc::new(Semaphore::new(permits.queries)),
            ingest: Arc::new(Semaphore::new(permits.ingest_streams)),
            passages: Arc::new(Semaphore::new(permits.passage_streams)),
            permits,
        }
    }

    /// Queries of one batch that may run at the same time: half of all, so that single queries
    /// get their turn.
    pub(super) fn batch_width(&self) -> usize {
        (self.permits.queries / 2).max(1)
    }

    /// A place in the queue for `cost` queries, or none at all.
    pub(super) fn queue(&self, cost: usize) -> Result<OwnedSemaphorePermit, RouterError> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        Arc::clone(&self.queued)
            .try_acquire_many_owned(cost)
            .map_err(|_| RouterError::Full {
                what: format!(
                    "all {} places for queries are taken",
                    self.permits.queued_queries
                ),
                retry_after: Some(RETRY_AFTER),
            })
    }

    /// Waits until one query may run.
    pub(super) async fn run(&self, stages: &Stages) -> Result<OwnedSemaphorePermit, RouterError> {
        let _guard = stages.enter(Stage::Admit);
        Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|closed| RouterError::internal("waiting for a permit", closed))
    }

    pub(super) fn ingest_stream(&self) -> Result<OwnedSemaphorePermit, RouterError> {
        stream(&self.ingest, "ingest", self.permits.ingest_streams)
    }

    pub(super) fn passage_stream(&self) -> Result<OwnedSemaphorePermit, RouterError> {
        stream(&self.passages, "passage", self.permits.passage_streams)
    }
}

fn stream(
    semaphore: &Arc<Semaphore>,
    kind: &str,
    total: usize,
) -> Result<OwnedSemaphorePermit, RouterError> {
    Arc::clone(semaphore)
        .try_acquire_owned()
        .map_err(|error| match error {
            TryAcquireError::NoPermits => RouterError::Full {
                what: format!("all {total} {kind} streams are in use"),
                retry_after: Some(STREAM_RETRY_AFTER),
            },
            TryAcquireError::Closed => RouterError::internal("opening a stream", error),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::domain::ErrorCode;

    #[test]
    fn a_batch_is_turned_away_like_single_queries() {
        let permits = Permits {
            queued_queries: 4,
            ..Permits::default()
        };
        let admission = Admission::new(&permits, 2);
        let batch = admission.queue(3).unwrap();
        let single = admission.queue(1).unwrap();
        for cost in [1, 3] {
            let error = admission.queue(cost).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ResourceExhausted);
            assert!(matches!(
                error,
                RouterError::Full {
                    retry_after: Some(_),
                    ..
                }
            ));
        }
        drop(batch);
        assert!(admission.queue(3).is_ok());
        drop(single);
    }

    #[test]
    fn ingest_does_not_take_the_places_of_queries() {
        let permits = Permits {
            ingest_streams: 1,
            ..Permits::default()
        };
        let admission = Admission::new(&permits, 2);
        let _stream = admission.ingest_stream().unwrap();
        assert!(admission.ingest_stream().is_err());
        assert!(admission.queue(1).is_ok());
        assert!(admission.passage_stream().is_ok());
    }
}
