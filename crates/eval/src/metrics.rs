//! Ranking metrics with binary gain (DESIGN.md section 6).
//!
//! Gain = (score > 0); the ideal DCG is over min(k, |gold|); gold that is no candidate counts as
//! missed; skipped entries are taken out of the ranking before it is judged.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

/// The metrics of one query, or their mean over queries; all in 0..=1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Normalised discounted cumulative gain of the first 10.
    #[serde(rename = "ndcg@10")]
    pub ndcg_at_10: f64,
    /// Reciprocal rank of the first gold passage, 0 below rank 10.
    #[serde(rename = "mrr@10")]
    pub mrr_at_10: f64,
    /// Whether rank 1 is gold.
    #[serde(rename = "success@1")]
    pub success_at_1: f64,
    /// Whether one of the first 5 is gold.
    #[serde(rename = "success@5")]
    pub success_at_5: f64,
    /// Share of the gold in the first 10.
    #[serde(rename = "recall@10")]
    pub recall_at_10: f64,
    /// Share of the gold in the first 100.
    #[serde(rename = "recall@100")]
    pub recall_at_100: f64,
}

/// Names and values in the order of the tables.
pub const COLUMNS: [&str; 6] = [
    "ndcg@10",
    "mrr@10",
    "success@1",
    "success@5",
    "recall@10",
    "recall@100",
];

impl Metrics {
    /// The values in the order of [`COLUMNS`].
    #[must_use]
    pub fn values(&self) -> [f64; 6] {
        [
            self.ndcg_at_10,
            self.mrr_at_10,
            self.success_at_1,
            self.success_at_5,
            self.recall_at_10,
            self.recall_at_100,
        ]
    }

    fn from_values(v: [f64; 6]) -> Metrics {
        Metrics {
            ndcg_at_10: v[0],
            mrr_at_10: v[1],
            success_at_1: v[2],
            success_at_5: v[3],
            recall_at_10: v[4],
            recall_at_100: v[5],
        }
    }

    /// The mean over queries, or over sets; zeros for none.
    #[must_use]
    pub fn mean<'a>(all: impl IntoIterator<Item = &'a Metrics>) -> Metrics {
        let mut sum = [0.0; 6];
        let mut n = 0.0;
        for metrics in all {
            for (sum, value) in sum.iter_mut().zip(metrics.values()) {
                *sum += value;
            }
            n += 1.0;
        }
        if n > 0.0 {
            sum.iter_mut().for_each(|value| *value /= n);
        }
        Metrics::from_values(sum)
    }

    /// The mean under each name over queries, or over sets; those without the name do not count.
    pub(crate) fn mean_by_name<'a>(
        names: impl IntoIterator<Item = &'static str>,
        all: impl Iterator<Item = &'a BTreeMap<String, Metrics>> + Clone,
    ) -> BTreeMap<String, Metrics> {
        let mean = |name: &'static str| Metrics::mean(all.clone().filter_map(|of| of.get(name)));
        names
            .into_iter()
            .map(|name| (name.to_owned(), mean(name)))
            .collect()
    }

    /// Sample standard deviation of each metric; zeros for fewer than two.
    #[must_use]
    pub fn sd(all: &[Metrics]) -> Metrics {
        let mean = Metrics::mean(all).values();
        let mut sum = [0.0; 6];
        for metrics in all {
            for ((sum, value), mean) in sum.iter_mut().zip(metrics.values()).zip(mean) {
                *sum += (value - mean).powi(2);
            }
        }
        let n = all.len().saturating_sub(1).max(1) as f64;
        Metrics::from_values(sum.map(|sum| (sum / n).sqrt()))
    }
}

/// Judges one ranking (best first, each id once).
#[must_use]
pub fn judge(ranking: &[&str], gold: &HashSet<String>, skipped: &HashSet<String>) -> Metrics {
    if gold.is_empty() {
        return Metrics::default();
    }
    // Ranks from 0 of the gold passages among the first 100 judged ones, ascending.
    let hits: Vec<usize> = ranking
        .iter()
        .filter(|id| !skipped.contains(**id))
        .take(100)
        .enumerate()
        .filter(|(_, id)| gold.contains(**id))
        .map(|(rank, _)| rank)
        .collect();
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let in_first = |k: usize| hits.iter().filter(|rank| **rank < k).count() as f64;
    let dcg: f64 = hits
        .iter()
        .filter(|rank| **rank < 10)
        .map(|rank| discount(*rank))
        .sum();
    let ideal: f64 = (0..gold.len().min(10)).map(discount).sum();
    let first = hits.first().copied();
    let within = |k: usize| f64::from(u8::from(first.is_some_and(|rank| rank < k)));
    Metrics {
        ndcg_at_10: dcg / ideal,
        mrr_at_10: first
            .filter(|rank| *rank < 10)
            .map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0)),
        success_at_1: within(1),
        success_at_5: within(5),
        recall_at_10: in_first(10) / gold.len() as f64,
        recall_at_100: in_first(100) / gold.len() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn two_gold_of_three_found_at_ranks_2_and_5() {
        let m = judge(
            &["x", "a", "y", "z", "b", "w"],
            &set(&["a", "b", "c"]),
            &set(&[]),
        );
        // DCG = 1/log2(3) + 1/log2(6) = .6309297535714574 + .38685280723454163;
        // ideal of three = 1 + .6309297535714574 + .5 = 2.1309297535714578.
        close(
            m.ndcg_at_10,
            1.017_782_560_805_999_1 / 2.130_929_753_571_457_8,
        );
        close(m.mrr_at_10, 0.5);
        close(m.success_at_1, 0.0);
        close(m.success_at_5, 1.0);
        close(m.recall_at_10, 2.0 / 3.0);
        close(m.recall_at_100, 2.0 / 3.0);
    }

    #[test]
    fn a_perfect_ranking_of_more_gold_than_ten_has_ndcg_one() {
        let ids: Vec<String> = (0..12).map(|i| format!("g{i}")).collect();
        let ranking: Vec<&str> = ids.iter().map(String::as_str).collect();
        let m = judge(&ranking, &ids.iter().cloned().collect(), &set(&[]));
        close(m.ndcg_at_10, 1.0);
        close(m.recall_at_10, 10.0 / 12.0);
        close(m.recall_at_100, 1.0);
        close(m.success_at_1, 1.0);
    }

    #[test]
    fn below_rank_ten_only_recall_at_100_counts() {
        let ids: Vec<String> = (0..150).map(|i| format!("p{i}")).collect();
        let ranking: Vec<&str> = ids.iter().map(String::as_str).collect();
        let m = judge(&ranking, &set(&["p10", "p99", "p100"]), &set(&[]));
        close(m.ndcg_at_10, 0.0);
        close(m.mrr_at_10, 0.0);
        close(m.recall_at_10, 0.0);
        close(m.recall_at_100, 2.0 / 3.0);
    }

    #[test]
    fn a_skipped_entry_gives_its_rank_to_the_next_one() {
        let m = judge(&["r", "a"], &set(&["a"]), &set(&["r"]));
        close(m.ndcg_at_10, 1.0);
        close(m.mrr_at_10, 1.0);
        close(m.success_at_1, 1.0);
    }

    #[test]
    fn nothing_found_and_an_empty_ranking_are_zero() {
        assert_eq!(judge(&["x"], &set(&["a"]), &set(&[])), Metrics::default());
        assert_eq!(judge(&[], &set(&["a"]), &set(&[])), Metrics::default());
    }

    #[test]
    fn the_mean_is_per_metric() {
        let a = judge(&["a"], &set(&["a"]), &set(&[]));
        let b = judge(&["x", "a"], &set(&["a"]), &set(&[]));
        let mean = Metrics::mean([&a, &b]);
        close(mean.mrr_at_10, 0.75);
        close(mean.success_at_1, 0.5);
        close(mean.recall_at_10, 1.0);
        assert_eq!(Metrics::mean([]), Metrics::default());
    }
}
