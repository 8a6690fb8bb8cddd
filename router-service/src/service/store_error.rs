//! What the errors of a store mean to a caller.

use std::time::Duration;

use moerag_runtime::CpuPoolError;
use moerag_store::StoreError;

use crate::domain::RouterError;

/// When to try again if the store does not answer.
pub(super) const STORE_RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<StoreError> for RouterError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownCollection { name } => Self::unknown_collection(name),
            StoreError::InvalidName { .. } => Self::invalid("collection", error.to_string()),
            StoreError::InvalidInput { field, reason } => Self::invalid(field, reason),
            StoreError::SpecMismatch { ref name, .. } => Self::Precondition {
                subject: format!("collection {name:?}"),
                reason: error.to_string(),
            },
            StoreError::DiskFull { .. } => Self::Full {
                what: error.to_string(),
                retry_after: None,
            },
            StoreError::Unavailable { address, reason } => Self::Unavailable {
                what: format!("store {address}"),
                reason,
                retry_after: STORE_RETRY_AFTER,
            },
            other => Self::internal("using the store", other),
        }
    }
}

impl From<CpuPoolError> for RouterError {
    fn from(error: CpuPoolError) -> Self {
        Self::internal("working on the cpu pool", error)
    }
}
