//! Learns heads and gate from documents alone (DESIGN.md section 4, `trainer-worker`).
//!
//! The path of a training: a [`corpus`] snapshot -> [`synth`]etic queries -> candidates and views with
//! the gold masked -> classifiers, heads and gate ([`train`]) -> [`evaluate`] on held-out queries ->
//! publish, or not ([`train::decide`]). The library entry is [`train_collection`]; the worker process
//! adds a job queue, background retraining and the gRPC service. Optional [`teach`]ers write some of the
//! queries and correct labels; there are none by default.

pub mod config;
pub mod corpus;
mod error;
pub mod evaluate;
mod progress;
mod server;
pub mod synth;
pub mod teach;
pub mod train;
pub mod transport;
pub mod worker;

pub use error::TrainError;
pub use progress::{NoProgress, Progress, ProgressEvent, Stage};
pub use server::{Running, start};
pub use train::{
    QueryEncoder, TrainConfig, TrainOutcome, TrainStatus, single_head, train_collection,
};
