//! What the errors of a checkpoint store mean to a caller.

use std::time::Duration;

use moerag_checkpoint::CheckpointError;
use moerag_runtime::chain;

use crate::domain::{Resource, RouterError};

/// When to try again if the checkpoint store does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl From<CheckpointError> for RouterError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::NotFound(name) => Self::NotFound {
                resource: Resource::Version,
                name,
                remedy: "; `moerag models list` shows what there is",
            },
            CheckpointError::Busy(_)
            | CheckpointError::Store { .. }
            | CheckpointError::Io { .. } => Self::Unavailable {
                what: "checkpoint store".to_owned(),
                reason: chain(&error),
                retry_after: RETRY_AFTER,
            },
            CheckpointError::Truncated { .. }
            | CheckpointError::Corrupt { .. }
            | CheckpointError::CurrentCorrupt(_)
            | CheckpointError::NonFinite { .. }
            | CheckpointError::BadWeights { .. }
            | CheckpointError::SpaceMismatch { .. }
            | CheckpointError::KeySpecMismatch { .. }
            | CheckpointError::UnsupportedFormat { .. }
            | CheckpointError::TooLarge { .. }
            | CheckpointError::Refused(_)
            | CheckpointError::BadUrl { .. } => Self::Precondition {
                subject: "checkpoint store".to_owned(),
                reason: chain(&error),
            },
        }
    }
}
