//! From a training's outcome to a version, or to the reason for none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moerag_checkpoint::{CollectionStatus, CollectionUpdate, LoadedVersion, PublishRequest};
use moerag_runtime::chain;

use super::{Finished, Prepared, RunningJob, Source, Worker, qualified};
use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::progress::{Stage, StageClock};
use crate::train::{Contest, Live, TrainConfig, TrainOutcome, Verdict, decide, live_loss};

impl Worker {
    /// Compares the outcome with the live version and prepares what is to be published.
    pub(super) async fn judge(
        &self,
        name: &str,
        corpus: &TrainingCorpus,
        config: &Arc<TrainConfig>,
        outcome: TrainOutcome,
        live: Option<&LoadedVersion>,
        finished: &mut Finished,
    ) -> Result<Option<Prepared>, TrainError> {
        finished.metrics.extend(qualified(name, &outcome));
        let notes = outcome.notes.iter().map(|note| format!("{name}: {note}"));
        finished.notes.extend(notes);
        let contest = Contest {
            prior: outcome.report.prior.ship,
            trained: outcome.report.trained.as_ref().map(|losses| losses.ship),
            live: None,
        };
        let (outcome, live) = self.measure_live(name, config, outcome, live).await?;
        if let Some(loss) = live.and_then(|live| live.loss) {
            finished
                .metrics
                .insert(format!("{name}/held_out_loss.live"), f64::from(loss));
        }
        let (status, source, weights, reason) = match decide(&Contest { live, ..contest }) {
            Verdict::Keep { reason } => {
                finished
                    .notes
                    .push(format!("{name}: not published: {reason}"));
                return Ok(None);
            }
            Verdict::FallbackPrior { reason } => (
                CollectionStatus::FallbackPrior,
                Source::FallbackPrior,
                outcome.prior.clone(),
                reason,
            ),
            Verdict::Trained { reason } => (
                CollectionStatus::Trained,
                Source::Trained,
                outcome.weights.clone(),
                reason,
            ),
        };
        let what = match source {
            Source::Trained => "trained",
            Source::FallbackPrior => "published with the prior's weights",
        };
        finished.notes.push(format!("{name}: {what}: {reason}"));
        finished.sources.insert(name.to_owned(), source);
        Ok(Some(Prepared {
            warmup: crate::train::warmup(name, &weights, &outcome.data)?.cases,
            view_config: outcome.view_config,
            update: CollectionUpdate {
                weights,
                lsi: outcome.data.lsi,
                status,
                reason,
                corpus_digest: corpus.corpus_digest.clone(),
                stats_digest: corpus.stats.digest(),
                metrics: outcome.metrics,
                hyper_parameters: hyper_parameters(config),
                seed: config.seed,
            },
        }))
    }

    /// The live weights' held-out loss on the new queries. Weights of another view configuration are no
    /// contender: the router will not use them with these.
    async fn measure_live(
        &self,
        name: &str,
        config: &Arc<TrainConfig>,
        outcome: TrainOutcome,
        live: Option<&LoadedVersion>,
    ) -> Result<(TrainOutcome, Option<Live>), TrainError> {
        let Some(live) = live else {
            return Ok((outcome, None));
        };
        let manifest = &live.manifest;
        let fits = manifest.view_config == outcome.view_config;
        let (Some(about), Some(weights), true) = (
            manifest.collections.get(name),
            live.snapshot.collections.get(name),
            fits,
        ) else {
            return Ok((outcome, None));
        };
        let (weights, config) = (weights.clone(), Arc::clone(config));
        let measured = self.parts.pool.run(move || {
            let loss = live_loss(&outcome.data, &weights, &config);
            (outcome, loss)
        });
        let (outcome, loss) = measured
            .await
            .map_err(|error| TrainError::Internal(error.to_string()))?;
        let live = Live {
            loss: loss?,
            is_fallback: about.status == CollectionStatus::FallbackPrior,
            version: manifest.version,
        };
        Ok((outcome, Some(live)))
    }

    pub(super) async fn publish(
        &self,
        job: &RunningJob,
        mut prepared: BTreeMap<String, Prepared>,
        deleted: BTreeSet<String>,
        finished: &mut Finished,
    ) -> Result<(), TrainError> {
        if job.cancel.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let progress = job.progress("", 0, 1);
        let clock = StageClock::start(Stage::Publish, 1, &progress);
        let Some(view_config) = prepared.values().next().map(|p| p.view_config.clone()) else {
            return Ok(());
        };
        // A version has one view configuration; collections with other keys need another store.
        prepared.retain(|name, p| {
            let fits = p.view_config == view_config;
            if !fits {
                finished.failures += 1;
                finished.sources.remove(name);
                finished.notes.push(format!(
                    "{name}: not published: its keys differ from those of the other collections; \
                     ingest it again"
                ));
            }
            fits
        });
        let mut warmup = Vec::new();
        let mut collections = BTreeMap::new();
        for (name, ready) in prepared {
            warmup.extend(ready.warmup);
            collections.insert(name, ready.update);
        }
        let outcome = self
            .parts
            .checkpoints
            .publish(PublishRequest {
                collections,
                deleted,
                warmup,
                view_config,
                embedding_space_id: self.parts.encoder.encoder().space().to_string(),
                code_version: env!("CARGO_PKG_VERSION").to_owned(),
            })
            .await?;
        clock.advance(1, None);
        let version = outcome.manifest.version;
        finished.published = Some(version);
        if !outcome.promoted {
            finished.notes.push(format!(
                "version {version} is not served: version {} is pinned",
                outcome.current.version
            ));
        }
        self.parts.source.published().await;
        if self.parts.keep_versions > 0 {
            // A version too many does no harm; the next publish tries again.
            match self.parts.checkpoints.gc(self.parts.keep_versions).await {
                Ok(report) if report.removed.is_empty() => {}
                Ok(report) => tracing::info!(removed = ?report.removed, "old versions deleted"),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "old versions were not deleted");
                }
            }
        }
        Ok(())
    }
}

fn hyper_parameters(config: &TrainConfig) -> serde_json::Value {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("device".to_owned(), config.device.to_string().into());
    }
    value
}
