//! From gate inputs to the gate's `x`: standardise, add the level posterior, clip (RECIPE.md,
//! "Router").

use moerag_retrieve::GATE_INPUTS;
use ndarray::Array2;

use crate::classifier::{ClassifierConfig, LinearClassifier};
use crate::error::ModelError;
use crate::prior::LEVELS;
use crate::weights::GATE_FEATURES;

/// Standardised values are clipped to plus and minus this.
const CLIP: f32 = 2.5;

/// Keeps a constant column from dividing by zero.
const SD_FLOOR: f64 = 1e-6;

/// Column means and standard deviations of the synthetic queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardiser {
    /// Mean of each column.
    pub mean: Vec<f32>,
    /// Standard deviation of each column (population), above 0.
    pub sd: Vec<f32>,
}

impl Standardiser {
    /// Fits to rows of equal length; without rows it is the identity.
    pub fn fit(rows: &[Vec<f32>], columns: usize) -> Self {
        let count = rows.len().max(1) as f64;
        let mut mean = vec![0.0_f64; columns];
        for row in rows {
            for (total, value) in mean.iter_mut().zip(row) {
                *total += f64::from(*value) / count;
            }
        }
        let mut variance = vec![0.0_f64; columns];
        for row in rows {
            for ((total, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *total += (f64::from(*value) - mean).powi(2) / count;
            }
        }
        let sd = if rows.is_empty() {
            vec![1.0; columns]
        } else {
            variance
                .iter()
                .map(|variance| (variance.sqrt() + SD_FLOOR) as f32)
                .collect()
        };
        Self {
            mean: mean.iter().map(|value| *value as f32).collect(),
            sd,
        }
    }

    /// `(x - mean) / sd`, clipped; as many values as `input` has, at most as many as columns.
    pub fn apply(&self, input: &[f32]) -> Vec<f32> {
        input
            .iter()
            .zip(self.mean.iter().zip(&self.sd))
            .map(|(value, (mean, sd))| ((value - mean) / sd).clamp(-CLIP, CLIP))
            .collect()
    }
}

/// Everything between a query's 56 gate inputs and the gate's 62 features.
///
/// The level posterior comes from the clipped standardised inputs and is itself standardised and
/// clipped with the statistics of the synthetic queries, as in the prototype.
#[derive(Clone, Debug, PartialEq)]
pub struct GateFeatures {
    /// Statistics of all 62 columns; the first 56 also feed the level classifier.
    pub standardiser: Standardiser,
    /// The overlap-level classifier, 56 inputs, 6 classes.
    pub levels: LinearClassifier,
}

impl GateFeatures {
    /// Fits on synthetic queries: `inputs` is one row of [`GATE_INPUTS`] values per query, `levels`
    /// the overlap level of each.
    ///
    /// # Errors
    ///
    /// A row of another length or with a value that is not finite, or labels that do not fit.
    pub fn fit(
        inputs: &[Vec<f32>],
        levels: &[usize],
        config: &ClassifierConfig,
        seed: u64,
    ) -> Result<Self, ModelError> {
        for row in inputs {
            check_gate_inputs(row)?;
        }
        let first = Standardiser::fit(inputs, GATE_INPUTS);
        let standardised: Vec<f32> = inputs.iter().flat_map(|row| first.apply(row)).collect();
        let standardised = Array2::from_shape_vec((inputs.len(), GATE_INPUTS), standardised)
            .expect("every row was checked to have GATE_INPUTS values");
        let classifier = LinearClassifier::fit(&standardised, levels, LEVELS.len(), config, seed)?;
        let posteriors: Vec<Vec<f32>> = standardised
            .outer_iter()
            .map(|row| classifier.posterior(&row.to_vec()))
            .collect();
        let second = Standardiser::fit(&posteriors, LEVELS.len());
        Ok(Self {
            standardiser: Standardiser {
                mean: [first.mean, second.mean].concat(),
                sd: [first.sd, second.sd].concat(),
            },
            levels: classifier,
        })
    }

    /// The gate's `x`, `[62]`, and the level posterior, `[6]`.
    ///
    /// # Errors
    ///
    /// Another number of inputs, or a value that is not finite.
    pub fn apply(&self, gate_inputs: &[f32]) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        check_gate_inputs(gate_inputs)?;
        let posterior = self.levels.posterior(&self.standardiser.apply(gate_inputs));
        let features = self.standardiser.apply(&[gate_inputs, &posterior].concat());
        debug_assert_eq!(features.len(), GATE_FEATURES);
        Ok((features, posterior))
    }
}

fn check_gate_inputs(row: &[f32]) -> Result<(), ModelError> {
    if row.len() != GATE_INPUTS {
        return Err(ModelError::BadLength {
            field: "gate_inputs",
            expected: GATE_INPUTS,
            found: row.len(),
        });
    }
    if row.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::NonFiniteInput("gate_inputs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rows() -> (Vec<Vec<f32>>, Vec<usize>) {
        let rows = (0..60)
            .map(|row| {
                (0..GATE_INPUTS)
                    .map(|column| ((row * 7 + column * 3) % 11) as f32)
                    .collect()
            })
            .collect();
        (rows, (0..60).map(|row| row % LEVELS.len()).collect())
    }

    #[test]
    fn fitted_columns_have_mean_zero_and_sd_one() {
        let standardiser = Standardiser::fit(&[vec![1.0, 5.0], vec![3.0, 5.0]], 2);
        assert_eq!(standardiser.mean, [2.0, 5.0]);
        let out = standardiser.apply(&[3.0, 5.0]);
        assert!((out[0] - 1.0).abs() < 1e-5 && out[1] == 0.0);
        assert_eq!(standardiser.apply(&[1e9, -1e9]), [2.5, -2.5], "clipped");
    }

    #[test]
    fn features_are_clipped_and_the_posterior_is_a_distribution() {
        let (rows, levels) = rows();
        let features = GateFeatures::fit(&rows, &levels, &ClassifierConfig::default(), 3).unwrap();
        let (x, posterior) = features.apply(&[1e6; GATE_INPUTS]).unwrap();
        assert_eq!(x.len(), GATE_FEATURES);
        assert!(x.iter().all(|value| value.abs() <= CLIP));
        assert!((posterior.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn wrong_rows_are_refused() {
        let (mut rows, levels) = rows();
        rows[3].pop();
        let fit = GateFeatures::fit(&rows, &levels, &ClassifierConfig::default(), 3);
        assert!(matches!(
            fit,
            Err(ModelError::BadLength {
                field: "gate_inputs",
                ..
            })
        ));
    }
}
