//! Why a checkpoint cannot be published, loaded or moved to.

use std::path::PathBuf;

use moerag_model::ModelError;

/// Errors of the checkpoint store. A caller can match what matters: a version that is damaged, one
/// made for something else, a store that is not there.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A version, a file of it, or `CURRENT.json` is not there.
    #[error("{0} is not in the checkpoint store")]
    NotFound(String),
    /// A file is shorter than its manifest says: a copy that broke off.
    #[error(
        "{file} of version {version} is truncated: {found} of {expected} bytes; \
         copy the version again, or roll back"
    )]
    Truncated {
        /// The version.
        version: u64,
        /// The file's name.
        file: String,
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file is not what was published.
    #[error(
        "{file} of version {version} is corrupt: {reason}; copy the version again, or roll back"
    )]
    Corrupt {
        /// The version.
        version: u64,
        /// The file's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `CURRENT.json` does not parse; which version to serve is a person's choice then.
    #[error("CURRENT.json is corrupt: {0}; delete it and pin a version")]
    CurrentCorrupt(String),
    /// A weight is NaN or infinite.
    #[error("version {version}: tensor `{tensor}` holds a value that is not finite; roll back")]
    NonFinite {
        /// The version.
        version: u64,
        /// The tensor's name.
        tensor: String,
    },
    /// Weights that this build cannot use: names, shapes or ranges.
    #[error("version {version} does not fit this build")]
    BadWeights {
        /// The version.
        version: u64,
        /// What does not fit.
        #[source]
        source: ModelError,
    },
    /// The version was trained in another embedding space.
    #[error(
        "version {version} was trained in embedding space `{found}`, this process encodes in \
         `{expected}`; start it with the same encoder, or train again"
    )]
    SpaceMismatch {
        /// The version.
        version: u64,
        /// The process's space.
        expected: String,
        /// The version's space.
        found: String,
    },
    /// The version was trained on keys of another kind.
    #[error(
        "version {version} was trained on keys `{found}`, the collection has `{expected}`; \
         ingest again, or train again"
    )]
    KeySpecMismatch {
        /// The version.
        version: u64,
        /// The collection's KeySpec.
        expected: String,
        /// The version's KeySpec.
        found: String,
    },
    /// The manifest is of a format that this build does not read.
    #[error("version {version} has format {found}, this build reads {oldest} to {newest}")]
    UnsupportedFormat {
        /// The version.
        version: u64,
        /// The manifest's format.
        found: u32,
        /// Oldest format read.
        oldest: u32,
        /// Newest format read.
        newest: u32,
    },
    /// A file is larger than anything this build writes.
    #[error("{file} has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// The file's path in the store.
        file: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// What was asked for cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The store's address is not one this build understands.
    #[error(
        "checkpoint store `{url}`: {reason}; use a directory, file:///dir or s3://bucket/prefix"
    )]
    BadUrl {
        /// The address.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Another process kept the store's lock, or kept changing `CURRENT.json`.
    #[error("the checkpoint store is busy: {0}; try again")]
    Busy(String),
    /// The object store failed.
    #[error("checkpoint store: {action} failed")]
    Store {
        /// What was being done.
        action: String,
        /// The store's error.
        #[source]
        source: object_store::Error,
    },
    /// The file system failed.
    #[error("checkpoint store: {action} {path}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl CheckpointError {
    pub(crate) fn store(action: impl Into<String>) -> impl FnOnce(object_store::Error) -> Self {
        let action = action.into();
        move |source| match source {
            object_store::Error::NotFound { path, .. } => Self::NotFound(path),
            source => Self::Store { action, source },
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn corrupt(version: u64, file: &str, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            version,
            file: file.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Weights that were read from version `version` and refused by the model.
    pub(crate) fn weights(version: u64, error: ModelError) -> Self {
        match error {
            ModelError::NonFinite { tensor, .. } => Self::NonFinite { version, tensor },
            ModelError::Malformed(reason) => {
                Self::corrupt(version, crate::manifest::MODEL_FILE, reason)
            }
            source => Self::BadWeights { version, source },
        }
    }
}
