//! One child process: a service with its log.

use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::data_dir::DataDir;
use crate::client::{Health, health};
use crate::failure::{EXIT_USAGE, Usage};

/// The services drain for at most their own grace period; this is longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
const LOG_LINES: usize = 20;
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// A running service.
pub(super) struct Service {
    name: &'static str,
    child: Child,
    pid: Pid,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its log.
    pub(super) log: PathBuf,
}

impl Service {
    /// Starts the executable beside this one, its output going to a log in the data directory.
    pub(super) fn start(
        name: &'static str,
        log_name: &str,
        address: SocketAddr,
        dir: &DataDir,
        args: &[String],
    ) -> Result<Service> {
        let program = beside_this_one(name)?;
        let (log, file) = dir.log(log_name)?;
        let mut command = Command::new(&program);
        command
            .arg("--listen")
            .arg(address.to_string())
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // A group of its own: Ctrl-C in the terminal reaches this process alone, which stops
            // the services in order.
            .process_group(0)
            .kill_on_drop(true)
            // Addresses for clients; the services refuse settings that they do not know.
            .env_remove("MOERAG_ROUTER_URL")
            .env_remove("MOERAG_TRAINER_URL");
        if std::env::var_os("MATMUL_NUM_THREADS").is_none() {
            // Without it burn-ndarray's matrix product spins (FEASIBILITY.md).
            command.env("MATMUL_NUM_THREADS", "1");
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Service {
            name,
            child,
            pid,
            address,
            log,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its address with scheme.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until its health is SERVING.
    ///
    /// # Errors
    /// It ended, or took longer than `timeout`; the message carries the end of its log.
    pub(super) async fn wait_until_serving(&mut self, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.obituary(status));
            }
            if health(&self.url(), "").await? == Health::Serving {
                return Ok(());
            }
            if started.elapsed() > timeout {
                bail!(
                    "{} does not serve after {} s; the end of {}:\n{}",
                    self.name,
                    timeout.as_secs(),
                    self.log.display(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// What is said about a service that ended by itself: the caller's mistake if the service refused
    /// its configuration, else a failure, also if it ended well without being asked.
    pub(super) fn obituary(&self, status: ExitStatus) -> Error {
        let message = format!(
            "{} ended ({status}); the end of {}:\n{}",
            self.name,
            self.log.display(),
            self.log_tail()
        );
        if status.code() == Some(i32::from(EXIT_USAGE)) {
            Usage(message).into()
        } else {
            anyhow!(message)
        }
    }

    /// Passes a request to stop on; a second one makes the service stop without draining.
    pub(super) fn terminate(&self) {
        if matches!(self.child.id(), Some(id) if i64::from(id) == i64::from(self.pid())) {
            // It may end in this very moment: then there is nothing left to stop.
            kill_process(self.pid, Signal::TERM).ok();
        }
    }

    /// Waits for the end after [`terminate`](Self::terminate), and kills at the time-out.
    pub(super) async fn stopped(&mut self) -> Result<()> {
        match tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => {
                status?;
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!(
                    "{} did not stop within {} s and was killed",
                    self.name,
                    STOP_TIMEOUT.as_secs()
                )
            }
        }
    }

    fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("  ({error})"))
    }
}

fn beside_this_one(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this executable")?;
    let dir = this.parent().unwrap_or(Path::new("."));
    let program = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        return Err(Usage(format!(
            "{name} is not beside moerag in {}; build all of them with `cargo build --workspace --bins`",
            dir.display()
        ))
        .into());
    }
    Ok(program)
}

/// The address itself, or with a free port in place of port 0.
///
/// # Errors
/// Another process listens there.
pub(super) fn free_address(address: SocketAddr, flag: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).map_err(|error| {
        Usage(format!("cannot listen on {address}: {error}; choose another address with {flag} (port 0: a free one)"))
    })?;
    Ok(listener.local_addr()?)
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last: Vec<String> = lines[lines.len().saturating_sub(LOG_LINES)..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    Ok(last.join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_refused_configuration_is_usage_and_every_other_end_a_failure() {
        for (script, usage) in [
            ("exit 64", true),
            ("exit 0", false),
            ("exit 101", false),
            ("kill -KILL $$", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("x.log");
            fs_err::write(&log, "its last words\n").unwrap();
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = i32::try_from(child.id().unwrap()).unwrap();
            let mut service = Service {
                name: "router-service",
                child,
                pid: Pid::from_raw(pid).unwrap(),
                address: "127.0.0.1:9".parse().unwrap(),
                log,
            };
            let wait = service.wait_until_serving(Duration::from_secs(60));
            let error = wait.await.unwrap_err();
            assert_eq!(error.is::<Usage>(), usage, "{script}: {error}");
            assert!(error.to_string().contains("its last words"), "{error}");
        }
    }

    #[test]
    fn a_taken_address_is_refused_and_port_0_becomes_a_real_one() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = TcpListener::bind(any).unwrap();
        let error = free_address(taken.local_addr().unwrap(), "--router-listen")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--router-listen"), "{error}");
        assert_ne!(free_address(any, "--router-listen").unwrap().port(), 0);
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let text: String = (0..5000).map(|i| format!("line {i}\n")).collect();
        fs_err::write(&path, text).unwrap();
        let tail = tail(&path).unwrap();
        assert_eq!(tail.lines().count(), LOG_LINES);
        assert!(tail.ends_with("  line 4999"), "{tail}");
    }
}
