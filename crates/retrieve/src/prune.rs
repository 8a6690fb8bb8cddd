//! Pruning by the cheap views, and the query moved by feedback.

use ndarray::Array2;

use crate::lex::{LexBlock, LexQuery};
use crate::linalg::{dot, normalise};
use crate::passage::PassageFeatures;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;
use crate::views::{ViewConfig, ViewMatrix};

/// Passages that move the query.
const FEEDBACK_TOP: usize = 3;
/// Weight of their mean.
const FEEDBACK_WEIGHT: f32 = 0.6;

/// What is known of a candidate before its keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct CheapCandidate<'a> {
    /// Unit pooled vector, `[d]`.
    pub vector: &'a [f32],
    /// Terms.
    pub lex: &'a LexBlock,
}

impl<'a> From<&'a PassageFeatures> for CheapCandidate<'a> {
    fn from(f: &'a PassageFeatures) -> Self {
        Self {
            vector: &f.vector,
            lex: &f.lex,
        }
    }
}

/// The views of a candidate that need no keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheapScores {
    /// Cosine with the query.
    pub dense: f32,
    /// Raw BM25.
    pub bm25: f32,
}

/// Scores candidates, each by itself, in their order.
pub fn cheap_scores<'a>(
    q: &QueryFeatures,
    candidates: impl IntoIterator<Item = CheapCandidate<'a>>,
    stats: &CorpusStats,
) -> Vec<CheapScores> {
    let mut lex = LexQuery::new(&q.terms, stats);
    let scores = candidates.into_iter().map(|candidate| CheapScores {
        dense: dot(&q.vector, candidate.vector),
        bm25: lex.bm25(candidate.lex),
    });
    scores.collect()
}

/// Indices of the candidates that survive, ascending: the `prune_to` highest under
/// `z(dense) + z(bm25)`, earlier ones first among equals. `keep` survives in any case (the gold
/// passage in training).
pub fn prune(scores: &[CheapScores], config: &ViewConfig, keep: Option<usize>) -> Vec<usize> {
    let n = scores.len();
    let limit = config.prune_to.unwrap_or(n);
    if n <= limit {
        return (0..n).collect();
    }
    let mut raw = Array2::zeros((n, 2));
    for (scores, mut row) in scores.iter().zip(raw.rows_mut()) {
        row[0] = scores.dense;
        row[1] = scores.bm25;
    }
    let z = ViewMatrix::new(raw).z;
    let score = |i: usize| {
        if Some(i) == keep {
            f32::INFINITY
        } else {
            z[[i, 0]] + z[[i, 1]]
        }
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    order.truncate(limit.max(usize::from(keep.is_some())));
    order.sort_unstable();
    order
}

/// `unit(q + .6 mean of the dense top three)` over the vectors of all candidates before pruning, `[d]`.
pub fn feedback_vector(q: &QueryFeatures, vectors: &[&[f32]]) -> Vec<f32> {
    let scores: Vec<f32> = vectors.iter().map(|v| dot(&q.vector, v)).collect();
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(FEEDBACK_TOP);
    let mut moved = q.vector.clone();
    let weight = FEEDBACK_WEIGHT / order.len().max(1) as f32;
    for i in order {
        moved
            .iter_mut()
            .zip(vectors[i])
            .for_each(|(m, x)| *m += weight * x);
    }
    normalise(&mut moved);
    moved
}
