//! What takes long for a large index, on a thread of its own: graphs, the rewriting of segments with many
//! deleted points, and another index in place of the present one.
//!
//! The shard takes points and answers searches meanwhile: it puts a proxy before what is rewritten, and
//! what comes lands in another segment. Only `flush` must wait for the end (it would panic at the moment
//! when segments change places), so the journal keeps what comes until then.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fill::{Filled, fill};
use super::index::Index;
use super::shared::Shared;
use crate::error::StoreError;

/// Between two looks at a build whose end is waited for.
const POLL: Duration = Duration::from_millis(10);

/// What came of a build.
pub(super) enum Built {
    /// The index was rewritten where it is, as far as that was due.
    Optimized {
        /// Points inserted before that need no graph any more. What is too small for a graph of its own is
        /// searched exactly and waits for more.
        covered: u64,
    },
    /// Another index, of the state at its beginning.
    Filled(Box<Filled>),
}

/// A build that is under way. The index must stay in its place until its end.
pub(super) struct Build {
    thread: JoinHandle<Result<Built, StoreError>>,
}

impl Build {
    /// Rewrites segments; `unoptimized` points were inserted since the last time.
    pub(super) fn optimize(shared: &Arc<Shared>, unoptimized: u64) -> Result<Self, StoreError> {
        Self::start(shared, move |shared| {
            let started = Instant::now();
            if !shared.with_index(Index::optimize)? {
                return Ok(Built::Optimized { covered: 0 });
            }
            tracing::info!(
                collection = shared.name,
                seconds = started.elapsed().as_secs_f32(),
                "search index optimized"
            );
            let covered = unoptimized;
            Ok(Built::Optimized { covered })
        })
    }

    /// Builds another index from the truth.
    pub(super) fn another(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        Self::start(shared, |shared| Ok(Built::Filled(Box::new(fill(shared)?))))
    }

    fn start(
        shared: &Arc<Shared>,
        work: impl FnOnce(&Shared) -> Result<Built, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let name = format!("build-{}", shared.name);
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || work(&shared))?;
        Ok(Self { thread })
    }

    /// Whether [`finish`](Self::finish) would not wait.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for that, at most so long; whether it came.
    pub(super) fn is_finished_within(&self, longest: Duration) -> bool {
        let began = Instant::now();
        while !self.is_finished() {
            if began.elapsed() >= longest {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// Waits for the end.
    pub(super) fn finish(self, shared: &Shared) -> Result<Built, StoreError> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(StoreError::index(&shared.dir, "building it panicked")))
    }
}
