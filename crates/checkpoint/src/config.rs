//! The settings that say where versions are.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{CheckpointError, CheckpointStore};

/// Where versions come from and go to: section `checkpoints` of every process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// `file:///…`, `s3://…` or a directory; by default `checkpoints` under `data_dir`.
    pub url: Option<String>,
    /// Milliseconds between a router's looks at it.
    pub poll_interval_millis: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            url: None,
            poll_interval_millis: 1000,
        }
    }
}

impl CheckpointConfig {
    /// Opens the store that is named, or the one of a data directory.
    ///
    /// # Errors
    /// As [`CheckpointStore::open`].
    pub fn open(&self, data_dir: &Path) -> Result<CheckpointStore, CheckpointError> {
        match &self.url {
            Some(url) => CheckpointStore::open(url),
            None => CheckpointStore::open_dir(&data_dir.join("checkpoints")),
        }
    }
}
