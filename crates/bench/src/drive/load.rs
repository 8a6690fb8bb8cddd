//! Queries one after the other, and from many clients at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{AttendRequest, AttendResponse};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use super::protocol::Engine;
use super::{Session, query_client};
use crate::connect::{connect, refusal};
use crate::quantile::median;

/// Clients that share a connection.
const CLIENTS_PER_CHANNEL: usize = 16;
/// Wait where a refusal names none.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// A router that refuses so long is not busy but broken.
const MAX_RETRIES: usize = 10_000;

impl Session {
    /// Times of queries one after the other over one connection, and of the encoder alone.
    pub(super) async fn latency(&mut self, queries: Vec<String>, top_k: u32) -> Result<Value> {
        let mut client = self.queries();
        let mut ms = Vec::with_capacity(queries.len());
        let mut stages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for query in &queries {
            let request = self.attend(query, top_k);
            let started = Instant::now();
            let reply = client.attend(request).await;
            let elapsed = started.elapsed();
            let reply = reply.map_err(|status| refusal("cannot attend", &status))?;
            ms.push(elapsed.as_secs_f64() * 1e3);
            add_stages(&mut stages, reply.get_ref());
        }
        // A pass of its own: between the calls it would take their caches and cores.
        let encode_ms = self.encode_queries(queries, Engine::Int8).await?;
        Ok(json!({ "ms": ms, "encode_ms": encode_ms, "stages": stage_medians(&stages) }))
    }

    /// Wall time of all queries, asked by `clients` that each wait for their reply.
    pub(super) async fn throughput(
        &self,
        queries: Vec<String>,
        clients: usize,
        top_k: u32,
    ) -> Result<Value> {
        ensure!(clients > 0, "clients is 0, must be at least 1");
        let mut channels = Vec::new();
        for _ in 0..clients.div_ceil(CLIENTS_PER_CHANNEL) {
            channels.push(connect(&self.args.router).await?);
        }
        let requests = queries.iter().map(|query| self.attend(query, top_k));
        let requests: Arc<[AttendRequest]> = requests.collect();
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        for client in 0..clients {
            let channel = query_client(&channels[client % channels.len()]);
            tasks.spawn(work(channel, Arc::clone(&requests), Arc::clone(&next)));
        }
        let (mut ms, mut retries) = (Vec::with_capacity(queries.len()), 0);
        while let Some(done) = tasks.join_next().await {
            let (times, again) = done.context("a client's task")??;
            ms.extend(times);
            retries += again;
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "queries": ms.len(), "ms": ms, "retries": retries }))
    }
}

/// One client: takes the next request until there is none; times include waits for room.
async fn work(
    mut client: RouterServiceClient<Channel>,
    requests: Arc<[AttendRequest]>,
    next: Arc<AtomicUsize>,
) -> Result<(Vec<f64>, usize)> {
    let (mut ms, mut retries) = (Vec::new(), 0);
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let started = Instant::now();
        loop {
            match client.attend(request.clone()).await {
                Ok(_) => break,
                Err(status)
                    if status.code() == Code::ResourceExhausted && retries < MAX_RETRIES =>
                {
                    retries += 1;
                    let asked = status.get_details_retry_info().and_then(|r| r.retry_delay);
                    tokio::time::sleep(asked.unwrap_or(RETRY_AFTER)).await;
                }
                Err(status) => return Err(refusal("cannot attend", &status)),
            }
        }
        ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok((ms, retries))
}

/// Adds the stages of one reply, in microseconds.
pub(crate) fn add_stages(stages: &mut BTreeMap<String, Vec<f64>>, reply: &AttendResponse) {
    for timing in &reply.timings {
        let times = stages.entry(timing.stage.clone()).or_default();
        times.push(timing.micros as f64);
    }
}

/// The median of each stage.
pub(crate) fn stage_medians(stages: &BTreeMap<String, Vec<f64>>) -> BTreeMap<&str, f64> {
    let medians = stages.iter();
    medians
        .filter_map(|(stage, times)| Some((stage.as_str(), median(times)?)))
        .collect()
}
