//! The untrained mixture: version 0, the start of training and the anchor (RECIPE.md, "Heads",
//! "Mixture").

use moerag_retrieve::VIEWS;

/// Number of views, the columns of a z matrix.
pub const NUM_VIEWS: usize = VIEWS.len();

/// Number of attention heads.
pub const NUM_HEADS: usize = 8;

/// The heads by matching pattern, in the order of every per-head array.
pub const HEADS: [&str; NUM_HEADS] = [
    "dense", "context", "sentence", "token", "phrase", "window", "lexical", "exact",
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

/// Start value of every head's temperature `t_h`.
pub const START_TEMPERATURE: f32 = 0.5;

/// Start value of the mixture's sharpness `alpha` in `S = alpha ln A`.
pub const START_ALPHA: f32 = 6.0;

/// The prior gate `g0`, before it is divided by its sum.
pub const PRIOR_GATE: [f32; NUM_HEADS] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.1];

/// The views of each head with their start weights; the weights of a head sum to 1.
pub const HEAD_VIEWS: [&[(&str, f32)]; NUM_HEADS] = [
    &[("dense", 0.9), ("dcen", 0.05), ("prf", 0.05)],
    &[("sctx", 1.0)],
    &[("smax", 1.0)],
    &[("maxsim", 0.9), ("maxsim_idf", 0.1)],
    &[("ph3", 1.0)],
    &[("wms", 1.0)],
    &[("bm25", 0.9), ("cov", 0.1)],
    &[("scov", 0.7), ("big", 0.3)],
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

/// Raw value of a view that a head does not read; the mask keeps it out.
const UNUSED_RAW: f32 = -4.0;

/// Column of a view.
pub(crate) fn column(view: &str) -> usize {
    VIEWS.iter().position(|name| *name == view).expect(
        "HEAD_VIEWS and P8 name only views of moerag_retrieve::VIEWS; a test reads them all",
    )
}

/// `g0`, `[8]`, summing to 1.
pub fn prior_gate() -> [f32; NUM_HEADS] {
    let total: f32 = PRIOR_GATE.iter().sum();
    PRIOR_GATE.map(|weight| weight / total)
}

/// Which views each head reads: 1 or 0, `[8, 13]` row by row.
pub(crate) fn head_mask() -> Vec<f32> {
    let mut mask = vec![0.0; NUM_HEADS * NUM_VIEWS];
    for (head, views) in HEAD_VIEWS.iter().enumerate() {
        for (view, _) in *views {
            mask[head * NUM_VIEWS + column(view)] = 1.0;
        }
    }
    mask
}

/// Raw in-head weights whose softplus is the start weight, `[8, 13]` row by row.
pub(crate) fn start_raw() -> Vec<f32> {
    let mut raw = vec![UNUSED_RAW; NUM_HEADS * NUM_VIEWS];
    for (head, views) in HEAD_VIEWS.iter().enumerate() {
        for (view, weight) in *views {
            raw[head * NUM_VIEWS + column(view)] = weight.exp_m1().ln();
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_view_belongs_to_exactly_one_head() {
        let mask = head_mask();
        for view in 0..NUM_VIEWS {
            let heads: f32 = (0..NUM_HEADS)
                .map(|head| mask[head * NUM_VIEWS + view])
                .sum();
            assert_eq!(heads, 1.0, "{}", VIEWS[view]);
        }
        for (view, _) in P8 {
            assert_eq!(VIEWS[column(view)], view);
        }
    }

    #[test]
    fn start_weights_come_back_out_of_the_softplus() {
        let raw = start_raw();
        for (head, views) in HEAD_VIEWS.iter().enumerate() {
            let total: f32 = views.iter().map(|(_, weight)| weight).sum();
            assert!((total - 1.0).abs() < 1e-6);
            for (view, weight) in *views {
                let back = raw[head * NUM_VIEWS + column(view)].exp().ln_1p();
                assert!((back - weight).abs() < 1e-6, "{view}: {back}");
            }
        }
    }

    #[test]
    fn the_prior_gate_sums_to_one() {
        assert!((prior_gate().iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
