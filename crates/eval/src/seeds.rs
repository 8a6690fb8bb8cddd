//! Several trainings of one set that differ by their seed, and what they have in common.

use std::collections::BTreeMap;

use moerag_model::{HEADS, QUERY_TYPES, argmax};
use router_service::Source;
use trainer_worker::evaluate::{head_diversity, head_utilization};
use trainer_worker::{TrainOutcome, TrainStatus};

use crate::case::Case;
use crate::methods::Method;
use crate::metrics::Metrics;
use crate::report::{HeadDiversity, HeldOutLoss, QueryReport, SetReport};
use crate::scoring::Judged;

/// One training and its figures.
pub(crate) struct Round {
    pub(crate) outcome: TrainOutcome,
    /// One for each case.
    pub(crate) judged: Vec<Judged>,
}

/// Each query with the mean of its metrics over the seeds; the rest is the first seed's.
pub(crate) fn merge(set: &str, cases: &[Case], rounds: &[Round]) -> Vec<QueryReport> {
    let Some(first) = rounds.first() else {
        return Vec::new();
    };
    cases
        .iter()
        .zip(&first.judged)
        .enumerate()
        .map(|(at, (case, judged))| {
            let of_seeds = || rounds.iter().filter_map(|round| round.judged.get(at));
            let methods = judged.methods.keys().map(|name| {
                let mean = Metrics::mean(of_seeds().filter_map(|j| j.methods.get(name)));
                ((*name).to_owned(), mean)
            });
            let ablations = judged.ablations.keys().map(|name| {
                let mean = Metrics::mean(of_seeds().filter_map(|j| j.ablations.get(name)));
                (name.clone(), mean)
            });
            let attention = judged.attention.as_ref();
            let heads = attention.map_or(&[][..], |attention| &attention.head_weights);
            let types = attention.map_or(&[][..], |attention| &attention.types);
            QueryReport {
                set: set.to_owned(),
                query_id: case.query.id.clone(),
                query: case.query.text.clone(),
                searched_for: case.searched_for.clone(),
                n_gold: case.query.gold.len(),
                n_candidates: case.documents.len(),
                n_scored: case.survivors.len(),
                overlap: case.overlap,
                query_type: argmax(types)
                    .and_then(|at| QUERY_TYPES.get(at))
                    .map_or("", |name| name)
                    .to_owned(),
                head_weights: HEADS
                    .iter()
                    .zip(heads)
                    .map(|(head, weight)| ((*head).to_owned(), *weight))
                    .collect(),
                first_gold_rank: judged
                    .first_gold_rank
                    .iter()
                    .map(|(name, rank)| ((*name).to_owned(), *rank))
                    .collect(),
                methods: methods.collect(),
                ablations: ablations.collect(),
            }
        })
        .collect()
}

/// What the trainings say about a set, beside the metrics: means over the seeds. Heads, what serves,
/// its digest and the reason are the first seed's, whose weights the router serves.
pub(crate) fn report(methods: &[Method], rounds: &[Round], source: Source) -> SetReport {
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
    let (fallback_reason, n_fallback_seeds) = fallbacks(outcomes().map(|outcome| &outcome.status));
    let trained = source == Source::Trained;
    SetReport {
        served: if trained { "trained" } else { "fallback_prior" }.to_owned(),
        fallback_reason,
        n_fallback_seeds,
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
        head_utilization: HEADS
            .iter()
            .zip(head_utilization(&attention))
            .map(|(head, weight)| ((*head).to_owned(), f64::from(weight)))
            .collect(),
        ..SetReport::default()
    }
}

/// Why the first training fell back, if it did, and how many of all did.
fn fallbacks<'a>(statuses: impl Iterator<Item = &'a TrainStatus>) -> (Option<String>, usize) {
    let (mut first, mut n) = (None, 0);
    for (at, status) in statuses.enumerate() {
        if let TrainStatus::FallbackPrior { reason } = status {
            n += 1;
            if at == 0 {
                first = Some(reason.clone());
            }
        }
    }
    (first, n)
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
                    Metrics::mean(queries.filter_map(|q| q.methods.get(method.name())))
                })
                .collect();
            (method.name().to_owned(), Metrics::sd(&of_seeds))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_first_seed_s_and_all_that_fell_back_are_counted() {
        let fell_back = |reason: &str| TrainStatus::FallbackPrior {
            reason: reason.to_owned(),
        };
        let later = [TrainStatus::Trained, fell_back("no gain")];
        assert_eq!(fallbacks(later.iter()), (None, 1));
        let both = [fell_back("too little"), fell_back("no gain")];
        assert_eq!(fallbacks(both.iter()), (Some("too little".to_owned()), 2));
    }
}
