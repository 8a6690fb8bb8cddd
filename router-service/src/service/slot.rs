//! The engine's place while it is being started: the server listens before the engine is there,
//! so that health and errors can say what it waits for.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::engine::RouterEngine;
use super::store_error::STORE_RETRY_AFTER;
use crate::domain::RouterError;

/// Holds the engine once it has started. Clones share it.
#[derive(Clone, Default)]
pub struct EngineSlot {
    engine: Arc<OnceLock<RouterEngine>>,
    waiting_for: Arc<Mutex<String>>,
}

impl EngineSlot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the engine in; a second one is ignored.
    pub fn set(&self, engine: RouterEngine) {
        // A slot is filled by the one task that starts the engine.
        let _ = self.engine.set(engine);
    }

    /// Says what the start waits for.
    pub fn set_waiting_for(&self, what: impl Into<String>) {
        *self
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// The engine.
    ///
    /// # Errors
    /// It has not started yet.
    pub fn get(&self) -> Result<&RouterEngine, RouterError> {
        self.engine.get().ok_or_else(|| {
            let reason = self
                .waiting_for
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            RouterError::Unavailable {
                what: "router".to_owned(),
                reason: if reason.is_empty() {
                    "it is starting".to_owned()
                } else {
                    reason
                },
                retry_after: STORE_RETRY_AFTER,
            }
        })
    }
}
