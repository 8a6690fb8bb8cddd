//! The live model and the versions in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use moerag_checkpoint::{CheckpointStore, Expected, Manifest};

use super::engine::RouterEngine;
use crate::domain::{RouterError, ServedModel, Source};
use crate::model_slot::sources_of;

/// The live model.
#[derive(Clone, Debug)]
pub struct ActiveModel {
    /// The model.
    pub model: ServedModel,
    /// Sources of the collections that it has seen.
    pub collections: BTreeMap<String, Source>,
    /// Why their weights serve.
    pub reasons: BTreeMap<String, String>,
    /// Number of models in memory.
    pub live_generations: usize,
    /// Swaps since the start.
    pub swaps: u64,
    /// Loads that failed since the start.
    pub failed_loads: u64,
    /// Why the last load failed, if it did.
    pub last_load_error: Option<String>,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}

/// A published version.
#[derive(Clone, Debug)]
pub struct ModelVersion {
    /// Its manifest.
    pub manifest: Manifest,
    /// Sources of its collections.
    pub collections: BTreeMap<String, Source>,
    /// Whether this router serves it.
    pub active: bool,
}

/// All versions.
#[derive(Clone, Debug)]
pub struct VersionList {
    /// The versions, newest first.
    pub versions: Vec<ModelVersion>,
    /// The version that CURRENT names; 0 if none.
    pub current: u64,
    /// Whether it is pinned.
    pub pinned: bool,
}

impl RouterEngine {
    /// The live model.
    pub fn active_model(&self) -> ActiveModel {
        let slot = &self.inner.models;
        let model = slot.take();
        ActiveModel {
            collections: model.sources().clone(),
            reasons: model.reasons().clone(),
            live_generations: slot.live_generations(),
            swaps: slot.swaps(),
            failed_loads: slot.failed_loads(),
            last_load_error: slot.last_error(),
            loaded_at: model.loaded_at(),
            model: self.served(&model, None),
        }
    }

    /// The versions in the checkpoint store. Without a store there are none.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list_versions(&self) -> Result<VersionList, RouterError> {
        let Ok(store) = self.inner.models.store() else {
            return Ok(VersionList {
                versions: Vec::new(),
                current: 0,
                pinned: false,
            });
        };
        let current = store.current().await?;
        let mut manifests = store.list().await?.versions;
        manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.version));
        let active = self.inner.models.take().version();
        let versions = manifests
            .into_iter()
            .map(|manifest| ModelVersion {
                collections: sources_of(&manifest),
                active: manifest.version == active,
                manifest,
            })
            .collect();
        Ok(VersionList {
            versions,
            current: current.as_ref().map_or(0, |current| current.version),
            pinned: current.is_some_and(|current| current.pinned),
        })
    }

    /// Looks for a new version now. Returns the live model and whether it changed.
    ///
    /// # Errors
    /// The store does not answer, or the version is refused.
    pub async fn reload_model(&self) -> Result<(ServedModel, bool), RouterError> {
        let changed = self.inner.models.reload().await?;
        Ok((self.active_model().model, changed))
    }

    /// Makes a version current and holds it.
    ///
    /// # Errors
    /// No such version, a broken one, or the store does not answer.
    pub async fn pin_version(&self, version: u64) -> Result<ServedModel, RouterError> {
        if version == 0 {
            return Err(RouterError::invalid("version", "is 0, must be at least 1"));
        }
        self.move_current(
            move |store, fits| async move { store.pin(version, &fits).await.map(drop) },
        )
        .await
    }

    /// Lets the newest version become current.
    ///
    /// # Errors
    /// As for [`RouterEngine::pin_version`].
    pub async fn unpin_version(&self) -> Result<ServedModel, RouterError> {
        self.move_current(|store, fits| async move { store.unpin(&fits).await.map(drop) })
            .await
    }

    /// Makes an older version current and pins it; by default the one before the current one.
    ///
    /// # Errors
    /// As for [`RouterEngine::pin_version`], or there is no older one.
    pub async fn rollback(&self, version: Option<u64>) -> Result<ServedModel, RouterError> {
        if version == Some(0) {
            return Err(RouterError::invalid(
                "version",
                "is 0, must be at least 1 or unset",
            ));
        }
        self.move_current(move |store, fits| async move {
            store.rollback(version, &fits).await.map(drop)
        })
        .await
    }

    /// Moves CURRENT, to what this router can serve, and follows it. Both happen in a task of their own: a client that hangs up
    /// must not leave one without the other.
    async fn move_current<F, Fut>(&self, change: F) -> Result<ServedModel, RouterError>
    where
        F: FnOnce(CheckpointStore, Expected) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), moerag_checkpoint::CheckpointError>> + Send,
    {
        let store = self.inner.models.store()?.clone();
        let slot = Arc::clone(&self.inner.models);
        tokio::spawn(async move {
            change(store, slot.expected()).await?;
            slot.reload().await
        })
        .await
        .map_err(|error| RouterError::internal("moving the current version", error))??;
        Ok(self.active_model().model)
    }
}
