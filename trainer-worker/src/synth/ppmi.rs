//! Words that share sentences: positive pointwise mutual information, reduced to 64 dimensions.
//!
//! These neighbours are topical ("hive" for "bee"), where the encoder's input embeddings give
//! near-synonyms. Everything is bounded: the vocabulary, the sentences counted and therefore the
//! co-occurrence table. The table is symmetric, so its singular vectors are its eigenvectors.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use moerag_retrieve::subspace::{Eigen, Symmetric, leading_eigen};
use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tokio_util::sync::CancellationToken;

/// Dimensions kept (RECIPE.md).
const RANK: usize = 64;
/// A stem in fewer sentences has no company to speak of.
const MIN_SENTENCES: u32 = 3;
const MAX_VOCABULARY: usize = 8_192;
/// Longer sentences are lists; their pairs say little and cost the square.
const MAX_TERMS_PER_SENTENCE: usize = 40;
/// Neighbours kept per stem (RECIPE.md).
const BEST: usize = 3;

/// Unit vectors of the stems, from the sentences they share.
pub(crate) struct Ppmi {
    rows: HashMap<u32, usize>,
    terms: Vec<u32>,
    /// `[vocabulary, rank]`, unit rows.
    vectors: Array2<f32>,
    /// Rows of the nearest stems, found when first asked for.
    found: Vec<OnceLock<Vec<usize>>>,
}

impl Ppmi {
    /// Fits on sentences given as stem lists; `None` when the corpus has too few repeated stems or
    /// `cancel` fired.
    pub(crate) fn fit(
        sentences: &[Vec<u32>],
        mut rng: ChaCha8Rng,
        cancel: &CancellationToken,
    ) -> Option<Self> {
        let sets: Vec<Vec<u32>> = sentences
            .par_iter()
            .map(|terms| {
                let mut set: Vec<u32> =
                    terms.iter().copied().take(MAX_TERMS_PER_SENTENCE).collect();
                set.sort_unstable();
                set.dedup();
                set
            })
            .collect();
        let mut frequency: BTreeMap<u32, u32> = BTreeMap::new();
        for term in sets.iter().flatten() {
            *frequency.entry(*term).or_default() += 1;
        }
        let mut vocabulary: Vec<(u32, u32)> = frequency
            .into_iter()
            .filter(|(_, df)| *df >= MIN_SENTENCES)
            .collect();
        vocabulary.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        vocabulary.truncate(MAX_VOCABULARY);
        // A handful of stems has no geometry; their "neighbours" would be arbitrary.
        if vocabulary.len() < 8 {
            return None;
        }
        let terms: Vec<u32> = vocabulary.iter().map(|(term, _)| *term).collect();
        let df: Vec<u32> = vocabulary.iter().map(|(_, df)| *df).collect();
        let rows: HashMap<u32, usize> = terms.iter().enumerate().map(|(i, t)| (*t, i)).collect();
        let table = Table::count(&sets, &rows, &df, cancel);
        let vectors = table.leading_vectors(RANK.min(terms.len() - 2), &mut rng, cancel)?;
        let found = terms.iter().map(|_| OnceLock::new()).collect();
        Some(Self {
            rows,
            terms,
            vectors,
            found,
        })
    }

    /// The three stems nearest to `term` by cosine, best first.
    pub(crate) fn nearest(&self, term: u32) -> impl ExactSizeIterator<Item = u32> {
        let near = self
            .rows
            .get(&term)
            .map_or(&[][..], |row| self.nearest_rows(*row));
        near.iter().map(|i| self.terms[*i])
    }

    fn nearest_rows(&self, row: usize) -> &[usize] {
        self.found[row].get_or_init(|| {
            let cosines = self.vectors.dot(&self.vectors.row(row));
            let mut order: Vec<usize> = (0..self.terms.len()).filter(|i| *i != row).collect();
            order.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b)));
            order.truncate(BEST);
            order
        })
    }
}

/// Sparse symmetric matrix of positive PMI, rows of (column, value).
struct Table {
    rows: Vec<Vec<(u32, f32)>>,
}

impl Table {
    fn count(
        sets: &[Vec<u32>],
        index: &HashMap<u32, usize>,
        df: &[u32],
        cancel: &CancellationToken,
    ) -> Self {
        let sentences: Vec<Vec<u32>> = sets
            .iter()
            .map(|set| {
                set.iter()
                    .filter_map(|t| index.get(t).map(|i| *i as u32))
                    .collect()
            })
            .collect();
        let mut postings: Vec<Vec<u32>> = vec![Vec::new(); df.len()];
        for (s, terms) in sentences.iter().enumerate() {
            for term in terms {
                postings[*term as usize].push(s as u32);
            }
        }
        let total = sentences.len() as f32;
        let rows = (0..df.len())
            .into_par_iter()
            .map_init(
                || vec![0u32; df.len()],
                |counts, row| {
                    // A half table is never used: the fit looks at the token next.
                    if cancel.is_cancelled() {
                        return Vec::new();
                    }
                    let mut touched: Vec<u32> = Vec::new();
                    for sentence in &postings[row] {
                        for other in &sentences[*sentence as usize] {
                            if counts[*other as usize] == 0 {
                                touched.push(*other);
                            }
                            counts[*other as usize] += 1;
                        }
                    }
                    touched.sort_unstable();
                    let mut cells = Vec::with_capacity(touched.len());
                    for other in touched {
                        let together = std::mem::take(&mut counts[other as usize]) as f32;
                        let expected = df[row] as f32 * df[other as usize] as f32;
                        let pmi = (together * total / expected).ln();
                        if other as usize != row && pmi > 0.0 {
                            cells.push((other, pmi));
                        }
                    }
                    cells
                },
            )
            .collect();
        Self { rows }
    }

    /// Rows `u_i sqrt|lambda|` of the leading eigenvectors, normalised.
    fn leading_vectors(
        &self,
        rank: usize,
        rng: &mut ChaCha8Rng,
        cancel: &CancellationToken,
    ) -> Option<Array2<f32>> {
        let Eigen {
            values,
            mut vectors,
        } = leading_eigen(self, rank, rng, &|| cancel.is_cancelled())?;
        for mut row in vectors.rows_mut() {
            for (v, value) in row.iter_mut().zip(&values) {
                *v *= value.abs().sqrt();
            }
            let norm = row.dot(&row).sqrt() + 1e-9;
            row.mapv_inplace(|v| v / norm);
        }
        Some(vectors)
    }
}

impl Symmetric for Table {
    fn size(&self) -> usize {
        self.rows.len()
    }

    /// Each row is its own sum, so threads do not change it.
    fn times(&self, x: &Array2<f32>) -> Array2<f32> {
        let k = x.ncols();
        let mut out = Array2::<f32>::zeros((self.rows.len(), k));
        if let Some(flat) = out.as_slice_mut() {
            flat.par_chunks_mut(k)
                .zip(&self.rows)
                .for_each(|(target, cells)| {
                    for (column, value) in cells {
                        for (t, s) in target.iter_mut().zip(x.row(*column as usize)) {
                            *t += value * s;
                        }
                    }
                });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Two topics that never share a sentence: a stem's neighbours are of its own topic.
    #[test]
    fn neighbours_share_the_topic() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let sentences: Vec<Vec<u32>> = (0..400)
            .map(|s| {
                let base = if s % 2 == 0 { 0 } else { 100 };
                (0..5).map(|_| base + rng.random_range(0..12)).collect()
            })
            .collect();
        let ppmi = Ppmi::fit(&sentences, rng, &CancellationToken::new());
        let ppmi = ppmi.expect("24 repeated stems are enough");
        for term in 0..12 {
            let near: Vec<u32> = ppmi.nearest(term).collect();
            assert_eq!(near.len(), 3);
            assert!(near.iter().all(|t| *t < 100), "{term}: {near:?}");
        }
        assert!(ppmi.nearest(999).next().is_none());
    }

    #[test]
    fn too_little_text_has_no_geometry() {
        let fit =
            |s: &[Vec<u32>]| Ppmi::fit(s, ChaCha8Rng::seed_from_u64(1), &CancellationToken::new());
        assert!(fit(&[]).is_none());
        assert!(fit(&vec![vec![1, 2, 3]; 10]).is_none());
    }
}
