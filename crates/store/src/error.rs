//! What can go wrong in a store.

use std::path::PathBuf;

use thiserror::Error;

/// Error of every [`PassageStore`](crate::PassageStore) call.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The collection does not exist.
    #[error("collection {name:?} does not exist; create it by ingesting into it")]
    UnknownCollection {
        /// Asked for.
        name: String,
    },
    /// The name cannot be a collection's.
    #[error("collection name {name:?} is not valid; use 1 to 64 letters, digits, '-', '_' or '.'")]
    InvalidName {
        /// Asked for, cut to 80 characters.
        name: String,
    },
    /// The collection was made with something else.
    #[error(
        "collection {name:?} has {field} {stored:?} but {given:?} was given; \
         use another collection or ingest it again from nothing"
    )]
    SpecMismatch {
        /// Collection.
        name: String,
        /// Field of the spec that differs.
        field: &'static str,
        /// Value the collection is bound to.
        stored: String,
        /// Value asked for.
        given: String,
    },
    /// Something in the request cannot be stored or searched.
    #[error("{field}: {reason}")]
    InvalidInput {
        /// Field at fault.
        field: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// Another process holds the data directory.
    #[error(
        "data directory {} is in use by another process; stop it or choose another directory",
        dir.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// Too little room to take more in.
    #[error(
        "{}: {free} bytes free but {needed} needed; free disk space or delete documents",
        dir.display()
    )]
    DiskFull {
        /// Directory on the full file system.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed, the reserve included.
        needed: u64,
    },
    /// The store cannot be reached now; trying again later may help.
    #[error("store {address} is unavailable: {reason}")]
    Unavailable {
        /// Address of the server, or path of the data.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Stored data does not read back; the message says what and where.
    #[error(
        "{what} is corrupt: {reason}; restore it from a backup or drop the collection and ingest again"
    )]
    Corrupt {
        /// What was read.
        what: String,
        /// Why it does not read.
        reason: String,
    },
    /// Written by another version of this program.
    #[error(
        "{} has format {found}, this version reads {expected}; \
         ingest the documents again into another data directory",
        path.display()
    )]
    Format {
        /// Database file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// The only one that is read.
        expected: u32,
    },
    /// The key-value database failed.
    #[error("database {}: {source}", path.display())]
    Database {
        /// Database file.
        path: PathBuf,
        /// Its error.
        #[source]
        source: Box<redb::Error>,
    },
    /// The search index failed.
    #[error("search index {}: {reason}", path.display())]
    Index {
        /// Directory of the index.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A file operation failed; the path is part of the source's message.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The server answered with an error that a retry does not cure.
    #[error("store {address} refused {call}: {reason}")]
    Server {
        /// Address of the server.
        address: String,
        /// Call that failed.
        call: &'static str,
        /// What it said.
        reason: String,
    },
}

impl StoreError {
    /// [`Index`](Self::Index) with this path and reason.
    pub(crate) fn index(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::Index {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
