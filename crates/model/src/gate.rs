//! The gate: which heads a query listens to (RECIPE.md, "Router"; DESIGN.md section 3).

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::ModelError;
use crate::head::tensor;
use crate::mixture::MASKED;
use crate::weights::{CollectionWeights, names};

/// The gate's linear layer, apart because weight decay applies to it alone.
#[derive(Module, Debug)]
pub struct GateRouter {
    /// `[features, heads]`.
    weight: Param<Tensor<2>>,
    /// `[heads]`.
    bias: Param<Tensor<1>>,
}

/// `g = softmax(l)` with `l = log_bias + x W + b`; `log_bias` starts at `ln g0`. Feedback has `l + ln mass`
/// instead, and the other heads together what `g0` gives them: no synthetic query says how much
/// feedback is worth against them, so a training must not move it.
#[derive(Module, Debug)]
pub struct Gate {
    /// `[heads]`, not decayed.
    log_bias: Param<Tensor<1>>,
    pub(crate) router: GateRouter,
    /// `[heads]`, the prior gate `g0`: a constant that the gate term of the loss pulls towards.
    prior: Tensor<1>,
    /// `[1, heads]`, 1 for the feedback head. A constant.
    feedback: Tensor<2>,
    /// `[1, heads]`, 1 for the heads of the first stage. A constant.
    first: Tensor<2>,
    /// Log of what the prior gate gives all heads of the first stage.
    first_log: f32,
    /// `log_bias + b`, `[1, heads]`, where nothing is trained any more.
    fixed: Option<Tensor<2>>,
}

impl Gate {
    pub(crate) fn from_weights(weights: &CollectionWeights, device: &Device) -> Self {
        let heads = weights.heads();
        let mut feedback = vec![0.0f32; heads];
        if let Some(head) = weights.feedback_head() {
            feedback[head] = 1.0;
        }
        let prior = weights.data(names::GATE_PRIOR);
        let first: Vec<f32> = feedback.iter().map(|feedback| 1.0 - feedback).collect();
        let total: f32 = prior.iter().zip(&first).map(|(g, first)| g * first).sum();
        let row = |values| Tensor::from_data(TensorData::new(values, [1, heads]), device);
        Self {
            feedback: row(feedback),
            first: row(first),
            first_log: total.ln(),
            log_bias: Param::from_tensor(tensor(weights, names::GATE_LOG_BIAS, device)),
            router: GateRouter {
                weight: Param::from_tensor(tensor(weights, names::GATE_WEIGHT, device)),
                bias: Param::from_tensor(tensor(weights, names::GATE_BIAS, device)),
            },
            prior: tensor(weights, names::GATE_PRIOR, device),
            fixed: None,
        }
    }

    /// As [`AttentionHeads::fixed`](crate::head::AttentionHeads::fixed).
    pub(crate) fn fixed(mut self) -> Self {
        self.fixed = Some(self.bias());
        self
    }

    fn bias(&self) -> Tensor<2> {
        let bias = || (self.log_bias.val() + self.router.bias.val()).unsqueeze::<2>();
        self.fixed.clone().unwrap_or_else(bias)
    }

    /// Head weights `[batch, heads]`, each row summing to 1, from `x` `[batch, features]` and the log
    /// of feedback's mass, `[batch, 1]`.
    pub fn forward(&self, x: Tensor<2>, log_mass: Tensor<2>) -> Tensor<2> {
        let logits = x.matmul(self.router.weight.val()) + self.bias();
        let others = logits.clone() + self.feedback.clone() * MASKED;
        let first = log_softmax(others, 1).add_scalar(self.first_log) * self.first.clone();
        let feedback = (logits + log_mass) * self.feedback.clone();
        softmax(first + feedback, 1)
    }

    /// `ln g0` of each query, `[batch, heads]`.
    pub(crate) fn log_prior(&self, log_mass: Tensor<2>) -> Tensor<2> {
        let log = self.prior.clone().log().unsqueeze::<2>();
        log_softmax(log + self.mass(log_mass), 1)
    }

    /// `[batch, heads]`, zero but for the feedback head.
    fn mass(&self, log_mass: Tensor<2>) -> Tensor<2> {
        log_mass.matmul(self.feedback.clone())
    }

    pub(crate) fn parameters(&self) -> (Tensor<1>, Tensor<2>, Tensor<1>) {
        (
            self.log_bias.val(),
            self.router.weight.val(),
            self.router.bias.val(),
        )
    }
}

/// How the gate's head weights are used for one query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Routing {
    /// All heads, as the gate weighs them.
    #[default]
    Soft,
    /// Only the head with the largest weight.
    Hard,
    /// The `k` heads with the largest weights, renormalised; `1 <= k <= 8`, without feedback.
    TopK(usize),
}

impl Routing {
    /// Checks `k`.
    ///
    /// # Errors
    ///
    /// [`ModelError::BadConfig`] when `k` is 0 or above `heads`.
    pub fn validate(self, heads: usize) -> Result<(), ModelError> {
        match self {
            Self::TopK(k) if k == 0 || k > heads => Err(ModelError::BadConfig {
                field: "top_k_heads",
                value: k.to_string(),
                allowed: "1 to the number of heads (8)",
            }),
            _ => Ok(()),
        }
    }

    /// Zeroes the heads that are not used and renormalises; of equal weights the first head wins.
    pub(crate) fn apply(self, gate: &mut [f32]) {
        let keep = match self {
            Self::Soft => return,
            Self::Hard => 1,
            Self::TopK(k) => k,
        };
        let mut order: Vec<usize> = (0..gate.len()).collect();
        order.sort_by(|a, b| gate[*b].total_cmp(&gate[*a]));
        for head in order.iter().skip(keep) {
            gate[*head] = 0.0;
        }
        let total: f32 = gate.iter().sum();
        for weight in gate.iter_mut() {
            *weight /= total;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn routing_keeps_the_largest_and_renormalises() {
        let gate = [0.1, 0.4, 0.4, 0.1];
        let routed = |routing: Routing| {
            let mut gate = gate;
            routing.apply(&mut gate);
            gate
        };
        assert_eq!(routed(Routing::Soft), gate);
        assert_eq!(
            routed(Routing::Hard),
            [0.0, 1.0, 0.0, 0.0],
            "the first of equals"
        );
        assert_eq!(routed(Routing::TopK(2)), [0.0, 0.5, 0.5, 0.0]);
        assert!((routed(Routing::TopK(3)).iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn k_is_checked() {
        assert!(Routing::TopK(0).validate(8).is_err());
        assert!(Routing::TopK(9).validate(8).is_err());
        assert!(Routing::TopK(8).validate(8).is_ok());
        assert!(Routing::Hard.validate(8).is_ok());
    }
}
