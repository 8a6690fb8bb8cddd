//! What the feedback head reads: resemblance to the first stage's best passages in the collection's
//! own latent space (RECIPE.md, "Second study"; DESIGN.md section 3).
//!
//! It is the one head that depends on what others decided: it needs the two passages with the most
//! attention of the untrained mixture, and its share of the gate is their margin. A clear winner is
//! worth following; where the first stage hesitates, feedback would repeat its mistake.

use moerag_retrieve::linalg::{dot, normalise};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::infer::Attention;
use crate::mixture::GATE_FLOOR;
use crate::prior::first_stage;

/// Passages that feedback starts from.
const SOURCES: usize = 2;
/// Sharpness of the attention that weighs them.
const SHARPNESS: f32 = 6.0;
/// Margin in nats that is worth one unit of mass, and the most units (RECIPE.md: the curve is flat).
const MARGIN: f32 = 0.2;
const MOST: f32 = 4.0;
/// Log of the mass of an absent feedback head: its gate weight is far below [`GATE_FLOOR`].
const ABSENT: f32 = -100.0;
/// Share of the leader's attention that nobody else may exceed: feedback never changes the first rank.
const BELOW: f32 = 1.0 - 1e-5;

/// The feedback view of one query's candidates and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Cosine with the two best passages' weighted mean, z-scored over the candidates, `[n]`.
    pub view: Vec<f32>,
    /// Units of the prior gate that the head starts with, above 0.
    pub mass: f32,
}

impl Feedback {
    /// `z` are the candidates' views `[n, 13]`, `places` their unit vectors in the latent space,
    /// `[n][dims]`. `None` where there is nothing to follow: fewer than three candidates, no margin
    /// between the first two, or no place.
    pub fn new<P: AsRef<[f32]>>(z: ArrayView2<'_, f32>, places: &[P]) -> Option<Self> {
        let mixture = first_stage(z);
        if places.len() != mixture.len() || mixture.len() <= SOURCES {
            return None;
        }
        let mut order: Vec<usize> = (0..mixture.len()).collect();
        order.sort_by(|a, b| mixture[*b].total_cmp(&mixture[*a]));
        let (first, second) = (order[0], order[1]);
        let mass = ((mixture[first] / mixture[second]).ln() / MARGIN).min(MOST);
        // NaN where neither has attention that f32 can hold.
        if mass.is_nan() || mass <= 0.0 {
            return None;
        }
        let mut reference = vec![0.0; places[first].as_ref().len()];
        for row in &order[..SOURCES] {
            let weight = (mixture[*row] / mixture[first]).powf(SHARPNESS);
            for (r, u) in reference.iter_mut().zip(places[*row].as_ref()) {
                *r += weight * u;
            }
        }
        normalise(&mut reference);
        let mut view: Vec<f32> = places
            .iter()
            .map(|place| dot(place.as_ref(), &reference))
            .collect();
        let n = view.len() as f32;
        let mean = view.iter().sum::<f32>() / n;
        let sd = (view.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
        if sd.is_nan() || sd <= 1e-6 {
            return None;
        }
        view.iter_mut().for_each(|v| *v = (*v - mean) / sd);
        Some(Self { view, mass })
    }

    /// Log of the mass; very negative without feedback.
    pub(crate) fn log_mass(feedback: Option<&Self>) -> f32 {
        feedback.map_or(ABSENT, |feedback| feedback.mass.max(f32::MIN_POSITIVE).ln())
    }
}

/// Lowers whatever head number `head` lifted above the passage that leads without it.
pub(crate) fn keep_first(attention: &mut Attention, head: usize, alpha: f32) {
    let weight = attention.head_weights[head];
    if weight < GATE_FLOOR {
        return;
    }
    let rest = |row: usize| attention.mixture[row] - weight * attention.head_attn[head][row];
    let Some(first) = (0..attention.mixture.len())
        .reduce(|best, row| if rest(row) > rest(best) { row } else { best })
    else {
        return;
    };
    let most = attention.mixture[first] * BELOW;
    let lifted = |(row, a): (usize, &f32)| row != first && *a > most;
    if !attention.mixture.iter().enumerate().any(lifted) {
        return;
    }
    for (row, a) in attention.mixture.iter_mut().enumerate() {
        if row != first {
            *a = a.min(most);
        }
    }
    let total: f32 = attention.mixture.iter().sum();
    attention.mixture.iter_mut().for_each(|a| *a /= total);
    attention.attn_weight = sharpened(&attention.mixture, alpha);
}

/// `softmax(alpha ln A)` on the host; empty for nothing.
pub(crate) fn sharpened(mixture: &[f32], alpha: f32) -> Vec<f32> {
    let most = mixture.iter().copied().fold(0.0f32, f32::max);
    let raised: Vec<f32> = mixture.iter().map(|a| (a / most).powf(alpha)).collect();
    let total: f32 = raised.iter().sum();
    raised.into_iter().map(|value| value / total).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::prior::NUM_VIEWS;
    use ndarray::Array2;

    /// Views in which row 0 leads by `margin` and the others follow evenly.
    fn z(margin: f32) -> Array2<f32> {
        Array2::from_shape_fn((5, NUM_VIEWS), |(row, _)| {
            if row == 0 { margin } else { -0.1 * row as f32 }
        })
    }

    /// Row 4 lies beside row 0 in the latent space, rows 2 and 3 elsewhere.
    fn places() -> Vec<Vec<f32>> {
        vec![
            vec![1.0, 0.0],
            vec![0.9, 0.436],
            vec![0.0, 1.0],
            vec![0.0, -1.0],
            vec![1.0, 0.0],
        ]
    }

    #[test]
    fn what_resembles_the_winner_scores_high_and_the_margin_is_the_mass() {
        let clear = Feedback::new(z(3.0).view(), &places()).unwrap();
        assert_eq!(clear.mass, MOST);
        assert!(clear.view[4] > clear.view[2] && clear.view[4] > clear.view[3]);
        assert!(clear.view.iter().sum::<f32>().abs() < 1e-5);
        // The margin of the logits, .5 (.1 + .1), over .2 nats a unit.
        let close = Feedback::new(z(0.1).view(), &places()).unwrap();
        assert!((close.mass - 0.5).abs() < 1e-3, "{}", close.mass);
    }

    #[test]
    fn without_margin_place_or_candidates_there_is_none() {
        let tied = z(-0.1);
        assert!(Feedback::new(tied.view(), &places()).is_none());
        let nowhere = vec![vec![0.0, 0.0]; 5];
        assert!(Feedback::new(z(3.0).view(), &nowhere).is_none());
        assert!(Feedback::new(z(3.0).view(), &places()[..3]).is_none());
        let two = Array2::from_shape_fn((2, NUM_VIEWS), |(row, _)| row as f32);
        assert!(Feedback::new(two.view(), &places()[..2]).is_none());
        assert_eq!(Feedback::log_mass(None), ABSENT);
    }

    #[test]
    fn the_first_rank_holds_even_against_many() {
        let own = [0.30, 0.29, 0.28, 0.13];
        let fed = [0.10, 0.20, 0.60, 0.10];
        let mixture = |row: usize| 0.6 * own[row] + 0.4 * fed[row];
        let mut attention = Attention {
            attn_weight: vec![0.25; 4],
            mixture: (0..4).map(mixture).collect(),
            head_weights: vec![0.6, 0.4],
            head_attn: vec![own.to_vec(), fed.to_vec()],
            levels: Vec::new(),
            types: Vec::new(),
        };
        keep_first(&mut attention, 1, 6.0);
        for weights in [&attention.mixture, &attention.attn_weight] {
            assert!(weights[1..].iter().all(|w| *w < weights[0]), "{weights:?}");
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let before = attention.clone();
        attention.head_weights[1] = 0.0;
        keep_first(&mut attention, 1, 6.0);
        assert_eq!(attention.mixture, before.mixture);
    }
}
