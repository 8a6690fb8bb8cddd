//! What an evaluation found, for people and for machines.
//!
//! The JSON has the shape of the contract in DESIGN.md section 6. What was not asked for is absent, not
//! zero.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::across::AcrossReport;
use crate::bootstrap::{self, Deltas};
use crate::corrupt::Corruption;
use crate::error::EvalError;
use crate::methods::Method;
use crate::metrics::Metrics;

/// All of an evaluation: `evaluation_results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Per data set.
    pub sets: BTreeMap<String, SetReport>,
    /// Mean over the sets, per method.
    #[serde(rename = "macro")]
    pub macro_mean: BTreeMap<String, Metrics>,
    /// `moe` minus every other method over the mean of the sets: low end, mean and high end of the
    /// 95 % interval, by `moe-METHOD` and metric.
    #[serde(default)]
    pub macro_deltas: BTreeMap<String, Deltas>,
    /// Ablations minus `moe`, the same way; empty unless they were asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub macro_ablations: BTreeMap<String, Deltas>,
    /// Seed of everything random.
    pub seed: u64,
    /// Trainings of each set, with as many seeds from `seed` on.
    pub seeds: u64,
    /// Device of encoder and model.
    pub device: String,
    /// Precision that the encoder computed in.
    pub precision: String,
    /// Whether the sets' stores are kept: what an earlier run encoded was not encoded again.
    #[serde(default)]
    pub kept_stores: bool,
    /// Encoder of all vectors.
    pub embedding_space_id: String,
    /// Candidates per list and how many of them pruning keeps; none means all.
    pub candidates_per_list: usize,
    /// See `candidates_per_list`.
    pub prune_to: Option<usize>,
    /// What was found across the sets; absent unless it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub across: Option<AcrossReport>,
    /// What of the passages was made useless; absent for an ordinary evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corruption: Option<Corruption>,
    /// Whether misspelt words were searched for as they are.
    #[serde(default)]
    pub as_written: bool,
    /// Version of this code.
    pub code_version: String,
}

/// One data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// Entries of the corpus, each one passage.
    pub n_passages: usize,
    /// Queries that were scored.
    pub n_queries: usize,
    /// Queries with gold in the set, if only a sample of them was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_from: Option<usize>,
    /// Queries left out because they have no gold.
    pub n_queries_without_gold: usize,
    /// Judged passages that the corpus does not have; they count as missed.
    pub n_gold_not_in_corpus: usize,
    /// Entries that the router refused; gold among them counts as missed.
    pub n_refused_passages: usize,
    /// The first ten of them with the router's reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
    /// Passages that are longer than the encoder reads at once: whole for BM25, cut for vectors. Of
    /// those that this run encoded; a kept store may have had others.
    pub n_truncated_passages: usize,
    /// Queries that were searched for in another spelling, by all methods.
    #[serde(default)]
    pub n_respelled_queries: usize,
    /// Metrics per method.
    pub methods: BTreeMap<String, Metrics>,
    /// Metrics that need the judgements: no method can have them.
    #[serde(default)]
    pub ceilings: BTreeMap<String, Metrics>,
    /// `moe` minus every other method, as in [`Report::macro_deltas`].
    #[serde(default)]
    pub deltas: BTreeMap<String, Deltas>,
    /// Standard deviation over the seeds of each method's metrics; absent for one seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_sd: Option<BTreeMap<String, Metrics>>,
    /// Ablations minus `moe`, as in [`Report::macro_deltas`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ablations: BTreeMap<String, Deltas>,
    /// MRR@10 of the mixture minus that of its head with the largest gate weight; feedback takes no part
    /// in sparse routing, so it is never that head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_minus_hard_mrr: Option<f64>,
    /// Metrics of the queries of each predicted type.
    #[serde(default)]
    pub per_type: BTreeMap<String, TypeReport>,
    /// Metrics by thirds of the set's queries: `semantic` share the fewest terms with their gold,
    /// `lexical` the most.
    #[serde(default)]
    pub per_overlap: BTreeMap<String, TypeReport>,
    /// Which weights serve the collection, the first seed's: `trained` or `fallback_prior`.
    pub served: String,
    /// Why the prior serves, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
    /// Seeds whose training did not beat the prior, so that their figures are the prior's.
    #[serde(default)]
    pub n_fallback_seeds: usize,
    /// Accuracy of the query-type classifier on held-out synthetic queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_accuracy: Option<f64>,
    /// How different the heads of the served mixture are on these queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_diversity: Option<HeadDiversity>,
    /// Mean gate weight per head of the served mixture on these queries.
    pub head_utilization: BTreeMap<String, f64>,
    /// Losses on held-out synthetic queries (levels inverse cloze and gist), nats.
    pub held_out_loss: HeldOutLoss,
    /// Digest of the served weights.
    pub weights_digest: String,
    /// Wall time per stage.
    pub seconds: Seconds,
}

/// An entry of the corpus that the router did not take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// The queries of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TypeReport {
    /// How many.
    pub n_queries: usize,
    /// Metrics per method.
    pub methods: BTreeMap<String, Metrics>,
}

/// How differently the heads see the candidates; 0: all agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadDiversity {
    /// 1 - mean pairwise Spearman correlation of head logits, 0..=2.
    pub spearman: f64,
    /// 1 - mean pairwise overlap of attention mass, 0..=1.
    pub attention: f64,
}

/// Losses on held-out synthetic queries, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLoss {
    /// Of the untrained mixture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior: Option<f64>,
    /// Of the trained mixture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained: Option<f64>,
}

/// Wall time of the stages in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Splitting, encoding and storing the corpus.
    pub ingest: f64,
    /// Making synthetic queries and computing their views.
    pub synth: f64,
    /// Fitting, held-out evaluation and publishing.
    pub train: f64,
    /// Scoring the queries with all methods.
    pub eval: f64,
}

/// One line of `per_query.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryReport {
    /// Name of the set.
    pub set: String,
    /// Id of the query.
    pub query_id: String,
    /// Its text.
    pub query: String,
    /// The text that was searched for, where its spelling is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched_for: Option<String>,
    /// Number of gold passages.
    pub n_gold: usize,
    /// Candidates before and after pruning.
    pub n_candidates: usize,
    /// See `n_candidates`.
    pub n_scored: usize,
    /// Share of the query's terms, by idf, that the gold passage with the most of them has, 0..=1;
    /// absent when no gold was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f32>,
    /// Predicted type.
    pub query_type: String,
    /// Gate weights by head.
    pub head_weights: BTreeMap<String, f32>,
    /// Rank from 1 of the first gold passage per method, where it is ranked at all.
    pub first_gold_rank: BTreeMap<String, usize>,
    /// Metrics per method.
    pub methods: BTreeMap<String, Metrics>,
    /// Metrics per ablation; not written, their differences are in the report.
    #[serde(skip)]
    pub ablations: BTreeMap<String, Metrics>,
}

impl Report {
    /// Fills in what follows from the queries of all sets: means, differences, types.
    pub(crate) fn finish(&mut self, methods: &[Method], queries: &[QueryReport]) {
        self.macro_mean = Metrics::mean_by_name(
            methods.iter().map(|m| m.name()),
            self.sets.values().map(|set| &set.methods),
        );
        // Queries come set by set.
        let by_set: Vec<&[QueryReport]> = queries.chunk_by(|a, b| a.set == b.set).collect();
        for queries in &by_set {
            if let Some(set) = queries.first().and_then(|q| self.sets.get_mut(&q.set)) {
                set.deltas = bootstrap::deltas(&[queries], self.seed);
                set.ablations = bootstrap::ablations(&[queries], self.seed);
                set.per_type = per_type(methods, queries);
                set.per_overlap = per_overlap(methods, queries);
                let mrr = |method: Method| Some(set.methods.get(method.name())?.mrr_at_10);
                set.soft_minus_hard_mrr = mrr(Method::Moe)
                    .zip(mrr(Method::HardRouting))
                    .map(|(soft, hard)| soft - hard);
            }
        }
        self.macro_deltas = bootstrap::deltas(&by_set, self.seed);
        self.macro_ablations = bootstrap::ablations(&by_set, self.seed);
    }

    /// Makes the directory of a report if it does not exist, and makes sure that files can be made in
    /// it. To be called before an evaluation, whose hours would be lost otherwise.
    ///
    /// # Errors
    /// [`EvalError::Out`] naming the directory.
    pub fn prepare(dir: &Path) -> Result<(), EvalError> {
        std::fs::create_dir_all(dir)
            .and_then(|()| tempfile::tempfile_in(dir))
            .map(drop)
            .map_err(|source| EvalError::Out {
                path: dir.into(),
                source,
            })
    }

    /// Writes `evaluation_results.json`, `per_query.jsonl`, `report.md` and its pictures into a directory, which is
    /// made if it does not exist.
    ///
    /// # Errors
    /// [`EvalError::Out`] naming the directory, [`EvalError::Write`] or [`EvalError::Plot`] the file.
    pub fn write(&self, dir: &Path, queries: &[QueryReport]) -> Result<(), EvalError> {
        Report::prepare(dir)?;
        write(&dir.join("evaluation_results.json"), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            writeln!(file)
        })?;
        write(&dir.join("per_query.jsonl"), |file| {
            for query in queries {
                serde_json::to_writer(&mut *file, query)?;
                writeln!(file)?;
            }
            Ok(())
        })?;
        let pictures = self.draw(dir)?;
        write(&dir.join("report.md"), |file| {
            file.write_all(self.markdown(&pictures).as_bytes())
        })
    }
}

fn per_type(methods: &[Method], queries: &[QueryReport]) -> BTreeMap<String, TypeReport> {
    let mut by_type: BTreeMap<&str, Vec<&QueryReport>> = BTreeMap::new();
    for query in queries.iter().filter(|q| !q.query_type.is_empty()) {
        by_type.entry(&query.query_type).or_default().push(query);
    }
    by_type
        .into_iter()
        .map(|(name, queries)| (name.to_owned(), group(methods, &queries)))
        .collect()
}

/// Thirds by overlap; queries whose gold was not scored are in none.
fn per_overlap(methods: &[Method], queries: &[QueryReport]) -> BTreeMap<String, TypeReport> {
    let mut sorted: Vec<(f32, &QueryReport)> = queries
        .iter()
        .filter_map(|query| Some((query.overlap?, query)))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let sorted: Vec<&QueryReport> = sorted.into_iter().map(|(_, query)| query).collect();
    let n = sorted.len();
    let (low, high) = (n / 3, n - n / 3);
    let thirds = [
        ("semantic", &sorted[..low]),
        ("middle", &sorted[low..high]),
        ("lexical", &sorted[high..]),
    ];
    thirds
        .into_iter()
        .filter(|(_, queries)| !queries.is_empty())
        .map(|(name, queries)| (name.to_owned(), group(methods, queries)))
        .collect()
}

fn group(methods: &[Method], queries: &[&QueryReport]) -> TypeReport {
    TypeReport {
        n_queries: queries.len(),
        methods: Metrics::mean_by_name(
            methods.iter().map(|m| m.name()),
            queries.iter().map(|query| &query.methods),
        ),
    }
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), EvalError> {
    let result = std::fs::File::create(path).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        fill(&mut file)?;
        file.flush()
    });
    result.map_err(|source| EvalError::Write {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
