//! The loss: cross-entropy to the gold, to the prior's attention, and the gate's divergence from
//! its prior (RECIPE.md, "Loss"); optionally, how much the heads' attentions overlap.

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
    /// Weight of the heads' overlap; 0 leaves the term out. The heads differ by what they read, so
    /// they need no push (docs/research.md): an ablation.
    pub diversity: f32,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            anchor: 4.0,
            gate_kl: 0.3,
            diversity: 0.0,
        }
    }
}

/// The terms on the device, batch means, each `[1]`.
#[derive(Debug, Clone)]
pub struct LossParts {
    /// The sum of the terms, each times its weight.
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
    let mut total = gold.clone()
        + anchor.clone().mul_scalar(config.anchor)
        + gate_kl.clone().mul_scalar(config.gate_kl);
    if config.diversity > 0.0 {
        total = total + overlap(output).mul_scalar(config.diversity);
    }
    LossParts {
        total,
        gold,
        anchor,
        gate_kl,
    }
}

/// Mean Bhattacharyya coefficient `sum_d sqrt(a_i(d) a_j(d))` of pairs of heads, 0..=1, each pair
/// weighed by both gate weights. The gate is not moved by it: only heads in use shall differ.
fn overlap(output: &MixtureOutput) -> Tensor<1> {
    let gate = output.gate.clone().detach();
    let roots = output.head_log_attn.clone().mul_scalar(0.5).exp();
    // All pairs at once: the squared sum over heads, less the pairs of a head with itself.
    let mixed = (roots * gate.clone().unsqueeze_dim::<3>(1)).sum_dim(2);
    let pairs = mixed.powi_scalar(2).sum_dim(1).squeeze_dim::<2>(2);
    let same = gate.powi_scalar(2).sum_dim(1);
    let between = same.clone().neg().add_scalar(1.0 + GATE_FLOOR);
    ((pairs - same) / between).mean()
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
