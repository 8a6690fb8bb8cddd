//! Attention heads, gate, mixture, loss and classifiers of MoE-RAG, in burn (DESIGN.md section 3,
//! RECIPE.md "The recipe").
//!
//! Two sides share one forward pass, [`Mixture::forward`]: training goes through
//! [`MixtureTrainer`], serving through [`CollectionModel`], which takes and gives plain slices.
//! Weights travel between them, and to and from checkpoints, as [`CollectionWeights`]: named f32
//! tensors that know no device. Everything random is drawn on the host from an explicit seed, so a
//! seed and a device give the same bits.

mod batch;
mod classifier;
mod collections;
mod error;
mod features;
mod feedback;
mod gate;
mod head;
mod infer;
mod layout;
mod loss;
mod mixture;
mod named;
mod optim;
mod prior;
mod single;
mod snapshot;
mod warmup;
mod weights;

pub use batch::{Dropout, Example, TrainBatch, epoch_order};
pub use classifier::{ClassifierConfig, LinearClassifier, argmax};
pub use collections::collection_weights;
pub use error::ModelError;
pub use features::{GateFeatures, Standardiser};
pub use feedback::Feedback;
pub use gate::{Gate, GateRouter, Routing};
pub use head::AttentionHeads;
pub use infer::{AttendInput, Attention, CollectionModel};
pub use layout::HeadLayout;
pub use loss::{LossConfig, LossParts, LossValues, mixture_loss};
pub use mixture::{Mixture, MixtureOutput};
pub use moerag_encoder::{DeviceError, DeviceKind};
pub use moerag_retrieve::{KeySpec, LsiBasis, ViewConfig};
pub use optim::{MixtureTrainer, OptimConfig, evaluate_weights};
pub use prior::{
    FEEDBACK_TEMPERATURE, FIRST_STAGE_HEADS, HEAD_COLUMNS, HEAD_VIEWS, HEADS, LEVELS, NUM_HEADS,
    NUM_VIEWS, P8, PRIOR_GATE, QUERY_TYPES, START_ALPHA, START_TEMPERATURE,
};
pub use single::{SingleHead, SingleHeadConfig};
pub use snapshot::{LoadedSnapshot, MAX_COLLECTIONS, ModelSnapshot};
pub use warmup::{WARMUP_TOLERANCE, Warmup, WarmupCase};
pub use weights::{CollectionWeights, GATE_FEATURES, WeightTensor, names};
