//! The real binaries in a directory of their own: what the end-to-end tests stand on.
//!
//! Every service listens on a port that the system chose and writes it into an address file, so
//! tests run side by side. A [`Process`] is killed when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::{Document, DocumentOutcome, IngestRequest, IngestStart};
use tempfile::TempDir;
use tonic::transport::Channel;

pub mod load;
pub mod models;
pub mod texts;

/// Longest time a service may take until it serves.
pub const START: Duration = Duration::from_secs(120);

/// A built binary of this workspace, beside the running test.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test
        .parent()
        .and_then(Path::parent)
        .context("the test has no target directory")?;
    let path = directory.join(name);
    if !path.exists() {
        bail!(
            "{} is missing; build it first: cargo build --workspace --bins",
            path.display()
        );
    }
    Ok(path)
}

/// The encoder's files that the tests use.
///
/// # Errors
/// When they are not there; names the remedy.
pub fn encoder_dir() -> Result<PathBuf> {
    let dir = moerag_encoder::default_dir()?;
    if !dir.join("model.safetensors").exists() {
        bail!(
            "no encoder in {}; fetch it: moerag model fetch",
            dir.display()
        );
    }
    Ok(dir)
}

/// A child process with its output in a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, output to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let out = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?
            .into_parts()
            .0;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and the end of it.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; waits for the end and gives the exit status.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        Command::new("kill")
            .arg("-TERM")
            .arg(self.pid().to_string())
            .status()?;
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "process {} does not stop; its log: {}",
            self.pid(),
            self.log()
        );
    }

    /// Exit status, if it ended.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn exited(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap_or_default()
    }

    /// Anonymous resident memory in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn anonymous_kib(&self) -> Result<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find(|l| l.starts_with("RssAnon"))
            .context("no RssAnon")?;
        Ok(line
            .split_whitespace()
            .nth(1)
            .context("RssAnon without a number")?
            .parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with services in it.
#[derive(Debug)]
pub struct Sandbox {
    /// Kept until the sandbox is dropped.
    pub dir: TempDir,
}

impl Sandbox {
    /// An empty sandbox.
    ///
    /// # Errors
    /// When no temporary directory can be made.
    pub fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
        })
    }

    /// Where the data lies.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.data().join("checkpoints")
    }

    /// Starts a router on the embedded store; `extra` are further flags.
    ///
    /// # Errors
    /// When it does not listen in time; the error holds its log.
    pub fn router(&self, extra: &[&str]) -> Result<(Process, String)> {
        self.router_with(extra, &[])
    }

    /// The same with environment variables.
    ///
    /// # Errors
    /// As [`Sandbox::router`].
    pub fn router_with(&self, extra: &[&str], env: &[(&str, &str)]) -> Result<(Process, String)> {
        self.service("router-service", extra, env)
    }

    /// Starts a trainer for the router at `router_url`.
    ///
    /// # Errors
    /// As [`Sandbox::router`].
    pub fn trainer(&self, router_url: &str, extra: &[&str]) -> Result<(Process, String)> {
        let extra = [&["--router-url", router_url], extra].concat();
        self.service("trainer-worker", &extra, &[])
    }

    fn service(
        &self,
        name: &str,
        extra: &[&str],
        env: &[(&str, &str)],
    ) -> Result<(Process, String)> {
        let address = self.dir.path().join(format!("{name}.address"));
        let _ = fs_err::remove_file(&address);
        let mut command = Command::new(binary(name)?);
        command
            .args(["--listen", "127.0.0.1:0", "--address-file"])
            .arg(&address);
        command.arg("--data-dir").arg(self.data());
        command.arg("--encoder-dir").arg(encoder_dir()?);
        command.args(extra).envs(env.iter().copied());
        let mut process = Process::start(command, self.dir.path().join(format!("{name}.log")))?;
        let until = Instant::now() + START;
        loop {
            let written = fs_err::read_to_string(&address).unwrap_or_default();
            if !written.trim().is_empty() {
                return Ok((process, format!("http://{}", written.trim())));
            }
            if let Some(status) = process.exited()? {
                bail!("{name} ended with {status}: {}", process.log());
            }
            if Instant::now() > until {
                bail!("{name} does not listen: {}", process.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `moerag` to its end in this sandbox.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn moerag(&self, args: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(binary("moerag")?);
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command.env("MOERAG_ENCODER_DIR", encoder_dir()?);
        Ok(command.output()?)
    }
}

/// Waits until the health service says that `url` serves.
///
/// # Errors
/// When it does not within [`START`].
pub async fn wait_until_serving(url: &str) -> Result<()> {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let until = Instant::now() + START;
    loop {
        if let Ok(channel) = connect(url).await {
            let mut client = HealthClient::new(channel);
            let reply = client
                .check(HealthCheckRequest {
                    service: String::new(),
                })
                .await;
            if reply.is_ok_and(|r| r.get_ref().status() == ServingStatus::Serving) {
                return Ok(());
            }
        }
        if Instant::now() > until {
            bail!("{url} does not serve");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connects to a service.
///
/// # Errors
/// When nobody listens.
pub async fn connect(url: &str) -> Result<Channel> {
    Ok(Channel::from_shared(url.to_owned())?.connect().await?)
}

/// Ingests documents and gives every outcome, in the order in which they were acknowledged.
///
/// # Errors
/// When the call fails.
pub async fn ingest(
    channel: &Channel,
    collection: &str,
    documents: Vec<Document>,
) -> Result<Vec<DocumentOutcome>> {
    let start = IngestStart {
        collection: collection.to_owned(),
        ..IngestStart::default()
    };
    let messages =
        std::iter::once(Message::Start(start)).chain(documents.into_iter().map(Message::Document));
    let requests: Vec<IngestRequest> = messages
        .map(|m| IngestRequest { message: Some(m) })
        .collect();
    let mut client = CorpusServiceClient::new(channel.clone());
    let mut replies = client
        .ingest(tokio_stream::iter(requests))
        .await?
        .into_inner();
    let mut outcomes = Vec::new();
    while let Some(reply) = replies.message().await? {
        outcomes.extend(reply.outcomes);
    }
    Ok(outcomes)
}
