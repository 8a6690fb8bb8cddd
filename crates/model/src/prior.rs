//! The untrained mixture: version 0, the start of training and the anchor (RECIPE.md, "Heads",
//! "Mixture").

use moerag_retrieve::VIEWS;
use ndarray::{ArrayView1, ArrayView2};

/// Number of views that the matching patterns have, the columns of a z matrix.
pub const NUM_VIEWS: usize = VIEWS.len();

/// Columns that the heads read: the views and the feedback view, which comes last.
pub const HEAD_COLUMNS: usize = NUM_VIEWS + 1;

/// Name of the last column.
pub(crate) const FEEDBACK: &str = "feedback";

/// Number of attention heads that a mixture may have.
pub const NUM_HEADS: usize = 10;

/// Heads that every mixture has and that a [`crate::HeadLayout`] starts with.
const LAYOUT_HEADS: usize = NUM_HEADS - 1;

/// Heads of the first stage; sparse routing chooses among these.
pub const FIRST_STAGE_HEADS: usize = LAYOUT_HEADS - 1;

/// The heads by matching pattern, in the order of every per-head array: the first stage, feedback, and the
/// linear head, which only mixtures have whose anchor has let go ([`crate::SingleHead`]).
pub const HEADS: [&str; NUM_HEADS] = [
    "dense", "context", "sentence", "token", "phrase", "window", "lexical", "exact", FEEDBACK,
    "linear",
];

/// The query types that shape synthetic queries and that the type classifier predicts.
pub const QUERY_TYPES: [&str; 8] = [
    "factual",
    "definitional",
    "procedural",
    "causal",
    "comparative",
    "temporal",
    "quantitative",
    "descriptive",
];

/// The overlap levels of synthetic queries (RECIPE.md, "Synthetic queries").
pub const LEVELS: [&str; 6] = [
    "lexical",
    "abstraction",
    "paraphrase",
    "inverse_cloze",
    "mismatch",
    "gist",
];

/// Start value of the temperature `t_h` of the heads of the first stage. The recipe's .5 spreads each
/// head's attention so evenly that they overlap by .83; .82 ranks alike and sets them apart by a
/// quarter (docs/research.md).
pub const START_TEMPERATURE: f32 = 0.82;

/// Start value of the feedback head's temperature, and that of the first stage whose margin is its
/// mass: the margin's constants were measured with it (RECIPE.md, "Second study").
pub const FEEDBACK_TEMPERATURE: f32 = 0.5;

/// Start value of the mixture's sharpness `alpha` in `S = alpha ln A`.
pub const START_ALPHA: f32 = 6.0;

/// The prior gate `g0`, before it is divided by its sum. Feedback's is per unit of its mass, which
/// depends on the query ([`crate::Feedback`]); more than the recipe's 1, because the other heads are
/// sharper than the recipe's.
pub const PRIOR_GATE: [f32; LAYOUT_HEADS] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.1, 1.5];

/// The views of each head with their start weights; the weights of a head sum to 1.
pub const HEAD_VIEWS: [&[(&str, f32)]; LAYOUT_HEADS] = [
    &[("dense", 0.9), ("dcen", 0.05), ("prf", 0.05)],
    &[("sctx", 1.0)],
    &[("smax", 1.0)],
    &[("maxsim", 0.9), ("maxsim_idf", 0.1)],
    &[("ph3", 1.0)],
    &[("wms", 1.0)],
    &[("bm25", 0.9), ("cov", 0.1)],
    &[("scov", 0.7), ("big", 0.3)],
    &[(FEEDBACK, 1.0)],
];

/// The fixed fusion "P8": the start of the single-head baselines, before the factor .7.
pub const P8: [(&str, f32); 7] = [
    ("dense", 1.0),
    ("maxsim", 1.0),
    ("wms", 1.0),
    ("sctx", 1.0),
    ("smax", 1.0),
    ("ph3", 1.0),
    ("bm25", 0.5),
];

/// Column of a view.
pub(crate) fn column(view: &str) -> usize {
    if view == FEEDBACK {
        return NUM_VIEWS;
    }
    VIEWS.iter().position(|name| *name == view).expect(
        "HEAD_VIEWS and P8 name only views of moerag_retrieve::VIEWS; a test reads them all",
    )
}

/// The untrained mixture of the first stage, `[n]`, sums to 1: what feedback starts from. `z` is
/// `[n, 13]`.
pub(crate) fn first_stage(z: ArrayView2<'_, f32>) -> Vec<f32> {
    let mut mixture = vec![0.0; z.nrows()];
    let heads = HEAD_VIEWS.iter().zip(PRIOR_GATE).take(FIRST_STAGE_HEADS);
    let total: f32 = PRIOR_GATE[..FIRST_STAGE_HEADS].iter().sum();
    for (views, gate) in heads {
        let columns: Vec<(usize, f32)> = views.iter().map(|(v, w)| (column(v), *w)).collect();
        let logit = |row: ArrayView1<'_, f32>| {
            FEEDBACK_TEMPERATURE * columns.iter().map(|(v, w)| w * row[*v]).sum::<f32>()
        };
        let logits: Vec<f32> = z.outer_iter().map(logit).collect();
        for (a, attn) in mixture.iter_mut().zip(softmax(&logits)) {
            *a += gate / total * attn;
        }
    }
    mixture
}

/// On the host; empty for nothing.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let raised: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let total: f32 = raised.iter().sum();
    raised.into_iter().map(|value| value / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_belongs_to_exactly_one_head_whose_weights_sum_to_one() {
        let mut owners = [0; HEAD_COLUMNS];
        for views in HEAD_VIEWS {
            for (view, _) in views {
                owners[column(view)] += 1;
            }
            let total: f32 = views.iter().map(|(_, weight)| weight).sum();
            assert!((total - 1.0).abs() < 1e-6);
        }
        assert_eq!(owners, [1; HEAD_COLUMNS]);
        for (view, _) in P8 {
            assert_eq!(VIEWS[column(view)], view);
        }
    }
}
