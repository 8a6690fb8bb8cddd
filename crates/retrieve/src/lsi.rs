//! The collection's own latent space (LSI): what its words have to do with each other, which the
//! frozen encoder does not know (RECIPE.md, "Second study").
//!
//! Rows of BM25 weights, one a passage, are reduced to [`LSI_DIMS`] dimensions by a singular value
//! decomposition `X = U S V'`; a passage lies at `unit(x V S^-1/2)`. The basis `V S^-1/2` alone is
//! kept, in bytes: a passage that came later is folded in from its terms, so nothing is stored with
//! the passages and no ingest waits for a decomposition.

use std::collections::HashMap;

use ndarray::Array2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::lex::LexBlock;
use crate::linalg::normalise;
use crate::stats::CorpusStats;
use crate::subspace::{Symmetric, leading_eigen};

/// Dimensions at most (RECIPE.md: 100 to 300 are within .001 of each other).
pub const LSI_DIMS: usize = 200;
/// Passages per dimension at least: with fewer, every passage would have a dimension of its own.
const PASSAGES_PER_DIMENSION: usize = 5;
/// Below this many dimensions there is no space to speak of.
const FEWEST_DIMS: usize = 8;
/// A term in a single passage relates it to nothing.
const MIN_DF: u32 = 2;
/// Terms at most, the most frequent first; bounds time and memory.
const MAX_TERMS: usize = 30_000;

/// Ranges of term ids that [`LsiBasis::row`] tells apart at once, as a power of two.
const RANGE_BITS: u32 = 13;

/// Basis of a collection's latent space, one row of signed bytes a term.
#[derive(Clone, Debug, PartialEq)]
pub struct LsiBasis {
    dims: usize,
    /// Sorted.
    terms: Vec<u32>,
    /// First row of each range of term ids, and the number of rows: terms are hashes, so a range has a
    /// few of them, and finding one reads two cache lines where a binary search reads ten.
    ranges: Vec<u32>,
    /// One for each term.
    scales: Vec<f32>,
    /// `[terms, dims]`.
    codes: Vec<i8>,
}

impl LsiBasis {
    /// Fits the space to the terms of passages. `None` for a collection that is too small or has too
    /// few repeated terms, and when `cancelled` says so. The same passages give the same space: where
    /// the iteration starts is not a setting.
    pub fn fit(
        passages: &[&LexBlock],
        stats: &CorpusStats,
        cancelled: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let mut df: HashMap<u32, u32> = HashMap::new();
        for passage in passages {
            for (term, _) in passage.counts() {
                *df.entry(term).or_insert(0) += 1;
            }
        }
        let mut frequent: Vec<(u32, u32)> =
            df.into_iter().filter(|(_, df)| *df >= MIN_DF).collect();
        frequent.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        frequent.truncate(MAX_TERMS);
        let mut terms: Vec<u32> = frequent.into_iter().map(|(term, _)| term).collect();
        terms.sort_unstable();
        let rank = LSI_DIMS
            .min(passages.len() / PASSAGES_PER_DIMENSION)
            .min(terms.len() / 2);
        if rank < FEWEST_DIMS {
            return None;
        }
        let idf: Vec<f32> = terms
            .iter()
            .map(|term| stats.idf(*term).unwrap_or_else(|| stats.oov_idf()))
            .collect();
        let rows = passages
            .iter()
            .map(|passage| unit_row(passage, stats, &terms, &idf))
            .collect();
        let matrix = Weights {
            rows,
            terms: terms.len(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let eigen = leading_eigen(&matrix, rank, &mut rng, cancelled)?;
        // Eigenvalues of X'X are squared singular values. A dimension without variance stays zero.
        let largest = eigen.values.first().copied().unwrap_or(0.0);
        let whiten: Vec<f32> = eigen
            .values
            .iter()
            .map(|v| {
                if *v > 1e-6 * largest {
                    v.powf(-0.25)
                } else {
                    0.0
                }
            })
            .collect();
        let mut basis = Self {
            dims: rank,
            scales: Vec::with_capacity(terms.len()),
            codes: Vec::with_capacity(terms.len() * rank),
            ranges: ranges(&terms),
            terms,
        };
        for (row, idf) in eigen.vectors.rows().into_iter().zip(&idf) {
            let row: Vec<f32> = row.iter().zip(&whiten).map(|(v, w)| v * w * idf).collect();
            let most = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
            basis.scales.push(scale);
            basis
                .codes
                .extend(row.iter().map(|v| (v / scale).round() as i8));
        }
        Some(basis)
    }

    /// Puts a stored basis together; `None` when the lengths do not fit, terms are not in ascending
    /// order or a scale is not finite.
    pub fn from_parts(terms: Vec<u32>, scales: Vec<f32>, codes: Vec<i8>) -> Option<Self> {
        let dims = codes.len().checked_div(terms.len())?;
        let fits = (1..=LSI_DIMS).contains(&dims)
            && codes.len() == dims * terms.len()
            && scales.len() == terms.len()
            && terms.is_sorted_by(|a, b| a < b)
            && scales.iter().all(|scale| scale.is_finite());
        fits.then(|| Self {
            dims,
            ranges: ranges(&terms),
            terms,
            scales,
            codes,
        })
    }

    /// Dimensions of the space.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Terms in ascending order, `[terms]`.
    pub fn terms(&self) -> &[u32] {
        &self.terms
    }

    /// One scale a term, `[terms]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// `[terms, dims]`, row by row.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// Where a passage lies, `[dims]`, of length one; zero when it has none of the terms.
    pub fn vector(&self, passage: &LexBlock, stats: &CorpusStats) -> Vec<f32> {
        let mut vector = vec![0.0; self.dims];
        pulp::Arch::new().dispatch(Fold {
            basis: self,
            weights: &stats.bm25_weights(passage),
            out: &mut vector,
        });
        normalise(&mut vector);
        vector
    }

    /// Row of a term.
    #[inline(always)]
    fn row(&self, term: u32) -> Option<usize> {
        let range = (term >> (u32::BITS - RANGE_BITS)) as usize;
        let (first, end) = (self.ranges[range] as usize, self.ranges[range + 1] as usize);
        let found = self.terms[first..end].iter().position(|t| *t == term)?;
        Some(first + found)
    }
}

/// See [`LsiBasis::ranges`].
fn ranges(sorted: &[u32]) -> Vec<u32> {
    let first = |range: u64| {
        let start = range << (u32::BITS - RANGE_BITS);
        sorted.partition_point(|term| u64::from(*term) < start) as u32
    };
    (0..=1 << RANGE_BITS).map(first).collect()
}

/// The weighted sum of the rows of terms, compiled for the widest registers of this processor.
struct Fold<'a> {
    basis: &'a LsiBasis,
    weights: &'a [(u32, f32)],
    out: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let basis = self.basis;
        for (term, weight) in self.weights {
            let Some(row) = basis.row(*term) else {
                continue;
            };
            let weight = weight * basis.scales[row];
            let codes = &basis.codes[row * basis.dims..][..basis.dims];
            for (v, code) in self.out.iter_mut().zip(codes) {
                *v += weight * f32::from(*code);
            }
        }
    }
}

/// BM25 weights of a passage with idf over the known terms, `(row of the term, weight)`, of length one.
fn unit_row(
    passage: &LexBlock,
    stats: &CorpusStats,
    terms: &[u32],
    idf: &[f32],
) -> Vec<(u32, f32)> {
    let mut row: Vec<(u32, f32)> = stats
        .bm25_weights(passage)
        .into_iter()
        .filter_map(|(term, weight)| {
            let at = terms.binary_search(&term).ok()?;
            Some((at as u32, weight * idf[at]))
        })
        .collect();
    let norm = row.iter().map(|(_, w)| w * w).sum::<f32>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|(_, w)| *w /= norm);
    }
    row
}

/// `X' X` of sparse rows.
struct Weights {
    rows: Vec<Vec<(u32, f32)>>,
    terms: usize,
}

impl Symmetric for Weights {
    fn size(&self) -> usize {
        self.terms
    }

    fn times(&self, x: &Array2<f32>) -> Array2<f32> {
        let mut out = Array2::zeros(x.raw_dim());
        let mut image = ndarray::Array1::<f32>::zeros(x.ncols());
        for row in &self.rows {
            image.fill(0.0);
            for (term, weight) in row {
                image.scaled_add(*weight, &x.row(*term as usize));
            }
            for (term, weight) in row {
                out.row_mut(*term as usize).scaled_add(*weight, &image);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::dot;
    use crate::passage::PassageFeatures;
    use rand::Rng;

    /// Two topics; passages of one share topic words but hardly any two the same ones.
    fn passages() -> Vec<PassageFeatures> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..200)
            .map(|i| {
                let base = if i % 2 == 0 { 0 } else { 1_000 };
                let terms: Vec<u32> = (0..6).map(|_| base + rng.random_range(0..60)).collect();
                PassageFeatures {
                    vector: vec![1.0, 0.0],
                    lex: LexBlock {
                        title_terms: 0,
                        sentence_ends: vec![terms.len() as u32],
                        terms,
                    },
                    keys: crate::KeyBlock::default(),
                }
            })
            .collect()
    }

    fn fit(passages: &[PassageFeatures]) -> (Option<LsiBasis>, CorpusStats) {
        let stats = CorpusStats::fit(passages.iter());
        let blocks: Vec<&LexBlock> = passages.iter().map(|p| &p.lex).collect();
        (LsiBasis::fit(&blocks, &stats, &|| false), stats)
    }

    #[test]
    fn passages_lie_near_those_of_their_topic() {
        let passages = passages();
        let (basis, stats) = fit(&passages);
        let basis = basis.unwrap();
        assert_eq!(basis.dims(), 40);
        let vectors: Vec<Vec<f32>> = passages
            .iter()
            .map(|p| basis.vector(&p.lex, &stats))
            .collect();
        let mean = |same: bool| {
            let pairs: Vec<f32> = (0..200)
                .flat_map(|i| (0..i).map(move |j| (i, j)))
                .filter(|(i, j)| (i % 2 == j % 2) == same)
                .map(|(i, j)| dot(&vectors[i], &vectors[j]))
                .collect();
            pairs.iter().sum::<f32>() / pairs.len() as f32
        };
        assert!(mean(true) > 0.05, "{}", mean(true));
        assert!(mean(false).abs() < 0.01, "{}", mean(false));
        // Not seen by the fit, folded in; and a passage of unknown words has no place.
        let later = LexBlock {
            terms: vec![1_003, 1_017, 1_042, 77_777],
            ..LexBlock::default()
        };
        let place = basis.vector(&later, &stats);
        assert!((dot(&place, &place) - 1.0).abs() < 1e-4);
        let unknown = LexBlock {
            terms: vec![77_777],
            ..LexBlock::default()
        };
        assert!(basis.vector(&unknown, &stats).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn fits_are_reproducible_and_small_collections_have_none() {
        let passages = passages();
        assert_eq!(fit(&passages).0, fit(&passages).0);
        assert!(fit(&passages[..30]).0.is_none());
        assert!(fit(&[]).0.is_none());
    }

    #[test]
    fn parts_are_checked() {
        let (basis, _) = fit(&passages());
        let basis = basis.unwrap();
        let (terms, scales, codes) = (
            basis.terms().to_vec(),
            basis.scales().to_vec(),
            basis.codes().to_vec(),
        );
        let again = LsiBasis::from_parts(terms.clone(), scales.clone(), codes.clone());
        assert_eq!(again, Some(basis));
        assert!(LsiBasis::from_parts(terms.clone(), scales.clone(), codes[1..].to_vec()).is_none());
        assert!(LsiBasis::from_parts(terms.clone(), scales[1..].to_vec(), codes.clone()).is_none());
        let mut bad = scales.clone();
        bad[0] = f32::NAN;
        assert!(LsiBasis::from_parts(terms.clone(), bad, codes.clone()).is_none());
        let mut unsorted = terms;
        unsorted.swap(0, 1);
        assert!(LsiBasis::from_parts(unsorted, scales, codes).is_none());
        assert!(LsiBasis::from_parts(Vec::new(), Vec::new(), Vec::new()).is_none());
    }
}
