//! The encoder alone, in this process: what of a query's time is not retrieval.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use moerag_encoder::{EncodeOptions, Encoder, LoadOptions, Precision};
use serde_json::{Value, json};

use super::Session;
use super::protocol::{Engine, Kind};
use crate::proc;

impl Session {
    /// Times of queries one by one, or of passages as one call.
    pub(super) async fn encode(
        &mut self,
        texts: Vec<String>,
        kind: Kind,
        engine: Engine,
    ) -> Result<Value> {
        match kind {
            Kind::Query => Ok(json!({ "ms": self.encode_queries(texts, engine).await? })),
            Kind::Passage => {
                let encoder = self.encoder(engine).await?;
                blocking(move || {
                    encoder.encode(&texts[..texts.len().min(1)], &EncodeOptions::passage())?;
                    let cpu_s =
                        || Ok::<_, anyhow::Error>(proc::resources(std::process::id())?.cpu_s);
                    let (started, before) = (Instant::now(), cpu_s()?);
                    encoder.encode(&texts, &EncodeOptions::passage())?;
                    let seconds = started.elapsed().as_secs_f64();
                    Ok(json!({ "seconds": seconds, "cpu_s": cpu_s()? - before }))
                })
                .await
            }
        }
    }

    /// Milliseconds of each query, encoded one by one as the router does it.
    pub(super) async fn encode_queries(
        &mut self,
        queries: Vec<String>,
        engine: Engine,
    ) -> Result<Vec<f64>> {
        let encoder = self.encoder(engine).await?;
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

    async fn encoder(&mut self, engine: Engine) -> Result<Arc<Encoder>> {
        if let Some(encoder) = self.encoders.get(&engine) {
            return Ok(Arc::clone(encoder));
        }
        let dir = self.encoder_dir()?;
        let options = LoadOptions {
            precision: match engine {
                Engine::Int8 => Precision::Int8,
                Engine::F32 | Engine::PlainBurn => Precision::F32,
            },
            plain_burn: engine == Engine::PlainBurn,
            ..LoadOptions::default()
        };
        let load = move || Ok(Encoder::load_with(&dir, &options)?);
        let encoder = Arc::new(blocking(load).await?);
        self.encoders.insert(engine, Arc::clone(&encoder));
        Ok(encoder)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the encoder's thread")?
}
