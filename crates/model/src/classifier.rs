//! Linear softmax classifiers on the host: overlap levels and query types.
//!
//! They are small (56 or 384 inputs) and fitted full-batch, so plain loops on the host beat a
//! device and give the same bits wherever the trainer runs.

use ndarray::{Array1, Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// How to fit a classifier (RECIPE.md, "Router": AdamW, full batch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierConfig {
    /// AdamW's learning rate.
    pub learning_rate: f32,
    /// AdamW's decoupled weight decay, on weights and bias.
    pub weight_decay: f32,
    /// Number of full-batch steps.
    pub steps: usize,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.02,
            weight_decay: 0.05,
            steps: 150,
        }
    }
}

/// `softmax(W x + b)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearClassifier {
    /// Number of inputs.
    pub inputs: usize,
    /// `[classes, inputs]`, row by row.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

impl LinearClassifier {
    /// Fits by cross-entropy; start weights are uniform in +-1/sqrt(inputs), drawn from `seed`.
    ///
    /// `features` is `[n, inputs]`, `labels` is `[n]` with values below `classes`. With no rows
    /// the posterior is close to uniform.
    ///
    /// # Errors
    ///
    /// Lengths that differ, a label out of range, features that are not finite.
    pub fn fit(
        features: &Array2<f32>,
        labels: &[usize],
        classes: usize,
        config: &ClassifierConfig,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let (rows, inputs) = features.dim();
        if labels.len() != rows {
            return Err(ModelError::BadLength {
                field: "labels",
                expected: rows,
                found: labels.len(),
            });
        }
        if let Some(label) = labels.iter().find(|label| **label >= classes) {
            return Err(ModelError::BadConfig {
                field: "labels",
                value: label.to_string(),
                allowed: "below the number of classes",
            });
        }
        if features.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::NonFiniteInput("features"));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        let mut weight =
            Array2::from_shape_fn((classes, inputs), |_| rng.random_range(-bound..bound));
        let mut bias = Array1::from_shape_fn(classes, |_| rng.random_range(-bound..bound));
        if rows > 0 {
            let mut weight_state = AdamW::new(weight.len());
            let mut bias_state = AdamW::new(bias.len());
            for step in 1..=config.steps {
                let (weight_grad, bias_grad) = gradient(features, labels, &weight, &bias);
                weight_state.step(weight.iter_mut(), weight_grad.iter(), step, config);
                bias_state.step(bias.iter_mut(), bias_grad.iter(), step, config);
            }
        }
        let fitted = Self {
            inputs,
            weight: weight.iter().copied().collect(),
            bias: bias.to_vec(),
        };
        if fitted
            .weight
            .iter()
            .chain(&fitted.bias)
            .any(|value| !value.is_finite())
        {
            return Err(ModelError::Diverged);
        }
        Ok(fitted)
    }

    /// Class probabilities of one input, summing to 1. `input` has [`Self::inputs`] values.
    pub fn posterior(&self, input: &[f32]) -> Vec<f32> {
        debug_assert_eq!(input.len(), self.inputs, "callers check the width");
        let mut logits = self.bias.clone();
        for (logit, row) in logits
            .iter_mut()
            .zip(self.weight.chunks(self.inputs.max(1)))
        {
            *logit += row
                .iter()
                .zip(input)
                .map(|(weight, value)| weight * value)
                .sum::<f32>();
        }
        softmax(&mut logits);
        logits
    }

    /// Share of rows whose most probable class is their label; 0 without rows.
    pub fn accuracy(&self, features: &Array2<f32>, labels: &[usize]) -> f32 {
        let right = features
            .outer_iter()
            .zip(labels)
            .filter(|(row, label)| argmax(&self.posterior(&row.to_vec())) == Some(**label))
            .count();
        right as f32 / labels.len().max(1) as f32
    }
}

/// Index of the largest value, the first of equals; `None` when empty.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, value) in values.iter().enumerate() {
        if best.is_none_or(|best| *value > values[best]) {
            best = Some(index);
        }
    }
    best
}

/// Softmax in place, safe for large values.
pub(crate) fn softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for value in values.iter_mut() {
        *value = (*value - max).exp();
        total += *value;
    }
    for value in values.iter_mut() {
        *value /= total;
    }
}

/// Gradient of the mean cross-entropy: weights `[classes, inputs]`, bias `[classes]`.
fn gradient(
    features: &Array2<f32>,
    labels: &[usize],
    weight: &Array2<f32>,
    bias: &Array1<f32>,
) -> (Array2<f32>, Array1<f32>) {
    let mut error = features.dot(&weight.t()) + bias;
    let share = 1.0 / labels.len() as f32;
    for (mut row, label) in error.outer_iter_mut().zip(labels) {
        let mut probabilities = row.to_vec();
        softmax(&mut probabilities);
        probabilities[*label] -= 1.0;
        for (value, probability) in row.iter_mut().zip(probabilities) {
            *value = probability * share;
        }
    }
    (error.t().dot(features), error.sum_axis(Axis(0)))
}

/// AdamW with PyTorch's constants.
struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamW {
    fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    fn step<'a>(
        &mut self,
        values: impl Iterator<Item = &'a mut f32>,
        gradient: impl Iterator<Item = &'a f32>,
        step: usize,
        config: &ClassifierConfig,
    ) {
        const BETA_1: f32 = 0.9;
        const BETA_2: f32 = 0.999;
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let (bias_1, bias_2) = (1.0 - BETA_1.powi(step), 1.0 - BETA_2.powi(step));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in values.zip(gradient).zip(moments) {
            *first = BETA_1 * *first + (1.0 - BETA_1) * gradient;
            *second = BETA_2 * *second + (1.0 - BETA_2) * gradient * gradient;
            *value -= config.learning_rate * config.weight_decay * *value;
            *value -= config.learning_rate * (*first / bias_1) / ((*second / bias_2).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn separable(rows: usize) -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..rows).map(|row| row % 3).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let features = Array2::from_shape_fn((rows, 5), |(row, column)| {
            let signal = if column == labels[row] { 1.5 } else { 0.0 };
            signal + rng.random_range(-0.5..0.5)
        });
        (features, labels)
    }

    #[test]
    fn a_separable_problem_is_learned() {
        let (features, labels) = separable(90);
        let config = ClassifierConfig::default();
        let fitted = LinearClassifier::fit(&features, &labels, 3, &config, 0).unwrap();
        assert!(fitted.accuracy(&features, &labels) > 0.97);
        let posterior = fitted.posterior(&[1.5, 0.0, 0.0, 0.0, 0.0]);
        assert!((posterior.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(argmax(&posterior), Some(0));
    }

    #[test]
    fn the_seed_decides_the_bits() {
        let (features, labels) = separable(30);
        let config = ClassifierConfig {
            steps: 20,
            ..ClassifierConfig::default()
        };
        let fit = |seed| LinearClassifier::fit(&features, &labels, 3, &config, seed).unwrap();
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1), fit(2));
    }

    #[test]
    fn bad_input_is_refused() {
        let (mut features, labels) = separable(6);
        let config = ClassifierConfig::default();
        let fit =
            |features: &_, labels: &[usize]| LinearClassifier::fit(features, labels, 3, &config, 0);
        assert!(matches!(
            fit(&features, &labels[1..]),
            Err(ModelError::BadLength { .. })
        ));
        assert!(matches!(
            fit(&features, &[9; 6]),
            Err(ModelError::BadConfig { .. })
        ));
        features[[0, 0]] = f32::NAN;
        assert!(matches!(
            fit(&features, &labels),
            Err(ModelError::NonFiniteInput(_))
        ));
    }

    #[test]
    fn no_rows_leave_the_start_weights() {
        let empty = Array2::zeros((0, 4));
        let fitted =
            LinearClassifier::fit(&empty, &[], 2, &ClassifierConfig::default(), 0).unwrap();
        assert!((fitted.posterior(&[0.0; 4]).iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
