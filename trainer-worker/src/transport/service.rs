//! `TrainerService`: requests to the job queue, jobs back.

use std::time::Duration;

use moerag_proto::v1;
use moerag_proto::v1::trainer_service_server::TrainerService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert;
use crate::worker::Jobs;

/// Shortest time between two messages of one watch; states in between are skipped.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The service over a job queue.
#[derive(Debug, Clone)]
pub struct Trainer {
    jobs: Jobs,
    seed: u64,
    device: String,
}

impl Trainer {
    /// `seed` and `device` are what a job without a seed of its own uses.
    #[must_use]
    pub fn new(jobs: Jobs, seed: u64, device: String) -> Self {
        Self { jobs, seed, device }
    }
}

#[tonic::async_trait]
impl TrainerService for Trainer {
    async fn start_training(
        &self,
        request: Request<v1::StartTrainingRequest>,
    ) -> Result<Response<v1::StartTrainingResponse>, Status> {
        let request = convert::request(request.into_inner())?;
        let job = self
            .jobs
            .submit(request, self.seed, &self.device)
            .map_err(|error| convert::status(&error))?;
        tracing::info!(job = %job.id, collections = ?job.request.collections, "training queued");
        Ok(Response::new(v1::StartTrainingResponse {
            job: Some(convert::job(job)),
        }))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let job = self.jobs.get(&request.get_ref().job_id);
        let job = job.map_err(|error| convert::status(&error))?;
        Ok(Response::new(v1::GetJobResponse {
            job: Some(convert::job(job)),
        }))
    }

    type WatchJobStream = ReceiverStream<Result<v1::WatchJobResponse, Status>>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let mut jobs = self
            .jobs
            .watch(&request.get_ref().job_id)
            .map_err(|error| convert::status(&error))?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let job = jobs.borrow_and_update().clone();
                let ended = job.state.has_ended();
                let message = v1::WatchJobResponse {
                    job: Some(convert::job(job)),
                };
                // The client has gone, or there is nothing more to say.
                if sender.send(Ok(message)).await.is_err() || ended {
                    break;
                }
                tokio::select! {
                    () = sender.closed() => break,
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
                tokio::select! {
                    () = sender.closed() => break,
                    changed = jobs.changed() => if changed.is_err() { break },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let id = &request.get_ref().job_id;
        let job = self
            .jobs
            .cancel(id)
            .map_err(|error| convert::status(&error))?;
        tracing::info!(job = %id, "cancel requested");
        Ok(Response::new(v1::CancelJobResponse {
            job: Some(convert::job(job)),
        }))
    }
}
