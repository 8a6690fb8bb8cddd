//! The run: for each set an embedded store of its own behind the real router library, ingest, training
//! on the documents alone, publish, hot-load, and every query scored by every method.
//!
//! Training reads the collection from the store, as the trainer does; nothing of `queries.jsonl` or
//! of the judgements reaches it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use moerag_encoder::{Encoder, LoadOptions};
use router_service::RouterEngine;
use tokio_util::sync::CancellationToken;
use trainer_worker::corpus::{CorpusSource, StoreSource, TrainingCorpus};
use trainer_worker::{
    NoProgress, ProgressEvent, QueryEncoder, TrainConfig, TrainError, TrainOutcome,
    train_collection,
};

use crate::ablation::Ablation;
use crate::across::Across;
use crate::case::Case;
use crate::ceiling::ceilings;
use crate::corrupt::{self, Corruption};
use crate::dataset::Dataset;
use crate::deploy::Deploy;
use crate::error::EvalError;
use crate::ingest::ingest;
use crate::learned::Learned;
use crate::metrics::Metrics;
use crate::options::EvalOptions;
use crate::report::{QueryReport, Report, Seconds, SetReport};
use crate::scoring::{judge_all, served_difference};
use crate::seeds::{self, Round};

/// Name of the one collection of a set's store.
const COLLECTION: &str = "eval";

/// Hears how far an evaluation is. Called from any thread.
pub trait EvalProgress: Send + Sync {
    /// `done` of `total` (0: not known) units of a stage of a set, with what else is worth saying.
    fn update(&self, set: &str, stage: &str, done: usize, total: usize, detail: &str);
}

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The figures.
    pub report: Report,
    /// One entry per scored query.
    pub queries: Vec<QueryReport>,
}

/// Evaluates all sets, one after the other.
///
/// # Errors
/// [`EvalError`] naming the option that cannot work, file and line of a bad set, or the set and stage
/// that failed. Options are checked and sets are read before any work starts.
pub async fn run(
    options: &EvalOptions,
    progress: Arc<dyn EvalProgress>,
) -> Result<Evaluation, EvalError> {
    options.validate()?;
    let mut sets = Vec::new();
    let mut names = HashSet::new();
    for dir in &options.datasets {
        let set = Dataset::load(dir)?;
        if !names.insert(set.name.clone()) {
            return Err(EvalError::SameName { name: set.name });
        }
        sets.push(set);
    }
    let dir = options.encoder_dir.clone();
    let load = LoadOptions {
        device: options.device,
        precision: options.precision_used(),
        ..LoadOptions::default()
    };
    let encoder = tokio::task::spawn_blocking(move || Encoder::load_with(&dir, &load))
        .await
        .map_err(|error| EvalError::stage("all sets", "loading the encoder")(error.into()))?
        .map_err(|error| EvalError::stage("all sets", "loading the encoder")(error.into()))?;
    let encoder = Arc::new(encoder);

    let deploy = Deploy {
        options,
        encoder: &encoder,
    };
    let views = deploy.view_config();
    let mut across = match options.across {
        true => Some(
            Across::new(deploy)
                .await
                .map_err(EvalError::stage("all sets", "starting the router"))?,
        ),
        false => None,
    };
    let mut report = Report {
        sets: BTreeMap::new(),
        macro_mean: BTreeMap::new(),
        macro_deltas: BTreeMap::new(),
        macro_ablations: BTreeMap::new(),
        seed: options.seed,
        seeds: options.seeds.max(1),
        device: options.device.to_string(),
        precision: options.precision_used().to_string(),
        kept_stores: options.stores.is_some(),
        embedding_space_id: encoder.space().to_string(),
        candidates_per_list: views.candidates_per_list,
        prune_to: views.prune_to,
        corruption: options.corrupt,
        as_written: options.as_written,
        across: None,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut queries = Vec::new();
    for set in sets {
        let name = set.name.clone();
        let run = SetRun {
            deploy,
            progress: &progress,
        };
        let (set_report, set_queries) = run.evaluate(set, across.as_mut()).await?;
        report.sets.insert(name, set_report);
        queries.extend(set_queries);
    }
    report.finish(&options.methods, &queries);
    if let Some(across) = across {
        let found = across.evaluate(progress.as_ref()).await;
        report.across =
            Some(found.map_err(EvalError::stage("all sets", "looking across the sets"))?);
    }
    Ok(Evaluation { report, queries })
}

/// What all stages of one set share.
struct SetRun<'a> {
    deploy: Deploy<'a>,
    progress: &'a Arc<dyn EvalProgress>,
}

impl SetRun<'_> {
    async fn evaluate(
        &self,
        mut set: Dataset,
        across: Option<&mut Across<'_>>,
    ) -> Result<(SetReport, Vec<QueryReport>), EvalError> {
        let judged_queries = set.queries.len();
        if let Some(n) = self.deploy.options.queries {
            set.sample(n, self.deploy.options.seed);
        }
        let name = set.name.clone();
        let at = |stage| EvalError::stage(&name, stage);
        let dir = tempfile::tempdir()
            .map_err(|error| at("making a temporary directory")(error.into()))?;
        // Only the passages are kept: whatever an earlier run published must not serve in this one.
        let kept = self.deploy.options.kept_store(&name);
        let store_dir = kept.unwrap_or_else(|| dir.path().join("store"));
        let engine = self
            .deploy
            .engine(store_dir, dir.path())
            .await
            .map_err(at("starting the router"))?;

        let started = Instant::now();
        let ingested = ingest(&engine, COLLECTION, &set, self.progress.as_ref())
            .await
            .map_err(at("ingest"))?;
        let mut seconds = Seconds {
            ingest: started.elapsed().as_secs_f64(),
            ..Seconds::default()
        };
        let engine = match self.deploy.options.corrupt {
            None => engine,
            Some(corruption) => self
                .corrupted(&engine, dir.path(), corruption)
                .await
                .map_err(at("corrupting the passages"))?,
        };

        let corpus = Arc::new(
            self.snapshot(&engine)
                .await
                .map_err(at("reading the passages back"))?,
        );
        let total = set.queries.len();
        let mut rounds = Vec::new();
        let mut cases: Vec<Case> = Vec::new();
        for seed in self.deploy.options.training_seeds()? {
            let config = self.deploy.train_config(seed);
            let (outcome, learned) = self
                .train(&name, &corpus, &config)
                .await
                .map_err(at("training"))?;
            seconds.add(&outcome);
            if rounds.is_empty() {
                let started = Instant::now();
                self.deploy
                    .publish(&engine, COLLECTION, &corpus, &outcome, &config)
                    .await
                    .map_err(at("publishing"))?;
                seconds.train += started.elapsed().as_secs_f64();
                let started = Instant::now();
                let heard = |done| {
                    self.progress
                        .update(&name, "score queries", done, total, "");
                };
                let as_written = self.deploy.options.as_written;
                cases = Case::collect(&engine, COLLECTION, &set.queries, as_written, heard)
                    .await
                    .map_err(at("scoring"))?;
                seconds.eval += started.elapsed().as_secs_f64();
            }
            self.progress.update(&name, "rank", rounds.len(), 0, "");
            let started = Instant::now();
            let methods = self.deploy.options.methods.clone();
            let ranked = tokio::task::spawn_blocking(move || {
                let judged = judge_all(&cases, &learned, &methods, seed);
                (cases, judged)
            });
            let judged;
            (cases, judged) = ranked.await.map_err(|error| at("ranking")(error.into()))?;
            let judged = judged.map_err(|error| at("ranking")(error.into()))?;
            seconds.eval += started.elapsed().as_secs_f64();
            rounds.push(Round { outcome, judged });
        }
        let first = rounds.first().map_or(&[][..], |round| &round.judged);
        if let Some(difference) = served_difference(&cases, first) {
            let message = format!("the router served attention that differs by {difference}");
            return Err(at("comparing with what was served")(message.into()));
        }
        let ceilings = ceilings(&cases, first, self.deploy.options.seed)
            .map_err(|error| at("ranking")(error.into()))?;
        let queries = seeds::merge(&name, &cases, &rounds);
        let source = engine.models().take().source_of(COLLECTION);
        if let Some(across) = across {
            let from = (engine.store().as_ref(), COLLECTION);
            across
                .add(&set, from, &corpus, &rounds)
                .await
                .map_err(at("joining the other sets"))?;
        }
        let report = SetReport {
            n_passages: set.corpus.len(),
            n_queries: total,
            sampled_from: (total < judged_queries).then_some(judged_queries),
            n_queries_without_gold: set.queries_without_gold,
            n_gold_not_in_corpus: set.gold_not_in_corpus,
            n_refused_passages: ingested.refused,
            refused: ingested.refusals,
            n_truncated_passages: ingested.truncated,
            n_respelled_queries: queries.iter().filter(|q| q.searched_for.is_some()).count(),
            methods: Metrics::mean_by_name(
                self.deploy.options.methods.iter().map(|m| m.name()),
                queries.iter().map(|query| &query.methods),
            ),
            ceilings,
            seconds,
            ..seeds::report(&self.deploy.options.methods, &rounds, source)
        };
        Ok((report, queries))
    }

    /// A router over a corrupted copy of what `clean` serves, in `dir`.
    async fn corrupted(
        &self,
        clean: &RouterEngine,
        dir: &Path,
        corruption: Corruption,
    ) -> Result<RouterEngine, BoxError> {
        let engine = self.deploy.engine(dir.join("corrupted"), dir).await?;
        let (from, to) = (clean.store().as_ref(), engine.store().as_ref());
        corrupt::copy(from, to, COLLECTION, corruption).await?;
        Ok(engine)
    }

    async fn snapshot(&self, engine: &RouterEngine) -> Result<TrainingCorpus, BoxError> {
        let source = StoreSource::new(Arc::clone(engine.store()));
        let cancel = CancellationToken::new();
        Ok(source
            .snapshot(
                COLLECTION,
                self.deploy.options.train.max_passages,
                &NoProgress,
                &cancel,
            )
            .await?)
    }

    /// The mixture and what it is compared with, on the same synthetic queries.
    async fn train(
        &self,
        name: &str,
        corpus: &Arc<TrainingCorpus>,
        config: &TrainConfig,
    ) -> Result<(TrainOutcome, Learned), BoxError> {
        let (config, methods) = (config.clone(), self.deploy.options.methods.clone());
        let ablations = match self.deploy.options.ablations {
            true => Ablation::all(),
            false => Vec::new(),
        };
        // Each set is trained for once a seed: nothing comes again.
        let encoder = QueryEncoder::new(Arc::clone(self.deploy.encoder), 0);
        let corpus = Arc::clone(corpus);
        let (progress, set) = (Arc::clone(self.progress), name.to_owned());
        let train = move || {
            let report = |event: ProgressEvent| {
                let loss = event
                    .loss
                    .map_or_else(String::new, |loss| format!("loss {loss:.4}  "));
                let detail = format!("{loss}{:.0}/s", event.per_second);
                progress.update(&set, event.stage.name(), event.done, event.total, &detail);
            };
            let cancel = CancellationToken::new();
            let outcome = train_collection(&corpus, &encoder, &config, &report, &cancel)?;
            let heard = |name: &str| progress.update(&set, "ablations", 0, 0, name);
            let learned = Learned::fit(&outcome, &config, &methods, &ablations, &heard)?;
            Ok((outcome, learned))
        };
        let trained: Result<_, TrainError> = tokio::task::spawn_blocking(train).await?;
        Ok(trained?)
    }
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Seconds {
    fn add(&mut self, outcome: &TrainOutcome) {
        let part = |names: &[&str]| {
            let laps = names.iter().filter_map(|name| outcome.seconds.get(name));
            laps.sum::<f64>()
        };
        self.synth += part(&["synth", "views"]);
        self.train += part(&["train", "evaluate"]);
    }
}
