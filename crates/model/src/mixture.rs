//! The mixture of attentions: `A = sum_h g_h softmax(logits_h)`, ranked by `S = alpha ln A`
//! (DESIGN.md section 3; RECIPE.md, "Mixture").
//!
//! Attentions are mixed, not logits: that alone is worth more than the training (RECIPE.md,
//! "Sources of the gain"). Everything is computed in logs, so a passage with vanishing attention
//! gets a very negative score and never a NaN.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::error::ModelError;
use crate::gate::Gate;
use crate::head::{AttentionHeads, tensor};
use crate::prior::HEAD_COLUMNS;
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
    linear: Option<LinearPart>,
}

/// The linear head: constants, fitted apart from the rest.
#[derive(Module, Debug)]
struct LinearPart {
    /// `[14, 1]`; the feedback view counts nothing.
    weight: Tensor<2>,
    /// `[heads, 1]`: what it takes of each head's weight.
    takes: Tensor<2>,
}

impl LinearPart {
    fn from_weights(weights: &CollectionWeights, device: &Device) -> Option<Self> {
        let (views, share) = weights.linear()?;
        let mut weight = views.to_vec();
        weight.resize(HEAD_COLUMNS, 0.0);
        let mut takes = vec![share; weights.heads()];
        if let Some(feedback) = weights.feedback_head() {
            takes[feedback] = 0.0;
        }
        let column = |data: Vec<f32>| {
            let rows = data.len();
            Tensor::from_data(TensorData::new(data, [rows, 1]), device)
        };
        Some(Self {
            weight: column(weight),
            takes: column(takes),
        })
    }
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
    /// Log of the linear head's attention, `[batch, n]`, where it takes part. `gate` is from before it takes
    /// its share.
    pub linear_log_attn: Option<Tensor<2>>,
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
            linear: LinearPart::from_weights(weights, device),
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
            linear: self.linear,
        }
    }

    /// The same without the linear head: for sparse routing, which chooses among the others.
    pub(crate) fn forward_sparse(
        &self,
        z: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        gate: Tensor<2>,
    ) -> MixtureOutput {
        self.mix(z, mask, gate, None)
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

    /// The same with given head weights `gate` `[batch, heads]`.
    pub fn forward_gated(
        &self,
        z: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        gate: Tensor<2>,
    ) -> MixtureOutput {
        self.mix(z, mask, gate, self.linear.as_ref())
    }

    fn mix(
        &self,
        z: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        gate: Tensor<2>,
        linear: Option<&LinearPart>,
    ) -> MixtureOutput {
        let linear = linear.map(|linear| {
            let [batch, n, views] = z.dims();
            let logits = z.clone().reshape([batch * n, views]);
            let logits = logits.matmul(linear.weight.clone()).reshape([batch, n]);
            let logits = match &mask {
                None => logits,
                Some(mask) => logits.mask_fill(mask.clone().bool_not(), MASKED),
            };
            let taken = gate.clone() * linear.takes.clone().transpose();
            (log_softmax(logits, 1), taken)
        });
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
        let log = |weights: Tensor<2>| {
            let log = weights.add_scalar(GATE_FLOOR).log();
            log.unsqueeze_dim::<3>(1)
        };
        let log_mixture = match &linear {
            None => log_sum_exp(head_log_attn.clone() + log(gate.clone())),
            Some((attn, taken)) => {
                let own = head_log_attn.clone() + log(gate.clone() - taken.clone());
                let other = attn.clone().unsqueeze_dim::<3>(2) + log(taken.clone().sum_dim(1));
                log_sum_exp(Tensor::cat(vec![own, other], 2))
            }
        };
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
            linear_log_attn: linear.map(|(attn, _)| attn),
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
