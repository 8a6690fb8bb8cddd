//! Brings the engine up: encoder, store, model. What may cure itself is tried again, anything
//! else ends the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use backon::{BackoffBuilder, ExponentialBuilder};
use moerag_checkpoint::CheckpointStore;
use moerag_encoder::{Encoder, default_dir};
use moerag_retrieve::ViewConfig;
use moerag_runtime::Shutdown;
use moerag_store::{EdgeOptions, EdgeStore, PassageStore, QdrantOptions, QdrantStore, StoreError};
use tracing::{info, warn};

use crate::config::{RouterConfig, StoreKind};
use crate::model_slot::{ModelSlot, SlotConfig, watch};
use crate::service::{EngineConfig, EngineSlot, RouterEngine};

/// First pause before the store is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Starts the engine and puts it into `slot`. Waits for a store that does not answer yet.
///
/// # Errors
/// Whatever waiting does not cure: encoder files, a locked or damaged data directory, a bad
/// address.
pub(crate) async fn start(
    config: &RouterConfig,
    slot: &EngineSlot,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    slot.set_waiting_for("it is loading the encoder");
    let encoder = load_encoder(config).await?;
    info!(space = encoder.space().as_str(), device = %config.device, "encoder loaded");
    let store = open_store(config, slot).await?;
    slot.set_waiting_for("it is loading the model");
    let address = match &config.checkpoints.url {
        Some(url) => url.clone(),
        None => path_text(&config.data_dir().join("checkpoints"))?,
    };
    let checkpoints = CheckpointStore::open(&address)?;
    let slot_config = SlotConfig {
        device: config.device,
        space: encoder.space().to_string(),
        dim: encoder.dim(),
        view_config: ViewConfig::default(),
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
        key_spec: ViewConfig::default().key_spec,
    };
    slot.set(RouterEngine::new(engine_config, store, encoder, models)?);
    Ok(())
}

async fn load_encoder(config: &RouterConfig) -> anyhow::Result<Arc<Encoder>> {
    let dir = match &config.encoder_dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    let device = config.device;
    let loaded = tokio::task::spawn_blocking(move || Encoder::load(&dir, device)).await;
    Ok(Arc::new(loaded.context("loading the encoder")??))
}

async fn open_store(
    config: &RouterConfig,
    slot: &EngineSlot,
) -> anyhow::Result<Arc<dyn PassageStore>> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build();
    for pause in pauses {
        slot.set_waiting_for("it is opening the store");
        match try_open_store(config).await? {
            Ok(store) => return Ok(store),
            Err(error @ StoreError::Unavailable { .. }) => {
                warn!(cause = %error, "waiting for the store");
                slot.set_waiting_for(error.to_string());
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("gave up waiting for the store")
}

async fn try_open_store(
    config: &RouterConfig,
) -> anyhow::Result<Result<Arc<dyn PassageStore>, StoreError>> {
    Ok(match config.store.kind {
        StoreKind::Embedded => {
            let dir = config.data_dir().join("store");
            tokio::task::spawn_blocking(move || EdgeStore::open(&dir, EdgeOptions::default()))
                .await
                .context("opening the store")?
                .map(|store| Arc::new(store) as Arc<dyn PassageStore>)
        }
        StoreKind::Qdrant => {
            let url = config.store.url.as_deref().unwrap_or_default();
            QdrantStore::connect(
                url,
                config.store.api_key.as_deref(),
                QdrantOptions::default(),
            )
            .map(|store| Arc::new(store) as Arc<dyn PassageStore>)
        }
    })
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not utf-8", path.display()))?;
    Ok(text.to_owned())
}
