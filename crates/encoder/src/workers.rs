//! The encoder's threads and their two lanes.
//!
//! Every thread is the only member of its own rayon pool, so whatever burn parallelises inside a
//! forward pass runs on that thread: one batch per core needs no synchronisation within a layer,
//! and a thread that waits for a query's product can never pick up a piece of an ingest batch
//! (measured figures: `examples/speed.rs`).
//!
//! Work for a waiting user goes through the interactive lane. All threads serve it first, and one
//! extra thread serves nothing else, so a query never waits for a bulk batch to end; the operating
//! system shares the cores between the two.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::error::EncoderError;

/// A unit of work; errors travel through what it captures.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Which queue a job waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody waits: small requests.
    Interactive,
    /// Ingest, training, evaluation.
    Bulk,
}

#[derive(Default)]
struct Queues {
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Wakes threads that serve both lanes.
    any: Condvar,
    /// Wakes the thread that serves the interactive lane alone.
    interactive: Condvar,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        // No code under this lock can leave the queues half changed.
        self.queues
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Hands jobs to the threads; clones share them.
#[derive(Clone)]
pub(crate) struct Submitter(Arc<Shared>);

impl Submitter {
    /// # Errors
    ///
    /// [`EncoderError::Closed`] after the [`Workers`] were dropped.
    pub(crate) fn submit(&self, lane: Lane, job: Job) -> Result<(), EncoderError> {
        let mut queues = self.0.queues();
        if queues.closed {
            return Err(EncoderError::Closed);
        }
        match lane {
            Lane::Interactive => {
                queues.interactive.push_back(job);
                self.0.interactive.notify_one();
            }
            Lane::Bulk => queues.bulk.push_back(job),
        }
        self.0.any.notify_one();
        Ok(())
    }
}

/// The running threads. Dropping this drops queued jobs and lets the threads end after the jobs
/// they are at.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    bulk_threads: usize,
}

impl Workers {
    /// Starts `bulk_threads` threads for both lanes, and one more for the interactive lane alone
    /// when `extra` is set.
    pub(crate) fn start(bulk_threads: usize, extra: bool) -> Result<Self, EncoderError> {
        let workers = Workers {
            shared: Arc::default(),
            bulk_threads,
        };
        for i in 0..bulk_threads {
            workers.spawn(format!("encoder-{i}"), |shared| run(shared, true))?;
        }
        if extra {
            workers.spawn("encoder-query".to_owned(), |shared| run(shared, false))?;
        }
        Ok(workers)
    }

    fn spawn(&self, name: String, body: fn(&Shared)) -> Result<(), EncoderError> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            // `use_current_thread` makes this thread the pool's one worker. Without a pool burn
            // would use the global one: slower, still right.
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .use_current_thread()
                .build();
            if let Err(error) = pool {
                tracing::warn!(%error, "encoder thread runs without a pool of its own");
            }
            body(&shared);
        };
        let started = thread::Builder::new().name(name).spawn(run);
        started
            .map(drop)
            .map_err(|error| EncoderError::Compute(format!("thread: {error}")))
    }

    pub(crate) fn submitter(&self) -> Submitter {
        Submitter(Arc::clone(&self.shared))
    }

    /// Threads that take bulk work.
    pub(crate) fn bulk_threads(&self) -> usize {
        self.bulk_threads
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queues = self.shared.queues();
        queues.closed = true;
        queues.interactive.clear();
        queues.bulk.clear();
        self.shared.any.notify_all();
        self.shared.interactive.notify_all();
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("bulk_threads", &self.bulk_threads)
            .finish_non_exhaustive()
    }
}

fn run(shared: &Shared, both: bool) {
    while let Some(job) = next(shared, both) {
        // A panic inside burn costs one request: the job's reply channel closes with it.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("an encoder job panicked");
        }
    }
}

fn next(shared: &Shared, both: bool) -> Option<Job> {
    let mut queues = shared.queues();
    loop {
        if let Some(job) = queues.interactive.pop_front() {
            return Some(job);
        }
        if both && let Some(job) = queues.bulk.pop_front() {
            return Some(job);
        }
        if queues.closed {
            return None;
        }
        let wake = if both {
            &shared.any
        } else {
            &shared.interactive
        };
        queues = wake
            .wait(queues)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn an_interactive_job_does_not_wait_for_bulk_work() {
        let workers = Workers::start(1, true).unwrap();
        let submitter = workers.submitter();
        let (release, blocked) = mpsc::sync_channel::<()>(1);
        let (started, has_started) = mpsc::sync_channel(1);
        let block = Box::new(move || {
            started.send(()).unwrap();
            let _ = blocked.recv_timeout(LONG);
        });
        submitter.submit(Lane::Bulk, block).unwrap();
        has_started.recv_timeout(LONG).unwrap();
        let (done, is_done) = mpsc::sync_channel(1);
        submitter
            .submit(Lane::Interactive, Box::new(move || done.send(()).unwrap()))
            .unwrap();
        is_done.recv_timeout(LONG).unwrap();
        release.send(()).unwrap();
    }

    #[test]
    fn a_panicking_job_does_not_end_its_thread() {
        let workers = Workers::start(1, false).unwrap();
        let submitter = workers.submitter();
        submitter
            .submit(Lane::Bulk, Box::new(|| panic!("expected by this test")))
            .unwrap();
        let (done, is_done) = mpsc::sync_channel(1);
        submitter
            .submit(Lane::Bulk, Box::new(move || done.send(7).unwrap()))
            .unwrap();
        assert_eq!(is_done.recv_timeout(LONG).unwrap(), 7);
    }

    #[test]
    fn each_thread_is_a_pool_of_one() {
        let workers = Workers::start(1, false).unwrap();
        let (tell, told) = mpsc::sync_channel(1);
        let job = Box::new(move || tell.send(rayon::current_num_threads()).unwrap());
        workers.submitter().submit(Lane::Bulk, job).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), 1);
    }

    #[test]
    fn dropping_drops_what_waits_and_refuses_more() {
        let workers = Workers::start(1, false).unwrap();
        let submitter = workers.submitter();
        let (release, blocked) = mpsc::sync_channel::<()>(1);
        let (started, has_started) = mpsc::sync_channel(1);
        let block = Box::new(move || {
            started.send(()).unwrap();
            let _ = blocked.recv_timeout(LONG);
        });
        submitter.submit(Lane::Bulk, block).unwrap();
        has_started.recv_timeout(LONG).unwrap();
        let (done, is_done) = mpsc::sync_channel::<()>(1);
        submitter
            .submit(Lane::Bulk, Box::new(move || drop(done)))
            .unwrap();
        drop(workers);
        assert!(is_done.recv_timeout(LONG).is_err());
        assert!(matches!(
            submitter.submit(Lane::Bulk, Box::new(|| ())),
            Err(EncoderError::Closed)
        ));
        drop(release);
    }
}
