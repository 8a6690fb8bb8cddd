//! Threads of the router: those of queries, and those for work that can wait.

use moerag_runtime::{CpuPool, CpuPoolError};

/// Niceness of threads for work that can wait, so that queries go first.
const NICE: i32 = 10;

/// A pool for queries: a thread for every core, which stays on it if `pinned`.
///
/// Linux likes to wake a thread on the core of whoever wakes it and takes a tenth of a second of load to
/// learn that both are busy. Until then, after every pause, the threads of a query share a core
/// (docs/speed.md).
pub(crate) fn queries(pinned: bool) -> Result<CpuPool, CpuPoolError> {
    let pool = CpuPool::new("query", None)?;
    if pinned {
        pin(&pool);
    }
    Ok(pool)
}

/// A pool of `threads` nice threads for ingest and model loading, by default as many as cores.
///
/// DESIGN.md section 4 wants one pool. A second one, with the operating system between them, keeps
/// a query from waiting behind a batch that rayon has already begun.
pub(crate) fn background(
    name: &'static str,
    threads: Option<usize>,
) -> Result<CpuPool, CpuPoolError> {
    let pool = CpuPool::new(name, threads)?;
    pool.broadcast(|_| {
        // Without the right to be nice we are merely less fair.
        let _ = rustix::process::nice(NICE);
    });
    Ok(pool)
}

/// Keeps each thread of `pool` on a core of its own, if there are as many of them: with a container's
/// share of a larger machine the system had better choose among the cores.
#[cfg(target_os = "linux")]
fn pin(pool: &CpuPool) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let cores = allowed_cores();
    if cores.len() != pool.threads() {
        return;
    }
    pool.broadcast(|thread| {
        let mut own = CpuSet::new();
        own.set(cores[thread]);
        // Without the right to choose we are merely slower.
        let _ = sched_setaffinity(None, &own);
    });
}

#[cfg(not(target_os = "linux"))]
fn pin(_: &CpuPool) {}

/// The cores on which this thread may run; none if the system does not tell.
#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let Ok(allowed) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let cores = 0..CpuSet::MAX_CPU;
    cores.filter(|core| allowed.is_set(*core)).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    /// The cores on which each thread of a pool may run.
    fn cores(pool: &CpuPool) -> Vec<Vec<usize>> {
        let found = Mutex::new(vec![Vec::new(); pool.threads()]);
        pool.broadcast(|thread| {
            found.lock().unwrap()[thread] = allowed_cores();
        });
        found.into_inner().unwrap()
    }

    #[test]
    fn threads_of_queries_have_a_core_each_and_others_have_all() {
        let free = cores(&queries(false).unwrap());
        let all = &free[0];
        assert!(!all.is_empty() && free.iter().all(|cores| cores == all));
        let pinned = cores(&queries(true).unwrap());
        if all.len() == pinned.len() {
            assert_eq!(pinned.concat(), *all);
        } else {
            // A container's share of the cores.
            assert_eq!(pinned, free);
        }
        assert_eq!(cores(&background("other", Some(1)).unwrap())[0], *all);
    }
}
