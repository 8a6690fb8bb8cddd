//! Every method and every set's weights on the answers to a few queries.

use std::collections::BTreeMap;

use moerag_model::{
    Attention, CollectionModel, CollectionWeights, DeviceKind, ModelError, Routing,
    collection_weights,
};
use rayon::prelude::*;

use super::merged::{Merged, NAMES};
use super::tally::Tally;
use super::{Answer, Member};
use crate::metrics::Metrics;
use crate::run::BoxError;
use crate::scoring::attend;

/// Largest difference between the collection weights of the router and those computed here.
const WEIGHT_TOLERANCE: f64 = 1e-3;

/// What one seed's models make of a query.
struct Attended {
    attention: Vec<Option<Attention>>,
    weights: Vec<f64>,
}

/// Judges the answers and adds them up.
pub(super) fn judge(
    members: &[Member],
    answers: &[Answer],
    tally: &mut Tally,
) -> Result<(), BoxError> {
    let prior = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex)?;
    let priors: Vec<Vec<Option<Attention>>> = answers
        .par_iter()
        .map(|answer| untrained(answer, &prior))
        .collect::<Result<_, _>>()?;
    let seeds = members.first().map_or(0, |member| member.models.len());
    let mut metrics: Vec<BTreeMap<&str, Vec<Metrics>>> = vec![BTreeMap::new(); answers.len()];
    for seed in 0..seeds {
        let models: Vec<&CollectionModel> =
            members.iter().map(|member| &member.models[seed]).collect();
        let attended: Vec<Attended> = answers
            .par_iter()
            .map(|answer| attended(answer, &models))
            .collect::<Result<_, _>>()?;
        if seed == 0 {
            check_weights(answers, &attended)?;
        }
        let judged: Vec<(BTreeMap<&str, Metrics>, Vec<Metrics>)> = answers
            .par_iter()
            .enumerate()
            .map(|(i, answer)| {
                let other = &attended[(i + 1) % attended.len()];
                judge_one(answer, &models, &priors[i], &attended[i], other)
            })
            .collect::<Result<_, ModelError>>()?;
        for ((all, answer), (of_seed, transferred)) in metrics.iter_mut().zip(answers).zip(judged) {
            for (name, value) in of_seed {
                all.entry(name).or_default().push(value);
            }
            for (trained, value) in transferred.into_iter().enumerate() {
                tally.transfer[answer.own][trained].push(value);
            }
        }
    }
    for (answer, metrics) in answers.iter().zip(metrics) {
        tally.take(answer, metrics, &members[answer.own]);
    }
    Ok(())
}

fn attended(answer: &Answer, models: &[&CollectionModel]) -> Result<Attended, ModelError> {
    let cases = || answer.cases.iter().zip(models);
    let inputs: Vec<_> = cases()
        .map(|(case, model)| (*model, case.input().map(|input| input.gate_inputs)))
        .collect();
    Ok(Attended {
        attention: cases()
            .map(|(case, model)| attend(case, model, Routing::Soft))
            .collect::<Result<_, _>>()?,
        weights: collection_weights(&inputs)
            .into_iter()
            .map(f64::from)
            .collect(),
    })
}

/// The untrained mixture's attention in every collection.
fn untrained(
    answer: &Answer,
    prior: &CollectionModel,
) -> Result<Vec<Option<Attention>>, ModelError> {
    let cases = answer.cases.iter();
    cases
        .map(|case| attend(case, prior, Routing::Soft))
        .collect()
}

/// The figures would not be those of the service if it weighed the collections otherwise.
fn check_weights(answers: &[Answer], attended: &[Attended]) -> Result<(), BoxError> {
    let served = answers.iter().flat_map(|answer| &answer.weights);
    let here = attended.iter().flat_map(|attended| &attended.weights);
    let worst = served
        .zip(here)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    if worst > WEIGHT_TOLERANCE {
        return Err(format!("the router weighed a collection differently by {worst}").into());
    }
    Ok(())
}

/// Every method on the merged ranking, and the mixture on the own collection under everybody's
/// weights. `other` is what the same models make of another query.
fn judge_one<'n>(
    answer: &Answer,
    models: &[&CollectionModel],
    prior: &[Option<Attention>],
    attended: &Attended,
    other: &Attended,
) -> Result<(BTreeMap<&'n str, Metrics>, Vec<Metrics>), ModelError> {
    let merged = Merged {
        cases: &answer.cases,
        own: answer.own,
        models,
        attention: &attended.attention,
        weights: &attended.weights,
        prior,
        other_attention: &other.attention,
        other_weights: &other.weights,
    };
    let methods = NAMES
        .iter()
        .map(|name| (*name, merged.judge(name)))
        .collect();
    let case = &answer.cases[answer.own];
    let transferred = models
        .iter()
        .map(|model| {
            let attention = attend(case, model, Routing::Soft)?;
            let ranking = attention.map_or_else(Vec::new, |a| case.ranked(&a.mixture));
            Ok(case.judge(&ranking).0)
        })
        .collect::<Result<_, ModelError>>()?;
    Ok((methods, transferred))
}
