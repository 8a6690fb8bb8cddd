//! Dense vectors as the search index has them: a byte a dimension.
//!
//! A rotation spreads a unit vector evenly over its dimensions, so that one range suits the vectors of
//! every encoder. Bytes are never negative, and a product of shifted vectors does not order as one of the
//! vectors themselves; their distance does.

use moerag_retrieve::codec::Rotation;
use moerag_retrieve::linalg::normalise;

/// An entry of a rotated unit vector is within so many standard deviations, `1 / sqrt(d)` each.
const RANGE: f32 = 5.0;
/// What stands for 0.
const ZERO: f32 = 127.5;

/// Turns vectors into bytes, and distances of bytes into cosines.
pub(super) struct ByteSpace {
    rotation: Rotation,
    /// Value of one step.
    step: f32,
}

impl ByteSpace {
    pub(super) fn new(dim: usize) -> Self {
        let range = (RANGE / (dim.max(1) as f32).sqrt()).min(1.0);
        Self {
            rotation: Rotation::new(dim, 0),
            step: range / ZERO,
        }
    }

    /// A vector's direction as whole numbers from 0 to 255.
    pub(super) fn bytes(&self, vector: &[f32]) -> Vec<f32> {
        let mut rotated = self.rotation.apply(vector);
        normalise(&mut rotated);
        let byte = |x: &f32| (x / self.step + ZERO).round().clamp(0.0, 255.0);
        rotated.iter().map(byte).collect()
    }

    /// The cosine of two vectors from the distance of their bytes.
    pub(super) fn cosine(&self, distance: f32) -> f32 {
        1.0 - (distance * self.step).powi(2) / 2.0
    }

    /// How far such a cosine is off, but for one in some ten thousand: rounding moves every entry of both
    /// by `step / sqrt(12)` on average, which a distance of at most `sqrt(2)` turns into `.58 step`.
    pub(super) fn error(&self) -> f32 {
        4.0 * 0.58 * self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerag_retrieve::linalg::dot;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn distances_of_bytes_are_cosines() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for dim in [8, 32, 384, 1024] {
            let space = ByteSpace::new(dim);
            let mut off = 0;
            for _ in 0..500 {
                // With one large entry, as the vectors of some encoders have.
                let mut unit = || {
                    let mut v: Vec<f32> = (0..dim).map(|_| rng.random::<f32>() - 0.5).collect();
                    v[3] = 2.0;
                    normalise(&mut v);
                    v
                };
                let (a, b) = (unit(), unit());
                let (x, y) = (space.bytes(&a), space.bytes(&b));
                assert!(
                    x.iter()
                        .all(|x| x.fract() == 0.0 && (0.0..=255.0).contains(x))
                );
                let square: f32 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
                let found = space.cosine(square.sqrt());
                off += usize::from((found - dot(&a, &b)).abs() > space.error());
            }
            assert!(off <= 1, "{dim}: {off} of 500");
        }
    }
}
