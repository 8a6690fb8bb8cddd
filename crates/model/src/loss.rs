//! The loss: cross-entropy to the gold, to the prior's attention, and the gate's divergence from
//! its prior (RECIPE.md, "Loss").

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};

use crate::batch::TrainBatch;
use crate::error::ModelError;
use crate::mixture::{GATE_FLOOR, Mixture, MixtureOutput};

/// Weights of the loss terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of `CE(S, A0)`, the anchor to the untrained mixture.
    pub anchor: f32,
    /// Weight of `KL(g || g0)`, the pull of the gate to its prior.
    pub gate_kl: f32,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            anchor: 4.0,
            gate_kl: 0.3,
        }
    }
}

/// The terms on the device, batch means, each `[1]`.
#[derive(Debug, Clone)]
pub struct LossParts {
    /// `gold + anchor weight * anchor + gate weight * gate_kl`.
    pub total: Tensor<1>,
    /// `CE(S, gold)`.
    pub gold: Tensor<1>,
    /// `CE(S, A0)`.
    pub anchor: Tensor<1>,
    /// `KL(g || g0)`.
    pub gate_kl: Tensor<1>,
}

/// The terms on the host, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossValues {
    /// The weighted sum that is minimised.
    pub total: f32,
    /// `CE(S, gold)`.
    pub gold: f32,
    /// `CE(S, A0)`.
    pub anchor: f32,
    /// `KL(g || g0)`.
    pub gate_kl: f32,
}

/// Mean cross-entropy of `scores` `[batch, n]` (masked entries very negative) to `target`.
pub(crate) fn cross_entropy(scores: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    (log_softmax(scores, 1) * target).sum_dim(1).neg().mean()
}

/// The loss of one forward pass on one batch.
pub fn mixture_loss(
    mixture: &Mixture,
    output: &MixtureOutput,
    batch: &TrainBatch,
    config: &LossConfig,
) -> LossParts {
    let gold = cross_entropy(output.scores.clone(), batch.target.clone());
    let anchor = cross_entropy(output.scores.clone(), batch.anchor.clone());
    let log_ratio = output.gate.clone().add_scalar(GATE_FLOOR).log()
        - mixture.gate.log_prior(batch.log_mass.clone());
    let gate_kl = (output.gate.clone() * log_ratio).sum_dim(1).mean();
    let total = gold.clone()
        + anchor.clone().mul_scalar(config.anchor)
        + gate_kl.clone().mul_scalar(config.gate_kl);
    LossParts {
        total,
        gold,
        anchor,
        gate_kl,
    }
}

impl LossParts {
    /// Reads the terms.
    ///
    /// # Errors
    ///
    /// [`ModelError::Diverged`] when one is not finite, [`ModelError::Compute`] when the device
    /// fails.
    pub fn values(&self) -> Result<LossValues, ModelError> {
        let parts = [&self.total, &self.gold, &self.anchor, &self.gate_kl];
        // One read instead of four: on a GPU each is a round trip.
        let joined = Tensor::cat(parts.map(|part| part.clone().detach()).to_vec(), 0);
        let values = joined
            .try_into_vec_as::<f32>()
            .map_err(ModelError::compute)?;
        match values[..] {
            [total, gold, anchor, gate_kl] if values.iter().all(|value| value.is_finite()) => {
                Ok(LossValues {
                    total,
                    gold,
                    anchor,
                    gate_kl,
                })
            }
            _ => Err(ModelError::Diverged),
        }
    }
}
