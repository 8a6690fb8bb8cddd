//! Hot-loading under load: no request fails, every reply is of one version, memory stays flat.
//!
//! The p99 ratio is printed, not tested: this may run on a shared machine. A longer run:
//! `MOERAG_TEST__SWAP_SECONDS=90 cargo test -p moerag-tests --test swap -- --nocapture`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moerag_checkpoint::CheckpointStore;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{AttendRequest, AttendResponse, GetActiveModelRequest, PinVersionRequest};
use moerag_tests::{Sandbox, connect, ingest, load, models, texts, wait_until_serving};
use tonic::transport::Channel;

const COLLECTION: &str = "notes";
const DOCUMENTS: usize = 240;

async fn pin(channel: &Channel, version: u64) {
    let mut client = ModelServiceClient::new(channel.clone());
    let reply = client
        .pin_version(PinVersionRequest { version })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(reply.model.unwrap().version, version);
}

/// Head weights of a query under a version: the two versions differ in them for every query.
async fn heads(channel: &Channel, i: usize) -> (u64, BTreeMap<String, f32>) {
    let request = AttendRequest {
        query: texts::query(i),
        collections: vec![COLLECTION.to_owned()],
        ..AttendRequest::default()
    };
    let reply = RouterServiceClient::new(channel.clone())
        .attend(request)
        .await
        .unwrap()
        .into_inner();
    (reply.model.as_ref().unwrap().version, head_weights(&reply))
}

fn head_weights(reply: &AttendResponse) -> BTreeMap<String, f32> {
    reply
        .heads
        .iter()
        .map(|h| (h.head.clone(), h.weight))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_under_load_fails_nothing_and_mixes_nothing() {
    let sandbox = Sandbox::new().unwrap();
    let (process, url) = sandbox.router(&[]).unwrap();
    wait_until_serving(&url).await.unwrap();
    let channel = connect(&url).await.unwrap();
    ingest(&channel, COLLECTION, texts::documents(DOCUMENTS))
        .await
        .unwrap();

    let active = ModelServiceClient::new(channel.clone())
        .get_active_model(GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner();
    let space = active.model.unwrap().embedding_space_id;
    let store = CheckpointStore::open(sandbox.checkpoints().to_str().unwrap()).unwrap();
    let a = models::publish(&store, COLLECTION, &space, 0)
        .await
        .unwrap();
    let b = models::publish(&store, COLLECTION, &space, 6)
        .await
        .unwrap();
    pin(&channel, a).await;
    let (version, of_a) = heads(&channel, 1).await;
    assert_eq!(version, a);
    pin(&channel, b).await;
    let (version, of_b) = heads(&channel, 1).await;
    assert_eq!(version, b);
    // A version is recognised by which of the two raised heads weighs more.
    let looks_like_a = |w: &BTreeMap<String, f32>| w["dense"] > w["lexical"];
    assert!(
        looks_like_a(&of_a) && !looks_like_a(&of_b),
        "{of_a:?} {of_b:?}"
    );

    let throughput = load::closed_loop(&channel, COLLECTION, 4, Duration::from_secs(4), 1000)
        .await
        .unwrap();
    let rate = throughput * 0.4;
    let seconds: f64 = std::env::var("MOERAG_TEST__SWAP_SECONDS")
        .ok()
        .map_or(24.0, |s| s.parse().unwrap());
    let time = Duration::from_secs_f64(seconds);
    let every = (time / 21).max(Duration::from_millis(200));
    let start = Instant::now();
    let swapper = tokio::spawn({
        let channel = channel.clone();
        async move {
            let mut swaps = Vec::new();
            while start.elapsed() + every < time {
                tokio::time::sleep(every).await;
                pin(&channel, if swaps.len() % 2 == 0 { a } else { b }).await;
                swaps.push(start.elapsed());
            }
            swaps
        }
    });
    let samples = load::open_loop(&channel, COLLECTION, rate, time, 100_000)
        .await
        .unwrap();
    let swaps = swapper.await.unwrap();
    assert!(swaps.len() >= 19, "{} swaps", swaps.len());

    let (mut near, mut far, mut versions) = (Vec::new(), Vec::new(), BTreeMap::new());
    let window = Duration::from_secs(2).min(every / 2);
    for sample in &samples {
        let reply = sample
            .reply
            .as_ref()
            .unwrap_or_else(|e| panic!("a request failed at {:?}: {e}", sample.at));
        let version = reply.model.as_ref().unwrap().version;
        *versions.entry(version).or_insert(0usize) += 1;
        assert!(version == a || version == b, "version {version}");
        assert_eq!(
            looks_like_a(&head_weights(reply)),
            version == a,
            "a reply mixes versions"
        );
        let after_swap = swaps
            .iter()
            .any(|s| sample.at >= *s && sample.at < *s + window);
        if after_swap {
            near.push(sample.took)
        } else {
            far.push(sample.took)
        }
    }
    assert!(
        versions.len() == 2,
        "both versions must have served: {versions:?}"
    );
    let (p99_near, p99_far) = (
        load::quantile(near.clone(), 0.99),
        load::quantile(far.clone(), 0.99),
    );
    println!(
        "swap under load: {} swaps, closed loop {throughput:.0}/s, open loop {rate:.0}/s, {} requests, none failed; \
         p50 {:.1} ms; p99 within {window:?} of a swap {:.1} ms ({} requests), elsewhere {:.1} ms ({}), ratio {:.2}",
        swaps.len(),
        samples.len(),
        load::quantile(samples.iter().map(|s| s.took).collect(), 0.5).as_secs_f64() * 1e3,
        p99_near.as_secs_f64() * 1e3,
        near.len(),
        p99_far.as_secs_f64() * 1e3,
        far.len(),
        p99_near.as_secs_f64() / p99_far.as_secs_f64().max(1e-9),
    );

    // Memory over 200 swaps: the first 40 fill pools and caches.
    let mut after = Vec::new();
    for swap in 0..200 {
        pin(&channel, if swap % 2 == 0 { a } else { b }).await;
        heads(&channel, swap).await;
        if swap >= 40 && swap % 20 == 0 {
            after.push(process.anonymous_kib().unwrap());
        }
    }
    let last = process.anonymous_kib().unwrap();
    println!(
        "memory over 200 swaps: {} KiB after 40, {last} KiB after 200; samples {after:?}",
        after[0]
    );
    assert!(
        last < after[0] + after[0] / 20 + 4096,
        "memory grows with swaps: {after:?} {last}"
    );
    let active = ModelServiceClient::new(channel.clone())
        .get_active_model(GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        active.live_generations <= 2,
        "{} generations live",
        active.live_generations
    );
    assert_eq!(active.failed_loads, 0, "{}", active.last_load_error);
}
