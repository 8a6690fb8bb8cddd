//! A share of a collection's passages, chosen by hash: the same ones in every walk and on every store,
//! and nearly the same ones after a small change of the collection.

use sha2::{Digest, Sha256};

/// How many standard deviations above what is wanted [`Share::of`] aims, so that it practically never
/// falls short.
const MARGIN: f64 = 6.0;

/// A share of the passages, above 0 up to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// All passages.
    pub const ALL: Share = Share(1.0);

    /// A share; `None` for what is not above 0 and at most 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// A share that has at least `wanted` of `total` passages, and few more.
    #[must_use]
    pub fn of(wanted: usize, total: u64) -> Self {
        let wanted = wanted as f64;
        let aim = wanted + MARGIN * wanted.sqrt() + MARGIN;
        Self::new(aim / total as f64).unwrap_or(Self::ALL)
    }

    /// The share as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether a passage belongs to it.
    #[must_use]
    pub fn has(self, document_id: &str, ordinal: u32) -> bool {
        if self.0 >= 1.0 {
            return true;
        }
        let [a, b, c, d, e, f, g, h, ..] = passage_hash(document_id, ordinal);
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        (place as f64) < self.0 * 2f64.powi(64)
    }
}

/// What decides a passage's turn wherever some of many passages are chosen: those of the smallest
/// hashes, compared byte by byte. A [`Share`] has all below a bound.
#[must_use]
pub fn passage_hash(document_id: &str, ordinal: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(ordinal.to_le_bytes());
    hash.update(document_id.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_share_has_what_is_wanted_and_few_more() {
        for (wanted, total) in [(2, 50), (100, 3_000), (2_000, 20_000), (19_000, 20_000)] {
            let share = Share::of(wanted, total);
            let found = (0..total).filter(|i| share.has(&format!("doc {i}"), 3));
            let found = found.count();
            let most = wanted + 12 * (wanted as f64).sqrt() as usize + 12;
            assert!(
                (wanted..=most).contains(&found),
                "{wanted} of {total}: {found}"
            );
        }
        assert_eq!(Share::of(10, 10), Share::ALL);
        assert_eq!(Share::of(10, 0), Share::ALL);
        assert!(Share::ALL.has("", 0));
    }

    #[test]
    fn a_larger_share_has_all_of_a_smaller_one() {
        let (small, large) = (Share::new(0.1).unwrap(), Share::new(0.3).unwrap());
        let ids: Vec<String> = (0..500).map(|i| i.to_string()).collect();
        assert!(ids.iter().all(|id| !small.has(id, 0) || large.has(id, 0)));
        assert!(ids.iter().any(|id| large.has(id, 0) && !small.has(id, 0)));
    }

    #[test]
    fn no_share_is_refused() {
        for share in [0.0, -0.5, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::new(share), None);
        }
    }
}
