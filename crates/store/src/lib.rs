//! Passage stores, document splitting and loaders (DESIGN.md sections 4 and 5).
//!
//! A [`Document`] is split into [`Passage`]s ([`split`]), the caller computes their features, and a
//! [`PassageStore`] keeps both. Two implementations answer the same contract: [`EdgeStore`] (in
//! process: redb is the truth, a qdrant-edge shard is a rebuildable index over it) and
//! [`QdrantStore`] (a Qdrant server or cluster).

mod check;
mod config;
mod document;
mod edge;
mod error;
mod filter;
pub mod load;
mod passage;
mod plain;
mod qdrant;
mod rank;
mod share;
mod spec;
mod split;
mod store;
mod tags;
mod walk;

pub use config::{StoreConfig, StoreKind};
pub use document::{Document, Format};
pub use edge::{EdgeOptions, EdgeStore};
pub use error::StoreError;
pub use filter::{Condition, Filter};
pub use passage::{Passage, PassageRecord, PassageRef, SPLITTER_VERSION, point_id, revision};
pub use plain::{Block, BlockKind, PlainText, plain_text};
pub use qdrant::{QdrantOptions, QdrantStore};
pub use share::{Share, passage_hash};
pub use spec::{CollectionInfo, CollectionSpec, check_collection_name};
pub use split::{MAX_TOKENS, split};
pub use store::{
    Candidate, CandidateQuery, ContentState, DocumentPut, PassageStore, ScrollPage, ScrollQuery,
};
pub use walk::{DocumentWalk, Walk};
