//! Where passages lie in a model's latent spaces, remembered.
//!
//! A place is the sum of what the space knows of each of a passage's terms: for the candidates of a query a
//! sixth of the work of their views, and the same for every query that finds the passage again.

use std::hash::Hash;
use std::sync::Arc;

use moerag_retrieve::{CorpusStats, LexBlock, LsiBasis};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of places remembered, those of some 9,000 passages.
const BYTES: u64 = 8 << 20;
/// What a place of the most dimensions takes, with its key and what the cache adds.
const EACH: u64 = 900;

/// The places that one model was asked for last.
pub struct Places(Cache<u128, Arc<[f32]>, PlaceBytes>);

#[derive(Clone)]
struct PlaceBytes;

impl Weighter<u128, Arc<[f32]>> for PlaceBytes {
    fn weight(&self, _: &u128, place: &Arc<[f32]>) -> u64 {
        (size_of_val(&**place) + 100) as u64
    }
}

impl Places {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(
            (BYTES / EACH) as usize,
            BYTES,
            PlaceBytes,
        ))
    }

    /// Where a passage of `collection` lies in `basis`, the model's for it: [`LsiBasis::vector`].
    pub fn of(
        &self,
        collection: &str,
        basis: &LsiBasis,
        passage: &LexBlock,
        stats: &CorpusStats,
    ) -> Arc<[f32]> {
        // By everything that a place depends on, so that none goes stale: weights of terms follow the
        // average length of the collection's passages.
        let mut key = Xxh3::with_seed(u64::from(stats.avg_len().to_bits()));
        collection.hash(&mut key);
        passage.terms.hash(&mut key);
        let key = key.digest128();
        if let Some(known) = self.0.get(&key) {
            return known;
        }
        let place: Arc<[f32]> = basis.vector(passage, stats).into();
        self.0.insert(key, Arc::clone(&place));
        place
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Places").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use moerag_retrieve::{KeyBlock, PassageFeatures};

    use super::*;

    /// Passages of two topics in turns, longer ones from `longer` on.
    fn passages(longer: u32) -> Vec<PassageFeatures> {
        let terms =
            |i: u32| (0..5 + i / longer).map(move |t| (i % 2) * 100 + (i * 7 + t * 13) % 40);
        let features = |i| PassageFeatures {
            vector: vec![1.0],
            lex: LexBlock {
                terms: terms(i).collect(),
                ..LexBlock::default()
            },
            keys: KeyBlock::default(),
        };
        (0..100).map(features).collect()
    }

    #[test]
    fn a_place_is_remembered_until_what_it_depends_on_changes() {
        let (all, longer) = (passages(100), passages(50));
        let (stats, grown) = (
            CorpusStats::fit(all.iter()),
            CorpusStats::fit(longer.iter()),
        );
        assert_ne!(stats.avg_len(), grown.avg_len());
        let fit = |all: &[PassageFeatures], stats| {
            let blocks: Vec<&LexBlock> = all.iter().map(|p| &p.lex).collect();
            LsiBasis::fit(&blocks, stats, &|| false).unwrap()
        };
        let (basis, other) = (fit(&all, &stats), fit(&longer, &grown));
        let places = Places::new();
        for passage in &all {
            for _ in 0..2 {
                let known = places.of("a", &basis, &passage.lex, &stats);
                assert_eq!(*known, *basis.vector(&passage.lex, &stats));
                let moved = places.of("a", &basis, &passage.lex, &grown);
                assert_eq!(*moved, *basis.vector(&passage.lex, &grown));
                let elsewhere = places.of("b", &other, &passage.lex, &stats);
                assert_eq!(*elsewhere, *other.vector(&passage.lex, &stats));
            }
        }
        let first = places.of("a", &basis, &all[0].lex, &stats);
        let again = places.of("a", &basis, &all[0].lex, &stats);
        assert!(Arc::ptr_eq(&first, &again));
    }
}
