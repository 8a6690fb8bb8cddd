//! Warm-up queries with the attention weights they must give: what `warmup.json` holds.
//!
//! A router computes them on its own device before it swaps a version in, so that a model that
//! loads but does not compute the same is refused (DESIGN.md section 6, "Checkpoint store").

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::feedback::Feedback;
use crate::gate::Routing;
use crate::infer::{AttendInput, CollectionModel};
use crate::prior::NUM_VIEWS;

/// Largest absolute difference of an attention weight between devices.
pub const WARMUP_TOLERANCE: f32 = 1e-3;

/// One query's inputs and the attention expected of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupCase {
    /// The collection whose model answers.
    pub collection: String,
    /// z-scored views, `[n, 13]` row by row.
    pub z: Vec<f32>,
    /// Gate inputs, `[56]`.
    pub gate_inputs: Vec<f32>,
    /// What the feedback head reads; absent without a latent space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
    /// Pooled query vector, `[d_model]`.
    pub query_vector: Vec<f32>,
    /// Expected `attn_weight`, `[n]`.
    pub attn_weight: Vec<f32>,
}

impl WarmupCase {
    /// Records what `model` gives for `input` now.
    ///
    /// # Errors
    ///
    /// As [`CollectionModel::attend`].
    pub fn record(
        collection: &str,
        model: &CollectionModel,
        input: &AttendInput<'_>,
    ) -> Result<Self, ModelError> {
        let attention = model.attend(input, Routing::Soft)?;
        Ok(Self {
            collection: collection.to_owned(),
            z: input.z.iter().copied().collect(),
            gate_inputs: input.gate_inputs.to_vec(),
            feedback: input.feedback.cloned(),
            query_vector: input.query_vector.to_vec(),
            attn_weight: attention.attn_weight,
        })
    }

    /// Largest absolute difference between what `model` gives and what is expected.
    ///
    /// # Errors
    ///
    /// Lengths that do not fit, or as [`CollectionModel::attend`].
    pub fn difference(&self, model: &CollectionModel) -> Result<f32, ModelError> {
        let rows = self.attn_weight.len();
        let z = ArrayView2::from_shape((rows, NUM_VIEWS), &self.z).map_err(|_| {
            ModelError::BadLength {
                field: "warmup z",
                expected: rows * NUM_VIEWS,
                found: self.z.len(),
            }
        })?;
        let input = AttendInput {
            z,
            gate_inputs: &self.gate_inputs,
            feedback: self.feedback.as_ref(),
            named: &[],
            query_vector: &self.query_vector,
        };
        let attention = model.attend(&input, Routing::Soft)?;
        let pairs = attention.attn_weight.iter().zip(&self.attn_weight);
        // NaN in the file must not pass as "no difference".
        Ok(pairs
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, |worst: f32, d| {
                if d.is_nan() {
                    f32::INFINITY
                } else {
                    worst.max(d)
                }
            }))
    }
}

/// All warm-up queries of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Warmup {
    /// The cases, in no particular order.
    pub cases: Vec<WarmupCase>,
}
