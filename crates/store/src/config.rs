//! The settings that say which store is used.

use serde::{Deserialize, Serialize};

use crate::{QdrantOptions, QdrantStore, StoreError};

/// Where passages are kept: section `store` of every process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Kind of the router's store. Nobody but the router opens an embedded one; the trainer reads a
    /// Qdrant server directly.
    pub kind: StoreKind,
    /// Address of a Qdrant server's gRPC port.
    pub url: Option<String>,
    /// Its key.
    pub api_key: Option<String>,
}

/// Kind of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// In the router's process, under `data_dir`.
    #[default]
    Embedded,
    /// A Qdrant server or cluster.
    Qdrant,
}

impl StoreConfig {
    /// What is wrong with `url`, if anything is.
    #[must_use]
    pub fn wrong_url(&self) -> Option<&'static str> {
        match (self.kind, &self.url) {
            (StoreKind::Qdrant, None) => Some("must be set for store.kind = qdrant"),
            (StoreKind::Embedded, Some(_)) => Some("is only for store.kind = qdrant"),
            _ => None,
        }
    }

    /// The Qdrant server. It is not contacted yet.
    ///
    /// # Errors
    /// As [`QdrantStore::connect`].
    pub fn connect(&self) -> Result<QdrantStore, StoreError> {
        let url = self.url.as_deref().unwrap_or_default();
        QdrantStore::connect(url, self.api_key.as_deref(), QdrantOptions::default())
    }
}
