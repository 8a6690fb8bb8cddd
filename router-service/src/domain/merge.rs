//! Several collections in one query.
//!
//! Each collection is scored by its own weights over its own candidates, so that its attention
//! sums to one. The collections with candidates share the query equally; a learned collection
//! gate will set these shares later (DESIGN.md section 3, "Gate").

use super::reply::TypePrediction;

/// Probabilities that differ by less are the same but for rounding.
const UNIFORM: f32 = 1e-6;

/// The share of each collection, given the number of passages scored in each. Sums to 1 unless
/// nothing was scored at all.
pub fn collection_shares(scored: &[usize]) -> Vec<f64> {
    let filled = scored.iter().filter(|n| **n > 0).count();
    scored
        .iter()
        .map(|n| if *n > 0 { 1.0 / filled as f64 } else { 0.0 })
        .collect()
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
    fn only_collections_with_candidates_share() {
        assert_eq!(collection_shares(&[3, 0, 1]), [0.5, 0.0, 0.5]);
        assert_eq!(collection_shares(&[0, 0]), [0.0, 0.0]);
        assert_eq!(collection_shares(&[]), [0.0; 0]);
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
