//! Brings the engine up: encoder, store, model.

use std::sync::Arc;

use anyhow::Context;
use moerag_encoder::{Encoder, LoadOptions, default_dir};
use moerag_retrieve::{KeySpec, ViewConfig};
use moerag_runtime::Shutdown;
use moerag_store::{EdgeOptions, EdgeStore, PassageStore, StoreKind};
use tracing::info;

use crate::config::RouterConfig;
use crate::model_slot::{ModelSlot, SlotConfig, watch};
use crate::service::{EngineConfig, EngineSlot, RouterEngine};

/// Starts the engine and puts it into `slot`.
///
/// # Errors
/// Whatever waiting does not cure: encoder files, a locked or damaged data directory, a bad
/// address. A Qdrant server or an s3 store that does not answer is no error.
pub(crate) async fn start(
    config: &RouterConfig,
    slot: &EngineSlot,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    slot.set_waiting_for("it is loading the encoder");
    let encoder = load_encoder(config).await?;
    info!(space = encoder.space().as_str(), device = %config.device, "encoder loaded");
    slot.set_waiting_for("it is opening the store");
    let store = open_store(config).await?;
    slot.set_waiting_for("it is loading the model");
    let checkpoints = config.checkpoints.open(&config.data_dir())?;
    let key_spec = KeySpec::of_dims(encoder.dim());
    let slot_config = SlotConfig {
        device: config.device,
        space: encoder.space().to_string(),
        dim: encoder.dim(),
        view_config: ViewConfig {
            key_spec: key_spec.clone(),
            ..ViewConfig::default()
        },
    };
    let models = Arc::new(ModelSlot::new(slot_config, Some(checkpoints)).await?);
    models.poll().await;
    tokio::spawn(watch(
        Arc::downgrade(&models),
        config.poll_interval(),
        shutdown.clone(),
    ));
    let engine_config = EngineConfig {
        limits: config.limits.clone(),
        permits: config.permits.clone(),
        ingest: config.ingest.clone(),
        cache: config.cache.clone(),
        pin_threads: config.pin_threads,
        key_spec,
    };
    slot.set(RouterEngine::new(engine_config, store, encoder, models)?);
    Ok(())
}

async fn load_encoder(config: &RouterConfig) -> anyhow::Result<Arc<Encoder>> {
    let dir = match &config.encoder_dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    let options = LoadOptions {
        device: config.device,
        precision: config.precision,
        ..LoadOptions::default()
    };
    let loaded = tokio::task::spawn_blocking(move || Encoder::load_with(&dir, &options)).await;
    Ok(Arc::new(loaded.context("loading the encoder")??))
}

/// Opens the store. A Qdrant server is not contacted yet: health and every request say whether it
/// answers.
async fn open_store(config: &RouterConfig) -> anyhow::Result<Arc<dyn PassageStore>> {
    match config.store.kind {
        StoreKind::Embedded => {
            let dir = config.data_dir().join("store");
            let open = move || EdgeStore::open(&dir, EdgeOptions::default());
            let opened = tokio::task::spawn_blocking(open).await;
            Ok(Arc::new(opened.context("opening the store")??))
        }
        StoreKind::Qdrant => Ok(Arc::new(config.store.connect()?)),
    }
}
