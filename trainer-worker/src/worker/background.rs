//! The watch over the collections: looks at their digests now and then and starts jobs.

use std::time::Duration;

use moerag_runtime::chain;

use super::{JobRequest, Watched, Worker, due};

impl Worker {
    /// Polls until the task is dropped.
    pub(super) async fn watch_collections(self) {
        let config = self.parts.retrain.clone();
        if !config.enabled {
            return;
        }
        let mut unreachable = false;
        loop {
            tokio::time::sleep(Duration::from_secs(config.poll_secs.max(1))).await;
            if self.jobs.is_busy() {
                continue;
            }
            match self.look().await {
                Ok(()) => unreachable = false,
                // Said once: a router that starts later is normal.
                Err(error) if !unreachable => {
                    unreachable = true;
                    let error = chain(&error);
                    tracing::info!(%error, "cannot look at the collections, trying again later");
                }
                Err(_) => {}
            }
        }
    }

    /// One look at all collections; starts at most one job.
    async fn look(&self) -> Result<(), crate::TrainError> {
        let seen = self.parts.source.collections().await?;
        let new = {
            let watched = self.watched();
            seen.iter()
                .any(|summary| !watched.contains_key(&summary.name))
        };
        let live = if new { self.live().await? } else { None };
        let now = self.now();
        let wanted = {
            let mut watched = self.watched();
            watched.retain(|name, _| seen.iter().any(|summary| summary.name == *name));
            for summary in &seen {
                match watched.get_mut(&summary.name) {
                    Some(known) => known.observe(now, summary),
                    None => {
                        let trained = live
                            .as_ref()
                            .and_then(|live| live.manifest.collections.get(&summary.name))
                            .map(|collection| collection.corpus_digest.as_str());
                        let first = Watched::first_seen(now, summary, trained);
                        watched.insert(summary.name.clone(), first);
                    }
                }
            }
            seen.iter().find_map(|summary| {
                let reason = due(now, watched.get(&summary.name)?, &self.parts.retrain)?;
                Some((summary.name.clone(), reason))
            })
        };
        if let Some((name, reason)) = wanted {
            tracing::info!(collection = %name, reason, "retraining by itself");
            let request = JobRequest {
                collections: vec![name],
                background_reason: Some(reason),
                ..JobRequest::default()
            };
            let train = &self.parts.train;
            // A full queue means that somebody else asked for more than enough.
            if let Err(error) = self.jobs.submit(request, train.seed, train.device.as_str()) {
                tracing::warn!(%error, "retraining was not queued");
            }
        }
        Ok(())
    }
}
