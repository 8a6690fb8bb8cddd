//! What can go wrong in training.

use moerag_checkpoint::CheckpointError;
use thiserror::Error;

/// Error of snapshot, synthesis, training and publishing.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The caller asked to stop.
    #[error("training was cancelled")]
    Cancelled,
    /// The collection does not exist at the source.
    #[error("collection {name:?} does not exist; ingest documents into it first")]
    UnknownCollection {
        /// Asked for.
        name: String,
    },
    /// The source of passages did not answer.
    #[error("passages of {source_name}: {reason}")]
    Source {
        /// Router address or store.
        source_name: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The corpus was made with another encoder or key spec than this worker has.
    #[error(
        "collection {name:?} has {field} {found:?} but this worker reads {expected:?}; {remedy}"
    )]
    Mismatch {
        /// Collection.
        name: String,
        /// What differs.
        field: &'static str,
        /// Of the collection.
        found: String,
        /// Of the worker.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The encoder failed.
    #[error("encoding the synthetic queries: {0}")]
    Encoder(#[from] moerag_encoder::EncoderError),
    /// The cross-encoder of `train.teachers` cannot be loaded or failed.
    #[error("train.teachers.cross_encoder: {0}")]
    CrossEncoder(moerag_encoder::EncoderError),
    /// The model crate failed (device, shapes).
    #[error("training the model: {0}")]
    Model(#[from] moerag_model::ModelError),
    /// The checkpoint store failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The loss left the finite numbers.
    #[error("the training loss is not finite in epoch {epoch}; lower train.optim.learning_rate")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
    },
    /// A setting cannot work.
    #[error("{field}: {reason}")]
    Config {
        /// Setting.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A bug: the training panicked.
    #[error("training stopped unexpectedly: {0}")]
    Internal(String),
}

impl TrainError {
    /// Whether the same training may succeed later although neither documents nor settings change.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Source { .. } | Self::UnknownCollection { .. } => true,
            Self::Checkpoint(error) => !matches!(error, CheckpointError::Refused(_)),
            _ => false,
        }
    }
}
