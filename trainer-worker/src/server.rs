//! Puts the worker process together: encoder, checkpoint store, source, queue, gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use moerag_encoder::{Encoder, LoadOptions};
use moerag_runtime::{CpuPool, Shutdown};
use moerag_store::StoreKind;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::WorkerConfig;
use crate::corpus::{CorpusSource, StoreSource};
use crate::train::QueryEncoder;
use crate::transport::{self, RouterSource, Trainer};
use crate::worker::{Jobs, Parts, Worker};

/// A worker that serves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    grace: Duration,
    shutdown: Shutdown,
    jobs: Jobs,
    server: JoinHandle<anyhow::Result<()>>,
    worker: JoinHandle<()>,
}

/// Loads the encoder, binds the address and starts serving. `shutdown` ends it.
///
/// # Errors
/// Files of the encoder that are missing, a device or an address that cannot be had, a checkpoint
/// address that makes no sense. A router that is not there yet is no error.
pub async fn start(config: WorkerConfig, shutdown: Shutdown) -> anyhow::Result<Running> {
    let directory = match &config.encoder_dir {
        Some(directory) => directory.clone(),
        None => moerag_encoder::default_dir()?,
    };
    let options = LoadOptions {
        device: config.device,
        precision: config.precision,
        ..LoadOptions::default()
    };
    let load = move || Encoder::load_with(&directory, &options);
    let encoder = tokio::task::spawn_blocking(load).await??;
    let checkpoints = config.checkpoints.open(&config.data_dir())?;
    let source: Arc<dyn CorpusSource> = match config.store.kind {
        StoreKind::Embedded => Arc::new(RouterSource::new(&config.router_url)?),
        StoreKind::Qdrant => Arc::new(StoreSource::new(Arc::new(config.store.connect()?))),
    };
    let threads = (config.threads > 0).then_some(config.threads);
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen: {} cannot be bound", config.listen))?;
    let address = listener.local_addr()?;
    if let Some(path) = &config.address_file {
        std::fs::write(path, address.to_string())
            .with_context(|| format!("writing {}", path.display()))?;
    }

    let jobs = Jobs::default();
    let trainer = Trainer::new(
        jobs.clone(),
        config.train.seed,
        config.train.device.to_string(),
    );
    let worker = Worker::new(
        Parts {
            source,
            encoder: QueryEncoder::new(Arc::new(encoder), config.encodings_bytes),
            checkpoints,
            pool: CpuPool::new("train", threads)?,
            train: config.train,
            retrain: config.retrain,
            keep_versions: config.keep_versions,
        },
        jobs.clone(),
    );
    Ok(Running {
        address,
        grace: Duration::from_millis(config.drain_millis),
        server: tokio::spawn(transport::serve(listener, trainer, shutdown.token())),
        worker: tokio::spawn(worker.run()),
        shutdown,
        jobs,
    })
}

impl Running {
    /// Serves until the shutdown signal, then cancels jobs and lets calls finish within the grace
    /// period.
    ///
    /// # Errors
    /// The gRPC server failed.
    pub async fn join(mut self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.shutdown.begun() => {}
            served = &mut self.server => {
                self.jobs.stop();
                return served.context("the grpc server stopped")?;
            }
        }
        // Ends the watch streams too: their jobs end.
        self.jobs.stop();
        let all = async {
            let worker = self.worker.await;
            (self.server.await, worker)
        };
        match self.shutdown.bounded(self.grace, all).await {
            Some((served, worker)) => {
                worker.context("the worker stopped")?;
                served.context("the grpc server stopped")?
            }
            None => Ok(()),
        }
    }
}
