//! When two scores are the same.

use std::cmp::Ordering;

/// Bits of a score that are rounding: engines sum in orders of their own, so equal passages come out
/// a few units apart. Of 24 bits 17 are compared (about 5 decimal digits).
const NOISE_BITS: u32 = 7;

/// The score without its rounding.
pub(crate) fn rounded(score: f32) -> f32 {
    let half = 1 << (NOISE_BITS - 1);
    f32::from_bits(score.to_bits().wrapping_add(half) & !((1 << NOISE_BITS) - 1))
}

/// Best first; equal scores in the order of `at`.
pub(crate) fn by_score<T: Ord>(a: (f32, &T), b: (f32, &T)) -> Ordering {
    rounded(b.0)
        .total_cmp(&rounded(a.0))
        .then_with(|| a.1.cmp(b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_noise_is_a_tie_and_more_is_not() {
        let score = 0.737_123_f32;
        let noisy = f32::from_bits(score.to_bits() + 3);
        assert_eq!(by_score((score, &2), (noisy, &1)), Ordering::Greater);
        assert_eq!(by_score((score, &1), (noisy, &2)), Ordering::Less);
        assert_eq!(by_score((score * 1.0001, &2), (score, &1)), Ordering::Less);
        assert_eq!(by_score((-0.5, &1), (0.5, &2)), Ordering::Greater);
        assert_eq!(rounded(0.0), 0.0);
    }
}
