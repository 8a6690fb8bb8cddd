//! Pseudo-labels by a cross-encoder, for queries that are trained on.
//!
//! A synthetic query has one source passage, but others may answer it as well, and training would
//! push them down. So the gold and the likeliest other candidates are scored: what the cross-encoder
//! finds at least as good as the gold becomes relevant too, and a query whose gold it finds far worse
//! than another passage is not trained on. Queries with a masked gold are left alone: there the rest
//! of the passage is meant to be found although its best words are hidden.

use moerag_encoder::CrossEncoder;
use moerag_retrieve::encoded_text;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

use super::config::CrossEncoderConfig;
use super::counts;
use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use crate::train::{TrainingData, TrainingQuery};

/// Candidates scored beside the gold: those that the prior attends to most.
const OTHERS: usize = 8;
/// Logits by which another candidate must beat the gold for the query to be dropped. Logits of
/// cross-encoders for ranking run from about -11 to 11; four are odds of fifty to one.
pub const DROP_MARGIN: f32 = 4.0;

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Queries judged.
    queries: usize,
    /// Pairs scored.
    pairs: usize,
    /// Queries left alone because the budget was spent.
    unjudged: usize,
    /// Candidates that became relevant.
    positives: usize,
    /// Queries dropped.
    dropped: usize,
}

impl Report {
    pub(super) fn metrics(&self) -> impl Iterator<Item = (String, f64)> {
        counts(
            "cross_encoder",
            [
                ("queries", self.queries as u64),
                ("pairs", self.pairs as u64),
                ("unjudged", self.unjudged as u64),
                ("positives_added", self.positives as u64),
                ("dropped", self.dropped as u64),
            ],
        )
    }

    /// One sentence for the job.
    pub(super) fn note(&self) -> String {
        let over = match self.unjudged {
            0 => String::new(),
            unjudged => {
                format!("; {unjudged} more are beyond train.teachers.cross_encoder.max_pairs")
            }
        };
        format!(
            "the cross-encoder judged {} queries: {} passages made relevant, {} queries dropped{over}",
            self.queries, self.positives, self.dropped
        )
    }
}

/// Judges one query by the scores (logits) of its gold and of other candidates: the positions of
/// those others that are relevant too, or `None` when the query is to be dropped, because one of
/// them beats the gold by more than [`DROP_MARGIN`].
#[must_use]
pub fn judge(gold: f32, others: &[f32]) -> Option<Vec<usize>> {
    if others.iter().any(|score| score - gold > DROP_MARGIN) {
        return None;
    }
    Some((0..others.len()).filter(|i| others[*i] >= gold).collect())
}

/// One query's rows to score, the gold's first.
struct Plan {
    query: usize,
    rows: Vec<usize>,
}

/// Corrects `data` in place.
pub(super) fn label(
    network: &CrossEncoder,
    config: &CrossEncoderConfig,
    corpus: &TrainingCorpus,
    data: &mut TrainingData,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Report, TrainError> {
    let (plans, unjudged) = plan(&data.queries, config.max_pairs);
    let pairs: Vec<Pair> = plans.iter().flat_map(|plan| pairs(data, plan)).collect();
    let scores = score(
        network,
        config.batch,
        corpus,
        data,
        &pairs,
        progress,
        cancel,
    )?;
    let mut report = Report {
        queries: plans.len(),
        pairs: pairs.len(),
        unjudged,
        ..Report::default()
    };
    let mut dropped = vec![false; data.queries.len()];
    let mut first = 0;
    for plan in &plans {
        let own = &scores[first..first + plan.rows.len()];
        first += plan.rows.len();
        let Some(also) = judge(own[0], &own[1..]) else {
            dropped[plan.query] = true;
            report.dropped += 1;
            continue;
        };
        if !also.is_empty() {
            report.positives += also.len();
            let mut gold = vec![plan.rows[0]];
            gold.extend(also.iter().map(|i| plan.rows[i + 1]));
            data.queries[plan.query].example.set_gold(gold)?;
        }
    }
    let mut dropped = dropped.into_iter();
    data.queries.retain(|_| !dropped.next().unwrap_or(false));
    Ok(report)
}

/// What is scored within the budget, and how many queries are beyond it.
fn plan(queries: &[TrainingQuery], max_pairs: usize) -> (Vec<Plan>, usize) {
    let mut plans = Vec::new();
    let (mut pairs, mut unjudged) = (0, 0);
    for (query, row) in queries.iter().enumerate() {
        let masked = row.query.cut || !row.query.hidden_terms.is_empty();
        if row.held_out || masked {
            continue;
        }
        let rows = rows_to_score(row.gold(), row.example.anchor());
        if unjudged > 0 || pairs + rows.len() > max_pairs {
            unjudged += 1;
            continue;
        }
        pairs += rows.len();
        plans.push(Plan { query, rows });
    }
    (plans, unjudged)
}

/// The gold and the candidates with the most attention `[n]` beside it; ties by row.
fn rows_to_score(gold: usize, attention: &[f32]) -> Vec<usize> {
    let mut others: Vec<usize> = (0..attention.len()).filter(|row| *row != gold).collect();
    others.sort_by(|a, b| attention[*b].total_cmp(&attention[*a]).then(a.cmp(b)));
    others.truncate(OTHERS);
    std::iter::once(gold).chain(others).collect()
}

/// Indices of a query and of a passage.
#[derive(Clone, Copy)]
struct Pair {
    query: usize,
    passage: usize,
}

fn pairs(data: &TrainingData, plan: &Plan) -> Vec<Pair> {
    let candidates = &data.queries[plan.query].candidates;
    let pair = |row: &usize| Pair {
        query: plan.query,
        passage: candidates[*row],
    };
    plan.rows.iter().map(pair).collect()
}

/// Scores in the order of `pairs`. Batches hold pairs of similar length and depend on the pairs
/// alone, not on threads, so the scores do too.
fn score(
    network: &CrossEncoder,
    batch: usize,
    corpus: &TrainingCorpus,
    data: &TrainingData,
    pairs: &[Pair],
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Vec<f32>, TrainError> {
    let clock = StageClock::start(Stage::Views, pairs.len(), progress);
    let length = |i: &usize| {
        let (query, passage) = (
            &data.queries[pairs[*i].query],
            &corpus.texts[pairs[*i].passage],
        );
        query.query.text.len() + passage.title.len() + passage.text.len()
    };
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(length);
    let done = AtomicUsize::new(0);
    let scored: Vec<Vec<f32>> = order
        .par_chunks(batch.max(1))
        .map(|chunk| {
            if cancel.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let texts: Vec<(&str, String)> = chunk
                .iter()
                .map(|i| {
                    let passage = &corpus.texts[pairs[*i].passage];
                    let query = data.queries[pairs[*i].query].query.text.as_str();
                    (query, encoded_text(&passage.title, &passage.text))
                })
                .collect();
            let scores = network.score(&texts).map_err(TrainError::CrossEncoder)?;
            clock.advance(
                done.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len(),
                None,
            );
            Ok(scores)
        })
        .collect::<Result<_, TrainError>>()?;
    let mut scores = vec![0.0; pairs.len()];
    for (i, score) in order.into_iter().zip(scored.into_iter().flatten()) {
        scores[i] = score;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_candidates_are_scored_after_the_gold() {
        assert_eq!(rows_to_score(1, &[0.1, 0.9, 0.3, 0.1]), [1, 2, 0, 3]);
        assert_eq!(rows_to_score(0, &[1.0]), [0]);
        let attention: Vec<f32> = (0..40u8).map(f32::from).collect();
        assert_eq!(
            rows_to_score(0, &attention),
            [0, 39, 38, 37, 36, 35, 34, 33, 32]
        );
    }
}
