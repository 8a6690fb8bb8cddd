//! What the gate sees of a query: how the scores of each view are distributed over its candidates.

use ndarray::ArrayView1;

use crate::lex::LexQuery;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;
use crate::views::{View, ViewMatrix};

/// Numbers that [`gate_inputs`] returns. The posteriors of the six overlap levels follow them in the
/// gate; these come from a classifier on the numbers given here.
pub const GATE_INPUTS: usize = 56;

/// Candidates at the head of a view's ranking that are looked at.
const TOP: usize = 10;
/// Views whose distribution is described.
const DESCRIBED: [View; 7] = [
    View::Dense,
    View::Smax,
    View::Bm25,
    View::MaxsimIdf,
    View::Wms,
    View::Scov,
    View::Cov,
];
/// Views whose largest raw score says something by itself.
const MAXIMA: [View; 9] = [
    View::Dense,
    View::Smax,
    View::Maxsim,
    View::MaxsimIdf,
    View::Wms,
    View::Cov,
    View::Scov,
    View::Big,
    View::Sctx,
];
/// Where the best raw scores stand among the gate's inputs that can be compared between collections:
/// cosines and shares of terms; those of `big` hardly differ from 0.
pub const BEST_SCORES: [usize; 8] = [28, 29, 30, 31, 32, 33, 34, 36];
/// Pairs whose top ten are compared.
const OVERLAPS: [(View, View); 6] = [
    (View::Dense, View::Bm25),
    (View::Dense, View::MaxsimIdf),
    (View::Bm25, View::MaxsimIdf),
    (View::Smax, View::Bm25),
    (View::Dense, View::Smax),
    (View::Wms, View::Scov),
];
/// Pairs that say what one thinks of the other's first.
const CROSSED: [(View, View); 4] = [
    (View::Dense, View::Bm25),
    (View::MaxsimIdf, View::Bm25),
    (View::Dense, View::MaxsimIdf),
    (View::Smax, View::Bm25),
];

/// The gate's inputs of RECIPE.md, `[56]`, always finite: 4 numbers for each of 7 views (top z, gap to
/// the second, gap to the fifth, entropy), 9 raw maxima, the mean dense score, 6 overlaps of top tens,
/// 8 z-scores of each other's first, 4 numbers about the query's terms.
pub fn gate_inputs(m: &ViewMatrix, q: &QueryFeatures, stats: &CorpusStats) -> Vec<f32> {
    let mut x = Vec::with_capacity(GATE_INPUTS);
    let tops = DESCRIBED.map(|view| top(m.z.column(view as usize)));
    let top_of = |view: View| {
        DESCRIBED
            .iter()
            .position(|v| *v == view)
            .map_or(&[][..], |i| tops[i].as_slice())
    };
    for (view, top) in DESCRIBED.into_iter().zip(&tops) {
        let z = m.z.column(view as usize);
        let at = |rank: usize| top.get(rank).map(|i| z[*i]);
        let first = at(0).unwrap_or(0.0);
        x.extend([
            first,
            first - at(1).unwrap_or(first),
            first - at(4).unwrap_or(first),
            entropy(z),
        ]);
    }
    for view in MAXIMA {
        let column = m.raw.column(view as usize);
        x.push(column.iter().copied().reduce(f32::max).unwrap_or(0.0));
    }
    x.push(m.raw.column(View::Dense as usize).mean().unwrap_or(0.0));
    for (a, b) in OVERLAPS {
        let shared = top_of(a).iter().filter(|i| top_of(b).contains(i)).count();
        x.push(shared as f32 / TOP as f32);
    }
    for (a, b) in CROSSED {
        let given = |first_of: View, by: View| {
            top_of(first_of)
                .first()
                .map_or(0.0, |i| m.z[[*i, by as usize]])
        };
        x.extend([given(a, b), given(b, a)]);
    }
    x.extend(term_numbers(q, stats));
    x.iter_mut()
        .for_each(|x| *x = if x.is_finite() { *x } else { 0.0 });
    x
}

/// Best candidates of a view, earlier ones first among equals. One fewer than there are when there
/// are ten or fewer, as in the study.
fn top(z: ArrayView1<'_, f32>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..z.len()).collect();
    order.sort_by(|a, b| z[*b].total_cmp(&z[*a]));
    order.truncate(TOP.min(z.len().saturating_sub(1)).max(1));
    order
}

/// Entropy of `softmax(z)` over the largest there could be.
fn entropy(z: ArrayView1<'_, f32>) -> f32 {
    if z.len() < 2 {
        return 0.0;
    }
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = z.iter().map(|z| (z - max).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let entropy: f32 = weights
        .iter()
        .map(|w| w / sum)
        .map(|p| -p * (p + 1e-9).ln())
        .sum();
    entropy / (z.len() as f32).ln()
}

/// `ln(1 + terms)`, share of terms that the corpus does not have, mean idf, `ln(1 + sum of idf)`.
fn term_numbers(q: &QueryFeatures, stats: &CorpusStats) -> [f32; 4] {
    let count = q.terms.len();
    let share = 1.0 / count.max(1) as f32;
    let known: Vec<Option<f32>> = q.terms.iter().map(|t| stats.idf(*t)).collect();
    let unknown = known.iter().filter(|i| i.is_none()).count() as f32 * share;
    let mean_idf = known
        .iter()
        .map(|i| i.unwrap_or_else(|| stats.oov_idf()))
        .sum::<f32>()
        * share;
    let total = LexQuery::new(&q.terms, stats).total();
    [(count as f32).ln_1p(), unknown, mean_idf, total.ln_1p()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_scores_are_the_maxima_except_that_of_bigrams() {
        let first = 4 * DESCRIBED.len();
        let expected: Vec<usize> = (0..MAXIMA.len())
            .filter(|i| MAXIMA[*i] != View::Big)
            .map(|i| first + i)
            .collect();
        assert_eq!(BEST_SCORES.to_vec(), expected);
    }
}
