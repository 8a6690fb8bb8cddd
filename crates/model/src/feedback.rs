//! The feedback head: what resembles the first stage's best passages in the collection's own latent
//! space (RECIPE.md, "Second study"; DESIGN.md section 3).
//!
//! It is the one head that reads what the others decided: it needs the two passages with the most
//! attention, and the query's say is their margin. A clear winner is worth following; where the
//! first stage hesitates, feedback would repeat its mistake and stays out.

use moerag_retrieve::linalg::{dot, normalise};

use crate::infer::Attention;
use crate::prior::{NUM_HEADS, START_TEMPERATURE};

/// Passages that feedback starts from.
const SOURCES: usize = 2;
/// Sharpness of the attention that weighs them.
const SHARPNESS: f32 = 6.0;
/// Margin in nats that is worth one unit of mass, and the most units (RECIPE.md: the curve is flat).
const MARGIN: f32 = 0.2;
const MOST: f32 = 4.0;
/// Units of mass that the other heads share: the sum of the prior gate, exact left out.
const OTHERS: f32 = 6.5;
/// Share of the leader's attention that nobody else may exceed: feedback never changes the first rank.
const BELOW: f32 = 1.0 - 1e-5;

/// Names of all heads of a reply: those of the mixture and feedback.
pub const ALL_HEADS: [&str; NUM_HEADS + 1] = [
    "dense", "context", "sentence", "token", "phrase", "window", "lexical", "exact", "feedback",
];

/// Adds the feedback head to `attention` as its ninth.
///
/// `places` are the candidates' unit vectors in the latent space, `[n][dims]`, in their order; `None`
/// for a collection without one, where the head gets no weight. `alpha` is the sharpness of
/// `attn_weight`.
#[must_use]
pub fn with_feedback(
    mut attention: Attention,
    places: Option<&[Vec<f32>]>,
    alpha: f32,
) -> Attention {
    let n = attention.mixture.len();
    let found = places
        .filter(|places| places.len() == n)
        .and_then(|places| feedback(&attention.mixture, places));
    let Some(Feedback { share, attn, first }) = found else {
        attention.head_weights.push(0.0);
        attention.head_attn.push(vec![0.0; n]);
        return attention;
    };
    for (a, f) in attention.mixture.iter_mut().zip(&attn) {
        *a = (1.0 - share) * *a + share * f;
    }
    let most = attention.mixture[first] * BELOW;
    for (row, a) in attention.mixture.iter_mut().enumerate() {
        if row != first {
            *a = a.min(most);
        }
    }
    let total: f32 = attention.mixture.iter().sum();
    attention.mixture.iter_mut().for_each(|a| *a /= total);
    let leader = attention.mixture[first];
    attention.attn_weight = attention
        .mixture
        .iter()
        .map(|a| (a / leader).powf(alpha))
        .collect();
    let total: f32 = attention.attn_weight.iter().sum();
    attention.attn_weight.iter_mut().for_each(|a| *a /= total);
    attention
        .head_weights
        .iter_mut()
        .for_each(|weight| *weight *= 1.0 - share);
    attention.head_weights.push(share);
    attention.head_attn.push(attn);
    attention
}

struct Feedback {
    /// Weight of the head, below 1.
    share: f32,
    /// Its attention, `[n]`, sums to 1.
    attn: Vec<f32>,
    /// Row with the most attention of the first stage.
    first: usize,
}

/// `None` where there is nothing to follow: fewer than three candidates, no margin, no place.
fn feedback(mixture: &[f32], places: &[Vec<f32>]) -> Option<Feedback> {
    let mut order: Vec<usize> = (0..mixture.len()).collect();
    order.sort_by(|a, b| mixture[*b].total_cmp(&mixture[*a]));
    let (first, second) = (*order.first()?, *order.get(1)?);
    if order.len() <= SOURCES || mixture[second] <= 0.0 {
        return None;
    }
    let margin = (mixture[first] / mixture[second]).ln();
    let mass = (margin / MARGIN).min(MOST);
    let mut reference = vec![0.0; places[first].len()];
    for row in &order[..SOURCES] {
        let weight = (mixture[*row] / mixture[first]).powf(SHARPNESS);
        for (r, u) in reference.iter_mut().zip(&places[*row]) {
            *r += weight * u;
        }
    }
    normalise(&mut reference);
    let view: Vec<f32> = places.iter().map(|place| dot(place, &reference)).collect();
    let n = view.len() as f32;
    let mean = view.iter().sum::<f32>() / n;
    let sd = (view.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
    if sd <= 1e-6 || mass <= 0.0 {
        return None;
    }
    // The largest z is below sqrt(n), so the exponential cannot overflow.
    let mut attn: Vec<f32> = view
        .iter()
        .map(|v| (START_TEMPERATURE * (v - mean) / (sd + 1e-6)).exp())
        .collect();
    let total: f32 = attn.iter().sum();
    attn.iter_mut().for_each(|a| *a /= total);
    Some(Feedback {
        share: mass / (OTHERS + mass),
        attn,
        first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prior::HEADS;

    fn attention(mixture: &[f32]) -> Attention {
        let total: f32 = mixture.iter().sum();
        Attention {
            attn_weight: vec![1.0 / mixture.len() as f32; mixture.len()],
            mixture: mixture.iter().map(|a| a / total).collect(),
            head_weights: vec![1.0 / NUM_HEADS as f32; NUM_HEADS],
            head_attn: vec![mixture.to_vec(); NUM_HEADS],
            levels: Vec::new(),
            types: Vec::new(),
        }
    }

    /// Row 0 leads; row 4 lies beside it in the latent space, rows 2 and 3 elsewhere.
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
    fn a_clear_winner_lifts_what_resembles_it_and_stays_first() {
        let before = attention(&[0.5, 0.2, 0.12, 0.1, 0.08]);
        let after = with_feedback(before.clone(), Some(&places()), 6.0);
        assert!(after.mixture[4] > after.mixture[2], "{:?}", after.mixture);
        assert!(after.mixture.iter().all(|a| *a <= after.mixture[0]));
        assert!(
            after
                .attn_weight
                .iter()
                .skip(1)
                .all(|a| *a < after.attn_weight[0])
        );
        for weights in [&after.mixture, &after.attn_weight, &after.head_weights] {
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        // ln 2.5 / .2 = 4.6 units, 4 at most, of 10.5.
        assert!((after.head_weights[8] - 4.0 / 10.5).abs() < 1e-6);
        assert_eq!(after.head_attn.len(), ALL_HEADS.len());
    }

    #[test]
    fn the_first_rank_holds_even_against_many() {
        let mut mixture = vec![0.2, 0.19];
        let mut places = vec![vec![1.0, 0.0], vec![0.6, 0.8]];
        for i in 0..50 {
            mixture.push(0.19 - i as f32 * 1e-3);
            places.push(vec![0.9, 0.436]);
        }
        let after = with_feedback(attention(&mixture), Some(&places), 6.0);
        assert!(after.mixture.iter().skip(1).all(|a| *a < after.mixture[0]));
    }

    #[test]
    fn without_a_margin_or_a_space_nothing_changes() {
        let tied = attention(&[0.3, 0.3, 0.2, 0.1, 0.1]);
        let hesitant = with_feedback(tied.clone(), Some(&places()), 6.0);
        assert_eq!(hesitant.mixture, tied.mixture);
        assert_eq!(hesitant.head_weights[8], 0.0);
        let before = attention(&[0.5, 0.2, 0.12, 0.1, 0.08]);
        let nowhere = vec![vec![0.0, 0.0]; 5];
        for places in [None, Some(&nowhere[..]), Some(&places()[..3])] {
            let after = with_feedback(before.clone(), places, 6.0);
            assert_eq!(after.mixture, before.mixture);
            assert_eq!(after.attn_weight, before.attn_weight);
        }
    }

    #[test]
    fn names_are_those_of_the_mixture_and_one_more() {
        assert_eq!(ALL_HEADS[..NUM_HEADS], HEADS);
        let empty = with_feedback(attention(&[]), Some(&[]), 6.0);
        assert!(empty.mixture.is_empty() && empty.head_weights.len() == 9);
    }
}
