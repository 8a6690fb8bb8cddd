//! One linear head over all views: a baseline of the evaluation (DESIGN.md section 6), and the tenth head of
//! mixtures whose anchor has let go.
//!
//! It starts at the fixed weights P8 times .7. `single_head` has no prior term; `single_head_anchored` adds
//! the cross-entropy to the start's own attention. Unlike the other heads it reads all views at once, with
//! weights of either sign: where the prior is wrong about a corpus that finds what they cannot
//! (docs/research.md, "The linear head").

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use moerag_encoder::DeviceKind;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::batch::{Example, TrainBatch, epoch_order};
use crate::error::ModelError;
use crate::loss::cross_entropy;
use crate::mixture::MASKED;
use crate::optim::ADAM_EPSILON;
use crate::prior::{self, NUM_VIEWS};

/// Factor on P8 that makes its sum of z-scores a sensible logit.
const P8_SCALE: f32 = 0.7;

/// How to fit a single head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SingleHeadConfig {
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// Weight of the cross-entropy to the start's attention; 0 for `single_head`.
    pub anchor: f32,
}

impl Default for SingleHeadConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.03,
            weight_decay: 1e-3,
            epochs: 25,
            batch_size: 256,
            anchor: 0.0,
        }
    }
}

impl SingleHeadConfig {
    /// The anchored baseline, with RECIPE.md's weight of 8.
    pub fn anchored() -> Self {
        Self {
            anchor: 8.0,
            ..Self::default()
        }
    }
}

/// Weights over the views, `[13]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SingleHead {
    /// One weight per view.
    pub weights: Vec<f32>,
}

#[derive(Module, Debug)]
struct LinearHead {
    weights: Param<Tensor<1>>,
}

impl LinearHead {
    /// Logits `[batch, n]` of `z` `[batch, n, views]`, masked.
    fn forward(&self, batch: &TrainBatch) -> Tensor<2> {
        let [rows, n, _] = batch.z.dims();
        let logits = batch
            .z
            .clone()
            .narrow(2, 0, NUM_VIEWS)
            .reshape([rows * n, NUM_VIEWS])
            .matmul(self.weights.val().unsqueeze_dim::<2>(1))
            .reshape([rows, n]);
        logits.mask_fill(batch.mask.clone().bool_not(), MASKED)
    }
}

impl SingleHead {
    /// The start: P8 times .7.
    pub fn start() -> Self {
        let mut weights = vec![0.0; NUM_VIEWS];
        for (view, weight) in prior::P8 {
            weights[prior::column(view)] = weight * P8_SCALE;
        }
        Self { weights }
    }

    /// Fits on `examples`. `stop` is asked before every step; when it says true, the weights so far
    /// are given back.
    ///
    /// # Errors
    ///
    /// A device that is not there or fails, a loss that is not finite, `batch_size` 0.
    pub fn fit(
        examples: &[&Example],
        config: &SingleHeadConfig,
        seed: u64,
        kind: DeviceKind,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, ModelError> {
        if config.batch_size == 0 {
            return Err(ModelError::BadConfig {
                field: "batch_size",
                value: "0".to_owned(),
                allowed: "at least 1",
            });
        }
        let device = kind.device()?.autodiff();
        let start = Self::start().on(&kind.device()?);
        let features = crate::CollectionWeights::prior().gate_features();
        let mut head = Self::start().on(&device);
        let mut optimizer = AdamWConfig::new()
            .with_epsilon(ADAM_EPSILON)
            .with_weight_decay(config.weight_decay)
            .init();
        'training: for epoch in 0..config.epochs {
            for rows in epoch_order(examples.len(), seed, epoch).chunks(config.batch_size) {
                if stop() {
                    break 'training;
                }
                let rows: Vec<&Example> = rows.iter().map(|row| examples[*row]).collect();
                let batch = TrainBatch::new(&rows, &features, None, &device)?;
                let logits = head.forward(&batch);
                let mut loss = cross_entropy(logits.clone(), batch.target.clone());
                if config.anchor > 0.0 {
                    let target = softmax(start.forward(&batch), 1).detach();
                    loss = loss + cross_entropy(logits, target).mul_scalar(config.anchor);
                }
                let gradients = GradientsParams::from_grads(loss.backward(), &head);
                head = optimizer.step(config.learning_rate, head, gradients);
            }
        }
        let weights = head
            .weights
            .val()
            .try_into_vec_as::<f32>()
            .map_err(ModelError::compute)?;
        if weights.iter().any(|weight| !weight.is_finite()) {
            return Err(ModelError::Diverged);
        }
        Ok(Self { weights })
    }

    /// Scores of the candidates `z` `[n, 13]`, `[n]`; views beyond the weights do not count.
    pub fn scores(&self, z: ArrayView2<'_, f32>) -> Vec<f32> {
        z.outer_iter()
            .map(|row| {
                row.iter()
                    .zip(&self.weights)
                    .map(|(value, weight)| value * weight)
                    .sum()
            })
            .collect()
    }

    fn on(&self, device: &Device) -> LinearHead {
        let data = TensorData::new(self.weights.clone(), [NUM_VIEWS]);
        LinearHead {
            weights: Param::from_tensor(Tensor::from_data(data, device)),
        }
    }
}
