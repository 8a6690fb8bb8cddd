//! Several collections in one query.
//!
//! Each collection is scored by its own weights over its own candidates, so that its mixture sums to
//! one. The gate's collection weights (`moerag_model::collection_weights`) make one mixture of them,
//! and that is sharpened as a whole: sharpening each first would let the best passage of a collection
//! that hardly fits pass the second best of the one that does.

use super::reply::TypePrediction;

/// Probabilities that differ by less are the same but for rounding.
const UNIFORM: f32 = 1e-6;

/// What a collection brings to a query.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The gate's weight of the collection, 0..=1.
    pub weight: f64,
    /// Its mixture `A` over its own passages, `[n]`, sums to 1.
    pub mixture: &'a [f32],
    /// How sharply its model attends: `alpha`.
    pub alpha: f64,
}

/// `attn_weight` of the passages of each part: `softmax(alpha ln A)` over all of them together, where
/// `A` is the weighted mixture and `alpha` the weighted mean.
pub fn attend_together(parts: &[Part<'_>]) -> Vec<Vec<f64>> {
    let total: f64 = parts.iter().map(|part| part.weight).sum();
    let alpha =
        parts.iter().map(|p| p.weight * p.alpha).sum::<f64>() / total.max(f64::MIN_POSITIVE);
    let joint = |part: &Part<'_>| -> Vec<f64> {
        let of_part = part.mixture.iter().map(|a| part.weight * f64::from(*a));
        of_part.collect()
    };
    let mut weights: Vec<Vec<f64>> = parts.iter().map(joint).collect();
    let most = weights.iter().flatten().copied().fold(0.0, f64::max);
    if most > 0.0 {
        let raised = |a: &mut f64| *a = (*a / most).powf(alpha);
        weights.iter_mut().flatten().for_each(raised);
        let sum: f64 = weights.iter().flatten().sum();
        weights.iter_mut().flatten().for_each(|a| *a /= sum);
    }
    weights
}

/// The mean of distributions by share; those that are empty have no share. Empty if all are.
pub fn mean_by_share<'a>(parts: impl IntoIterator<Item = (f64, &'a [f32])>) -> Vec<f32> {
    let mut sum: Vec<f64> = Vec::new();
    for (share, part) in parts {
        sum.resize(sum.len().max(part.len()), 0.0);
        for (total, value) in sum.iter_mut().zip(part) {
            *total += share * f64::from(*value);
        }
    }
    sum.into_iter().map(|value| value as f32).collect()
}

impl TypePrediction {
    /// Index of the most probable type, the first of equals. `None` if nothing was scored, or if
    /// all are equally probable: the untrained classifier predicts nothing.
    pub fn best(&self) -> Option<usize> {
        let by_probability =
            |a: &usize, b: &usize| self.posterior[*a].total_cmp(&self.posterior[*b]);
        let best = (0..self.posterior.len()).rev().max_by(by_probability)?;
        let uniform = self
            .posterior
            .iter()
            .all(|p| self.posterior[best] - p < UNIFORM);
        (!uniform).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_sharpened_by_itself_and_several_as_one() {
        let part = |weight, mixture, alpha| Part {
            weight,
            mixture,
            alpha,
        };
        let (a, b) = ([0.6, 0.4], [1.0]);
        let alone = attend_together(&[part(1.0, &a, 2.0)]);
        assert!((alone[0][0] - 0.36 / 0.52).abs() < 1e-6);
        // .36 .24 | .4 with alpha .6 * 2 + .4 * 4.5 = 3
        let both = attend_together(&[part(0.6, &a, 2.0), part(0.4, &b, 4.5)]);
        let cubes = [0.36f64.powi(3), 0.24f64.powi(3), 0.4f64.powi(3)];
        let sum: f64 = cubes.iter().sum();
        for (found, cube) in both.iter().flatten().zip(cubes) {
            assert!((found - cube / sum).abs() < 1e-6, "{both:?}");
        }
        assert_eq!(attend_together(&[part(0.0, &[], 6.0)]), [[0.0; 0]]);
        assert_eq!(
            attend_together(&[part(0.0, &[], 6.0), part(1.0, &b, 6.0)])[1],
            [1.0]
        );
    }

    #[test]
    fn mean_ignores_empty_parts() {
        let parts: [(f64, &[f32]); 3] = [(0.5, &[1.0, 0.0]), (0.0, &[]), (0.5, &[0.0, 1.0])];
        assert_eq!(mean_by_share(parts), [0.5, 0.5]);
        assert!(mean_by_share([(0.0, &[] as &[f32])]).is_empty());
    }

    #[test]
    fn the_first_of_equal_types_wins() {
        let of = |posterior: &[f32]| {
            TypePrediction {
                posterior: posterior.to_vec(),
            }
            .best()
        };
        assert_eq!(of(&[0.2, 0.4, 0.4]), Some(1));
        assert_eq!(of(&[0.25; 4]), None);
        assert_eq!(of(&[]), None);
    }
}
