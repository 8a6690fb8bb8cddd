//! Statistics of one collection that the lexical and token views are computed from.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RetrieveError;
use crate::geometry::Geometry;
use crate::lex::{B, K1, LexBlock};
use crate::passage::PassageFeatures;

/// Version of [`CorpusStats::to_bytes`].
const FORMAT: u8 = 1;

/// Counts that follow every ingest, and the geometry of the passage vectors, refitted after a tenth
/// of the collection has changed (DESIGN.md section 4).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct CorpusStats {
    passages: u64,
    total_terms: u64,
    /// Passages per term. Sorted, so that equal statistics have equal bytes.
    term_df: BTreeMap<u32, u32>,
    /// Passages per wordpiece.
    wordpiece_df: BTreeMap<u32, u32>,
    geometry: Geometry,
    /// Passages added or removed since the geometry was fitted.
    changes: u64,
    /// Passages at the last fit.
    fitted: u64,
}

impl CorpusStats {
    /// Statistics of a whole collection, geometry included.
    pub fn fit<'a>(passages: impl Iterator<Item = &'a PassageFeatures> + Clone) -> Self {
        let mut stats = Self::default();
        passages.clone().for_each(|p| stats.add(p));
        stats.fit_geometry(passages.map(|p| p.vector.as_slice()));
        stats
    }

    /// Counts one more passage.
    pub fn add(&mut self, passage: &PassageFeatures) {
        self.passages += 1;
        self.changes += 1;
        self.total_terms += passage.lex.len() as u64;
        for term in distinct(&passage.lex.terms) {
            *self.term_df.entry(term).or_insert(0) += 1;
        }
        for id in passage.keys.wordpieces.iter().copied() {
            *self.wordpiece_df.entry(id).or_insert(0) += 1;
        }
    }

    /// Takes back what [`CorpusStats::add`] counted for the same passage.
    pub fn remove(&mut self, passage: &PassageFeatures) {
        self.passages = self.passages.saturating_sub(1);
        self.changes += 1;
        self.total_terms = self.total_terms.saturating_sub(passage.lex.len() as u64);
        for term in distinct(&passage.lex.terms) {
            decrement(&mut self.term_df, term);
        }
        for id in passage.keys.wordpieces.iter().copied() {
            decrement(&mut self.wordpiece_df, id);
        }
    }

    /// Number of passages.
    pub fn n(&self) -> u64 {
        self.passages
    }

    /// Number of distinct terms.
    pub fn vocabulary(&self) -> usize {
        self.term_df.len()
    }

    /// Mean number of terms of a passage; 0 for an empty collection.
    pub fn avg_len(&self) -> f32 {
        if self.passages == 0 {
            0.0
        } else {
            (self.total_terms as f64 / self.passages as f64) as f32
        }
    }

    /// Passages that have a term.
    pub fn df(&self, term: u32) -> u32 {
        self.term_df.get(&term).copied().unwrap_or(0)
    }

    /// `ln(1 + (N - df + .5) / (df + .5))`; `None` for a term that no passage has.
    pub fn idf(&self, term: u32) -> Option<f32> {
        self.term_df.get(&term).map(|df| self.idf_of(*df))
    }

    /// Idf of a term that no passage has, the largest there is.
    pub fn oov_idf(&self) -> f32 {
        self.idf_of(0)
    }

    /// Idf of a wordpiece; the largest for one that no passage has.
    pub fn wordpiece_idf(&self, id: u32) -> f32 {
        self.idf_of(self.wordpiece_df.get(&id).copied().unwrap_or(0))
    }

    fn idf_of(&self, df: u32) -> f32 {
        let (n, df) = (self.passages as f64, f64::from(df));
        (1.0 + ((n - df).max(0.0) + 0.5) / (df + 0.5)).ln() as f32
    }

    /// Sets the geometry to given values: mean `[d]` and orthonormal directions `[d]` each.
    pub fn set_geometry(&mut self, mean: Vec<f32>, directions: Vec<Vec<f32>>) {
        self.geometry = Geometry { mean, directions };
        self.changes = 0;
        self.fitted = self.passages;
    }

    /// Fits the geometry to the vectors of all passages.
    pub fn fit_geometry<'a>(&mut self, vectors: impl Iterator<Item = &'a [f32]>) {
        let Geometry { mean, directions } = Geometry::fit(vectors);
        self.set_geometry(mean, directions);
    }

    /// Mean and principal directions; without effect before the first fit.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether a tenth of the collection has changed since the geometry was fitted.
    pub fn geometry_is_stale(&self) -> bool {
        self.changes > 0 && self.changes * 10 >= self.fitted
    }

    /// Sha256 over all counts, in hex. Two collections with the same passages have the same digest,
    /// in whatever order these came and went. The geometry is left out: it is a function of the same
    /// passages, but its floats depend on when and in which order it was fitted.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.passages.to_le_bytes());
        hash.update(self.total_terms.to_le_bytes());
        for df in [&self.term_df, &self.wordpiece_df] {
            hash.update((df.len() as u64).to_le_bytes());
            for (id, count) in df {
                hash.update(id.to_le_bytes());
                hash.update(count.to_le_bytes());
            }
        }
        hex::encode(hash.finalize())
    }

    /// Bytes to store: format version, then postcard.
    ///
    /// # Errors
    /// [`RetrieveError::StatsEncode`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, RetrieveError> {
        postcard::to_extend(self, vec![FORMAT]).map_err(RetrieveError::StatsEncode)
    }

    /// Reads what [`CorpusStats::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RetrieveError::StatsVersion`] for another format, [`RetrieveError::StatsDecode`] for damage.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RetrieveError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(RetrieveError::StatsDecode),
            found => Err(RetrieveError::StatsVersion {
                found: found.map_or(0, |(version, _)| *version),
                expected: FORMAT,
            }),
        }
    }

    /// Document side of the sparse vector that finds lexical candidates: BM25 without idf, sorted by
    /// term. The average length is today's; that of a stored vector may lag behind, which matters to
    /// the choice of candidates only, as the `bm25` view is computed anew.
    pub fn bm25_weights(&self, lex: &LexBlock) -> Vec<(u32, f32)> {
        let avg_len = if self.passages == 0 {
            lex.len() as f32
        } else {
            self.avg_len()
        };
        let saturation = K1 * (1.0 - B + B * lex.len() as f32 / avg_len.max(1.0));
        let weight = |tf: f32| tf * (K1 + 1.0) / (tf + saturation);
        lex.counts()
            .into_iter()
            .map(|(term, tf)| (term, weight(tf as f32)))
            .collect()
    }
}

fn distinct(ids: &[u32]) -> BTreeSet<u32> {
    ids.iter().copied().collect()
}

fn decrement(df: &mut BTreeMap<u32, u32>, id: u32) {
    if let Some(count) = df.get_mut(&id) {
        *count -= 1;
        if *count == 0 {
            df.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyBlock;

    fn passage(terms: &[u32], tokens: &[u32]) -> PassageFeatures {
        PassageFeatures {
            vector: vec![1.0, 0.0],
            lex: LexBlock {
                title_terms: 0,
                terms: terms.to_vec(),
                sentence_ends: vec![terms.len() as u32],
            },
            keys: KeyBlock {
                wordpieces: tokens.to_vec(),
                ..KeyBlock::default()
            },
        }
    }

    #[test]
    fn the_digest_depends_on_the_passages_and_not_on_their_order() {
        let all = [
            passage(&[1, 2, 2], &[7]),
            passage(&[2, 3], &[7, 8]),
            passage(&[4], &[]),
        ];
        let digest = CorpusStats::fit(all.iter()).digest();
        assert_eq!(CorpusStats::fit(all.iter().rev()).digest(), digest);
        let mut detour = CorpusStats::default();
        for p in [&all[2], &all[0], &all[2], &all[1]] {
            detour.add(p);
        }
        assert_ne!(detour.digest(), digest);
        detour.remove(&all[2]);
        assert_eq!(detour.digest(), digest);
    }

    #[test]
    fn idf_follows_the_formula() {
        let stats = CorpusStats::fit([passage(&[1, 2, 2], &[7]), passage(&[2, 3], &[7, 8])].iter());
        assert_eq!(stats.n(), 2);
        assert!((stats.avg_len() - 2.5).abs() < 1e-6);
        assert!((stats.idf(1).unwrap() - 2.0f32.ln()).abs() < 1e-6);
        assert!((stats.idf(2).unwrap() - 1.2f32.ln()).abs() < 1e-6);
        assert_eq!(stats.idf(9), None);
        assert!((stats.oov_idf() - 6.0f32.ln()).abs() < 1e-6);
        assert!((stats.wordpiece_idf(8) - 2.0f32.ln()).abs() < 1e-6);
        assert!((stats.wordpiece_idf(99) - 6.0f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn bytes_round_trip_and_damage_is_an_error() {
        let stats = CorpusStats::fit([passage(&[1, 2, 2], &[7]), passage(&[2, 3], &[])].iter());
        let bytes = stats.to_bytes().unwrap();
        assert_eq!(CorpusStats::from_bytes(&bytes).unwrap(), stats);
        assert!(matches!(
            CorpusStats::from_bytes(&[]),
            Err(RetrieveError::StatsVersion { found: 0, .. })
        ));
        assert!(matches!(
            CorpusStats::from_bytes(&[9, 1]),
            Err(RetrieveError::StatsVersion { found: 9, .. })
        ));
        assert!(matches!(
            CorpusStats::from_bytes(&bytes[..4]),
            Err(RetrieveError::StatsDecode(_))
        ));
    }

    #[test]
    fn the_geometry_gets_stale_after_a_tenth() {
        let mut stats = CorpusStats::default();
        assert!(!stats.geometry_is_stale());
        stats.add(&passage(&[1], &[]));
        assert!(stats.geometry_is_stale());
        (0..19).for_each(|_| stats.add(&passage(&[1], &[])));
        stats.set_geometry(vec![0.0; 2], vec![]);
        stats.add(&passage(&[1], &[]));
        assert!(!stats.geometry_is_stale());
        stats.remove(&passage(&[1], &[]));
        assert!(stats.geometry_is_stale());
    }
}
