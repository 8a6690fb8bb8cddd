//! The real router over a store, as a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connect::connect;

const PROGRAM: &str = "router-service";
/// A large store may have to build its index.
const START: Duration = Duration::from_secs(1800);
/// It flushes and seals the index, which reads all of its files.
const STOP: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

/// A running router; killed when it is dropped.
pub(super) struct Router {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Router {
    /// Starts it on a free port and waits until it serves.
    pub(super) async fn start(
        store: &Path,
        encoder_dir: &Path,
        checkpoints: Option<&str>,
    ) -> Result<Self> {
        let store = fs_err::canonicalize(store)?;
        let dir = tempfile::tempdir()?;
        let (data, address, log) = (
            dir.path().join("data"),
            dir.path().join("address"),
            dir.path().join("log"),
        );
        fs_err::create_dir(&data)?;
        // The store stays where it is: a link into an otherwise empty data directory.
        fs_err::os::unix::fs::symlink(&store, data.join("store"))?;
        let program = beside_this_one()?;
        let log = fs_err::File::create(log)?.into_parts().0;
        let mut command = Command::new(&program);
        command
            .args(["--listen", "127.0.0.1:0", "--address-file"])
            .arg(&address)
            .arg("--data-dir")
            .arg(&data)
            .arg("--encoder-dir")
            .arg(encoder_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Addresses for clients; the services refuse settings that they do not know.
            .env_remove("MOERAG_ROUTER_URL")
            .env_remove("MOERAG_TRAINER_URL");
        if std::env::var_os("MATMUL_NUM_THREADS").is_none() {
            // As `moerag up` starts it.
            command.env("MATMUL_NUM_THREADS", "1");
        }
        if let Some(url) = checkpoints {
            command.args(["--checkpoints-url", url]);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut router = Self {
            child,
            url: String::new(),
            dir,
        };
        let until = Instant::now() + START;
        while !router.serves(&address).await {
            if let Some(status) = router.child.try_wait()? {
                bail!("{PROGRAM} ended ({status}): {}", router.log());
            }
            if Instant::now() > until {
                bail!("{PROGRAM} does not serve: {}", router.log());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(router)
    }

    /// Its address with scheme.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn serves(&mut self, address: &Path) -> bool {
        if self.url.is_empty() {
            let written = fs_err::read_to_string(address).unwrap_or_default();
            if written.trim().is_empty() {
                return false;
            }
            self.url = format!("http://{}", written.trim());
        }
        let Ok(channel) = connect(&self.url).await else {
            return false;
        };
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let reply = HealthClient::new(channel).check(request).await;
        reply.is_ok_and(|reply| reply.get_ref().status() == ServingStatus::Serving)
    }

    /// Asks it to stop and waits for its end, so that the store is closed.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("it has no process id")?, Signal::TERM)
            .with_context(|| format!("stopping {PROGRAM}"))?;
        let until = Instant::now() + STOP;
        loop {
            match self.child.try_wait()? {
                Some(status) if ExitStatus::success(&status) => return Ok(()),
                Some(status) => bail!("{PROGRAM} ended with {status}: {}", self.log()),
                None if Instant::now() > until => bail!("{PROGRAM} does not stop: {}", self.log()),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The end of its log.
    fn log(&self) -> String {
        let log = fs_err::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // After `stop` both say that there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside_this_one() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this executable")?;
    let program = this.with_file_name(PROGRAM);
    if !program.is_file() {
        bail!(
            "{} is missing; build it first: cargo build --workspace --bins",
            program.display()
        );
    }
    Ok(program)
}
