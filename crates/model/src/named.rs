//! Passages whose title the query names.
//!
//! Who asks for a thing by the name of a page mostly wants that page, and no view says so: they ask how much of the
//! query a passage has, not how much of its title the query has. So it is a prior over passages, as in
//! language models for retrieval, the same for every head: a term of its logits (docs/research.md).
//! Like feedback it is not trained: sentences, which synthetic queries come from, seldom name
//! the title they stand under the way a question does.

use crate::infer::Attention;

/// What a named title adds to the logits of every head.
const NAMED: f32 = 0.5;

/// `a_h(d) e^.5 / sum` for the passages that are named, and the mixture of these. Nothing changes where none is
/// named, or all are.
pub(crate) fn favour(attention: &mut Attention, named: &[bool], alpha: f32) {
    if !(named.contains(&true) && named.contains(&false)) {
        return;
    }
    let factor = NAMED.exp();
    for head in &mut attention.head_attn {
        for (a, named) in head.iter_mut().zip(named) {
            if *named {
                *a *= factor;
            }
        }
        let total: f32 = head.iter().sum();
        head.iter_mut().for_each(|a| *a /= total);
    }
    attention.remix(alpha);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention() -> Attention {
        Attention {
            attn_weight: vec![0.25; 4],
            mixture: vec![0.28, 0.33, 0.26, 0.13],
            head_weights: vec![0.6, 0.4],
            head_attn: vec![vec![0.4, 0.35, 0.15, 0.1], vec![0.1, 0.3, 0.425, 0.175]],
            levels: Vec::new(),
            types: Vec::new(),
        }
    }

    #[test]
    fn a_named_passage_gains_the_same_on_every_other_in_every_head() {
        let before = attention();
        let mut after = attention();
        favour(&mut after, &[false, false, true, false], 6.0);
        for (was, is) in before.head_attn.iter().zip(&after.head_attn) {
            assert!((is.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            for other in [0, 1, 3] {
                let gain = (is[2] / is[other]) / (was[2] / was[other]);
                assert!((gain.ln() - NAMED).abs() < 1e-5, "{gain}");
            }
        }
        let row = |row: usize| 0.6 * after.head_attn[0][row] + 0.4 * after.head_attn[1][row];
        assert!((0..4).all(|i| (after.mixture[i] - row(i)).abs() < 1e-6));
        assert!(after.mixture[2] > before.mixture[2]);
    }

    #[test]
    fn nothing_changes_where_it_would_tell_nothing_apart() {
        for named in [&[][..], &[false; 4], &[true; 4]] {
            let mut after = attention();
            favour(&mut after, named, 6.0);
            assert_eq!(after, attention());
        }
    }
}
