//! The mixture of attentions: `A = sum_h g_h softmax(logits_h)`, ranked by `S = alpha ln A`
//! (DESIGN.md section 3; RECIPE.md, "Mixture").
//!
//! Attentions are mixed, not logits: that alone is worth more than the training (RECIPE.md,
//! "Sources of the gain"). Everything is computed in logs, so a passage with vanishing attention
//! gets a very negative score and never a NaN.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Device, Tensor};

use crate::error::ModelError;
use crate::gate::Gate;
use crate::head::{AttentionHeads, tensor};
use crate::weights::{CollectionWeights, WeightTensor, names};

/// Stands for minus infinity where a candidate is masked out; finite, so that 0 times it is 0.
pub(crate) const MASKED: f32 = -1e9;

/// Added to a head weight before its log, so that an unused head contributes nothing, finitely.
pub(crate) const GATE_FLOOR: f32 = 1e-9;

/// Heads, gate and `alpha` of one collection on a device.
#[derive(Module, Debug)]
pub struct Mixture {
    pub(crate) heads: AttentionHeads,
    pub(crate) gate: Gate,
    /// `[1]`, log of `alpha`.
    log_alpha: Param<Tensor<1>>,
    /// `alpha`, `[1, 1]`, where nothing is trained any more.
    fixed: Option<Tensor<2>>,
}

/// What a forward pass gives. Masked candidates have scores of about -1e9 and attention 0.
#[derive(Debug, Clone)]
pub struct MixtureOutput {
    /// `ln A`, `[batch, n]`.
    pub log_mixture: Tensor<2>,
    /// `S = alpha ln A`, `[batch, n]`.
    pub scores: Tensor<2>,
    /// Head weights `g`, `[batch, heads]`.
    pub gate: Tensor<2>,
    /// Log of each head's attention, `[batch, n, heads]`.
    pub head_log_attn: Tensor<3>,
}

impl MixtureOutput {
    /// `attn_weight = softmax(S)` over the candidates, `[batch, n]`.
    pub fn attn(&self) -> Tensor<2> {
        softmax(self.scores.clone(), 1)
    }
}

impl Mixture {
    /// Puts weights on a device; one with autodiff for training.
    pub fn from_weights(weights: &CollectionWeights, device: &Device) -> Self {
        Self {
            heads: AttentionHeads::from_weights(weights, device),
            gate: Gate::from_weights(weights, device),
            log_alpha: Param::from_tensor(tensor(weights, names::LOG_ALPHA, device)),
            fixed: None,
        }
    }

    /// The same mixture for inference alone: what follows from its parameters is computed once and not
    /// with every query, where it took a fifth of the time.
    pub(crate) fn fixed(self) -> Self {
        Self {
            fixed: Some(self.alpha()),
            heads: self.heads.fixed(),
            gate: self.gate.fixed(),
            log_alpha: self.log_alpha,
        }
    }

    fn alpha(&self) -> Tensor<2> {
        let alpha = || self.log_alpha.val().exp().unsqueeze::<2>();
        self.fixed.clone().unwrap_or_else(alpha)
    }

    /// The trained tensors back on the host; constants, standardiser and classifiers are `base`'s.
    ///
    /// # Errors
    ///
    /// [`ModelError::Compute`] when the device fails, or what
    /// [`CollectionWeights::from_tensors`] refuses (a diverged training, for instance).
    pub fn to_weights(&self, base: &CollectionWeights) -> Result<CollectionWeights, ModelError> {
        let (raw, log_temperature) = self.heads.parameters();
        let (log_bias, weight, bias) = self.gate.parameters();
        let trained = [
            (names::HEAD_RAW, host(raw)?),
            (names::HEAD_LOG_TEMPERATURE, host(log_temperature)?),
            (names::LOG_ALPHA, host(self.log_alpha.val())?),
            (names::GATE_LOG_BIAS, host(log_bias)?),
            (names::GATE_WEIGHT, host(weight)?),
            (names::GATE_BIAS, host(bias)?),
        ];
        let mut tensors: BTreeMap<String, WeightTensor> = base.tensors().clone();
        for (name, tensor) in trained {
            tensors.insert(name.to_owned(), tensor);
        }
        CollectionWeights::like(base, tensors)
    }

    /// The whole forward pass.
    ///
    /// Shapes: `z` `[batch, n, 14]`, `mask` `[batch, n]` (true = a candidate; `None` when no row
    /// is padded), `x` `[batch, features]`, `log_mass` `[batch, 1]`.
    pub fn forward(
        &self,
        z: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        x: Tensor<2>,
        log_mass: Tensor<2>,
    ) -> MixtureOutput {
        let gate = self.gate.forward(x, log_mass);
        self.forward_gated(z, mask, gate)
    }

    /// The same with given head weights `gate` `[batch, heads]`: sparse routing, ablations.
    pub fn forward_gated(
        &self,
        z: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        gate: Tensor<2>,
    ) -> MixtureOutput {
        let head_logits = self.heads.forward(z);
        let [batch, n, heads] = head_logits.dims();
        let masked = match &mask {
            None => head_logits,
            Some(mask) => {
                let out = mask
                    .clone()
                    .bool_not()
                    .unsqueeze_dim::<3>(2)
                    .expand([batch, n, heads]);
                head_logits.mask_fill(out, MASKED)
            }
        };
        let head_log_attn = log_softmax(masked, 1);
        let log_gate = gate
            .clone()
            .add_scalar(GATE_FLOOR)
            .log()
            .unsqueeze_dim::<3>(1);
        let log_mixture = log_sum_exp(head_log_attn.clone() + log_gate);
        let scores = log_mixture.clone() * self.alpha();
        let scores = match mask {
            None => scores,
            Some(mask) => scores.mask_fill(mask.bool_not(), MASKED),
        };
        MixtureOutput {
            log_mixture,
            scores,
            gate,
            head_log_attn,
        }
    }
}

/// Log of the sum of exponentials over the last dimension: `[batch, n, heads]` to `[batch, n]`.
fn log_sum_exp(values: Tensor<3>) -> Tensor<2> {
    // The gradient of the maximum cancels out, so it is left out of the graph.
    let max = values.clone().detach().max_dim(2);
    ((values - max.clone()).exp().sum_dim(2).log() + max).squeeze_dim::<2>(2)
}

/// A tensor on the host, with its shape.
fn host<const D: usize>(tensor: Tensor<D>) -> Result<WeightTensor, ModelError> {
    let shape = tensor.dims().to_vec();
    let data = tensor
        .try_into_vec_as::<f32>()
        .map_err(ModelError::compute)?;
    Ok(WeightTensor { shape, data })
}
