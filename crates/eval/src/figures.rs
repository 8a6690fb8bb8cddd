//! The pictures of a report: which figures of it become which plot.

use std::collections::BTreeMap;
use std::path::Path;

use moerag_model::HEADS;

use crate::across::AcrossReport;
use crate::bootstrap::Deltas;
use crate::error::EvalError;
use crate::methods::Method;
use crate::metrics::{COLUMNS, Metrics};
use crate::plot::{curve, forest, grouped_bars, heat_map};
use crate::report::{Report, SetReport};

/// Methods that a reader knows or cares for; all of them would hide these.
const SHOWN: [Method; 7] = [
    Method::Bm25,
    Method::Dense,
    Method::Rrf,
    Method::Token,
    Method::Prior,
    Method::SingleHead,
    Method::Moe,
];
/// Start of the names of the ablations by number of heads.
const HEAD_COUNT: &str = "heads_";

impl Report {
    /// Writes the pictures into `dir` and gives their file names with what they show.
    pub(crate) fn draw(&self, dir: &Path) -> Result<Vec<(&'static str, &'static str)>, EvalError> {
        let metric = COLUMNS[0];
        let (all_deltas, all_ablations) = match self.sets.len() {
            1 => {
                let only: Option<&SetReport> = self.sets.values().next();
                (only.map(|s| &s.deltas), only.map(|s| &s.ablations))
            }
            _ => (Some(&self.macro_deltas), Some(&self.macro_ablations)),
        };
        let mut drawn = Vec::new();
        let mut sets: Vec<String> = self.sets.keys().cloned().collect();
        let mean = (sets.len() > 1).then_some(&self.macro_mean);
        let methods: Vec<&BTreeMap<String, Metrics>> = self
            .sets
            .values()
            .map(|set| &set.methods)
            .chain(mean)
            .collect();
        if mean.is_some() {
            sets.push("mean".to_owned());
        }
        let bars: Vec<(String, Vec<f64>)> = SHOWN
            .iter()
            .filter(|method| methods.iter().any(|of| of.contains_key(method.name())))
            .map(|method| {
                let value = |of: &&BTreeMap<String, Metrics>| {
                    of.get(method.name()).map_or(f64::NAN, |m| m.ndcg_at_10)
                };
                (
                    method.name().to_owned(),
                    methods.iter().map(value).collect(),
                )
            })
            .collect();
        if !bars.is_empty() {
            let path = dir.join("methods.png");
            grouped_bars(&path, "Retrieval quality by data set", metric, &sets, &bars)?;
            drawn.push(("methods.png", "nDCG@10 of the methods on each set"));
        }
        if let Some(rows) = rows(all_deltas, metric) {
            let title = "What the mixture gains over each method";
            forest(&dir.join("deltas.png"), title, metric, &rows)?;
            drawn.push(("deltas.png", "`moe` minus each method, 95 % intervals"));
        }
        if let Some(rows) = rows(all_ablations, metric) {
            let title = "What is lost without each part";
            forest(&dir.join("ablations.png"), title, metric, &rows)?;
            drawn.push(("ablations.png", "each ablation minus `moe`, 95 % intervals"));
            let points = head_counts(&rows);
            if points.len() > 1 {
                let series = [("change against moe".to_owned(), points)];
                let path = dir.join("heads.png");
                curve(
                    &path,
                    "Number of heads",
                    "heads of the first stage",
                    metric,
                    &series,
                )?;
                drawn.push(("heads.png", "nDCG@10 by number of heads, against `moe`"));
            }
        }
        if let Some(across) = &self.across {
            drawn.extend(draw_across(across, dir)?);
        }
        self.draw_utilization(dir)?;
        drawn.push((
            "utilization.png",
            "mean gate weight of each head on each set",
        ));
        Ok(drawn)
    }

    fn draw_utilization(&self, dir: &Path) -> Result<(), EvalError> {
        let sets: Vec<String> = self.sets.keys().cloned().collect();
        let values: Vec<Vec<Option<f64>>> = self
            .sets
            .values()
            .map(|set| {
                let weight = |head: &&str| set.head_utilization.get(*head).copied();
                HEADS.iter().map(weight).collect()
            })
            .collect();
        let heads = HEADS.map(str::to_owned);
        let path = dir.join("utilization.png");
        heat_map(&path, "Mean gate weight", &sets, &heads, &values, false)
    }
}

/// Which collections queries are taken to be of, and what the weights of other sets cost.
fn draw_across(
    across: &AcrossReport,
    dir: &Path,
) -> Result<[(&'static str, &'static str); 2], EvalError> {
    let sets: Vec<String> = across.together.keys().cloned().collect();
    let weights: Vec<Vec<Option<f64>>> = across
        .together
        .values()
        .map(|set| {
            sets.iter()
                .map(|name| set.weights.get(name).copied())
                .collect()
        })
        .collect();
    let title = "Mean weight of each collection (columns) for the queries of each set (rows)";
    heat_map(
        &dir.join("collections.png"),
        title,
        &sets,
        &sets,
        &weights,
        false,
    )?;
    let losses: Vec<Vec<Option<f64>>> = across
        .transfer
        .iter()
        .map(|(name, trained)| {
            let own = trained.get(name).map(|own| own.ndcg_at_10);
            let loss = |other| Some(trained.get(other)?.ndcg_at_10 - own?);
            sets.iter().map(loss).collect()
        })
        .collect();
    let title = "nDCG@10 with the weights of another set (columns) minus that with its own";
    heat_map(
        &dir.join("transfer.png"),
        title,
        &sets,
        &sets,
        &losses,
        true,
    )?;
    Ok([
        (
            "collections.png",
            "which collections the queries of each set are taken to be of",
        ),
        ("transfer.png", "what the weights of other sets cost"),
    ])
}

/// `None` without differences.
fn rows(
    deltas: Option<&BTreeMap<String, Deltas>>,
    metric: &str,
) -> Option<Vec<(String, f64, f64, f64)>> {
    let rows: Vec<(String, f64, f64, f64)> = deltas?
        .iter()
        .filter_map(|(name, metrics)| {
            let [low, mean, high] = *metrics.get(metric)?;
            Some((name.clone(), low, mean, high))
        })
        .collect();
    (!rows.is_empty()).then_some(rows)
}

/// Points of the ablations by number of heads, by that number.
fn head_counts(rows: &[(String, f64, f64, f64)]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|(name, _, mean, _)| {
            let heads: u32 = name.strip_prefix(HEAD_COUNT)?.parse().ok()?;
            Some((f64::from(heads), *mean))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}
