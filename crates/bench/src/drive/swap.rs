//! Queries while the served version changes.
//!
//! Version 0, the built-in prior, cannot be pinned. With one version in the checkpoint store the
//! prior's weights are therefore published as a second one; the first is pinned before, so that
//! nobody is served by the copy who did not ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_model::{CollectionWeights, ViewConfig};
use moerag_proto::v1::{GetActiveModelRequest, PinVersionRequest, UnpinVersionRequest};
use serde_json::{Value, json};

use super::Session;
use crate::connect::refusal;
use crate::quantile::quantile;

/// Between two swaps.
const EVERY: Duration = Duration::from_secs(1);
/// How long after a swap a query counts as asked during it.
const AFTERMATH: Duration = Duration::from_millis(200);

/// One query: when it was sent, and its time in milliseconds.
struct Sample {
    at: Instant,
    ms: f64,
}

impl Session {
    /// One client that waits for each reply, while the version changes every second.
    pub(super) async fn swap(&self, queries: Vec<String>, seconds: f64) -> Result<Value> {
        ensure!(!queries.is_empty(), "queries is empty");
        ensure!((1.0..=600.0).contains(&seconds), "seconds must be 1 to 600");
        let (newest, other) = self.two_versions().await?;
        let was_pinned = self.version_list().await?.pinned;
        // From a known state, with both in the file cache.
        self.pin(other).await?;
        self.pin(newest).await?;
        let ended = Arc::new(AtomicBool::new(false));
        let asking = self.ask_until(queries, Arc::clone(&ended));
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let swapping = async {
            let swaps = self.swap_until(until, [other, newest]).await;
            ended.store(true, Ordering::Relaxed);
            swaps
        };
        let ((samples, failed, versions), swaps) = tokio::join!(asking, swapping);
        let swaps = swaps?;
        self.pin(newest).await?;
        // A copy of the prior must not be served for being the newest.
        if !was_pinned && newest > other {
            let unpinned = self.models().unpin_version(UnpinVersionRequest {}).await;
            unpinned.map_err(|status| refusal("cannot unpin", &status))?;
        }
        let during = |sample: &&Sample| {
            let near = |(asked, served): &(Instant, Instant)| {
                sample.at >= *asked && sample.at < *served + AFTERMATH
            };
            swaps.iter().any(near)
        };
        let ms = |samples: Vec<&Sample>| samples.iter().map(|s| s.ms).collect::<Vec<f64>>();
        let (near, far): (Vec<_>, Vec<_>) = samples.iter().partition(during);
        let all: Vec<f64> = samples.iter().map(|s| s.ms).collect();
        let load: Vec<f64> = swaps
            .iter()
            .map(|(asked, served)| (*served - *asked).as_secs_f64() * 1e3)
            .collect();
        let (n_during, n_else) = (near.len(), far.len());
        Ok(json!({
            "swaps": swaps.len(),
            "queries": all.len(),
            "failed": failed,
            "p50_ms": quantile(&all, 0.5),
            "p99_during_ms": quantile(&ms(near), 0.99),
            "p99_else_ms": quantile(&ms(far), 0.99),
            "queries_during": n_during,
            "queries_else": n_else,
            "swap_ms": quantile(&load, 0.5),
            "versions": versions,
        }))
    }

    async fn ask_until(
        &self,
        queries: Vec<String>,
        ended: Arc<AtomicBool>,
    ) -> (Vec<Sample>, usize, BTreeMap<u64, usize>) {
        let mut client = self.queries();
        let (mut samples, mut failed, mut versions) = (Vec::new(), 0, BTreeMap::new());
        for query in queries.iter().cycle() {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let at = Instant::now();
            match client.attend(self.attend(query, 10)).await {
                Ok(reply) => {
                    let model = reply.into_inner().model.unwrap_or_default();
                    *versions.entry(model.version).or_default() += 1;
                    samples.push(Sample {
                        at,
                        ms: at.elapsed().as_secs_f64() * 1e3,
                    });
                }
                Err(status) => {
                    tracing::warn!(%status, "a query failed during swaps");
                    failed += 1;
                }
            }
        }
        (samples, failed, versions)
    }

    /// Pins the versions in turn; gives when each swap was asked for and when it was done.
    async fn swap_until(
        &self,
        until: Instant,
        versions: [u64; 2],
    ) -> Result<Vec<(Instant, Instant)>> {
        let mut swaps = Vec::new();
        for version in versions.into_iter().cycle() {
            tokio::time::sleep(EVERY).await;
            if Instant::now() >= until {
                break;
            }
            let asked = Instant::now();
            self.pin(version).await?;
            swaps.push((asked, Instant::now()));
        }
        Ok(swaps)
    }

    async fn pin(&self, version: u64) -> Result<()> {
        let reply = self
            .models()
            .pin_version(PinVersionRequest { version })
            .await;
        let reply = reply.map_err(|status| refusal("cannot pin", &status))?;
        let served = reply.into_inner().model.unwrap_or_default().version;
        ensure!(
            served == version,
            "version {version} was pinned, {served} serves"
        );
        Ok(())
    }

    /// The version that is to serve in the end, and another one.
    async fn two_versions(&self) -> Result<(u64, u64)> {
        let list = self.version_list().await?;
        let versions: Vec<u64> = list.versions.iter().map(|v| v.version).collect();
        match versions[..] {
            [] => anyhow::bail!("nothing is published; train first"),
            // What serves now goes on serving: after an earlier `swap` it is not the newest.
            [newest, second, ..] => match list.current_version {
                current if current == second => Ok((second, newest)),
                _ => Ok((newest, second)),
            },
            [only] => {
                self.pin(only).await?;
                Ok((only, self.publish_prior().await?))
            }
        }
    }

    async fn publish_prior(&self) -> Result<u64> {
        let address = self.args.checkpoints.as_deref();
        let address = address
            .context("the checkpoint store holds one version; train again, or name it with --checkpoints so that the prior can be published beside it")?;
        let active = self
            .models()
            .get_active_model(GetActiveModelRequest {})
            .await;
        let active = active.map_err(|status| refusal("cannot ask for the model", &status))?;
        let space = active.into_inner().model.unwrap_or_default();
        let update = CollectionUpdate {
            weights: CollectionWeights::prior(),
            status: CollectionStatus::FallbackPrior,
            lsi: None,
            corpus_digest: String::new(),
            stats_digest: String::new(),
            metrics: BTreeMap::new(),
            reason: "published by moerag-bench to swap with".to_owned(),
            hyper_parameters: json!({}),
            seed: 0,
        };
        let request = PublishRequest {
            collections: BTreeMap::from([(self.args.collection.clone(), update)]),
            warmup: Vec::new(),
            view_config: ViewConfig::default(),
            embedding_space_id: space.embedding_space_id,
            deleted: BTreeSet::new(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let outcome = CheckpointStore::open(address)?.publish(request).await?;
        Ok(outcome.manifest.version)
    }
}
