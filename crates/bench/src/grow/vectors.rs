//! Vectors of synthetic passages, and how much noise they need.

use std::sync::Arc;

use moerag_retrieve::linalg::{dot, norm, normalise};
use rand::Rng;

use super::source::Source;
use crate::quantile::median;

/// Real vectors in one draw of noise.
const NOISE_TERMS: usize = 16;
/// Norms of the noise that are tried, beside a unit vector.
const NOISE_STEP: f32 = 0.1;
const NOISE_STEPS: usize = 31;

/// Cosine of two vectors.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (norm(a) * norm(b) + 1e-12)
}

/// Directions with the covariance of the real vectors: noise in all directions alike would be a
/// distance that no real passage has.
pub(super) struct Noise {
    mean: Vec<f32>,
}

impl Noise {
    pub(super) fn new(source: &Source) -> Self {
        let mut mean = vec![0.0f32; source.dim()];
        let share = 1.0 / source.len().max(1) as f32;
        for number in 0..source.len() {
            add(&mut mean, source.vector(number as u32), share);
        }
        Self { mean }
    }

    /// A unit vector: a random sum of some real vectors without their mean.
    pub(super) fn draw(&self, source: &Source, rng: &mut impl Rng) -> Vec<f32> {
        let mut noise = vec![0.0f32; source.dim()];
        for _ in 0..NOISE_TERMS {
            let number = rng.random_range(0..source.len()) as u32;
            let weight = rng.random_range(-1.0f32..1.0);
            add(&mut noise, source.vector(number), weight);
            add(&mut noise, &self.mean, -weight);
        }
        normalise(&mut noise);
        noise
    }
}

fn add(to: &mut [f32], vector: &[f32], weight: f32) {
    to.iter_mut()
        .zip(vector)
        .for_each(|(t, v)| *t += weight * v);
}

/// The unit mixture of two vectors, `share` of the first.
pub(super) fn mixture(a: &[f32], b: &[f32], share: f32) -> Vec<f32> {
    let mut mixed = vec![0.0f32; a.len()];
    add(&mut mixed, a, share);
    add(&mut mixed, b, 1.0 - share);
    normalise(&mut mixed);
    mixed
}

/// A unit vector with noise of norm `sigma`, made a unit vector again.
pub(super) fn noisy(vector: &[f32], noise: &[f32], sigma: f32) -> Vec<f32> {
    let mut result = vector.to_vec();
    add(&mut result, noise, sigma);
    normalise(&mut result);
    result
}

/// What lies near a synthetic passage of one base in the grown store.
pub(super) struct Pool {
    /// The base of the passage that is looked at.
    base: u32,
    /// The real passages there.
    real: Vec<u32>,
    /// The synthetic ones as base and partner.
    synthetic: Vec<(u32, u32)>,
}

impl Pool {
    pub(super) fn new(base: u32) -> Self {
        Self {
            base,
            real: Vec::new(),
            synthetic: Vec::new(),
        }
    }

    /// Adds a real passage and `count` synthetic ones of it.
    pub(super) fn add(
        &mut self,
        number: u32,
        partners: Arc<[u32]>,
        count: usize,
        rng: &mut impl Rng,
    ) {
        self.real.push(number);
        // The passage that is looked at is one more of its base.
        for _ in 0..count + usize::from(number == self.base) {
            let partner = partners[rng.random_range(0..partners.len())];
            self.synthetic.push((number, partner));
        }
    }

    /// Cosine of the first synthetic passage with its nearest neighbour in the pool, for every
    /// amount of noise.
    fn top1(&self, source: &Source, noise: &Noise, rng: &mut impl Rng) -> [f32; NOISE_STEPS] {
        let mut best = [f32::MIN; NOISE_STEPS];
        let mut members = self.synthetic.iter().map(|(base, partner)| {
            let mixed = mixture(source.vector(*base), source.vector(*partner), 0.5);
            (mixed, noise.draw(source, rng))
        });
        let Some((at, drawn)) = members.next() else {
            return best;
        };
        let probes: [Vec<f32>; NOISE_STEPS] =
            std::array::from_fn(|step| noisy(&at, &drawn, sigma(step)));
        for (vector, drawn) in members {
            for (step, probe) in probes.iter().enumerate() {
                let other = noisy(&vector, &drawn, sigma(step));
                best[step] = best[step].max(dot(probe, &other));
            }
        }
        for number in &self.real {
            for (best, probe) in best.iter_mut().zip(&probes) {
                *best = best.max(cosine(probe, source.vector(*number)));
            }
        }
        best
    }
}

fn sigma(step: usize) -> f32 {
    step as f32 * NOISE_STEP
}

/// The noise with which the median cosine with the nearest neighbour becomes `target`.
pub(super) fn fit_noise(
    source: &Source,
    noise: &Noise,
    pools: &[Pool],
    target: f64,
    rng: &mut impl Rng,
) -> f32 {
    let tops = pools.iter().map(|pool| pool.top1(source, noise, rng));
    let tops: Vec<[f32; NOISE_STEPS]> = tops.collect();
    let curve: Vec<f64> = (0..NOISE_STEPS)
        .filter_map(|step| {
            let at: Vec<f64> = tops.iter().map(|top| f64::from(top[step])).collect();
            median(&at)
        })
        .collect();
    if curve.last().is_none_or(|least| *least > target) {
        tracing::warn!(
            target,
            ?curve,
            "no noise makes the passages as far apart as the real ones are"
        );
    }
    crossing(&curve, target) as f32 * NOISE_STEP
}

/// Where a falling curve meets `target`, in steps; the last step where it never does.
fn crossing(curve: &[f64], target: f64) -> f64 {
    match curve.iter().position(|value| *value <= target) {
        Some(0) => 0.0,
        Some(at) => {
            let (before, after) = (curve[at - 1], curve[at]);
            at as f64 - (target - after) / (before - after).max(1e-12)
        }
        None => curve.len().saturating_sub(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_takes_a_vector_away_from_where_it_was() {
        let (a, b) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
        let mixed = mixture(&a, &b, 0.75);
        assert!((norm(&mixed) - 1.0).abs() < 1e-6);
        assert!(cosine(&mixed, &a) > cosine(&mixed, &b));
        let moved = noisy(&mixed, &[0.0, 0.0, 1.0], 1.0);
        assert!((norm(&moved) - 1.0).abs() < 1e-6);
        assert!((cosine(&moved, &mixed) - 0.5f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn the_noise_is_read_off_the_curve() {
        let curve = [0.9, 0.8, 0.6, 0.5];
        assert!((crossing(&curve, 0.7) - 1.5).abs() < 1e-9);
        assert!((crossing(&curve, 0.8) - 1.0).abs() < 1e-9);
        assert_eq!(crossing(&curve, 0.95), 0.0);
        assert_eq!(crossing(&curve, 0.1), 3.0);
    }
}
