//! The service itself: what the RPCs do, without a word of gRPC. The evaluation and the tests use
//! [`RouterEngine`] in process.

mod admission;
mod attend;
mod cache;
mod corpus;
mod encode;
mod engine;
mod ingest;
mod models;
mod prepare;
mod score;
mod slot;
mod spelling;
mod store_error;

pub use admission::Permits;
pub use cache::CacheConfig;
pub use corpus::{PassagePage, PassagePager};
pub use encode::EncodedQuery;
pub use engine::{EngineConfig, RouterEngine};
pub use ingest::{DocumentOutcome, DocumentStatus, IngestConfig, IngestProgress, IngestSession};
pub use models::{ActiveModel, ModelVersion, VersionList};
pub use score::Scored;
pub use slot::EngineSlot;
