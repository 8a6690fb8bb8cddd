//! The live model: loaded and warmed before it is swapped in, taken once by each request.
//!
//! Only this module swaps. A request holds the `Arc` that it took to its end, so an older model
//! leaves memory when its last request does.

mod checkpoint_error;
mod loaded;
mod places;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use moerag_checkpoint::{
    Action, CheckpointError, CheckpointStore, Current, Expected, LoadedVersion, ServingState,
    Target, decide,
};
use moerag_model::{DeviceKind, ModelSnapshot};
use moerag_retrieve::ViewConfig;
use moerag_runtime::{CpuPool, chain};
use tracing::{info, warn};

pub(crate) use loaded::sources_of;
pub use loaded::{Generations, LoadedModel};
pub use watch::watch;

use crate::domain::RouterError;
use crate::threads;

/// What a slot needs to know to judge a version.
#[derive(Clone, Debug)]
pub struct SlotConfig {
    /// Device of the model.
    pub device: DeviceKind,
    /// Embedding space of the encoder.
    pub space: String,
    /// Width of the encoder's vectors.
    pub dim: usize,
    /// Candidates, views and keys of the built-in prior.
    pub view_config: ViewConfig,
}

/// Holds the live model.
pub struct ModelSlot {
    config: SlotConfig,
    store: Option<CheckpointStore>,
    live: ArcSwap<LoadedModel>,
    generations: Generations,
    pool: CpuPool,
    /// Held while a version is loaded, so that one is loaded at a time.
    state: tokio::sync::Mutex<ServingState>,
    swaps: AtomicU64,
    failed_loads: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl ModelSlot {
    /// A slot with the built-in prior, loaded and warm. Without a store it stays with it.
    ///
    /// # Errors
    /// The device is not there.
    pub async fn new(
        config: SlotConfig,
        store: Option<CheckpointStore>,
    ) -> Result<Self, RouterError> {
        let pool = threads::background("model", Some(1))?;
        let generations = Generations::default();
        let (kind, view_config) = (config.device, config.view_config.clone());
        let counter = generations.clone();
        let prior = pool
            .run(move || LoadedModel::prior(&ModelSnapshot::prior(view_config), kind, &counter));
        let prior = prior
            .await?
            .map_err(|error| RouterError::internal("loading the built-in prior", error))?;
        Ok(Self {
            config,
            store,
            live: ArcSwap::from_pointee(prior),
            generations,
            pool,
            state: tokio::sync::Mutex::default(),
            swaps: AtomicU64::new(0),
            failed_loads: AtomicU64::new(0),
            last_error: Mutex::new(None),
        })
    }

    /// The live model, for one request from its beginning to its end.
    pub fn take(&self) -> Arc<LoadedModel> {
        self.live.load_full()
    }

    /// Number of models in memory.
    pub fn live_generations(&self) -> usize {
        self.generations.count()
    }

    /// Swaps since the start.
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }

    /// Loads that failed since the start.
    pub fn failed_loads(&self) -> u64 {
        self.failed_loads.load(Ordering::Relaxed)
    }

    /// Why the last look at the store or the last load failed; `None` if it did not.
    pub fn last_error(&self) -> Option<String> {
        self.lock_error().clone()
    }

    /// The checkpoint store.
    ///
    /// # Errors
    /// None is configured.
    pub fn store(&self) -> Result<&CheckpointStore, RouterError> {
        self.store
            .as_ref()
            .ok_or_else(|| RouterError::Precondition {
                subject: "checkpoint store".to_owned(),
                reason: "none is configured, so the built-in prior serves; set checkpoints.url"
                    .to_owned(),
            })
    }

    /// What a version must be to be served here.
    pub(crate) fn expected(&self) -> Expected {
        Expected {
            embedding_space_id: Some(self.config.space.clone()),
            key_spec: Some(self.config.view_config.key_spec.clone()),
        }
    }

    /// Looks at the store and follows it if the policy says so. Failures are remembered and
    /// reported by [`ModelSlot::last_error`]; whatever serves goes on serving.
    pub async fn poll(&self) {
        let Some(store) = &self.store else { return };
        let mut state = self.state.lock().await;
        let seen = match store.current().await {
            Ok(seen) => seen,
            Err(error) => {
                self.note_failure(&format!("looking for a version: {error}"));
                return;
            }
        };
        state.forget_failure(seen.as_ref());
        if let Action::Load(target) = decide(&state, seen.as_ref(), Instant::now()) {
            // Already noted; the next poll decides when to try again.
            let _ = self.follow(store, &mut state, target).await;
        } else if state.failure.is_none() {
            *self.lock_error() = None;
        }
    }

    /// Looks at the store now and loads what is current, also if it failed a moment ago. Returns
    /// whether the live model changed.
    ///
    /// # Errors
    /// The store does not answer, or the version is refused; the old one goes on serving.
    pub async fn reload(&self) -> Result<bool, RouterError> {
        let store = self.store()?;
        let mut state = self.state.lock().await;
        let seen: Option<Current> = store.current().await?;
        let Some(target) = seen.as_ref().map(Target::from) else {
            return Ok(false);
        };
        if state.applied.as_ref() == Some(&target) {
            state.forget_failure(seen.as_ref());
            *self.lock_error() = None;
            return Ok(false);
        }
        self.follow(store, &mut state, target).await?;
        Ok(true)
    }

    async fn follow(
        &self,
        store: &CheckpointStore,
        state: &mut ServingState,
        target: Target,
    ) -> Result<(), CheckpointError> {
        match self.load(store, &target).await {
            Ok(model) => {
                let version = model.version();
                self.live.store(Arc::new(model));
                self.swaps.fetch_add(1, Ordering::Relaxed);
                *self.lock_error() = None;
                state.on_applied(target);
                info!(version, "serving a new model");
                Ok(())
            }
            Err(error) => {
                self.failed_loads.fetch_add(1, Ordering::Relaxed);
                self.note_failure(&format!(
                    "loading version {}: {}",
                    target.version,
                    chain(&error)
                ));
                state.on_failed(target, Instant::now());
                Err(error)
            }
        }
    }

    /// Verifies, loads, checks and warms a version. Nothing is swapped yet.
    async fn load(
        &self,
        store: &CheckpointStore,
        target: &Target,
    ) -> Result<LoadedModel, CheckpointError> {
        let version: LoadedVersion = store.load_target(target).await?;
        version.manifest.require(&self.expected())?;
        let (kind, dim, counter) = (
            self.config.device,
            self.config.dim,
            self.generations.clone(),
        );
        let number = target.version;
        let loaded = self
            .pool
            .run(move || LoadedModel::from_version(&version, kind, dim, &counter));
        loaded
            .await
            .map_err(|error| CheckpointError::Refused(format!("version {number}: {error}")))?
            .map_err(|source| CheckpointError::BadWeights {
                version: number,
                source,
            })
    }

    /// Logs a failure once, not at every poll.
    fn note_failure(&self, message: &str) {
        let mut last = self.lock_error();
        if last.as_deref() != Some(message) {
            warn!(
                cause = message,
                serving = self.live.load().version(),
                "model stays as it is"
            );
            *last = Some(message.to_owned());
        }
    }

    fn lock_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
