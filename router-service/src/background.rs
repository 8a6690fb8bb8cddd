//! Threads for work that can wait: ingest and model loading.

use moerag_runtime::{CpuPool, CpuPoolError};

/// Niceness of such threads, so that queries go first.
const NICE: i32 = 10;

/// A pool of `threads` nice threads, by default as many as cores.
///
/// DESIGN.md section 4 wants one pool. A second one, with the operating system between them, keeps
/// a query from waiting behind a batch that rayon has already begun.
pub(crate) fn pool(name: &'static str, threads: Option<usize>) -> Result<CpuPool, CpuPoolError> {
    let pool = CpuPool::new(name, threads)?;
    pool.broadcast(|| {
        // Without the right to be nice we are merely less fair.
        let _ = rustix::process::nice(NICE);
    });
    Ok(pool)
}
