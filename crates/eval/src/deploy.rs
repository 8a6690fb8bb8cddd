//! A router and what it serves, made as in production: a store, a checkpoint store, versions that are
//! published and loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_encoder::Encoder;
use moerag_retrieve::{KeySpec, ViewConfig};
use moerag_store::{EdgeOptions, EdgeStore, PassageStore};
use router_service::{EngineConfig, ModelSlot, RouterEngine, SlotConfig};
use trainer_worker::corpus::TrainingCorpus;
use trainer_worker::{TrainConfig, TrainOutcome, TrainStatus};

use crate::options::EvalOptions;
use crate::run::BoxError;

/// What the deployments of an evaluation have in common.
#[derive(Clone, Copy)]
pub(crate) struct Deploy<'a> {
    pub(crate) options: &'a EvalOptions,
    pub(crate) encoder: &'a Arc<Encoder>,
}

impl Deploy<'_> {
    /// Candidates and views of the run.
    pub(crate) fn view_config(&self) -> ViewConfig {
        let train = &self.options.train;
        ViewConfig {
            candidates_per_list: train.candidates_per_list,
            prune_to: (train.prune_to > 0).then_some(train.prune_to),
            key_spec: KeySpec::of_dims(self.encoder.dim()),
            ..ViewConfig::default()
        }
    }

    /// How to train with a seed.
    pub(crate) fn train_config(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            seed,
            device: self.options.device,
            ..self.options.train.clone()
        }
    }

    /// A router over a store in `store_dir` and an empty checkpoint store in `dir`.
    pub(crate) async fn engine(
        &self,
        store_dir: PathBuf,
        dir: &Path,
    ) -> Result<RouterEngine, BoxError> {
        let store = tokio::task::spawn_blocking(move || {
            EdgeStore::open(&store_dir, EdgeOptions::default())
        })
        .await??;
        let store: Arc<dyn PassageStore> = Arc::new(store);
        let checkpoints = CheckpointStore::open(&dir.join("checkpoints").display().to_string())?;
        let views = self.view_config();
        let config = EngineConfig {
            key_spec: views.key_spec.clone(),
            ..EngineConfig::default()
        };
        let slot = SlotConfig {
            device: self.options.device,
            space: self.encoder.space().to_string(),
            dim: self.encoder.dim(),
            view_config: views,
        };
        let models = ModelSlot::new(slot, Some(checkpoints)).await?;
        Ok(RouterEngine::new(
            config,
            store,
            Arc::clone(self.encoder),
            Arc::new(models),
        )?)
    }

    /// Publishes the outcome as that of `collection` and lets the router load it, as it would in
    /// production.
    pub(crate) async fn publish(
        &self,
        engine: &RouterEngine,
        collection: &str,
        corpus: &TrainingCorpus,
        outcome: &TrainOutcome,
        config: &TrainConfig,
    ) -> Result<(), BoxError> {
        let update = CollectionUpdate {
            weights: outcome.weights.clone(),
            lsi: outcome.data.lsi.clone(),
            status: match outcome.status {
                TrainStatus::Trained => CollectionStatus::Trained,
                TrainStatus::FallbackPrior { .. } => CollectionStatus::FallbackPrior,
            },
            reason: match &outcome.status {
                TrainStatus::Trained => String::new(),
                TrainStatus::FallbackPrior { reason } => reason.clone(),
            },
            corpus_digest: corpus.corpus_digest.clone(),
            stats_digest: corpus.stats.digest(),
            metrics: outcome.metrics.clone(),
            hyper_parameters: serde_json::to_value(config)?,
            seed: config.seed,
        };
        let mut warmup = outcome.warmup.cases.clone();
        for case in &mut warmup {
            case.collection = collection.to_owned();
        }
        let request = PublishRequest {
            collections: BTreeMap::from([(collection.to_owned(), update)]),
            warmup,
            view_config: outcome.view_config.clone(),
            embedding_space_id: self.encoder.space().to_string(),
            deleted: BTreeSet::new(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        engine.models().store()?.publish(request).await?;
        engine.models().reload().await?;
        Ok(())
    }
}
