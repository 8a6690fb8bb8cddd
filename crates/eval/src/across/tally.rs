//! Adding up what was judged.

use std::collections::BTreeMap;

use super::merged::NAMES;
use super::{AcrossReport, Answer, Member, TogetherSet};
use crate::bootstrap;
use crate::metrics::Metrics;
use crate::report::QueryReport;

/// What the sums are kept of, by set.
pub(super) struct Tally {
    queries: Vec<Vec<Option<QueryReport>>>,
    own_first: Vec<usize>,
    weights: Vec<Vec<f64>>,
    pub(super) transfer: Vec<Vec<Vec<Metrics>>>,
}

impl Tally {
    pub(super) fn new(members: &[Member]) -> Tally {
        let sets = members.len();
        Tally {
            queries: members
                .iter()
                .map(|m| vec![None; m.queries.len()])
                .collect(),
            own_first: vec![0; sets],
            weights: vec![vec![0.0; sets]; sets],
            transfer: vec![vec![Vec::new(); sets]; sets],
        }
    }

    pub(super) fn take(
        &mut self,
        answer: &Answer,
        metrics: BTreeMap<&str, Vec<Metrics>>,
        member: &Member,
    ) {
        let own = answer.own;
        for (sum, weight) in self.weights[own].iter_mut().zip(&answer.weights) {
            *sum += weight / member.queries.len() as f64;
        }
        let own_weight = answer.weights[own];
        if own_weight > 0.0 && answer.weights.iter().all(|weight| *weight <= own_weight) {
            self.own_first[own] += 1;
        }
        let mean = |(name, of_seeds): (&str, Vec<Metrics>)| {
            (name.to_owned(), Metrics::mean(of_seeds.iter()))
        };
        self.queries[own][answer.at] = Some(QueryReport {
            set: member.name.clone(),
            methods: metrics.into_iter().map(mean).collect(),
            ..QueryReport::default()
        });
    }

    pub(super) fn report(self, members: &[Member], seed: u64) -> AcrossReport {
        let queries: Vec<Vec<QueryReport>> = self
            .queries
            .into_iter()
            .map(|queries| queries.into_iter().flatten().collect())
            .collect();
        let by_set: Vec<&[QueryReport]> = queries.iter().map(Vec::as_slice).collect();
        let name = |at: usize| members[at].name.clone();
        let together: BTreeMap<String, TogetherSet> = (0..members.len())
            .map(|at| {
                let n_queries = queries[at].len();
                let set = TogetherSet {
                    n_queries,
                    methods: Metrics::mean_by_name(NAMES, queries[at].iter().map(|q| &q.methods)),
                    deltas: bootstrap::deltas(&[by_set[at]], seed),
                    own_first: self.own_first[at] as f64 / n_queries.max(1) as f64,
                    weights: self.weights[at]
                        .iter()
                        .enumerate()
                        .map(|(i, w)| (name(i), *w))
                        .collect(),
                };
                (name(at), set)
            })
            .collect();
        let transfer = self.transfer.iter().enumerate().map(|(served, trained)| {
            let row = trained.iter().enumerate();
            let row = row.map(|(at, metrics)| (name(at), Metrics::mean(metrics.iter())));
            (name(served), row.collect())
        });
        AcrossReport {
            together_macro: Metrics::mean_by_name(NAMES, together.values().map(|set| &set.methods)),
            together_deltas: bootstrap::deltas(&by_set, seed),
            transfer: transfer.collect(),
            together,
            seconds: 0.0,
        }
    }
}
