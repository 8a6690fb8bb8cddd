//! The checkpoint store: versioned models, published atomically, verified before use (DESIGN.md
//! section 6, "Checkpoint store").
//!
//! `CURRENT.json` is the one commit point; versions are immutable. [`CheckpointStore::publish`] and
//! its neighbours in this crate are the only writers. [`policy::decide`] says when a router loads.

mod admin;
mod config;
mod draft;
mod error;
mod load;
mod local;
mod manifest;
pub mod policy;
mod publish;
mod store;
mod verify;
mod version;

pub use admin::GcReport;
pub use config::CheckpointConfig;
pub use error::CheckpointError;
pub use load::LoadedVersion;
pub use manifest::{
    CURRENT_FILE, CollectionManifest, CollectionStatus, Current, FileEntry, MANIFEST_FILE,
    MODEL_FILE, Manifest, NEWEST_FORMAT, OLDEST_FORMAT, WARMUP_FILE,
};
pub use policy::{Action, Failure, ServingState, Target, decide};
pub use publish::{CollectionUpdate, PublishOutcome, PublishRequest};
pub use store::{CheckpointStore, Listing, Problem};
pub use verify::Expected;
pub use version::{parse_version_name, version_name};
