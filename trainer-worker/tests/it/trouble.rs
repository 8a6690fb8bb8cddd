//! The worker when something around it hangs, fails for a while, or was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_model::CollectionWeights;
use moerag_retrieve::ViewConfig;
use moerag_runtime::CpuPool;
use tokio_util::sync::CancellationToken;
use trainer_worker::corpus::{CollectionSummary, CorpusSource, MemorySource, TrainingCorpus};
use trainer_worker::worker::{Job, JobRequest, JobState, Jobs, Parts, RetrainConfig, Worker};
use trainer_worker::{Progress, TrainError};

use crate::support::{corpus, encoder, query_encoder, quick};

/// The jobs of a worker that looks at its collections every second and needs no quiet.
fn work(source: Arc<dyn CorpusSource>, checkpoints: CheckpointStore) -> Jobs {
    let jobs = Jobs::default();
    let parts = Parts {
        source,
        encoder: query_encoder(),
        checkpoints,
        pool: CpuPool::new("test", None).unwrap(),
        train: quick(),
        retrain: RetrainConfig {
            quiet_secs: 0,
            poll_secs: 1,
            min_passages: 10,
            ..RetrainConfig::default()
        },
        keep_versions: 5,
    };
    tokio::spawn(Worker::new(parts, jobs.clone()).run());
    jobs
}

fn articles() -> Arc<MemorySource> {
    let source = MemorySource::default();
    source.put((*corpus()).clone());
    Arc::new(source)
}

/// The latest job once `fits`.
async fn latest(jobs: &Jobs, fits: impl Fn(&Job) -> bool) -> Job {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match jobs.get("") {
            Ok(job) if fits(&job) => return job,
            seen => assert!(Instant::now() < deadline, "{seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_published(checkpoints: &CheckpointStore, version: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let current = checkpoints.current().await.unwrap();
        if current.is_some_and(|current| current.version == version) {
            return;
        }
        assert!(Instant::now() < deadline, "version {version} never came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A router that took the call and vanished.
struct Hanging;

#[async_trait]
impl CorpusSource for Hanging {
    async fn collections(&self) -> Result<Vec<CollectionSummary>, TrainError> {
        std::future::pending().await
    }

    async fn snapshot(
        &self,
        _collection: &str,
        _max_passages: usize,
        _progress: &dyn Progress,
        _cancel: &CancellationToken,
    ) -> Result<TrainingCorpus, TrainError> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_heard_while_the_source_hangs() {
    let jobs = work(Arc::new(Hanging), CheckpointStore::in_memory());
    let id = jobs.submit(JobRequest::default(), 0, "flex").unwrap().id;
    latest(&jobs, |job| job.state == JobState::Running).await;
    let asked = Instant::now();
    jobs.cancel(&id).unwrap();
    let ended = latest(&jobs, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, JobState::Cancelled, "{}", ended.message);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_another_encoder_or_of_other_views_are_no_training() {
    let views = ViewConfig::default();
    let older = ViewConfig {
        version: views.version - 1,
        ..views.clone()
    };
    let space = encoder().space().to_string();
    trained_anew_after("another".to_owned(), views).await;
    trained_anew_after(space, older).await;
}

/// The documents are the same, and nobody asks.
async fn trained_anew_after(space: String, view_config: ViewConfig) {
    let checkpoints = CheckpointStore::in_memory();
    let update = CollectionUpdate {
        weights: CollectionWeights::prior(),
        lsi: None,
        status: CollectionStatus::FallbackPrior,
        reason: "for a test".to_owned(),
        corpus_digest: corpus().corpus_digest.clone(),
        stats_digest: String::new(),
        metrics: BTreeMap::new(),
        hyper_parameters: serde_json::Value::Null,
        seed: 0,
    };
    let request = PublishRequest {
        collections: BTreeMap::from([("articles".to_owned(), update)]),
        deleted: BTreeSet::new(),
        warmup: Vec::new(),
        view_config,
        embedding_space_id: space,
        code_version: "test".to_owned(),
    };
    checkpoints.publish(request).await.unwrap();
    work(articles(), checkpoints.clone());
    until_published(&checkpoints, 2).await;
    let manifest = checkpoints.load(2).await.unwrap().manifest;
    assert_eq!(manifest.embedding_space_id, encoder().space().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_failed_is_tried_again_without_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = CheckpointStore::open_dir(directory.path()).unwrap();
    let versions = directory.path().join("versions");
    std::fs::remove_dir(&versions).unwrap();
    std::fs::write(&versions, "in the way").unwrap();
    let jobs = work(articles(), checkpoints.clone());
    let failed = latest(&jobs, |job| job.state.has_ended()).await;
    assert_eq!(failed.state, JobState::Failed, "{}", failed.message);
    // Said once, with the cause.
    let message = &failed.message;
    assert_eq!(message.matches("checkpoint store").count(), 1, "{message}");
    assert!(message.contains("Not a directory"), "{message}");

    std::fs::remove_file(&versions).unwrap();
    std::fs::create_dir(&versions).unwrap();
    until_published(&checkpoints, 1).await;
    let job = latest(&jobs, |job| job.state.has_ended()).await;
    assert_ne!(job.id, failed.id);
    assert_eq!(job.published_version, Some(1), "{}", job.message);
}
