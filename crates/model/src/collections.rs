//! The gate over collections: how much of a query's attention each of several knowledge bases gets
//! (DESIGN.md section 3, "Gate").
//!
//! z-scores are relative to a collection's own candidates, so they cannot say which collection a query
//! belongs to. The best raw scores can: cosines and shares of terms mean the same everywhere. They are
//! counted in units of their spread over the collections' own synthetic queries, so that an encoder
//! whose cosines lie close together is read as sharply as any other. Nothing more is learned: weights
//! fitted to synthetic queries of nine collections did no better (docs/research.md).

use moerag_retrieve::BEST_SCORES;

use crate::infer::CollectionModel;
use crate::prior::softmax;

/// Nats that a mean lead of one spread is worth (half to three times as many give the same ranking
/// within .003 nDCG@10).
const SHARPNESS: f32 = 4.0;

/// Spread of each score where no collection has been trained: that of all-MiniLM-L6-v2 over nine
/// corpora.
const TYPICAL_SPREAD: [f32; BEST_SCORES.len()] = [0.14, 0.14, 0.10, 0.11, 0.12, 0.21, 0.23, 0.13];

/// The weight of each collection, summing to 1, from its model and the gate inputs `[56]` that the
/// query has there; a collection without candidates has no inputs and gets 0.
pub fn collection_weights(collections: &[(&CollectionModel, Option<&[f32]>)]) -> Vec<f32> {
    let spread = mean_spread(collections.iter().map(|(model, _)| *model));
    let evidence: Vec<f32> = collections
        .iter()
        .map(|(_, inputs)| {
            inputs.map_or(f32::NEG_INFINITY, |inputs| {
                let scores = BEST_SCORES.iter().map(|at| inputs.get(*at).unwrap_or(&0.0));
                let sum: f32 = scores.zip(&spread).map(|(score, sd)| score / sd).sum();
                SHARPNESS * sum / BEST_SCORES.len() as f32
            })
        })
        .collect();
    if evidence.iter().all(|e| *e == f32::NEG_INFINITY) {
        return vec![0.0; evidence.len()];
    }
    softmax(&evidence)
}

/// Mean over the collections that know their spread.
fn mean_spread<'a>(models: impl Iterator<Item = &'a CollectionModel>) -> [f32; BEST_SCORES.len()] {
    let known: Vec<[f32; BEST_SCORES.len()]> =
        models.filter_map(CollectionModel::score_spread).collect();
    if known.is_empty() {
        return TYPICAL_SPREAD;
    }
    std::array::from_fn(|i| known.iter().map(|s| s[i]).sum::<f32>() / known.len() as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use moerag_encoder::DeviceKind;
    use moerag_retrieve::GATE_INPUTS;

    use super::*;
    use crate::prior::LEVELS;
    use crate::{CollectionWeights, GateFeatures, HeadLayout, LinearClassifier, Standardiser};

    fn model(sd: Option<f32>) -> CollectionModel {
        let weights = match sd {
            None => CollectionWeights::prior(),
            Some(sd) => {
                let columns = GATE_INPUTS + LEVELS.len();
                let features = GateFeatures {
                    standardiser: Standardiser {
                        mean: vec![0.0; columns],
                        sd: vec![sd; columns],
                    },
                    levels: LinearClassifier {
                        inputs: GATE_INPUTS,
                        weight: vec![0.0; LEVELS.len() * GATE_INPUTS],
                        bias: vec![0.0; LEVELS.len()],
                    },
                };
                CollectionWeights::fallback(&HeadLayout::default(), &features, None)
            }
        };
        CollectionModel::load(&weights, DeviceKind::Flex).unwrap()
    }

    #[test]
    fn the_better_fit_gets_more_and_one_without_candidates_nothing() {
        let (prior, good, bad) = (model(None), [0.8; GATE_INPUTS], [0.5; GATE_INPUTS]);
        let weights =
            collection_weights(&[(&prior, Some(&bad)), (&prior, Some(&good)), (&prior, None)]);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(weights[1] > 0.9 && weights[0] > 0.0 && weights[2] == 0.0);
        assert_eq!(collection_weights(&[(&prior, None)]), [0.0]);
        assert_eq!(collection_weights(&[(&prior, Some(&bad))]), [1.0]);
        assert!(collection_weights(&[]).is_empty());
    }

    #[test]
    fn scores_count_in_units_of_the_spread_that_is_known() {
        let (prior, narrow) = (model(None), model(Some(0.01)));
        let (a, b) = ([0.50; GATE_INPUTS], [0.51; GATE_INPUTS]);
        let lead = |first: &CollectionModel| {
            let weights = collection_weights(&[(first, Some(&b)), (&prior, Some(&a))]);
            (weights[0] / weights[1]).ln()
        };
        // A lead of one spread.
        assert!((lead(&narrow) - SHARPNESS).abs() < 1e-3);
        assert!(lead(&prior) < 0.5);
    }
}
