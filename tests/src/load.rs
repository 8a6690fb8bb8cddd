//! Load on a router: closed loops that find the throughput, open loops that keep a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{AttendRequest, AttendResponse};
use tonic::transport::Channel;

use crate::texts;

/// One answered request.
#[derive(Debug)]
pub struct Sample {
    /// When it was due, in an open loop, or sent, in a closed one; since the start of the run.
    pub at: Duration,
    /// From then to the reply: waiting in a queue counts.
    pub took: Duration,
    /// The reply or the status.
    pub reply: Result<AttendResponse, tonic::Status>,
}

async fn ask(
    channel: Channel,
    collection: String,
    i: usize,
) -> Result<AttendResponse, tonic::Status> {
    let request = AttendRequest {
        query: texts::query(i),
        collections: vec![collection],
        top_k: Some(10),
        ..AttendRequest::default()
    };
    Ok(RouterServiceClient::new(channel)
        .attend(request)
        .await?
        .into_inner())
}

/// `clients` that ask one query after the other for `time`; queries are numbered from `first`.
/// Gives the requests per second.
///
/// # Errors
/// The first request that fails.
pub async fn closed_loop(
    channel: &Channel,
    collection: &str,
    clients: usize,
    time: Duration,
    first: usize,
) -> Result<f64> {
    let next = Arc::new(AtomicUsize::new(first));
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (channel, collection, next) =
                (channel.clone(), collection.to_owned(), next.clone());
            tokio::spawn(async move {
                while start.elapsed() < time {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    ask(channel.clone(), collection.clone(), i).await?;
                }
                Ok::<(), tonic::Status>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let answered = next.load(Ordering::Relaxed) - first;
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Sends `rate` requests a second for `time`, whether or not earlier ones were answered.
///
/// # Errors
/// When a task panics; refused requests are in the samples.
pub async fn open_loop(
    channel: &Channel,
    collection: &str,
    rate: f64,
    time: Duration,
    first: usize,
) -> Result<Vec<Sample>> {
    let start = Instant::now();
    let mut tasks = Vec::new();
    for i in 0.. {
        let at = Duration::from_secs_f64(i as f64 / rate);
        if at >= time {
            break;
        }
        tokio::time::sleep_until((start + at).into()).await;
        let (channel, collection) = (channel.clone(), collection.to_owned());
        tasks.push(tokio::spawn(async move {
            let reply = ask(channel, collection, first + i).await;
            Sample {
                at,
                took: start.elapsed().saturating_sub(at),
                reply,
            }
        }));
    }
    let mut samples = Vec::with_capacity(tasks.len());
    for task in tasks {
        samples.push(task.await?);
    }
    Ok(samples)
}

/// The `p` quantile, 0 to 1, of times; zero without any.
pub fn quantile(mut times: Vec<Duration>, p: f64) -> Duration {
    times.sort();
    let last = times.len().saturating_sub(1);
    times
        .get((last as f64 * p).round() as usize)
        .copied()
        .unwrap_or_default()
}
