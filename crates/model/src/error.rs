//! Why a model cannot be built, loaded or applied.

use moerag_encoder::DeviceError;

/// Errors of the model crate. None of them is a panic that a request can reach.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The device asked for is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor that the model needs is absent.
    #[error("tensor `{0}` is missing; train or publish the version again")]
    MissingTensor(String),
    /// A tensor that this build does not know.
    #[error("tensor `{0}` is not part of this model; it was written by another build")]
    UnknownTensor(String),
    /// A tensor has another shape than this build expects.
    #[error("tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    BadShape {
        /// The tensor's name.
        tensor: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What was given.
        found: Vec<usize>,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` holds a value that is not finite at index {index}")]
    NonFinite {
        /// The tensor's name.
        tensor: String,
        /// The flat index of the first such value.
        index: usize,
    },
    /// A weight is finite but would make the model's output useless.
    #[error("tensor `{tensor}` holds {value} at index {index}, allowed is {allowed}")]
    OutOfRange {
        /// The tensor's name.
        tensor: String,
        /// The flat index of the first such value.
        index: usize,
        /// The value.
        value: f32,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// An input has another length than the model expects.
    #[error("`{field}` has {found} values, expected {expected}")]
    BadLength {
        /// Which input.
        field: &'static str,
        /// How many the model needs.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An input holds NaN or an infinity.
    #[error("`{0}` holds a value that is not finite")]
    NonFiniteInput(&'static str),
    /// A configuration value is out of its range.
    #[error("`{field}` is {value}, allowed is {allowed}")]
    BadConfig {
        /// The field's name.
        field: &'static str,
        /// The value as given.
        value: String,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// A weights file cannot be parsed.
    #[error("the weights file is malformed: {0}")]
    Malformed(String),
    /// Training produced a loss or weights that are not finite.
    #[error("training diverged: the loss is not finite; lower the learning rate")]
    Diverged,
    /// The device failed while computing.
    #[error("the device failed while computing: {0}")]
    Compute(String),
    /// A loaded model does not reproduce the scores stored with it.
    #[error(
        "warm-up query {case} of `{collection}`: attention weights differ by {difference:.2e} from \
         those stored with the version, allowed is {tolerance:.0e}"
    )]
    WarmupMismatch {
        /// Index of the case in `warmup.json`.
        case: usize,
        /// The collection it belongs to.
        collection: String,
        /// Largest absolute difference.
        difference: f32,
        /// What is allowed.
        tolerance: f32,
    },
}

impl ModelError {
    /// Wraps a device's execution error; burn's own error type stays inside this crate.
    pub(crate) fn compute(error: impl std::fmt::Display) -> Self {
        Self::Compute(error.to_string())
    }
}
