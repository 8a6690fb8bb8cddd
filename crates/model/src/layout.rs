//! Which views each head reads, and where training starts: the recipe's heads, and those of the
//! ablations (DESIGN.md section 6, "Evaluation").

use crate::prior::{
    FEEDBACK, FEEDBACK_TEMPERATURE, FIRST_STAGE_HEADS, HEAD_COLUMNS, HEAD_VIEWS, NUM_VIEWS,
    PRIOR_GATE, START_TEMPERATURE, column,
};

/// Raw value of a view that a head does not read; the mask keeps it out.
const UNUSED_RAW: f32 = -4.0;

/// A head of a [`HeadLayout`].
#[derive(Clone, Debug, PartialEq)]
struct HeadStart {
    /// Views with their start weights, which sum to 1.
    views: Vec<(&'static str, f32)>,
    /// Its share of the prior gate, before that is divided by its sum.
    gate: f32,
}

/// What a view rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Pooled,
    Tokens,
    Lexical,
}

impl HeadStart {
    /// What all of its views rest on; `None` for feedback, and where they differ.
    fn part(&self) -> Option<Part> {
        let of_view = |view: &str| match view {
            "dense" | "dcen" | "prf" | "sctx" | "smax" => Some(Part::Pooled),
            "maxsim" | "maxsim_idf" | "ph3" | "wms" => Some(Part::Tokens),
            "bm25" | "cov" | "scov" | "big" => Some(Part::Lexical),
            _ => None,
        };
        let mut parts = self.views.iter().map(|(view, _)| of_view(view));
        let first = parts.next()??;
        parts.all(|part| part == Some(first)).then_some(first)
    }
}

/// Heads with their views and start weights.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadLayout {
    heads: Vec<HeadStart>,
}

impl Default for HeadLayout {
    /// The heads of [`crate::HEADS`] but for the linear one.
    fn default() -> Self {
        let heads = HEAD_VIEWS.iter().zip(PRIOR_GATE);
        Self {
            heads: heads
                .map(|(views, gate)| HeadStart {
                    views: views.to_vec(),
                    gate,
                })
                .collect(),
        }
    }
}

impl HeadLayout {
    /// Without head number `head` of [`crate::HEADS`].
    #[must_use]
    pub fn without(head: usize) -> Self {
        let mut layout = Self::default();
        if head < layout.heads.len() {
            layout.heads.remove(head);
        }
        layout
    }

    /// The first stage in another number of heads, and feedback: neighbours of the recipe's list
    /// joined into `groups` heads (1, 2 or 4), or, for 16, every view alone and the three heads of
    /// several views. `None` for another number; 8 are the recipe's.
    #[must_use]
    pub fn of_first_stage_heads(groups: usize) -> Option<Self> {
        let recipe = Self::default().heads;
        let first = &recipe[..FIRST_STAGE_HEADS];
        let mut heads: Vec<HeadStart> = match groups {
            1 => vec![join(first)],
            2 => vec![join(&first[..3]), join(&first[3..])],
            4 => vec![
                join(&first[..3]),
                join(&first[3..6]),
                first[6].clone(),
                first[7].clone(),
            ],
            8 => first.to_vec(),
            16 => split(first),
            _ => return None,
        };
        heads.extend(recipe.into_iter().skip(FIRST_STAGE_HEADS));
        Some(Self { heads })
    }

    /// The same heads with the prior gate of a corpus that bears the encoder out to these shares,
    /// 0..=1: its pooled vectors (heads dense, context, sentence) and its token states (token,
    /// phrase, window). Heads of a part without any trust count half, and the lexical ones as much as
    /// the recipe's full heads. Heads that mix parts stay as they are.
    #[must_use]
    pub fn trusting(mut self, pooled: f32, tokens: f32) -> Self {
        let weakest = pooled.min(tokens);
        for head in &mut self.heads {
            match head.part() {
                Some(Part::Pooled) => head.gate *= (1.0 + pooled) / 2.0,
                Some(Part::Tokens) => head.gate *= (1.0 + tokens) / 2.0,
                Some(Part::Lexical) => head.gate += (1.0 - head.gate) * (1.0 - weakest),
                None => {}
            }
        }
        self
    }

    /// Number of heads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none; no constructor makes such a layout.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The prior gate, `[heads]`, sums to 1.
    pub(crate) fn gate(&self) -> Vec<f32> {
        let total: f32 = self.heads.iter().map(|head| head.gate).sum();
        self.heads.iter().map(|head| head.gate / total).collect()
    }

    /// Temperatures to start with, `[heads]`.
    pub(crate) fn temperatures(&self) -> Vec<f32> {
        let of_head = |head: &HeadStart| match head.views[..] {
            [(FEEDBACK, _)] => FEEDBACK_TEMPERATURE,
            _ => START_TEMPERATURE,
        };
        self.heads.iter().map(of_head).collect()
    }

    /// Which columns each head reads: 1 or 0, `[heads, 14]` row by row.
    pub(crate) fn mask(&self) -> Vec<f32> {
        self.table(0.0, |_| 1.0)
    }

    /// Raw in-head weights whose softplus is the start weight, `[heads, 14]` row by row.
    pub(crate) fn raw(&self) -> Vec<f32> {
        self.table(UNUSED_RAW, |weight| weight.exp_m1().ln())
    }

    fn table(&self, unused: f32, value: impl Fn(f32) -> f32) -> Vec<f32> {
        let mut table = vec![unused; self.heads.len() * HEAD_COLUMNS];
        for (row, head) in table.chunks_mut(HEAD_COLUMNS).zip(&self.heads) {
            for (view, weight) in &head.views {
                row[column(view)] = value(*weight);
            }
        }
        table
    }
}

/// The head of a mask `[heads, 14]` that reads the feedback view and nothing else.
pub(crate) fn feedback_head(mask: &[f32]) -> Option<usize> {
    mask.chunks(HEAD_COLUMNS).position(|row| {
        let (views, feedback) = row.split_at(NUM_VIEWS);
        feedback == [1.0] && views.iter().all(|value| *value == 0.0)
    })
}

/// One head with the views of several, weighed by their gates.
fn join(heads: &[HeadStart]) -> HeadStart {
    let gate: f32 = heads.iter().map(|head| head.gate).sum();
    let views = heads.iter().flat_map(|head| {
        let share = head.gate / gate;
        head.views.iter().map(move |(view, w)| (*view, share * w))
    });
    HeadStart {
        views: views.collect(),
        gate,
    }
}

/// Every view alone, and beside them the heads of several views, which share the gate with theirs.
fn split(heads: &[HeadStart]) -> Vec<HeadStart> {
    let mut all = Vec::new();
    let several = |head: &&HeadStart| head.views.len() > 1 && head.gate >= 0.5;
    for head in heads {
        let share = if several(&head) { 0.5 } else { 1.0 };
        all.extend(head.views.iter().map(|(view, weight)| HeadStart {
            views: vec![(*view, 1.0)],
            gate: share * head.gate * weight,
        }));
    }
    all.extend(heads.iter().filter(several).map(|head| HeadStart {
        gate: 0.5 * head.gate,
        ..head.clone()
    }));
    debug_assert!(all.iter().all(|head| head.views[0].0 != FEEDBACK));
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_layout_has_its_number_of_heads_and_the_same_views() {
        let mass = |layout: &HeadLayout| {
            let mut mass = [0.0f32; HEAD_COLUMNS];
            for head in &layout.heads {
                let total: f32 = head.views.iter().map(|(_, weight)| weight).sum();
                assert!((total - 1.0).abs() < 1e-6);
                for (view, weight) in &head.views {
                    mass[column(view)] += head.gate * weight;
                }
            }
            mass
        };
        let expected = mass(&HeadLayout::default());
        for groups in [1, 2, 4, 8, 16] {
            let layout = HeadLayout::of_first_stage_heads(groups).unwrap();
            assert_eq!(layout.len(), groups + 1);
            assert!((layout.gate().iter().sum::<f32>() - 1.0).abs() < 1e-6);
            for (found, expected) in mass(&layout).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{groups}");
            }
            assert_eq!(feedback_head(&layout.mask()), Some(groups));
        }
        assert!(HeadLayout::of_first_stage_heads(3).is_none());
        for head in 0..HEAD_VIEWS.len() {
            let layout = HeadLayout::without(head);
            assert_eq!(layout.len(), HEAD_VIEWS.len() - 1);
            let feedback = feedback_head(&layout.mask());
            assert_eq!(feedback.is_none(), head == FIRST_STAGE_HEADS);
        }
    }

    #[test]
    fn start_weights_come_back_out_of_the_softplus() {
        let layout = HeadLayout::default();
        let raw = layout.raw();
        for (head, row) in layout.heads.iter().zip(raw.chunks(HEAD_COLUMNS)) {
            for (view, weight) in &head.views {
                let back = row[column(view)].exp().ln_1p();
                assert!((back - weight).abs() < 1e-6, "{view}: {back}");
            }
        }
    }

    #[test]
    fn a_part_without_trust_counts_half_and_lexical_heads_take_over() {
        let gates = |layout: &HeadLayout| -> Vec<f32> {
            layout.heads.iter().map(|head| head.gate).collect()
        };
        let recipe = HeadLayout::default();
        assert_eq!(recipe.clone().trusting(1.0, 1.0), recipe);
        let feedback = PRIOR_GATE[FIRST_STAGE_HEADS];
        assert_eq!(
            gates(&recipe.clone().trusting(0.0, 1.0)),
            [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, feedback]
        );
        let partly = gates(&recipe.clone().trusting(1.0, 0.5));
        assert_eq!(partly[..6], [1.0, 1.0, 1.0, 0.75, 0.75, 0.75]);
        assert!((partly[6] - 0.75).abs() < 1e-6 && (partly[7] - 0.55).abs() < 1e-6);
        // One head for everything has no part to distrust.
        let one = HeadLayout::of_first_stage_heads(1).unwrap();
        assert_eq!(one.clone().trusting(0.0, 0.0), one);
    }
}
