//! The worker: takes jobs from the queue one at a time, trains, publishes, and looks after the
//! collections by itself.

mod background;
mod jobs;
mod policy;
mod publish;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moerag_checkpoint::{CheckpointStore, CollectionUpdate, LoadedVersion};
use moerag_encoder::Encoder;
use moerag_model::WarmupCase;
use moerag_retrieve::ViewConfig;
use moerag_runtime::{CpuPool, chain};
use tracing::Instrument;

pub(crate) use jobs::RunningJob;
pub use jobs::{Job, JobError, JobRequest, JobState, Jobs, Source};
pub use policy::{RetrainConfig, Watched, due};

use crate::corpus::{CollectionSummary, CorpusSource, TrainingCorpus};
use crate::error::TrainError;
use crate::train::{QueryEncoder, TrainConfig, TrainOutcome, train_collection};

/// What a worker works with.
#[derive(Clone)]
pub struct Parts {
    /// Where passages come from.
    pub source: Arc<dyn CorpusSource>,
    /// The encoder of the collections.
    pub encoder: QueryEncoder,
    /// Where versions go.
    pub checkpoints: CheckpointStore,
    /// Threads for the training.
    pub pool: CpuPool,
    /// Settings of every training.
    pub train: TrainConfig,
    /// Settings of background retraining.
    pub retrain: RetrainConfig,
    /// Versions kept after a publish; 0: all.
    pub keep_versions: usize,
}

/// Runs jobs. Clones share everything.
#[derive(Clone)]
pub struct Worker {
    parts: Arc<Parts>,
    jobs: Jobs,
    watched: Arc<Mutex<HashMap<String, Watched>>>,
    started: Instant,
}

/// One trained collection, ready to publish.
struct Prepared {
    update: CollectionUpdate,
    warmup: Vec<WarmupCase>,
    view_config: ViewConfig,
}

/// What a job works on.
struct Begun {
    /// All collections of the source.
    known: Vec<CollectionSummary>,
    /// Those of the job.
    names: Vec<String>,
    live: Option<LoadedVersion>,
}

/// What a job did.
#[derive(Default)]
struct Finished {
    published: Option<u64>,
    sources: BTreeMap<String, Source>,
    metrics: BTreeMap<String, f64>,
    /// One sentence per collection.
    notes: Vec<String>,
    failures: usize,
}

impl Worker {
    /// A worker over a job queue.
    #[must_use]
    pub fn new(parts: Parts, jobs: Jobs) -> Self {
        Self {
            parts: Arc::new(parts),
            jobs,
            watched: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Runs jobs, and starts some by itself, until [`Jobs::stop`].
    pub async fn run(self) {
        let watching = tokio::spawn(self.clone().watch_collections());
        while let Some(job) = self.jobs.next().await {
            self.run_job(&job).await;
        }
        watching.abort();
    }

    async fn run_job(&self, job: &RunningJob) {
        let view = job.view();
        let span = tracing::info_span!("job", id = %view.id);
        let reason = view
            .request
            .background_reason
            .as_deref()
            .unwrap_or("requested");
        span.in_scope(|| tracing::info!(reason, "training started"));
        let outcome = self.execute(job).instrument(span.clone()).await;
        span.in_scope(|| end(job, outcome));
    }

    async fn execute(&self, job: &RunningJob) -> Result<Finished, TrainError> {
        let asked = job.view().request.collections;
        // A source or a store that hangs must not keep a cancelled job.
        let begun = job.cancel.run_until_cancelled(self.begin(job, &asked));
        let begun = begun.await.unwrap_or(Err(TrainError::Cancelled));
        let Begun { known, names, live } = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.note_failure(&asked);
                return Err(error);
            }
        };
        if names.is_empty() {
            let mut finished = Finished::default();
            finished
                .notes
                .push("there is no collection to train for; ingest documents first".into());
            return Ok(finished);
        }
        let mut finished = Finished::default();
        let mut prepared = BTreeMap::new();
        let mut learned = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let summary = known.iter().find(|summary| summary.name == *name);
            let outcome = match summary {
                None => Err(TrainError::UnknownCollection { name: name.clone() }),
                Some(summary) => {
                    let place = Place {
                        name,
                        index,
                        count: names.len(),
                        summary,
                    };
                    self.collection(job, &place, live.as_ref(), &mut finished)
                        .await
                }
            };
            if let Some(summary) = summary {
                match &outcome {
                    // What is not published yet is not there.
                    Ok(Some(_)) => learned.push(summary),
                    ended => self.note_end(summary, ended.as_ref().err()),
                }
            }
            match outcome {
                Ok(Some(ready)) => {
                    prepared.insert(name.clone(), ready);
                }
                Ok(None) => {}
                Err(TrainError::Cancelled) => return Err(TrainError::Cancelled),
                Err(error) if names.len() == 1 => return Err(error),
                Err(error) => {
                    finished.failures += 1;
                    finished.notes.push(format!("{name}: {}", chain(&error)));
                }
            }
        }
        if !prepared.is_empty() {
            let trained = live
                .iter()
                .flat_map(|live| live.manifest.collections.keys());
            let exists = |name: &String| known.iter().any(|summary| summary.name == *name);
            let deleted = trained.filter(|name| !exists(name)).cloned().collect();
            let published = self.publish(job, prepared, deleted, &mut finished).await;
            for summary in learned {
                self.note_end(summary, published.as_ref().err());
            }
            published?;
        }
        Ok(finished)
    }

    /// Finds out what there is to train for and what serves now. No collection `asked` for means all.
    async fn begin(&self, job: &RunningJob, asked: &[String]) -> Result<Begun, TrainError> {
        let known = self.parts.source.collections().await?;
        let names: Vec<String> = if asked.is_empty() {
            known.iter().map(|summary| summary.name.clone()).collect()
        } else {
            asked.to_vec()
        };
        job.update(|job| job.request.collections.clone_from(&names));
        let live = if names.is_empty() {
            None
        } else {
            self.live().await?
        };
        Ok(Begun { known, names, live })
    }

    /// Trains one collection; `None` when there is nothing to publish (the notes say why).
    async fn collection(
        &self,
        job: &RunningJob,
        place: &Place<'_>,
        live: Option<&LoadedVersion>,
        finished: &mut Finished,
    ) -> Result<Option<Prepared>, TrainError> {
        let Place {
            name,
            index,
            count,
            summary,
        } = *place;
        let view = job.view();
        let live_manifest = live.and_then(|live| live.manifest.collections.get(name));
        if let (Some(live), Some(collection)) = (live, live_manifest)
            && !view.request.force
            && collection.corpus_digest == summary.corpus_digest
        {
            let version = live.manifest.version;
            finished.notes.push(format!(
                "{name}: unchanged since version {version}; ask with force to train anyway"
            ));
            return Ok(None);
        }
        if summary.passages == 0 {
            finished.notes.push(format!("{name}: has no passages yet"));
            return Ok(None);
        }
        let mut config = self.parts.train.clone();
        config.seed = view.seed;
        if let Some(queries) = view.request.synthetic_queries {
            config.synthetic_queries = queries;
        }
        let progress = job.progress(name, index, count);
        let snapshot =
            self.parts
                .source
                .snapshot(name, config.max_passages, &progress, &job.cancel);
        // As in `execute`, whatever the source does about `cancel`.
        let corpus = job.cancel.run_until_cancelled(snapshot).await;
        let corpus = corpus.unwrap_or(Err(TrainError::Cancelled))?;
        check_fit(&corpus, self.parts.encoder.encoder())?;
        let (corpus, config) = (Arc::new(corpus), Arc::new(config));
        let outcome = {
            let (corpus, config) = (Arc::clone(&corpus), Arc::clone(&config));
            let (parts, cancel) = (Arc::clone(&self.parts), job.cancel.clone());
            self.parts
                .pool
                .run(move || train_collection(&corpus, &parts.encoder, &config, &progress, &cancel))
                .await
        };
        let outcome = outcome.map_err(|error| TrainError::Internal(error.to_string()))??;
        self.judge(name, &corpus, &config, outcome, live, finished)
            .await
    }

    /// The version that serves; `None` also for one of another encoder or of other views, whose weights are
    /// of no use to the collections as they are now.
    async fn live(&self) -> Result<Option<LoadedVersion>, TrainError> {
        let Some(current) = self.parts.checkpoints.current().await? else {
            return Ok(None);
        };
        let live = self.parts.checkpoints.load(current.version).await?;
        let space = self.parts.encoder.encoder().space().to_string();
        let fits = live.manifest.embedding_space_id == space
            && live.manifest.view_config.version == ViewConfig::default().version;
        Ok(fits.then_some(live))
    }

    /// What the end of a training, or the error that ended it, means for the next one that nobody asks for:
    /// what would fail again waits for a change, what may pass is tried again after a pause.
    fn note_end(&self, summary: &CollectionSummary, error: Option<&TrainError>) {
        let now = self.now();
        if let Some(watched) = self.watched().get_mut(&summary.name) {
            if error.is_some_and(TrainError::may_pass) {
                watched.failed(now);
            } else {
                watched.trained(now, &summary.corpus_digest, summary.passages);
            }
        }
    }

    /// The job ended before anything was tried.
    fn note_failure(&self, names: &[String]) {
        let now = self.now();
        let mut watched = self.watched();
        for name in names {
            if let Some(watched) = watched.get_mut(name) {
                watched.failed(now);
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        // Each entry is replaced as a whole, so a panic elsewhere cannot have left half of one.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the end of a job into it.
fn end(job: &RunningJob, outcome: Result<Finished, TrainError>) {
    match outcome {
        Ok(finished) => {
            let message = finished.notes.join("; ");
            let state = match (finished.failures, finished.published) {
                (0, _) | (_, Some(_)) => JobState::Succeeded,
                _ => JobState::Failed,
            };
            tracing::info!(published = ?finished.published, %message, "training ended");
            job.update(|job| {
                job.published_version = finished.published;
                job.sources = finished.sources;
                job.metrics = finished.metrics;
                job.end(state, message);
            });
        }
        Err(TrainError::Cancelled) => {
            tracing::info!("training cancelled");
            job.update(|job| job.end(JobState::Cancelled, "cancelled"));
        }
        Err(error) => {
            let error = chain(&error);
            tracing::error!(%error, "training failed");
            job.update(|job| job.end(JobState::Failed, error));
        }
    }
}

/// One collection's place in a job.
struct Place<'a> {
    name: &'a str,
    index: usize,
    count: usize,
    summary: &'a CollectionSummary,
}

/// Vectors of another encoder cannot be compared with this one's queries.
fn check_fit(corpus: &TrainingCorpus, encoder: &Encoder) -> Result<(), TrainError> {
    let expected = encoder.space().to_string();
    if corpus.space == expected {
        return Ok(());
    }
    Err(TrainError::Mismatch {
        name: corpus.collection.clone(),
        field: "embedding space",
        found: corpus.space.clone(),
        expected,
        remedy: "start the trainer with the router's encoder directory",
    })
}

/// Names a metric of one collection in a job.
fn qualified(collection: &str, outcome: &TrainOutcome) -> impl Iterator<Item = (String, f64)> {
    let seconds = outcome
        .seconds
        .iter()
        .map(|(stage, seconds)| (format!("seconds.{stage}"), *seconds));
    let metrics = outcome
        .metrics
        .iter()
        .map(|(name, value)| (name.clone(), *value));
    let collection = collection.to_owned();
    metrics
        .chain(seconds)
        .map(move |(name, value)| (format!("{collection}/{name}"), value))
        .collect::<Vec<_>>()
        .into_iter()
}
