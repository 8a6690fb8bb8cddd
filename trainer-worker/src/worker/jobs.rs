//! The jobs of a worker: a bounded queue, their states, watchers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::progress::{Progress, ProgressEvent, Stage};

/// Jobs that may wait.
const MAX_QUEUED: usize = 16;
/// Ended jobs that are remembered.
const MAX_REMEMBERED: usize = 64;

/// What to train.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobRequest {
    /// Collections; empty means all.
    pub collections: Vec<String>,
    /// Seed; `None` means the configured one.
    pub seed: Option<u64>,
    /// Synthetic queries per collection; `None` means the configured number.
    pub synthetic_queries: Option<usize>,
    /// Train although the corpus is the one the live version was trained on.
    pub force: bool,
    /// Why the worker started it by itself; `None` when somebody asked.
    pub background_reason: Option<String>,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for another job.
    Queued,
    /// Runs.
    Running,
    /// Ended well, published or not.
    Succeeded,
    /// Ended by an error.
    Failed,
    /// Ended by a cancel or the worker's shutdown.
    Cancelled,
}

impl JobState {
    /// Whether the job will not change any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Where a collection's published weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Learned from the documents.
    Trained,
    /// The prior's, because training did not beat it.
    FallbackPrior,
}

/// A job as others see it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Id.
    pub id: String,
    /// What was asked for; `collections` is filled in when it starts.
    pub request: JobRequest,
    /// Seed in use.
    pub seed: u64,
    /// Device in use.
    pub device: String,
    /// State.
    pub state: JobState,
    /// Last progress event.
    pub progress: Option<ProgressEvent>,
    /// Collection that the stage works on.
    pub stage_collection: String,
    /// Latest training loss.
    pub loss: Option<f32>,
    /// Estimated time to the end of the job.
    pub eta: Option<Duration>,
    /// Published version.
    pub published_version: Option<u64>,
    /// Source of each collection's weights in it.
    pub sources: BTreeMap<String, Source>,
    /// Held-out figures, `collection/figure`.
    pub metrics: BTreeMap<String, f64>,
    /// What happened.
    pub message: String,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// When it began.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
}

/// Why a job was not taken or found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JobError {
    /// The queue is full.
    #[error("{waiting} training jobs are waiting already; try again when one has ended")]
    QueueFull {
        /// Jobs waiting.
        waiting: usize,
    },
    /// The worker is stopping.
    #[error("the worker is shutting down and takes no more jobs")]
    Stopping,
    /// No such job.
    #[error("job {id:?} is not known; the worker remembers the last {MAX_REMEMBERED}")]
    Unknown {
        /// Asked for.
        id: String,
    },
    /// No job at all.
    #[error("no training job has been started yet")]
    None,
}

#[derive(Debug)]
struct Entry {
    sender: watch::Sender<Job>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Board {
    entries: BTreeMap<String, Entry>,
    /// Ids in the order of their creation.
    order: VecDeque<String>,
    waiting: VecDeque<String>,
    stopping: bool,
}

/// All jobs. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    board: Arc<Mutex<Board>>,
    wake: Arc<Notify>,
}

impl Jobs {
    /// Queues a job.
    ///
    /// # Errors
    /// [`JobError::QueueFull`], [`JobError::Stopping`].
    pub fn submit(&self, request: JobRequest, seed: u64, device: &str) -> Result<Job, JobError> {
        let mut board = self.board();
        if board.stopping {
            return Err(JobError::Stopping);
        }
        if board.waiting.len() >= MAX_QUEUED {
            return Err(JobError::QueueFull {
                waiting: board.waiting.len(),
            });
        }
        let job = Job {
            id: Uuid::new_v4().to_string(),
            seed: request.seed.unwrap_or(seed),
            request,
            device: device.to_owned(),
            state: JobState::Queued,
            progress: None,
            stage_collection: String::new(),
            loss: None,
            eta: None,
            published_version: None,
            sources: BTreeMap::new(),
            metrics: BTreeMap::new(),
            message: "waiting".to_owned(),
            created_at: SystemTime::now(),
            started_at: None,
            ended_at: None,
        };
        let (sender, _) = watch::channel(job.clone());
        board.entries.insert(
            job.id.clone(),
            Entry {
                sender,
                cancel: CancellationToken::new(),
            },
        );
        board.order.push_back(job.id.clone());
        board.waiting.push_back(job.id.clone());
        board.forget_oldest();
        drop(board);
        self.wake.notify_one();
        Ok(job)
    }

    /// Follows a job; an empty id means the latest one. The receiver ends with the job's entry.
    ///
    /// # Errors
    /// [`JobError::Unknown`], [`JobError::None`].
    pub fn watch(&self, id: &str) -> Result<watch::Receiver<Job>, JobError> {
        let board = self.board();
        let id = if id.is_empty() {
            board.order.back().ok_or(JobError::None)?
        } else {
            id
        };
        let entry = board
            .entries
            .get(id)
            .ok_or_else(|| JobError::Unknown { id: id.to_owned() })?;
        Ok(entry.sender.subscribe())
    }

    /// A job as it is now; an empty id means the latest one.
    ///
    /// # Errors
    /// As [`Jobs::watch`].
    pub fn get(&self, id: &str) -> Result<Job, JobError> {
        self.watch(id).map(|receiver| receiver.borrow().clone())
    }

    /// Asks a job to stop. A waiting one ends at once, an ended one stays as it is.
    ///
    /// # Errors
    /// [`JobError::Unknown`].
    pub fn cancel(&self, id: &str) -> Result<Job, JobError> {
        let mut board = self.board();
        let entry = board
            .entries
            .get(id)
            .ok_or_else(|| JobError::Unknown { id: id.to_owned() })?;
        entry.cancel.cancel();
        if entry.sender.borrow().state == JobState::Queued {
            entry
                .sender
                .send_modify(|job| job.end(JobState::Cancelled, "cancelled before it began"));
        }
        let job = entry.sender.borrow().clone();
        board.waiting.retain(|waiting| waiting != id);
        Ok(job)
    }

    /// Whether a job waits or runs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.board()
            .entries
            .values()
            .any(|entry| !entry.sender.borrow().state.has_ended())
    }

    /// Takes no more jobs and cancels all that have not ended.
    pub fn stop(&self) {
        let ids: Vec<String> = {
            let mut board = self.board();
            board.stopping = true;
            board.entries.keys().cloned().collect()
        };
        for id in ids {
            // An entry can only have been forgotten meanwhile because it had ended.
            let _ = self.cancel(&id);
        }
        self.wake.notify_one();
    }

    /// The next job to run; waits for one. `None` once stopped.
    pub(crate) async fn next(&self) -> Option<RunningJob> {
        loop {
            {
                let mut board = self.board();
                if board.stopping {
                    return None;
                }
                while let Some(id) = board.waiting.pop_front() {
                    let Some(entry) = board.entries.get(&id) else {
                        continue;
                    };
                    entry.sender.send_modify(|job| {
                        job.state = JobState::Running;
                        job.started_at = Some(SystemTime::now());
                        job.message = "running".to_owned();
                    });
                    return Some(RunningJob {
                        sender: entry.sender.clone(),
                        cancel: entry.cancel.clone(),
                    });
                }
            }
            self.wake.notified().await;
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every critical section leaves the board consistent, even one that panicked.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn forget_oldest(&mut self) {
        while self.order.len() > MAX_REMEMBERED + MAX_QUEUED {
            let ended = |id: &String| {
                self.entries
                    .get(id)
                    .is_none_or(|entry| entry.sender.borrow().state.has_ended())
            };
            let Some(position) = self.order.iter().position(ended) else {
                return;
            };
            if let Some(id) = self.order.remove(position) {
                self.entries.remove(&id);
            }
        }
    }
}

impl Job {
    pub(crate) fn end(&mut self, state: JobState, message: impl Into<String>) {
        self.state = state;
        self.message = message.into();
        self.eta = None;
        self.ended_at = Some(SystemTime::now());
    }
}

/// The runner's side of a job.
#[derive(Debug, Clone)]
pub(crate) struct RunningJob {
    sender: watch::Sender<Job>,
    pub(crate) cancel: CancellationToken,
}

impl RunningJob {
    pub(crate) fn view(&self) -> Job {
        self.sender.borrow().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Job)) {
        self.sender.send_modify(change);
    }

    /// Progress of the `index`-th of `count` collections.
    pub(crate) fn progress(&self, collection: &str, index: usize, count: usize) -> JobProgress {
        self.update(|job| collection.clone_into(&mut job.stage_collection));
        JobProgress {
            job: self.clone(),
            index,
            count: count.max(1),
        }
    }
}

/// Writes progress events into a job.
#[derive(Debug, Clone)]
pub(crate) struct JobProgress {
    job: RunningJob,
    index: usize,
    count: usize,
}

impl Progress for JobProgress {
    fn report(&self, event: ProgressEvent) {
        self.job.update(|job| {
            let share = (self.index as f64 + share_done(&event)) / self.count as f64;
            job.eta = job
                .started_at
                .and_then(|start| start.elapsed().ok())
                .and_then(|elapsed| {
                    // Below two per cent the extrapolation says nothing.
                    (share > 0.02).then(|| elapsed.mul_f64((1.0 - share) / share))
                });
            job.loss = event.loss.or(job.loss);
            job.progress = Some(event);
        });
    }
}

/// Share of a collection's work that is behind us, by the usual lengths of the stages.
fn share_done(event: &ProgressEvent) -> f64 {
    let (before, own) = match event.stage {
        Stage::Snapshot => (0.0, 0.10),
        Stage::Synth => (0.10, 0.15),
        Stage::Encode => (0.25, 0.15),
        Stage::Views => (0.40, 0.40),
        Stage::Train => (0.80, 0.15),
        Stage::Evaluate => (0.95, 0.03),
        Stage::Publish => (0.98, 0.02),
    };
    before + own * (event.done as f64 / event.total.max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn jobs_run_one_after_another_and_can_be_cancelled() {
        let jobs = Jobs::default();
        assert_eq!(jobs.get("").unwrap_err(), JobError::None);
        let first = jobs.submit(JobRequest::default(), 7, "flex").unwrap();
        let second = jobs.submit(JobRequest::default(), 7, "flex").unwrap();
        assert_eq!(jobs.get("").unwrap().id, second.id);
        let running = jobs.next().await.unwrap();
        assert_eq!(running.view().id, first.id);
        assert_eq!(jobs.get(&first.id).unwrap().state, JobState::Running);

        assert_eq!(jobs.cancel(&second.id).unwrap().state, JobState::Cancelled);
        assert!(!running.cancel.is_cancelled());
        assert_eq!(jobs.cancel(&first.id).unwrap().state, JobState::Running);
        assert!(running.cancel.is_cancelled());
        running.update(|job| job.end(JobState::Cancelled, "cancelled"));
        assert!(!jobs.is_busy());
        jobs.stop();
        assert!(jobs.next().await.is_none());
        let refused = jobs.submit(JobRequest::default(), 7, "flex").unwrap_err();
        assert_eq!(refused, JobError::Stopping);
    }

    #[test]
    fn the_queue_is_bounded() {
        let jobs = Jobs::default();
        for _ in 0..MAX_QUEUED {
            jobs.submit(JobRequest::default(), 0, "flex").unwrap();
        }
        let refused = jobs.submit(JobRequest::default(), 0, "flex").unwrap_err();
        assert_eq!(
            refused,
            JobError::QueueFull {
                waiting: MAX_QUEUED
            }
        );
    }

    #[tokio::test]
    async fn ended_jobs_are_forgotten_in_the_end() {
        let jobs = Jobs::default();
        let first = jobs.submit(JobRequest::default(), 0, "flex").unwrap();
        for _ in 0..2 * (MAX_REMEMBERED + MAX_QUEUED) {
            let job = jobs.submit(JobRequest::default(), 0, "flex").unwrap();
            jobs.cancel(&job.id).unwrap();
        }
        jobs.cancel(&first.id).unwrap();
        jobs.submit(JobRequest::default(), 0, "flex").unwrap();
        assert!(matches!(jobs.get(&first.id), Err(JobError::Unknown { .. })));
        assert!(jobs.board().entries.len() <= MAX_REMEMBERED + MAX_QUEUED);
    }

    #[tokio::test]
    async fn progress_estimates_the_rest_of_the_job() {
        let jobs = Jobs::default();
        jobs.submit(JobRequest::default(), 0, "flex").unwrap();
        let running = jobs.next().await.unwrap();
        running.update(|job| job.started_at = Some(SystemTime::now() - Duration::from_secs(60)));
        running.progress("docs", 0, 1).report(ProgressEvent {
            stage: Stage::Views,
            done: 50,
            total: 100,
            loss: Some(1.5),
            per_second: 10.0,
            eta: None,
        });
        let job = running.view();
        assert_eq!(job.stage_collection, "docs");
        assert_eq!(job.loss, Some(1.5));
        let eta = job.eta.unwrap().as_secs_f64();
        assert!((39.0..42.0).contains(&eta), "{eta}");
    }
}
