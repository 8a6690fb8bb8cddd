//! Progress events of a training run: stage, counts, loss, speed, time left.

use std::time::{Duration, Instant};

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the collection's passages.
    Snapshot,
    /// Making synthetic queries.
    Synth,
    /// Encoding the queries.
    Encode,
    /// Scoring candidates.
    Views,
    /// Fitting heads and gate.
    Train,
    /// Measuring on the held-out queries.
    Evaluate,
    /// Writing the checkpoint.
    Publish,
}

impl Stage {
    /// Name on the wire and in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Synth => "synth",
            Self::Encode => "encode",
            Self::Views => "views",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Publish => "publish",
        }
    }
}

/// One step forward.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressEvent {
    /// Current stage.
    pub stage: Stage,
    /// Units done in this stage (passages, queries or training examples).
    pub done: usize,
    /// Units in all; 0 when unknown.
    pub total: usize,
    /// Mean training loss of the last epoch, while training.
    pub loss: Option<f32>,
    /// Units per second since the stage began.
    pub per_second: f64,
    /// Estimated time to the end of the stage.
    pub eta: Option<Duration>,
}

/// Receives events, from any thread, several times a second at most.
pub trait Progress: Send + Sync {
    /// One event. Must not block.
    fn report(&self, event: ProgressEvent);
}

impl<F: Fn(ProgressEvent) + Send + Sync> Progress for F {
    fn report(&self, event: ProgressEvent) {
        self(event);
    }
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _: ProgressEvent) {}
}

/// Turns counts of one stage into events.
pub(crate) struct StageClock<'p> {
    stage: Stage,
    total: usize,
    started: Instant,
    progress: &'p dyn Progress,
}

impl<'p> StageClock<'p> {
    /// Starts the stage and says so.
    pub(crate) fn start(stage: Stage, total: usize, progress: &'p dyn Progress) -> Self {
        let clock = Self {
            stage,
            total,
            started: Instant::now(),
            progress,
        };
        clock.advance(0, None);
        clock
    }

    /// `done` units are behind us; more than there were thought to be count as all of them.
    pub(crate) fn advance(&self, done: usize, loss: Option<f32>) {
        let done = done.min(self.total);
        let elapsed = self.started.elapsed().as_secs_f64();
        let per_second = if elapsed > 0.0 {
            done as f64 / elapsed
        } else {
            0.0
        };
        let left = self.total.saturating_sub(done) as f64;
        let eta = (done > 0 && self.total > 0 && per_second > 0.0)
            .then(|| Duration::try_from_secs_f64(left / per_second).ok())
            .flatten();
        self.progress.report(ProgressEvent {
            stage: self.stage,
            done,
            total: self.total,
            loss,
            per_second,
            eta,
        });
    }
}
