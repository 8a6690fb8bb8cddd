//! The encoder alone, in this process: what of a query's time is not retrieval.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use moerag_encoder::{DeviceKind, EncodeOptions, Encoder};
use serde_json::{Value, json};

use super::Session;
use super::protocol::Kind;

impl Session {
    /// Times of queries one by one, or of passages as one call.
    pub(super) async fn encode(&mut self, texts: Vec<String>, kind: Kind) -> Result<Value> {
        match kind {
            Kind::Query => Ok(json!({ "ms": self.encode_queries(texts).await? })),
            Kind::Passage => {
                let encoder = self.encoder().await?;
                let seconds = blocking(move || {
                    encoder.encode(&texts[..texts.len().min(1)], &EncodeOptions::passage())?;
                    let started = Instant::now();
                    encoder.encode(&texts, &EncodeOptions::passage())?;
                    Ok(started.elapsed().as_secs_f64())
                })
                .await?;
                Ok(json!({ "seconds": seconds }))
            }
        }
    }

    /// Milliseconds of each query, encoded one by one as the router does it.
    pub(super) async fn encode_queries(&mut self, queries: Vec<String>) -> Result<Vec<f64>> {
        let encoder = self.encoder().await?;
        blocking(move || {
            let encode = |query: &String| -> Result<f64> {
                let started = Instant::now();
                encoder.encode(&[query], &EncodeOptions::query())?;
                Ok(started.elapsed().as_secs_f64() * 1e3)
            };
            // The first call pays for the threads' working space.
            queries.first().map(encode).transpose()?;
            queries.iter().map(encode).collect()
        })
        .await
    }

    async fn encoder(&mut self) -> Result<Arc<Encoder>> {
        if let Some(encoder) = &self.encoder {
            return Ok(Arc::clone(encoder));
        }
        let dir = self.encoder_dir()?;
        let encoder = Arc::new(blocking(move || load(&dir)).await?);
        self.encoder = Some(Arc::clone(&encoder));
        Ok(encoder)
    }
}

fn load(dir: &Path) -> Result<Encoder> {
    Ok(Encoder::load(dir, DeviceKind::Flex)?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the encoder's thread")?
}
