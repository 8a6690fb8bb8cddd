//! Exact candidates from memory: the trainer's index and the reference for every store.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView1};

use crate::passage::PassageFeatures;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;

/// Dense and BM25 index of a whole collection.
#[derive(Clone, Debug)]
pub struct MemIndex {
    /// `[n, d]`.
    vectors: Array2<f32>,
    /// Passages of each term with their BM25 weight, idf included.
    postings: HashMap<u32, Vec<(u32, f32)>>,
}

impl MemIndex {
    /// Indexes the passages; a passage's number is its position.
    pub fn build(passages: &[PassageFeatures], stats: &CorpusStats) -> Self {
        let dims = passages.first().map_or(0, |p| p.vector.len());
        let mut vectors = Array2::zeros((passages.len(), dims));
        let mut postings: HashMap<u32, Vec<(u32, f32)>> = HashMap::new();
        for (i, (passage, mut row)) in passages.iter().zip(vectors.rows_mut()).enumerate() {
            row.iter_mut()
                .zip(&passage.vector)
                .for_each(|(r, x)| *r = *x);
            for (term, weight) in stats.bm25_weights(&passage.lex) {
                let idf = stats.idf(term).unwrap_or(0.0);
                postings
                    .entry(term)
                    .or_default()
                    .push((i as u32, weight * idf));
            }
        }
        Self { vectors, postings }
    }

    /// Number of passages.
    pub fn len(&self) -> usize {
        self.vectors.nrows()
    }

    /// Whether there are no passages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each query the union of the `n` best by cosine and the `n` best by BM25 (score above 0), ascending.
    pub fn candidates(&self, queries: &[&QueryFeatures], n: usize) -> Vec<Vec<usize>> {
        let dense = self.dense(queries);
        let found = queries.iter().zip(dense.rows());
        found
            .map(|(q, dense)| {
                let mut found = best(&dense.to_vec(), n);
                let lexical = self.bm25(q);
                found.extend(best(&lexical, n).into_iter().filter(|i| lexical[*i] > 0.0));
                found.sort_unstable();
                found.dedup();
                found
            })
            .collect()
    }

    /// Cosine of every query with every passage, `[queries, n]`: one matrix product.
    pub fn dense(&self, queries: &[&QueryFeatures]) -> Array2<f32> {
        let dims = self.vectors.ncols();
        let mut together = Array2::zeros((queries.len(), dims));
        for (q, mut row) in queries.iter().zip(together.rows_mut()) {
            if q.vector.len() == dims {
                row.assign(&ArrayView1::from(&q.vector));
            }
        }
        together.dot(&self.vectors.t())
    }

    /// BM25 of every passage, `[n]`.
    pub fn bm25(&self, q: &QueryFeatures) -> Vec<f32> {
        let mut scores = vec![0.0f32; self.len()];
        let mut terms = q.terms.clone();
        terms.sort_unstable();
        terms.dedup();
        for posting in terms.iter().filter_map(|t| self.postings.get(t)) {
            posting
                .iter()
                .for_each(|(i, weight)| scores[*i as usize] += weight);
        }
        scores
    }
}

/// Positions of the `n` largest scores, earlier ones first among equals.
fn best(scores: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if n < order.len() {
        if n > 0 {
            order.select_nth_unstable_by(n - 1, by_score);
        }
        order.truncate(n);
    }
    order.sort_unstable_by(by_score);
    order
}
