//! A query with everything about its candidates that does not depend on what was learned: scored
//! once by the router, ranked by every method of every seed.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use moerag_model::{AttendInput, Attention, Feedback};
use moerag_retrieve::View;
use ndarray::Array2;
use router_service::{AttendQuery, RouterEngine, Scored};
use xxhash_rust::xxh3::xxh3_64;

use crate::dataset::JudgedQuery;
use crate::metrics::{Metrics, judge};
use crate::run::BoxError;

/// One query, scored.
pub(crate) struct Case {
    /// The query and its judgements.
    pub(crate) query: JudgedQuery,
    /// The text that was searched for, where its spelling is another.
    pub(crate) searched_for: Option<String>,
    /// Ids of the candidates before pruning, `[n]`, in the order `(document id, ordinal)`.
    pub(crate) documents: Vec<String>,
    /// Cosine with the query, `[n]`.
    pub(crate) dense: Vec<f32>,
    /// BM25, `[n]`.
    pub(crate) bm25: Vec<f32>,
    /// The candidates that pruning left, ascending, `[m]`.
    pub(crate) survivors: Vec<usize>,
    /// MaxSim, `[m]`.
    pub(crate) maxsim: Vec<f32>,
    /// Z-scored views, `[m, 13]`.
    pub(crate) z: Array2<f32>,
    /// Inputs of the gate, `[56]`; empty without survivors.
    pub(crate) gate_inputs: Vec<f32>,
    /// What the feedback head reads.
    pub(crate) feedback: Option<Feedback>,
    /// Whether the query names the title of each survivor, `[m]`.
    pub(crate) named: Vec<bool>,
    /// Pooled vector of the query.
    pub(crate) vector: Vec<f32>,
    /// What the router served; none without survivors.
    pub(crate) served: Option<Attention>,
    /// Share of the query's terms, by idf, that its gold has, 0..=1: of the gold passage with the
    /// most. `None` when no gold survived.
    pub(crate) overlap: Option<f32>,
}

impl Case {
    /// Scores all queries with the router, as many at a time as there are cores; in their order.
    pub(crate) async fn collect(
        engine: &RouterEngine,
        collection: &str,
        queries: &[JudgedQuery],
        as_written: bool,
        progress: impl Fn(usize),
    ) -> Result<Vec<Case>, BoxError> {
        let width = std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let mut cases = stream::iter(queries)
            .map(|query| async move {
                let mut scored = engine.score(&ask(query, &[collection], as_written)).await?;
                let (scored, _) = scored.pop().ok_or("the router scored nothing")?;
                Ok::<Case, BoxError>(Case::new(query.clone(), Arc::unwrap_or_clone(scored)))
            })
            .buffered(width);
        let mut all = Vec::with_capacity(queries.len());
        while let Some(case) = cases.try_next().await? {
            all.push(case);
            progress(all.len());
        }
        Ok(all)
    }

    pub(crate) fn new(query: JudgedQuery, scored: Scored) -> Case {
        let cheap = scored.cheap.iter();
        let (dense, bm25) = cheap.map(|scores| (scores.dense, scores.bm25)).unzip();
        let cov = scored.views.raw.column(View::Cov as usize);
        let overlap = scored
            .survivors
            .iter()
            .zip(cov)
            .filter(|(i, _)| query.gold.contains(&scored.candidates[**i].at.document_id))
            .map(|(_, cov)| *cov)
            .reduce(f32::max);
        let searched_for = scored.respelled.then(|| scored.query.text.clone());
        Case {
            overlap,
            searched_for,
            maxsim: scored.views.raw.column(View::Maxsim as usize).to_vec(),
            documents: scored
                .candidates
                .iter()
                .map(|candidate| candidate.at.document_id.clone())
                .collect(),
            dense,
            bm25,
            survivors: scored.survivors,
            z: scored.views.z,
            gate_inputs: scored.gate_inputs,
            feedback: scored.feedback,
            named: scored.named,
            vector: scored.query.vector.clone(),
            served: scored.attention,
            query,
        }
    }

    /// The input of a mixture; `None` without survivors.
    pub(crate) fn input(&self) -> Option<AttendInput<'_>> {
        (!self.survivors.is_empty()).then(|| AttendInput {
            z: self.z.view(),
            gate_inputs: &self.gate_inputs,
            feedback: self.feedback.as_ref(),
            named: &self.named,
            query_vector: &self.vector,
        })
    }

    /// Rows of the survivors that are gold, for the ceilings.
    pub(crate) fn gold_rows(&self) -> Vec<usize> {
        let gold = |row: &usize| {
            let document = &self.documents[self.survivors[*row]];
            self.query.gold.contains(document)
        };
        (0..self.survivors.len()).filter(gold).collect()
    }

    /// Candidates, best first, from scores of the survivors.
    pub(crate) fn ranked(&self, scores: &[f32]) -> Vec<usize> {
        order(scores)
            .into_iter()
            .map(|row| self.survivors[row])
            .collect()
    }

    /// Metrics of a ranking of the candidates, and the rank from 1 of its first gold passage.
    pub(crate) fn judge(&self, ranking: &[usize]) -> (Metrics, Option<usize>) {
        let ids: Vec<&str> = ranking
            .iter()
            .map(|i| self.documents[*i].as_str())
            .collect();
        let metrics = judge(&ids, &self.query.gold, &self.query.skipped);
        let mut judged = ids.iter().filter(|id| !self.query.skipped.contains(**id));
        let first = judged.position(|id| self.query.gold.contains(*id));
        (metrics, first.map(|rank| rank + 1))
    }
}

/// The query as a client would ask it of `collections`; of all there are without any.
pub(crate) fn ask(query: &JudgedQuery, collections: &[&str], as_written: bool) -> AttendQuery {
    let mut request = AttendQuery::new(query.text.clone());
    request.truncate = true;
    request.as_written = as_written;
    request.collections = collections.iter().map(|&name| name.to_owned()).collect();
    request
}

/// Indices by falling score. Equal scores come in a fixed order that has nothing to do with their
/// places: the candidates are sorted by id, and the ids of a set may tell the gold from what was made
/// after it (`d0123` and its copy `near-0-d0123`).
pub(crate) fn order<S: Copy + Into<f64>>(scores: &[S]) -> Vec<usize> {
    let score = |at: usize| -> f64 { scores[at].into() };
    let tie = |at: usize| xxh3_64(&at.to_le_bytes());
    let mut at: Vec<usize> = (0..scores.len()).collect();
    at.sort_by(|a, b| {
        let falling = score(*b).total_cmp(&score(*a));
        falling.then_with(|| tie(*a).cmp(&tie(*b)))
    });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falling_scores_come_in_their_order_and_equal_ones_do_not_favour_a_place() {
        assert_eq!(order(&[0.5f32, 2.0, -1.0, 1.0]), [1, 3, 0, 2]);
        let first = |from: usize| {
            let mut scores = vec![0.0f32; from];
            scores.extend([1.0, 1.0]);
            order(&scores)[0] - from
        };
        let later = (0..200).map(first).sum::<usize>();
        assert!((70..=130).contains(&later), "{later} of 200");
        assert_eq!(order(&[1.0f32; 40]), order(&[2.0f32; 40]));
    }
}
