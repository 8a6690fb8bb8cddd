//! The attention heads: one matching pattern each (DESIGN.md section 3; RECIPE.md, "Heads").

use burn::module::{Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::{CollectionWeights, names};

/// All heads at once: `logit_h = t_h * sum_v w_hv z_v`.
///
/// The in-head weights are `softplus(raw)` over the head's own views, divided by their sum, so a
/// head's logit is a weighted mean of its views times its temperature.
#[derive(Module, Debug)]
pub struct AttentionHeads {
    /// `[heads, views]`, before softplus.
    raw: Param<Tensor<2>>,
    /// `[heads]`, log of `t_h`.
    log_temperature: Param<Tensor<1>>,
    /// `[heads, views]`, 1 where the head reads the view. A constant: no gradient, no decay.
    mask: Tensor<2>,
    /// `t_h w_hv`, `[views, heads]`, where nothing is trained any more.
    fixed: Option<Tensor<2>>,
}

impl AttentionHeads {
    pub(crate) fn from_weights(weights: &CollectionWeights, device: &Device) -> Self {
        Self {
            raw: Param::from_tensor(tensor(weights, names::HEAD_RAW, device)),
            log_temperature: Param::from_tensor(tensor(
                weights,
                names::HEAD_LOG_TEMPERATURE,
                device,
            )),
            mask: tensor(weights, names::HEAD_MASK, device),
            fixed: None,
        }
    }

    /// The same heads with what follows from their parameters computed once: not to be trained.
    pub(crate) fn fixed(mut self) -> Self {
        self.fixed = Some(self.logit_weights());
        self
    }

    /// `t_h w_hv`, `[views, heads]`.
    fn logit_weights(&self) -> Tensor<2> {
        self.fixed.clone().unwrap_or_else(|| {
            let scale = self.log_temperature.val().exp().unsqueeze_dim::<2>(1);
            (self.view_weights() * scale).transpose()
        })
    }

    /// In-head view weights, `[heads, views]`; each row sums to 1.
    pub fn view_weights(&self) -> Tensor<2> {
        let positive = softplus(self.raw.val(), 1.0) * self.mask.clone();
        let total = positive.clone().sum_dim(1);
        positive / total
    }

    /// Attention logits `[batch, n, heads]` of z-scored views `z` `[batch, n, views]`.
    pub fn forward(&self, z: Tensor<3>) -> Tensor<3> {
        let per_view = self.logit_weights();
        let [batch, n, views] = z.dims();
        let heads = per_view.dims()[1];
        // One plain matrix product instead of a batched one with a broadcast right-hand side.
        z.reshape([batch * n, views])
            .matmul(per_view)
            .reshape([batch, n, heads])
    }

    pub(crate) fn parameters(&self) -> (Tensor<2>, Tensor<1>) {
        (self.raw.val(), self.log_temperature.val())
    }
}

/// A weight on a device. The rank is the name's own: weights are validated when they are made.
pub(crate) fn tensor<const D: usize>(
    weights: &CollectionWeights,
    name: &'static str,
    device: &Device,
) -> Tensor<D> {
    let tensor = weights.tensor(name);
    Tensor::from_data(
        TensorData::new(tensor.data.clone(), tensor.shape.clone()),
        device,
    )
}
