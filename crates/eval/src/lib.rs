//! Evaluation in BEIR layout (DESIGN.md section 6): every set in an embedded store of its own behind
//! the real router library, trained on its documents alone, every method scored from the same
//! candidates and view matrix.

mod ablation;
mod across;
pub mod adversarial;
mod bootstrap;
mod case;
mod ceiling;
mod copy;
mod corrupt;
mod dataset;
mod deploy;
mod error;
mod figures;
mod ingest;
mod learned;
mod methods;
mod metrics;
mod options;
pub mod plot;
mod render;
mod report;
mod run;
mod scoring;
mod seeds;

pub use across::{AcrossReport, TogetherSet};
pub use bootstrap::{Deltas, Interval};
pub use corrupt::Corruption;
pub use dataset::{Dataset, Entry, JudgedQuery};
pub use error::EvalError;
pub use methods::Method;
pub use metrics::{COLUMNS, Metrics, judge};
pub use options::EvalOptions;
pub use report::{
    HeadDiversity, HeldOutLoss, QueryReport, Refusal, Report, Seconds, SetReport, TypeReport,
};
pub use run::{EvalProgress, Evaluation, run};
pub use trainer_worker::TrainConfig;
