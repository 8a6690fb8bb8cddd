//! Training examples and their batches.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ndarray::{Array2, ArrayView2};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::ModelError;
use crate::features::GateFeatures;
use crate::feedback::Feedback;
use crate::gate::Routing;
use crate::infer::{AttendInput, CollectionModel};
use crate::mixture::{Mixture, MixtureOutput};
use crate::prior::{HEAD_COLUMNS, NUM_VIEWS};
use crate::weights::GATE_FEATURES;

/// One synthetic query with its candidates.
#[derive(Clone, Debug)]
pub struct Example {
    z: Array2<f32>,
    gold: Vec<usize>,
    gate_inputs: Vec<f32>,
    feedback: Option<Feedback>,
    anchor: Vec<f32>,
}

impl Example {
    /// Builds an example.
    ///
    /// `z` is `[n, 13]`, z-scored views of the candidates; `gold` holds the rows of the relevant
    /// ones (target mass is shared equally); `gate_inputs` is `[56]`; `feedback` is `None` without a
    /// latent space; `prior` is the untrained model whose attention is the anchor `A0`.
    ///
    /// # Errors
    ///
    /// No candidates, no gold, a gold row that is not there, wrong lengths, values not finite.
    pub fn new(
        z: Array2<f32>,
        gold: Vec<usize>,
        gate_inputs: Vec<f32>,
        feedback: Option<Feedback>,
        prior: &CollectionModel,
    ) -> Result<Self, ModelError> {
        check_gold(&gold, z.nrows())?;
        let query = vec![0.0; prior.query_dim()];
        let input = AttendInput {
            z: z.view(),
            gate_inputs: &gate_inputs,
            feedback: feedback.as_ref(),
            named: &[],
            query_vector: &query,
        };
        let anchor = prior.attend(&input, Routing::Soft)?.attn_weight;
        Ok(Self {
            z,
            gold,
            gate_inputs,
            feedback,
            anchor,
        })
    }

    /// The same query with the anchor of another untrained model.
    ///
    /// # Errors
    ///
    /// As [`CollectionModel::attend`].
    pub fn anchored_to(&self, prior: &CollectionModel) -> Result<Self, ModelError> {
        Self::new(
            self.z.clone(),
            self.gold.clone(),
            self.gate_inputs.clone(),
            self.feedback.clone(),
            prior,
        )
    }

    /// z-scored views, `[n, 13]`.
    pub fn z(&self) -> &Array2<f32> {
        &self.z
    }

    /// Rows of the relevant candidates.
    pub fn gold(&self) -> &[usize] {
        &self.gold
    }

    /// Replaces the rows of the relevant candidates.
    ///
    /// # Errors
    ///
    /// No gold, or a gold row that is not there.
    pub fn set_gold(&mut self, gold: Vec<usize>) -> Result<(), ModelError> {
        check_gold(&gold, self.z.nrows())?;
        self.gold = gold;
        Ok(())
    }

    /// The query's gate inputs, `[56]`.
    pub fn gate_inputs(&self) -> &[f32] {
        &self.gate_inputs
    }

    /// What the feedback head reads.
    pub fn feedback(&self) -> Option<&Feedback> {
        self.feedback.as_ref()
    }

    /// The prior's attention `A0`, `[n]`, summing to 1.
    pub fn anchor(&self) -> &[f32] {
        &self.anchor
    }
}

fn check_gold(gold: &[usize], candidates: usize) -> Result<(), ModelError> {
    if candidates == 0 || gold.is_empty() {
        return Err(ModelError::BadLength {
            field: if gold.is_empty() { "gold" } else { "z rows" },
            expected: 1,
            found: 0,
        });
    }
    if let Some(row) = gold.iter().find(|row| **row >= candidates) {
        return Err(ModelError::BadConfig {
            field: "gold",
            value: row.to_string(),
            allowed: "below the number of candidates",
        });
    }
    Ok(())
}

/// Dropout on the gate's input, drawn on the host so that a seed gives the same masks everywhere.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f32,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// `rate` is the share of inputs set to 0; the others are scaled by `1 / (1 - rate)`.
    ///
    /// # Errors
    ///
    /// [`ModelError::BadConfig`] when `rate` is not in 0..1.
    pub fn new(rate: f32, seed: u64) -> Result<Self, ModelError> {
        if !(0.0..1.0).contains(&rate) {
            return Err(ModelError::BadConfig {
                field: "dropout",
                value: rate.to_string(),
                allowed: "at least 0, below 1",
            });
        }
        Ok(Self {
            rate,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    fn apply(&mut self, x: &mut [f32]) {
        let scale = 1.0 / (1.0 - self.rate);
        for value in x {
            *value = if self.rng.random::<f32>() < self.rate {
                0.0
            } else {
                *value * scale
            };
        }
    }
}

/// Row order of one epoch: a permutation of `0..n` that depends on seed and epoch only.
pub fn epoch_order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut rng);
    order
}

/// A padded batch on a device.
#[derive(Clone, Debug)]
pub struct TrainBatch {
    /// `[batch, n, 14]`; padding is 0.
    pub z: Tensor<3>,
    /// `[batch, n]`; true = a candidate.
    pub mask: Tensor<2, Bool>,
    /// `[batch, 62]`, after dropout.
    pub x: Tensor<2>,
    /// Log of the feedback head's mass, `[batch, 1]`.
    pub log_mass: Tensor<2>,
    /// Target distribution over the candidates, `[batch, n]`.
    pub target: Tensor<2>,
    /// The prior's attention `A0`, `[batch, n]`.
    pub anchor: Tensor<2>,
}

impl TrainBatch {
    /// Pads `examples` to the longest of them and moves them to `device`; `features` turns their
    /// gate inputs into the gate's `x`. `dropout` is `None` for evaluation.
    ///
    /// # Errors
    ///
    /// [`ModelError::BadLength`] when `examples` is empty.
    pub fn new(
        examples: &[&Example],
        features: &GateFeatures,
        mut dropout: Option<&mut Dropout>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let batch = examples.len();
        let n = examples
            .iter()
            .map(|example| example.z.nrows())
            .max()
            .unwrap_or(0);
        if n == 0 {
            return Err(ModelError::BadLength {
                field: "examples",
                expected: 1,
                found: 0,
            });
        }
        let mut z = vec![0.0; batch * n * HEAD_COLUMNS];
        let mut log_mass = Vec::with_capacity(batch);
        let mut mask = vec![false; batch * n];
        let mut target = vec![0.0; batch * n];
        let mut anchor = vec![0.0; batch * n];
        let mut x = Vec::with_capacity(batch * GATE_FEATURES);
        for (row, example) in examples.iter().enumerate() {
            let rows = example.z.nrows();
            let start = row * n;
            let slots = &mut z[start * HEAD_COLUMNS..(start + rows) * HEAD_COLUMNS];
            columns(slots, example.z.view(), example.feedback.as_ref());
            log_mass.push(Feedback::log_mass(example.feedback.as_ref()));
            mask[start..start + rows].fill(true);
            anchor[start..start + rows].copy_from_slice(&example.anchor);
            for gold in &example.gold {
                target[start + gold] += 1.0 / example.gold.len() as f32;
            }
            let from = x.len();
            x.extend(features.apply(&example.gate_inputs)?.0);
            if let Some(dropout) = dropout.as_deref_mut() {
                dropout.apply(&mut x[from..]);
            }
        }
        Ok(Self {
            z: Tensor::from_data(TensorData::new(z, [batch, n, HEAD_COLUMNS]), device),
            log_mass: Tensor::from_data(TensorData::new(log_mass, [batch, 1]), device),
            mask: Tensor::from_data(TensorData::new(mask, [batch, n]), device),
            x: Tensor::from_data(TensorData::new(x, [batch, GATE_FEATURES]), device),
            target: Tensor::from_data(TensorData::new(target, [batch, n]), device),
            anchor: Tensor::from_data(TensorData::new(anchor, [batch, n]), device),
        })
    }

    /// The whole forward pass.
    pub(crate) fn forward(&self, mixture: &Mixture) -> MixtureOutput {
        mixture.forward(
            self.z.clone(),
            Some(self.mask.clone()),
            self.x.clone(),
            self.log_mass.clone(),
        )
    }
}

/// Fills `slots`, `[n, 14]` of zeros, with views `[n, 13]` and the feedback view.
pub(crate) fn columns(slots: &mut [f32], z: ArrayView2<'_, f32>, feedback: Option<&Feedback>) {
    for (i, (slot, row)) in slots
        .chunks_mut(HEAD_COLUMNS)
        .zip(z.outer_iter())
        .enumerate()
    {
        for (slot, value) in slot.iter_mut().zip(row) {
            *slot = *value;
        }
        if let Some(feedback) = feedback {
            slot[NUM_VIEWS] = feedback.view[i];
        }
    }
}
