//! Why a passage got its weight: shares of heads and views, weights of sentences.

use moerag_model::Attention;
use moerag_retrieve::{VIEW_COUNT, ViewMatrix};

use super::reply::{HeadShare, ViewShare};

/// How sharply sentence weights follow sentence scores. Scores are sums of cosines and a share of
/// terms, so they differ by tenths; with 8, a tenth more means about twice the weight.
const SENTENCE_SHARPNESS: f32 = 8.0;

/// Logit weights of one model: `t_h w_hv`, `[heads][13]`; the feedback view has no column.
pub type LogitWeights = Vec<[f32; VIEW_COUNT]>;

/// Share and own attention of each head for candidate `row`.
pub fn head_shares(attention: &Attention, row: usize) -> Vec<HeadShare> {
    attention
        .contributions(row)
        .into_iter()
        .zip(&attention.head_attn)
        .map(|(share, attn)| HeadShare {
            share,
            attention: attn[row],
        })
        .collect()
}

/// Scores of each view for candidate `row`, and what they add to the logits of the heads that
/// chose it: `sum_h share_h t_h w_hv z_v`.
pub fn view_shares(
    views: &ViewMatrix,
    row: usize,
    heads: &[HeadShare],
    logit_weights: &LogitWeights,
) -> Vec<ViewShare> {
    (0..VIEW_COUNT)
        .map(|view| {
            let z = views.z[[row, view]];
            let weight: f32 = heads
                .iter()
                .zip(logit_weights)
                .map(|(head, weights)| head.share * weights[view])
                .sum();
            ViewShare {
                raw: views.raw[[row, view]],
                z,
                contribution: weight * z,
            }
        })
        .collect()
}

/// Weights of the sentences of a passage from their scores; they sum to 1 unless there are none.
pub fn sentence_weights(scores: &[f32]) -> Vec<f32> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let raised: Vec<f32> = scores
        .iter()
        .map(|score| (SENTENCE_SHARPNESS * (score - top)).exp())
        .collect();
    let sum: f32 = raised.iter().sum();
    raised.into_iter().map(|value| value / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_weights_sum_to_one_and_follow_the_scores() {
        let weights = sentence_weights(&[0.2, 0.6, 0.2]);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(weights[1] > weights[0] && weights[0] == weights[2]);
        assert!(sentence_weights(&[]).is_empty());
    }
}
