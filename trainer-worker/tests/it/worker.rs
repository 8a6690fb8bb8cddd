//! The worker over gRPC: jobs, publishing, cancelling, health, reflection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moerag_checkpoint::{CheckpointStore, CollectionStatus};
use moerag_proto::v1;
use moerag_proto::v1::trainer_service_client::TrainerServiceClient;
use moerag_runtime::CpuPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trainer_worker::corpus::MemorySource;
use trainer_worker::transport::{self, Trainer};
use trainer_worker::worker::{Jobs, Parts, RetrainConfig, Worker};

use crate::support::{corpus, query_encoder, quick};

struct Sandbox {
    client: TrainerServiceClient<Channel>,
    channel: Channel,
    source: Arc<MemorySource>,
    checkpoints: CheckpointStore,
    jobs: Jobs,
    shutdown: CancellationToken,
}

async fn sandbox(retrain: RetrainConfig) -> Sandbox {
    let source = Arc::new(MemorySource::default());
    source.put((*corpus()).clone());
    let checkpoints = CheckpointStore::in_memory();
    let jobs = Jobs::default();
    let worker = Worker::new(
        Parts {
            source: Arc::clone(&source) as Arc<_>,
            encoder: query_encoder(),
            checkpoints: checkpoints.clone(),
            pool: CpuPool::new("test", None).unwrap(),
            train: quick(),
            retrain,
            keep_versions: 5,
        },
        jobs.clone(),
    );
    tokio::spawn(worker.run());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let trainer = Trainer::new(jobs.clone(), 0, "flex".to_owned());
    tokio::spawn(transport::serve(listener, trainer, shutdown.clone()));
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let client = TrainerServiceClient::new(channel.clone());
    Sandbox {
        client,
        channel,
        source,
        checkpoints,
        jobs,
        shutdown,
    }
}

fn manual() -> RetrainConfig {
    RetrainConfig {
        enabled: false,
        ..RetrainConfig::default()
    }
}

impl Sandbox {
    async fn start(&mut self, request: v1::StartTrainingRequest) -> v1::TrainingJob {
        self.client
            .start_training(request)
            .await
            .unwrap()
            .into_inner()
            .job
            .unwrap()
    }

    /// Follows a job to its end; all states that were sent.
    async fn follow(&mut self, id: &str) -> Vec<v1::TrainingJob> {
        let request = v1::WatchJobRequest {
            job_id: id.to_owned(),
        };
        let mut stream = self.client.watch_job(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            seen.push(message.job.unwrap());
        }
        seen
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_trains_publishes_and_refuses_to_publish_the_same_again() {
    let mut sandbox = sandbox(manual()).await;
    let request = v1::StartTrainingRequest {
        synthetic_queries: Some(900),
        ..Default::default()
    };
    let job = sandbox.start(request.clone()).await;
    assert!(matches!(
        job.state(),
        v1::JobState::Queued | v1::JobState::Running
    ));
    let seen = sandbox.follow(&job.id).await;
    let last = seen.last().unwrap();
    assert_eq!(last.state(), v1::JobState::Succeeded, "{}", last.message);
    assert_eq!(last.published_version, Some(1), "{}", last.message);
    assert_eq!(last.collections, ["articles"]);
    assert!(
        seen.iter()
            .any(|job| job.stage() == v1::JobStage::Views && job.stage_total > 0)
    );
    assert!(last.loss.unwrap() > 0.0 && last.ended_at.is_some());

    let version = sandbox.checkpoints.load(1).await.unwrap();
    let manifest = &version.manifest.collections["articles"];
    let source = v1::ModelSource::try_from(last.sources["articles"]).unwrap();
    match manifest.status {
        CollectionStatus::Trained => assert_eq!(source, v1::ModelSource::Trained),
        CollectionStatus::FallbackPrior => assert_eq!(source, v1::ModelSource::FallbackPrior),
    }
    assert!(
        manifest.reason.contains("held-out loss"),
        "{}",
        manifest.reason
    );
    assert!(last.message.contains(&manifest.reason), "{}", last.message);
    assert_eq!(manifest.corpus_digest, corpus().corpus_digest);
    assert_eq!(manifest.hyper_parameters["device"], "flex");
    assert_eq!(manifest.hyper_parameters["synthetic_queries"], 900);
    version
        .snapshot
        .load(moerag_model::DeviceKind::Flex)
        .unwrap()
        .check(&version.warmup)
        .unwrap();

    let again = sandbox.start(request.clone()).await;
    let last = sandbox.follow(&again.id).await.pop().unwrap();
    assert_eq!(
        (last.state(), last.published_version),
        (v1::JobState::Succeeded, None)
    );
    assert!(
        last.message.contains("unchanged since version 1"),
        "{}",
        last.message
    );

    let forced = sandbox
        .start(v1::StartTrainingRequest {
            force: true,
            ..request
        })
        .await;
    let last = sandbox.follow(&forced.id).await.pop().unwrap();
    assert_eq!(
        (last.state(), last.published_version),
        (v1::JobState::Succeeded, None)
    );
    assert!(last.message.contains("not published"), "{}", last.message);
    assert_eq!(
        sandbox
            .checkpoints
            .current()
            .await
            .unwrap()
            .unwrap()
            .version,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_weights_of_a_deleted_collection_are_not_published_again() {
    let mut sandbox = sandbox(manual()).await;
    let request = v1::StartTrainingRequest {
        synthetic_queries: Some(300),
        ..Default::default()
    };
    let mut versions = Vec::new();
    for (new, deleted) in [("kept", "articles"), ("gone", ""), ("last", "gone")] {
        let mut named = (*corpus()).clone();
        named.collection = new.to_owned();
        sandbox.source.put(named);
        sandbox.source.remove(deleted);
        let job = sandbox.start(request.clone()).await;
        let last = sandbox.follow(&job.id).await.pop().unwrap();
        let version = last.published_version.expect("nothing was published");
        let manifest = sandbox.checkpoints.load(version).await.unwrap().manifest;
        versions.push(manifest.collections.into_keys().collect::<Vec<_>>());
    }
    assert_eq!(
        versions,
        [vec!["kept"], vec!["gone", "kept"], vec!["kept", "last"]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_running_and_waiting_jobs() {
    let mut sandbox = sandbox(manual()).await;
    let request = v1::StartTrainingRequest {
        synthetic_queries: Some(20_000),
        ..Default::default()
    };
    let running = sandbox.start(request.clone()).await;
    let waiting = sandbox.start(request).await;
    let cancel = v1::CancelJobRequest {
        job_id: waiting.id.clone(),
    };
    let job = sandbox
        .client
        .cancel_job(cancel)
        .await
        .unwrap()
        .into_inner()
        .job
        .unwrap();
    assert_eq!(job.state(), v1::JobState::Cancelled);

    while sandbox.jobs.get(&running.id).unwrap().progress.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = Instant::now();
    let cancel = v1::CancelJobRequest {
        job_id: running.id.clone(),
    };
    sandbox.client.cancel_job(cancel).await.unwrap();
    let last = sandbox.follow(&running.id).await.pop().unwrap();
    assert_eq!(last.state(), v1::JobState::Cancelled);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert!(sandbox.checkpoints.current().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_clear_answers() {
    let mut sandbox = sandbox(manual()).await;
    let unknown = v1::GetJobRequest {
        job_id: "no-such-job".into(),
    };
    assert_eq!(
        sandbox.client.get_job(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
    let latest = v1::GetJobRequest {
        job_id: String::new(),
    };
    assert_eq!(
        sandbox.client.get_job(latest).await.unwrap_err().code(),
        Code::NotFound
    );
    let bad = v1::StartTrainingRequest {
        collections: vec!["a b".into()],
        ..Default::default()
    };
    let refused = sandbox.client.start_training(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let missing = v1::StartTrainingRequest {
        collections: vec!["nothing".into()],
        ..Default::default()
    };
    let job = sandbox.start(missing).await;
    let last = sandbox.follow(&job.id).await.pop().unwrap();
    assert_eq!(last.state(), v1::JobState::Failed);
    assert!(
        last.message.contains("\"nothing\" does not exist"),
        "{}",
        last.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_up_until_the_drain_begins() {
    let sandbox = sandbox(manual()).await;
    let mut health = HealthClient::new(sandbox.channel.clone());
    for service in ["", "moerag.v1.TrainerService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let reply = health.check(request).await.unwrap().into_inner();
        assert_eq!(reply.status, 1, "{service}: SERVING");
    }
    sandbox.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrained_collection_is_trained_without_being_asked() {
    let retrain = RetrainConfig {
        quiet_secs: 0,
        poll_secs: 1,
        min_passages: 10,
        ..RetrainConfig::default()
    };
    let sandbox = sandbox(retrain).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while sandbox.checkpoints.current().await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "nothing was published");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let job = sandbox.jobs.get("").unwrap();
    assert!(job.request.background_reason.is_some());
    // Trained once, it leaves the collection alone.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(sandbox.jobs.get("").unwrap().id, job.id);
}
