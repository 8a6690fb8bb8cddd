//! One ranking of the candidates of all collections, by every method.

use moerag_model::{Attention, CollectionModel};

use crate::case::{Case, order};
use crate::metrics::{Metrics, judge};
use crate::scoring::reciprocal_ranks;

/// Methods, in the order of the tables. `bm25`, `dense`, `rrf` and `token` compare raw scores across
/// the collections; `equal_collections` is the mixture with the same weight for each of them,
/// `shuffled_heads` under the head gates of another query, `shuffled_gate` under that query's
/// collection weights as well; `own_collection` is told which collection the query is of.
pub(crate) const NAMES: [&str; 10] = [
    "bm25",
    "dense",
    "rrf",
    "token",
    "prior",
    "equal_collections",
    "shuffled_heads",
    "shuffled_gate",
    "moe",
    "own_collection",
];

/// A query's candidates in all collections, with what the models make of them.
pub(crate) struct Merged<'a> {
    /// One for each collection.
    pub(crate) cases: &'a [Case],
    /// The collection that the query is of.
    pub(crate) own: usize,
    pub(crate) models: &'a [&'a CollectionModel],
    pub(crate) attention: &'a [Option<Attention>],
    pub(crate) weights: &'a [f64],
    /// The untrained mixture's attention.
    pub(crate) prior: &'a [Option<Attention>],
    /// The same models' attention to another query, and its weights.
    pub(crate) other_attention: &'a [Option<Attention>],
    pub(crate) other_weights: &'a [f64],
}

impl Merged<'_> {
    /// Metrics of a method of [`NAMES`].
    pub(crate) fn judge(&self, method: &str) -> Metrics {
        let ranking = match method {
            "bm25" => self.all(|case| &case.bm25),
            "dense" => self.all(|case| &case.dense),
            "rrf" => self.fused(),
            "token" => self.survivors(|at| self.cases[at].maxsim.clone()),
            "prior" => self.mixed(self.weights, |at| mixture(self.prior, at)),
            "equal_collections" => {
                let equal = vec![1.0; self.cases.len()];
                self.mixed(&equal, |at| mixture(self.attention, at))
            }
            "shuffled_heads" => self.mixed(self.weights, |at| self.shuffled(at)),
            "shuffled_gate" => self.mixed(self.other_weights, |at| self.shuffled(at)),
            "own_collection" => {
                let mut own = vec![0.0; self.cases.len()];
                own[self.own] = 1.0;
                self.mixed(&own, |at| mixture(self.attention, at))
            }
            _ => self.mixed(self.weights, |at| mixture(self.attention, at)),
        };
        self.judged(&ranking)
    }

    /// The mixture under the head gate that another query has in this collection.
    fn shuffled(&self, at: usize) -> Vec<f32> {
        let (own, other) = (&self.attention[at], &self.other_attention[at]);
        match (own, other) {
            (Some(own), Some(other)) => self.models[at].regated(own, &other.head_weights).mixture,
            _ => mixture(self.attention, at),
        }
    }

    /// `(collection, candidate)` by falling weight times mixture.
    fn mixed(&self, weights: &[f64], mixture: impl Fn(usize) -> Vec<f32>) -> Vec<(usize, usize)> {
        self.survivors(|at| {
            let weight = weights[at] as f32;
            mixture(at).into_iter().map(|a| weight * a).collect()
        })
    }

    fn survivors(&self, scores: impl Fn(usize) -> Vec<f32>) -> Vec<(usize, usize)> {
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for (at, case) in self.cases.iter().enumerate() {
            for (score, candidate) in scores(at).into_iter().zip(&case.survivors) {
                all.push(score);
                places.push((at, *candidate));
            }
        }
        ranked(&all, &places)
    }

    /// Candidates before pruning, best first.
    fn all(&self, scores: fn(&Case) -> &[f32]) -> Vec<(usize, usize)> {
        ranked(&self.scores(scores), &self.places())
    }

    fn fused(&self) -> Vec<(usize, usize)> {
        let (dense, bm25) = (self.scores(|c| &c.dense), self.scores(|c| &c.bm25));
        ranked(&reciprocal_ranks(&[&dense, &bm25]), &self.places())
    }

    /// Scores of all candidates, in the order of [`Self::places`].
    fn scores(&self, of: fn(&Case) -> &[f32]) -> Vec<f32> {
        self.cases.iter().flat_map(of).copied().collect()
    }

    fn places(&self) -> Vec<(usize, usize)> {
        let of_case = |(at, case): (usize, &Case)| {
            (0..case.documents.len()).map(move |candidate| (at, candidate))
        };
        self.cases.iter().enumerate().flat_map(of_case).collect()
    }

    /// Passages of other collections are wrong, whatever their ids.
    fn judged(&self, ranking: &[(usize, usize)]) -> Metrics {
        let own = &self.cases[self.own];
        let id = |(collection, candidate): &(usize, usize)| match *collection == self.own {
            true => own.documents[*candidate].as_str(),
            false => "",
        };
        let ids: Vec<&str> = ranking.iter().map(id).collect();
        judge(&ids, &own.query.gold, &own.query.skipped)
    }
}

/// Places by falling score.
fn ranked<S: Copy + Into<f64>>(scores: &[S], places: &[(usize, usize)]) -> Vec<(usize, usize)> {
    order(scores).into_iter().map(|at| places[at]).collect()
}

fn mixture(attention: &[Option<Attention>], at: usize) -> Vec<f32> {
    attention[at]
        .as_ref()
        .map_or_else(Vec::new, |attention| attention.mixture.clone())
}
