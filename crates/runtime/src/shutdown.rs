//! Graceful shutdown: the first SIGINT or SIGTERM begins the drain, which is bounded in time.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A signal to stop that many tasks can wait for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A signal that nothing has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal at the first SIGINT or SIGTERM. A second one ends the process at once
    /// with the status of a killed process.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            info!(signal = name, "shutting down");
            token.cancel();
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            warn!("second signal, stopping now");
            std::process::exit(code);
        });
        Ok(())
    }

    /// Gives the signal.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether the signal was given.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the signal.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The same signal for code that wants a token.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs `work` until it ends, or until `grace` after the signal. Returns what it gave, or
    /// `None` if it was cut off.
    pub async fn bounded<F: Future>(&self, grace: Duration, work: F) -> Option<F::Output> {
        let cut = async {
            self.begun().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            output = work => Some(output),
            () = cut => {
                warn!(grace_millis = grace.as_millis() as u64, "shutdown did not complete in time, stopping now");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_cut_off_after_the_grace_period_and_not_before() {
        let shutdown = Shutdown::new();
        let grace = Duration::from_millis(50);
        shutdown.begin();
        let slow = async {
            tokio::time::sleep(grace / 2).await;
            7
        };
        assert_eq!(shutdown.bounded(grace * 100, slow).await, Some(7));
        let output = shutdown.bounded(grace, std::future::pending::<()>()).await;
        assert_eq!(output, None);
    }

    #[tokio::test]
    async fn finished_work_is_returned() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.bounded(Duration::ZERO, async { 7 }).await, Some(7));
        assert!(!shutdown.has_begun());
    }
}
