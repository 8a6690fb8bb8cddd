//! Measurements on the held-out synthetic queries: never trained on, of passages never trained on.

use std::collections::BTreeMap;

use moerag_model::{
    AttendInput, Attention, CollectionModel, CollectionWeights, DeviceKind, Example, HEADS, LEVELS,
    NUM_HEADS, QUERY_TYPES, Routing, argmax, evaluate_weights,
};
use tokio_util::sync::CancellationToken;

use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use crate::synth::Level;
use crate::train::{TrainConfig, TrainingData, TrainingQuery};

/// Queries that diversity is measured on: it is quadratic in the heads and hardly varies.
const DIVERSITY_QUERIES: usize = 100;

/// Factors of their own sharpness that weights are tried with: a fifth, and so on in these steps.
const LEAST_SHARPNESS: f32 = 0.2;
const SHARPNESS_STEP: f32 = 1.2;
const SHARPNESS_STEPS: i32 = 12;

/// Held-out cross-entropy to the gold of one set of weights, nats.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOutLoss {
    /// Mean over inverse cloze and gist: what the ship rule compares.
    pub ship: f32,
    /// Mean over all levels.
    pub all: f32,
    /// Mean per level; `None` for a level without held-out queries.
    pub by_level: [Option<f32>; 6],
    /// Mean reciprocal rank of the gold.
    pub mrr: f32,
}

/// Results of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Held-out queries.
    pub held_out: usize,
    /// Of the untrained mixture.
    pub prior: HeldOutLoss,
    /// Of the trained one.
    pub trained: Option<HeldOutLoss>,
    /// Share of held-out queries whose type is predicted, question words left out of half of them.
    pub routing_accuracy: Option<f32>,
    /// The same over those that kept their question words.
    pub routing_accuracy_worded: Option<f32>,
    /// `routing_accuracy` per type, with the number of queries; `None` for a type without any.
    pub accuracy_by_type: [Option<(f32, usize)>; 8],
    /// Mean gate weight per head.
    pub head_utilization: [f32; NUM_HEADS],
    /// How differently the heads see the candidates.
    pub head_diversity: HeadDiversity,
}

/// Two measures of head diversity, 0: all heads agree.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HeadDiversity {
    /// 1 - mean pairwise Spearman correlation of head logits.
    pub spearman: f32,
    /// 1 - mean pairwise overlap of attention mass.
    pub attention: f32,
}

/// Measures on the held-out queries, or on all when none is held out (tiny corpora; the report then
/// says so with `held_out` 0).
pub(crate) fn evaluate(
    data: &TrainingData,
    prior: &CollectionWeights,
    trained: Option<&CollectionWeights>,
    config: &TrainConfig,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Report, TrainError> {
    let rows: Vec<&TrainingQuery> = data.held_out().collect();
    let clock = StageClock::start(Stage::Evaluate, rows.len(), progress);
    let subject = trained.unwrap_or(prior);
    let attention = attend(subject, &rows, cancel)?;
    clock.advance(rows.len(), None);
    let prior_attention = match trained {
        Some(_) => attend(prior, &rows, cancel)?,
        None => attention.clone(),
    };
    let losses = |weights: &CollectionWeights, attention: &[Attention]| {
        held_out_loss(&rows, weights, attention, config)
    };
    let (routing_accuracy, accuracy_by_type) = type_accuracy(&rows, subject);
    let worded: Vec<&TrainingQuery> = rows
        .iter()
        .copied()
        .filter(|row| row.query.bare != row.query.text && row.type_vector == row.vector)
        .collect();
    Ok(Report {
        held_out: rows.len(),
        prior: losses(prior, &prior_attention)?,
        trained: match trained {
            Some(trained) => Some(losses(trained, &attention)?),
            None => None,
        },
        routing_accuracy,
        routing_accuracy_worded: type_accuracy(&worded, subject).0,
        accuracy_by_type,
        head_utilization: head_utilization(&attention),
        head_diversity: head_diversity(&attention),
    })
}

/// Weights read as sharply as suits the held-out queries best; the ranking is the same. Training ends
/// before its sharpness has settled and the prior never had one fitted, so without this the contest
/// would be about who is how sure and not about who ranks better, and `attn_weight` would promise too
/// much (Guo et al., "On Calibration of Modern Neural Networks", 2017: temperature scaling).
pub(crate) fn calibrated(
    weights: CollectionWeights,
    data: &TrainingData,
    config: &TrainConfig,
) -> Result<CollectionWeights, TrainError> {
    let alpha = weights.alpha();
    let mut best = (f32::INFINITY, weights);
    for step in 0..SHARPNESS_STEPS {
        let factor = LEAST_SHARPNESS * SHARPNESS_STEP.powi(step);
        let other = best.1.clone().with_alpha(factor * alpha);
        if let Some(loss) = ship_loss(data, &other, config)?
            && loss < best.0
        {
            best = (loss, other);
        }
    }
    Ok(best.1)
}

/// Held-out loss over inverse cloze and gist; `None` without such queries.
pub(crate) fn ship_loss(
    data: &TrainingData,
    weights: &CollectionWeights,
    config: &TrainConfig,
) -> Result<Option<f32>, TrainError> {
    let examples: Vec<&Example> = data
        .held_out()
        .filter(|row| decides(row))
        .map(|row| &row.example)
        .collect();
    mean_loss(weights, &examples, config)
}

fn decides(row: &TrainingQuery) -> bool {
    matches!(row.query.level, Level::InverseCloze | Level::Gist)
}

fn mean_loss(
    weights: &CollectionWeights,
    examples: &[&Example],
    config: &TrainConfig,
) -> Result<Option<f32>, TrainError> {
    if examples.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        evaluate_weights(weights, examples, &config.loss, config.device)?.gold,
    ))
}

fn held_out_loss(
    rows: &[&TrainingQuery],
    weights: &CollectionWeights,
    attention: &[Attention],
    config: &TrainConfig,
) -> Result<HeldOutLoss, TrainError> {
    let loss = |keep: &dyn Fn(&TrainingQuery) -> bool| {
        let examples: Vec<&Example> = rows
            .iter()
            .filter(|row| keep(row))
            .map(|row| &row.example)
            .collect();
        mean_loss(weights, &examples, config)
    };
    let mut by_level = [None; 6];
    for level in Level::ALL {
        by_level[level.index()] = loss(&|row| row.query.level == level)?;
    }
    let all = loss(&|_| true)?;
    let ranks = rows.iter().zip(attention).map(|(row, attention)| {
        let gold = row.gold();
        let ahead = |(i, a): (usize, &f32)| {
            *a > attention.mixture[gold] || (*a == attention.mixture[gold] && i < gold)
        };
        let rank = 1 + attention
            .mixture
            .iter()
            .enumerate()
            .filter(|x| ahead(*x))
            .count();
        1.0 / rank as f32
    });
    Ok(HeldOutLoss {
        // Without a held-out query of the two levels the others decide; without any, nothing beats
        // anything (NaN compares false).
        ship: loss(&decides)?.or(all).unwrap_or(f32::NAN),
        all: all.unwrap_or(f32::NAN),
        by_level,
        mrr: ranks.sum::<f32>() / rows.len().max(1) as f32,
    })
}

/// Attention of `weights` on every query, in chunks so that a cancel is heard.
fn attend(
    weights: &CollectionWeights,
    rows: &[&TrainingQuery],
    cancel: &CancellationToken,
) -> Result<Vec<Attention>, TrainError> {
    let model = CollectionModel::load(weights, DeviceKind::Flex)?;
    let mut all = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(32) {
        if cancel.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let inputs: Vec<AttendInput<'_>> = chunk
            .iter()
            .map(|row| AttendInput {
                z: row.example.z().view(),
                gate_inputs: row.example.gate_inputs(),
                feedback: row.example.feedback(),
                named: &[],
                query_vector: &row.vector,
            })
            .collect();
        all.extend(model.attend_batch(&inputs, Routing::Soft)?);
    }
    Ok(all)
}

type TypeAccuracy = (Option<f32>, [Option<(f32, usize)>; 8]);

fn type_accuracy(rows: &[&TrainingQuery], weights: &CollectionWeights) -> TypeAccuracy {
    let Some(classifier) = weights.type_classifier() else {
        return (None, [None; 8]);
    };
    let (mut right, mut count) = ([0usize; 8], [0usize; 8]);
    for row in rows {
        let label = row.query.query_type;
        count[label] += 1;
        let predicted = argmax(&classifier.posterior(&row.type_vector));
        right[label] += usize::from(predicted == Some(label));
    }
    let share =
        |right: usize, count: usize| (count > 0).then(|| (right as f32 / count as f32, count));
    let overall = share(right.iter().sum(), count.iter().sum()).map(|(share, _)| share);
    (overall, std::array::from_fn(|i| share(right[i], count[i])))
}

/// Mean gate weight per head over queries; zeros without any.
#[must_use]
pub fn head_utilization(attention: &[Attention]) -> [f32; NUM_HEADS] {
    let mut mean = [0.0; NUM_HEADS];
    for query in attention {
        for (m, weight) in mean.iter_mut().zip(&query.head_weights) {
            *m += weight / attention.len() as f32;
        }
    }
    mean
}

/// Diversity of the heads, over the first hundred queries with two candidates or more.
#[must_use]
pub fn head_diversity(attention: &[Attention]) -> HeadDiversity {
    let (mut spearman, mut overlap, mut pairs) = (0.0f64, 0.0f64, 0u32);
    let usable = attention.iter().filter(|query| query.mixture.len() > 1);
    for query in usable.take(DIVERSITY_QUERIES) {
        // A head without weight is not there: feedback without a latent space or a margin.
        let heads: Vec<&[f32]> = query
            .head_attn
            .iter()
            .zip(&query.head_weights)
            .filter(|(_, weight)| **weight > 0.0)
            .map(|(head, _)| head.as_slice())
            .collect();
        // The softmax keeps the order, so ranks of attentions are ranks of logits.
        let ranks: Vec<Vec<f64>> = heads.iter().map(|head| fractional_ranks(head)).collect();
        for a in 0..ranks.len() {
            for b in a + 1..ranks.len() {
                let shared = heads[a].iter().zip(heads[b]);
                overlap += shared.map(|(x, y)| f64::from(x.min(*y))).sum::<f64>();
                spearman += correlation(&ranks[a], &ranks[b]);
                pairs += 1;
            }
        }
    }
    if pairs == 0 {
        return HeadDiversity::default();
    }
    HeadDiversity {
        spearman: (1.0 - spearman / f64::from(pairs)) as f32,
        attention: (1.0 - overlap / f64::from(pairs)) as f32,
    }
}

/// Ranks from 0; equal values share their mean rank.
fn fractional_ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..]
            .iter()
            .take_while(|i| values[**i] == values[order[start]])
            .count();
        for i in &order[start..start + same] {
            ranks[*i] = start as f64 + (same - 1) as f64 / 2.0;
        }
        start += same;
    }
    ranks
}

/// Pearson correlation; 0 where one side is constant.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - mean_a) * (y - mean_b);
        aa += (x - mean_a).powi(2);
        bb += (y - mean_b).powi(2);
    }
    if aa > 0.0 && bb > 0.0 {
        ab / (aa * bb).sqrt()
    } else {
        0.0
    }
}

impl Report {
    /// Named numbers for manifests and jobs. Values that do not exist are left out.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        let mut put = |name: String, value: f32| {
            if value.is_finite() {
                metrics.insert(name, f64::from(value));
            }
        };
        put("held_out_queries".into(), self.held_out as f32);
        for (who, losses) in [
            ("prior", Some(&self.prior)),
            ("trained", self.trained.as_ref()),
        ] {
            let Some(losses) = losses else { continue };
            put(format!("held_out_loss.{who}"), losses.ship);
            put(format!("held_out_loss_all.{who}"), losses.all);
            put(format!("held_out_mrr.{who}"), losses.mrr);
            for (level, loss) in LEVELS.iter().zip(losses.by_level) {
                put(
                    format!("held_out_loss_{level}.{who}"),
                    loss.unwrap_or(f32::NAN),
                );
            }
        }
        put(
            "routing_accuracy".into(),
            self.routing_accuracy.unwrap_or(f32::NAN),
        );
        put(
            "routing_accuracy_worded".into(),
            self.routing_accuracy_worded.unwrap_or(f32::NAN),
        );
        for (name, accuracy) in QUERY_TYPES.iter().zip(self.accuracy_by_type) {
            put(
                format!("routing_accuracy.{name}"),
                accuracy.map_or(f32::NAN, |(share, _)| share),
            );
        }
        for (head, weight) in HEADS.iter().zip(self.head_utilization) {
            put(format!("head_utilization.{head}"), weight);
        }
        put(
            "head_diversity.spearman".into(),
            self.head_diversity.spearman,
        );
        put(
            "head_diversity.attention".into(),
            self.head_diversity.attention,
        );
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention(heads: Vec<Vec<f32>>) -> Attention {
        Attention {
            attn_weight: heads[0].clone(),
            mixture: heads[0].clone(),
            head_weights: vec![1.0 / heads.len() as f32; heads.len()],
            head_attn: heads,
            levels: Vec::new(),
            types: Vec::new(),
        }
    }

    #[test]
    fn equal_heads_have_no_diversity_and_opposite_ones_two() {
        let same = attention(vec![vec![0.5, 0.3, 0.2]; 8]);
        let diversity = head_diversity(&[same]);
        assert!(diversity.spearman.abs() < 1e-6 && diversity.attention.abs() < 1e-6);
        let opposite = attention(vec![vec![0.7, 0.2, 0.1], vec![0.1, 0.2, 0.7]]);
        let diversity = head_diversity(&[opposite]);
        assert!((diversity.spearman - 2.0).abs() < 1e-6);
        assert!((diversity.attention - 0.6).abs() < 1e-6);
        assert_eq!(head_diversity(&[]), HeadDiversity::default());
        assert_eq!(
            head_diversity(&[attention(vec![vec![1.0]; 8])]),
            HeadDiversity::default()
        );
    }

    #[test]
    fn equal_values_share_ranks() {
        assert_eq!(
            fractional_ranks(&[0.3, 0.1, 0.3, 0.9]),
            [1.5, 0.0, 1.5, 3.0]
        );
        assert_eq!(correlation(&[1.0, 1.0], &[0.0, 1.0]), 0.0);
    }
}
