//! Follows the checkpoint store until shutdown.

use std::sync::{Arc, Weak};
use std::time::Duration;

use moerag_runtime::Shutdown;

use super::ModelSlot;

/// Polls the store. The task ends with the slot or with the process, whichever comes first.
pub async fn watch(slot: Weak<ModelSlot>, every: Duration, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(every) => {}
        }
        let Some(slot): Option<Arc<ModelSlot>> = slot.upgrade() else {
            return;
        };
        slot.poll().await;
    }
}
