//! CPU work off the async threads: a rayon pool whose results are awaited.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use futures::FutureExt;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::Span;

/// Why work on the pool gave no result.
#[derive(Debug, Error)]
pub enum CpuPoolError {
    /// The threads could not be started.
    #[error("cpu pool {name}: {source}")]
    Start {
        /// Name of the pool.
        name: String,
        /// What rayon says.
        source: rayon::ThreadPoolBuildError,
    },
    /// The work panicked: a bug. The pool goes on.
    #[error("work on the cpu pool panicked: {0}")]
    Panicked(String),
    /// The work was dropped before it ran, which only happens while the process ends.
    #[error("work on the cpu pool was dropped")]
    Dropped,
}

/// A rayon pool. Work that uses rayon's parallel iterators inside `run` stays in it.
#[derive(Clone, Debug)]
pub struct CpuPool {
    pool: Arc<rayon::ThreadPool>,
}

impl CpuPool {
    /// Starts a pool of `threads` threads, by default as many as cores.
    ///
    /// # Errors
    /// The operating system refuses threads.
    pub fn new(name: &'static str, threads: Option<usize>) -> Result<Self, CpuPoolError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(cores))
            .thread_name(move |index| format!("{name}-{index}"))
            .build()
            .map_err(|source| CpuPoolError::Start {
                name: name.to_owned(),
                source,
            })?;
        Ok(Self {
            pool: Arc::new(pool),
        })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool within the current span, at once if this is a thread of it already. If the
    /// caller is dropped before the work began, the work is skipped.
    ///
    /// # Errors
    /// The work panicked.
    #[must_use = "the work may be skipped unless it is awaited"]
    pub fn run<F, R>(&self, work: F) -> impl Future<Output = Result<R, CpuPoolError>> + use<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let span = Span::current();
        let (sender, receiver) = oneshot::channel();
        let run = move || {
            if sender.is_closed() {
                return;
            }
            let _entered = span.enter();
            let result = catch_unwind(AssertUnwindSafe(work))
                .map_err(|panic| CpuPoolError::Panicked(panic_message(&*panic)));
            // The caller may have gone meanwhile; then nobody wants the result.
            let _ = sender.send(result);
        };
        if self.pool.current_thread_index().is_some() {
            run();
        } else {
            self.pool.spawn(run);
        }
        async move { receiver.await.unwrap_or(Err(CpuPoolError::Dropped)) }
    }

    /// Begins a future on a thread of the pool: for work in several steps that hardly ever wait. What it
    /// asks of this pool runs on that thread too, so it changes threads once. Should it have to wait after all,
    /// it goes on with the caller, which is why no executor is needed: threads of the pool may take other work
    /// between two halves of this one, and executors must not be nested. For the same reason the work must not
    /// hold a lock while it waits for halves: what its thread takes meanwhile may want the same one.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn begin<F>(&self, work: F) -> Result<F::Output, CpuPoolError>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = Handle::current();
        let mut work = Box::pin(work);
        let begun = self.run(move || {
            let _context = runtime.enter();
            match (&mut work).now_or_never() {
                Some(done) => Ok(done),
                None => Err(work),
            }
        });
        Ok(match begun.await? {
            Ok(done) => done,
            Err(rest) => rest.await,
        })
    }

    /// Begins `work` on an idle thread of the pool, if there is one: for what will be needed in a moment. It
    /// must not use the pool itself, because a thread that waits inside would take other work, and that may
    /// need this result.
    pub fn ahead<R, F>(&self, work: F) -> Ahead<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + Sync + 'static,
    {
        let ahead = Ahead(Arc::new(LazyLock::new(Box::new(work))));
        let begun = ahead.clone();
        self.pool.spawn(move || {
            // A panic comes again where the result is needed.
            let _ = catch_unwind(AssertUnwindSafe(|| LazyLock::force(&begun.0)));
        });
        ahead
    }

    /// Runs `work` once on every thread of the pool, with the thread's number, and waits for it: settings
    /// of threads.
    pub fn broadcast(&self, work: impl Fn(usize) + Sync) {
        self.pool.broadcast(|thread| work(thread.index()));
    }
}

/// What [`CpuPool::ahead`] begins. Whoever reads it first waits for the thread that has begun, or does the
/// work; a panic in the work is one of every reader.
pub struct Ahead<R>(Arc<LazyLock<R, Box<dyn FnOnce() -> R + Send>>>);

impl<R> Clone for Ahead<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Deref for Ahead<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.0
    }
}

impl<R> std::fmt::Debug for Ahead<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn results_come_back_and_panics_do_not_kill_the_pool() {
        let pool = CpuPool::new("test", Some(1)).unwrap();
        let error = pool
            .run(|| -> u32 { panic!("broken {}", 1) })
            .await
            .unwrap_err();
        assert!(matches!(error, CpuPoolError::Panicked(ref m) if m == "broken 1"));
        assert_eq!(pool.run(|| 3).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_begins_on_the_pool_stays_on_its_thread_until_it_waits() {
        let pool = CpuPool::new("test", Some(1)).unwrap();
        let inner = pool.clone();
        let here = || std::thread::current().id();
        let work = async move {
            let outer = here();
            // With one thread, another job of the pool would have to wait for this one.
            let within = inner.run(here).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            (outer, within, here())
        };
        let (outer, within, after) = pool.begin(work).await.unwrap();
        assert_eq!(outer, within);
        assert_eq!(after, here());
        assert_ne!(outer, here());
    }

    #[tokio::test]
    async fn work_within_work_that_waits_for_its_halves_is_fine() {
        let pool = CpuPool::new("test", Some(2)).unwrap();
        let many = (0..64u64).map(|i| {
            let halves = async move {
                let slow = || (0..20_000u64).fold(i, |a, b| std::hint::black_box(a ^ b));
                let (a, b) = rayon::join(slow, slow);
                assert_eq!(a, b);
                i
            };
            pool.begin(halves)
        });
        let done = futures::future::try_join_all(many).await.unwrap();
        assert_eq!(done, (0..64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_done_ahead_is_done_once_by_whoever_comes_first() {
        let pool = CpuPool::new("test", Some(1)).unwrap();
        let (release, wait) = mpsc::sync_channel::<()>(1);
        let blocker = pool.run(move || wait.recv());
        let times = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&times);
        let ahead = pool.ahead(move || counted.fetch_add(1, Ordering::SeqCst));
        // The only thread is busy, so it is done here.
        assert_eq!((*ahead, times.load(Ordering::SeqCst)), (0, 1));
        release.send(()).unwrap();
        blocker.await.unwrap().unwrap();
        let broken = pool.ahead(|| -> u32 { panic!("broken") });
        let read = pool.run(move || *broken).await;
        assert!(matches!(read, Err(CpuPoolError::Panicked(_))), "{read:?}");
        assert_eq!(
            (pool.run(|| 3).await.unwrap(), times.load(Ordering::SeqCst)),
            (3, 1)
        );
    }

    #[tokio::test]
    async fn work_of_a_caller_that_has_gone_is_skipped() {
        let pool = CpuPool::new("test", Some(1)).unwrap();
        let (release, wait) = mpsc::sync_channel::<()>(1);
        let blocker = pool.run(move || wait.recv());
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        drop(pool.run(move || flag.store(true, Ordering::SeqCst)));
        release.send(()).unwrap();
        blocker.await.unwrap().unwrap();
        pool.run(|| ()).await.unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    }
}
