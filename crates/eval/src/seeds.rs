//! Several trainings of one set that differ by their seed, and what they have in common.

use std::collections::BTreeMap;

use moerag_model::ALL_HEADS;
use trainer_worker::evaluate::{head_diversity, head_utilization};
use trainer_worker::{TrainOutcome, TrainStatus};

use crate::methods::Method;
use crate::metrics::Metrics;
use crate::report::{HeadDiversity, HeldOutLoss, QueryReport, SetReport};
use crate::scoring::Judged;

/// One training and its figures.
pub(crate) struct Round {
    pub(crate) outcome: TrainOutcome,
    /// Whether the router serves what was trained.
    pub(crate) trained: bool,
    pub(crate) judged: Vec<Judged>,
}

/// Each query with the mean of its metrics over the seeds; the rest is the first seed's.
pub(crate) fn merge<'a>(rounds: impl Iterator<Item = &'a [Judged]> + Clone) -> Vec<QueryReport> {
    let Some(first) = rounds.clone().next() else {
        return Vec::new();
    };
    first
        .iter()
        .enumerate()
        .map(|(at, judged)| {
            let mut report = judged.report.clone();
            for (method, metrics) in &mut report.methods {
                let of_seeds = rounds
                    .clone()
                    .filter_map(|round| round.get(at)?.report.methods.get(method));
                *metrics = Metrics::mean(of_seeds);
            }
            report
        })
        .collect()
}

/// What the trainings say about a set, beside the metrics: means over the seeds; heads, digest and
/// reason are the first seed's.
pub(crate) fn report(methods: &[Method], rounds: &[Round]) -> SetReport {
    let Some(first) = rounds.first() else {
        return SetReport::default();
    };
    let attention: Vec<_> = first
        .judged
        .iter()
        .filter_map(|judged| judged.attention.clone())
        .collect();
    let measured = attention.iter().any(|query| query.mixture.len() > 1);
    let diversity = head_diversity(&attention);
    let outcomes = || rounds.iter().map(|round| &round.outcome);
    let trained = rounds.iter().all(|round| round.trained);
    SetReport {
        served: if trained { "trained" } else { "fallback_prior" }.to_owned(),
        fallback_reason: outcomes().find_map(|outcome| match &outcome.status {
            TrainStatus::Trained => None,
            TrainStatus::FallbackPrior { reason } => Some(reason.clone()),
        }),
        seed_sd: (rounds.len() > 1).then(|| seed_sd(methods, rounds)),
        routing_accuracy: mean(outcomes().map(|outcome| outcome.report.routing_accuracy)),
        weights_digest: first.outcome.digest.clone(),
        held_out_loss: HeldOutLoss {
            prior: mean(outcomes().map(|outcome| Some(outcome.report.prior.ship))),
            trained: mean(
                outcomes().map(|outcome| outcome.report.trained.as_ref().map(|l| l.ship)),
            ),
        },
        head_diversity: measured.then(|| HeadDiversity {
            spearman: f64::from(diversity.spearman),
            attention: f64::from(diversity.attention),
        }),
        head_utilization: ALL_HEADS
            .iter()
            .zip(head_utilization(&attention))
            .map(|(head, weight)| ((*head).to_owned(), f64::from(weight)))
            .collect(),
        ..SetReport::default()
    }
}

/// Mean over the seeds; `None` if one of them has no value.
fn mean(values: impl Iterator<Item = Option<f32>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values
        .map(|value| value.map(f64::from).filter(|value| value.is_finite()))
        .collect();
    let values = values.filter(|values| !values.is_empty())?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of each method's mean over the seeds.
fn seed_sd(methods: &[Method], rounds: &[Round]) -> BTreeMap<String, Metrics> {
    methods
        .iter()
        .map(|method| {
            let of_seeds: Vec<Metrics> = rounds
                .iter()
                .map(|round| {
                    let queries = round.judged.iter();
                    Metrics::mean(queries.filter_map(|q| q.report.methods.get(method.name())))
                })
                .collect();
            (method.name().to_owned(), Metrics::sd(&of_seeds))
        })
        .collect()
}
