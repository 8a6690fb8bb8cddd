//! One training step and one evaluation: what a training loop calls (RECIPE.md, "Loss").

use burn::module::ParamGroup;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::batch::{Dropout, Example, TrainBatch};
use crate::error::ModelError;
use crate::features::GateFeatures;
use crate::loss::{LossConfig, LossValues, mixture_loss};
use crate::mixture::Mixture;
use crate::weights::CollectionWeights;
use moerag_encoder::DeviceKind;

/// PyTorch's epsilon; burn's default is 1e-5, which damps the small gradients at the end.
pub(crate) const ADAM_EPSILON: f32 = 1e-8;

/// How the mixture is optimised; the loop itself (epochs, batches, cancellation) is the trainer's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// AdamW's learning rate, constant.
    pub learning_rate: f64,
    /// Weight decay of the gate's linear layer; heads, temperatures and `alpha` have none.
    pub gate_weight_decay: f32,
    /// Dropout on the gate's input.
    pub dropout: f32,
    /// Examples per step.
    pub batch_size: usize,
    /// Passes over the examples.
    pub epochs: usize,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.01,
            gate_weight_decay: 0.05,
            dropout: 0.2,
            batch_size: 256,
            epochs: 12,
        }
    }
}

/// A mixture in training with its optimiser state.
pub struct MixtureTrainer {
    mixture: Mixture,
    start: CollectionWeights,
    features: GateFeatures,
    optimizer: ModuleOptimizer,
    learning_rate: f64,
    loss: LossConfig,
    device: Device,
}

impl MixtureTrainer {
    /// Takes start weights (see [`CollectionWeights::start`]) to `device`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Device`] when the device is not there.
    pub fn new(
        start: &CollectionWeights,
        kind: DeviceKind,
        optim: &OptimConfig,
        loss: &LossConfig,
    ) -> Result<Self, ModelError> {
        let device = kind.device()?.autodiff();
        let mixture = Mixture::from_weights(start, &device);
        let adamw = AdamWConfig::new().with_epsilon(ADAM_EPSILON);
        let router = ParamGroup::ids_from_module(mixture.gate.router.clone());
        let optimizer = ModuleOptimizer::from(adamw.clone().with_weight_decay(0.0).build())
            .with_group(
                router,
                adamw.with_weight_decay(optim.gate_weight_decay).build(),
                None,
            );
        Ok(Self {
            mixture,
            start: start.clone(),
            features: start.gate_features(),
            optimizer,
            learning_rate: optim.learning_rate,
            loss: loss.clone(),
            device,
        })
    }

    /// One optimiser step on `examples`; gives the loss before the step.
    ///
    /// # Errors
    ///
    /// [`ModelError::Diverged`] when the loss is not finite (the weights are left as they were),
    /// an empty batch, or a device failure.
    pub fn step(
        &mut self,
        examples: &[&Example],
        dropout: &mut Dropout,
    ) -> Result<LossValues, ModelError> {
        let batch = TrainBatch::new(examples, &self.features, Some(dropout), &self.device)?;
        let output = batch.forward(&self.mixture);
        let parts = mixture_loss(&self.mixture, &output, &batch, &self.loss);
        let values = parts.values()?;
        let gradients = GradientsParams::from_grads(parts.total.backward(), &self.mixture);
        self.mixture = self
            .optimizer
            .step(self.learning_rate, self.mixture.clone(), gradients);
        Ok(values)
    }

    /// Mean loss over `examples` without dropout and without changing anything; zeros when empty.
    ///
    /// # Errors
    ///
    /// As [`Self::step`].
    pub fn evaluate(&self, examples: &[&Example]) -> Result<LossValues, ModelError> {
        evaluate(
            &self.mixture,
            &self.features,
            examples,
            &self.loss,
            &self.device,
        )
    }

    /// The weights as they are now; standardiser and classifiers are those of the start.
    ///
    /// # Errors
    ///
    /// See [`Mixture::to_weights`].
    pub fn weights(&self) -> Result<CollectionWeights, ModelError> {
        self.mixture.to_weights(&self.start)
    }
}

/// Mean loss of given weights over `examples`, for comparing versions; zeros when empty.
///
/// # Errors
///
/// A device that is not there or fails, or a loss that is not finite.
pub fn evaluate_weights(
    weights: &CollectionWeights,
    examples: &[&Example],
    loss: &LossConfig,
    kind: DeviceKind,
) -> Result<LossValues, ModelError> {
    let device = kind.device()?;
    evaluate(
        &Mixture::from_weights(weights, &device),
        &weights.gate_features(),
        examples,
        loss,
        &device,
    )
}

/// Examples per forward pass of an evaluation.
const EVALUATION_BATCH: usize = 256;

fn evaluate(
    mixture: &Mixture,
    features: &GateFeatures,
    examples: &[&Example],
    loss: &LossConfig,
    device: &Device,
) -> Result<LossValues, ModelError> {
    let mut mean = LossValues::default();
    for chunk in examples.chunks(EVALUATION_BATCH) {
        let batch = TrainBatch::new(chunk, features, None, device)?;
        let output = batch.forward(mixture);
        let values = mixture_loss(mixture, &output, &batch, loss).values()?;
        let share = chunk.len() as f32 / examples.len() as f32;
        mean.total += share * values.total;
        mean.gold += share * values.gold;
        mean.anchor += share * values.anchor;
        mean.gate_kl += share * values.gate_kl;
    }
    Ok(mean)
}
