//! Paired bootstrap: how sure a difference between two methods is.
//!
//! Both methods answered the same queries, so the differences per query are resampled (Efron and
//! Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals). The mean
//! over sets resamples the queries within each set; the sets themselves are taken as they are. The
//! intervals hold for the queries, not for other seeds of the training.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::methods::Method;
use crate::metrics::{COLUMNS, Metrics};
use crate::report::QueryReport;

/// Resamples.
const RESAMPLES: usize = 2000;
/// Columns of [`COLUMNS`] that get intervals: nDCG@10 and MRR@10.
const MEASURED: usize = 2;

/// Low end of the 95 % interval, mean, high end.
pub type Interval = [f64; 3];
/// By metric.
pub type Deltas = BTreeMap<String, Interval>;

/// Intervals of `moe` minus every other method, by `moe-METHOD` and metric, over the queries of each
/// set of `sets`. Empty where a method or the queries are missing.
pub(crate) fn deltas(sets: &[&[QueryReport]], seed: u64) -> BTreeMap<String, Deltas> {
    let moe = Method::Moe.name();
    let first = sets.first().and_then(|queries| queries.first());
    let names = first.map_or_else(Vec::new, |query| query.methods.keys().collect());
    names
        .into_iter()
        .filter(|name| *name != moe)
        .filter_map(|other| {
            let of =
                |query: &QueryReport| Some((*query.methods.get(moe)?, *query.methods.get(other)?));
            let deltas = compare(sets, seed, of)?;
            Some((format!("{moe}-{other}"), deltas))
        })
        .collect()
}

/// Intervals of every ablation minus `moe`, by the ablation's name.
pub(crate) fn ablations(sets: &[&[QueryReport]], seed: u64) -> BTreeMap<String, Deltas> {
    let first = sets.first().and_then(|queries| queries.first());
    let names = first.map_or_else(Vec::new, |query| query.ablations.keys().cloned().collect());
    names
        .into_iter()
        .filter_map(|name| {
            let of = |query: &QueryReport| {
                let moe = query.methods.get(Method::Moe.name())?;
                Some((*query.ablations.get(&name)?, *moe))
            };
            let deltas = compare(sets, seed, of)?;
            Some((name, deltas))
        })
        .collect()
}

/// `None` if `of` has no pair of metrics for a query, or there are no queries.
fn compare(
    sets: &[&[QueryReport]],
    seed: u64,
    of: impl Fn(&QueryReport) -> Option<(Metrics, Metrics)>,
) -> Option<Deltas> {
    let difference = |query: &QueryReport| {
        let (a, b) = of(query)?;
        let (a, b) = (a.values(), b.values());
        Some(std::array::from_fn(|i| a[i] - b[i]))
    };
    let differences: Option<Vec<Vec<[f64; MEASURED]>>> = sets
        .iter()
        .map(|queries| queries.iter().map(difference).collect())
        .collect();
    let deltas = intervals(&differences?, seed);
    (!deltas.is_empty()).then_some(deltas)
}

fn intervals(sets: &[Vec<[f64; MEASURED]>], seed: u64) -> Deltas {
    if sets.is_empty() || sets.iter().any(Vec::is_empty) {
        return Deltas::new();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut resampled = vec![[0.0; MEASURED]; RESAMPLES];
    for means in &mut resampled {
        for queries in sets {
            let mut sum = [0.0; MEASURED];
            for _ in 0..queries.len() {
                let drawn = queries[rng.random_range(0..queries.len())];
                sum.iter_mut().zip(drawn).for_each(|(s, d)| *s += d);
            }
            for (mean, sum) in means.iter_mut().zip(sum) {
                *mean += sum / (queries.len() * sets.len()) as f64;
            }
        }
    }
    (0..MEASURED)
        .map(|metric| {
            let mut values: Vec<f64> = resampled.iter().map(|means| means[metric]).collect();
            values.sort_by(f64::total_cmp);
            let of_set = |queries: &Vec<[f64; MEASURED]>| {
                queries.iter().map(|q| q[metric]).sum::<f64>() / queries.len() as f64
            };
            let mean = sets.iter().map(of_set).sum::<f64>() / sets.len() as f64;
            let quantile = |q: f64| values[(q * (RESAMPLES - 1) as f64).round() as usize];
            let interval = [quantile(0.025), mean, quantile(0.975)];
            (COLUMNS[metric].to_owned(), interval)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(moe: f64, rrf: f64) -> QueryReport {
        let metrics = |ndcg| Metrics {
            ndcg_at_10: ndcg,
            ..Metrics::default()
        };
        QueryReport {
            methods: BTreeMap::from([
                ("moe".to_owned(), metrics(moe)),
                ("rrf".to_owned(), metrics(rrf)),
            ]),
            ..QueryReport::default()
        }
    }

    #[test]
    fn a_constant_difference_has_no_width_and_noise_has_the_right_one() {
        let constant: Vec<QueryReport> = (0..50).map(|_| query(0.75, 0.5)).collect();
        let found = deltas(&[&constant], 0);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["moe-rrf"]);
        for end in found["moe-rrf"]["ndcg@10"] {
            assert!((end - 0.25).abs() < 1e-9);
        }
        // Half +1, half 0: mean .5, standard error .5 / sqrt(400) = .025.
        let coin: Vec<QueryReport> = (0..400).map(|i| query(f64::from(i % 2), 0.0)).collect();
        let [low, mean, high] = deltas(&[&coin], 0)["moe-rrf"]["ndcg@10"];
        assert!((mean - 0.5).abs() < 1e-9);
        assert!(
            (low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006,
            "{low} {high}"
        );
    }

    #[test]
    fn the_mean_over_sets_weighs_sets_and_not_queries() {
        let many: Vec<QueryReport> = (0..90).map(|_| query(0.2, 0.0)).collect();
        let few: Vec<QueryReport> = (0..10).map(|_| query(0.6, 0.0)).collect();
        let [_, mean, _] = deltas(&[&many, &few], 0)["moe-rrf"]["ndcg@10"];
        assert!((mean - 0.4).abs() < 1e-9);
        assert!(deltas(&[&[]], 0).is_empty() && deltas(&[], 0).is_empty());
    }
}
