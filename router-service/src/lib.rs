//! The router: routed attention over the passages of a store, by a model that is swapped while
//! it serves (DESIGN.md sections 4 to 6).
//!
//! - `transport`: gRPC, thin adapters; the only place that knows proto types.
//! - [`service`]: what the RPCs do; [`service::RouterEngine`] is also used in process.
//! - [`domain`]: pure functions and plain types, no I/O.
//! - [`model_slot`]: the live model; the only place that swaps it.
//! - `health`: gRPC health that follows the store.

pub mod args;
pub mod config;
pub mod domain;
mod health;
pub mod model_slot;
pub mod service;
mod start;
mod threads;
mod transport;

pub use domain::{
    AttendQuery, Attended, ErrorCode, Limits, RouteQuery, RouterError, Source, Stages,
};
pub use model_slot::{LoadedModel, ModelSlot, SlotConfig};
pub use service::{
    DocumentOutcome, DocumentStatus, EncodedQuery, EngineConfig, IngestConfig, IngestProgress,
    IngestSession, Permits, RouterEngine, Scored,
};

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use moerag_runtime::Shutdown;
use tokio::net::TcpListener;
use tracing::info;

use crate::config::RouterConfig;
use crate::service::EngineSlot;

/// Binds the configured address and serves until `shutdown` begins and requests have ended.
///
/// # Errors
/// The address is taken, or as for [`run_on`].
pub async fn run(config: RouterConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listening on {}", config.listen))?;
    run_on(listener, config, shutdown).await
}

/// Serves on a listener. It answers at once; health says NOT_SERVING until the engine is up.
///
/// # Errors
/// The engine cannot be started, or the server fails.
pub async fn run_on(
    listener: TcpListener,
    config: RouterConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("reading the address")?;
    let slot = EngineSlot::new();
    let (reporter, health_service) = health::service().await;
    let services = transport::Services::new(slot.clone(), shutdown.clone());
    let server = transport::serve(listener, services, health_service, &config.limits)?;
    if let Some(path) = &config.address_file {
        write_address(path, address).with_context(|| format!("writing {}", path.display()))?;
    }
    info!(%address, "listening");
    let monitor = tokio::spawn(health::monitor(
        slot.clone(),
        reporter,
        config.health_interval(),
        shutdown.clone(),
    ));
    let (grace, starting) = (config.drain(), shutdown.clone());
    let started = tokio::spawn(async move {
        let result = tokio::select! {
            () = starting.begun() => Ok(()),
            result = start::start(&config, &slot, &starting) => result,
        };
        if result.is_err() {
            starting.begin();
        }
        result
    });
    let served = shutdown.bounded(grace, server).await;
    // A server that fails without a signal must not leave its helpers behind.
    shutdown.begin();
    started.await.context("starting the engine")??;
    monitor.await.context("watching the store")?;
    info!("stopped");
    match served {
        Some(result) => Ok(result?),
        None => Ok(()),
    }
}

/// Whoever waits for the file never sees half of an address.
fn write_address(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let staged = path.with_extension("part");
    std::fs::write(&staged, address.to_string())?;
    std::fs::rename(&staged, path)
}
