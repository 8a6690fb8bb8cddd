//! The router on a real Qdrant server that vanishes and comes back (issue 2, "Must hold").
//!
//! Runs when `QDRANT_TEST_URL` names a server's gRPC address. A proxy stands between the two, so
//! that the server vanishes without being stopped.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{AttendRequest, AttendResponse};
use moerag_store::{PassageStore, QdrantOptions, QdrantStore};
use moerag_tests::{Sandbox, connect, ingest, texts, wait_until_serving};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

const COLLECTION: &str = "vanishing";

/// Passes every connection on to `server`; aborting the task cuts them all.
async fn proxy(listen: &str, server: String) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            open.spawn(async move {
                if let Ok(mut upstream) = TcpStream::connect(server).await {
                    let _ = copy_bidirectional(&mut client, &mut upstream).await;
                }
            });
        }
    });
    (address, task)
}

async fn attend(channel: &Channel) -> Result<AttendResponse, Status> {
    let request = AttendRequest {
        query: texts::query(3),
        collections: vec![COLLECTION.to_owned()],
        ..AttendRequest::default()
    };
    let reply = RouterServiceClient::new(channel.clone())
        .attend(request)
        .await?;
    Ok(reply.into_inner())
}

async fn serves(channel: &Channel) -> bool {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .get_ref()
        .status()
        == ServingStatus::Serving
}

async fn until(what: &str, channel: &Channel, expected: bool) {
    let start = Instant::now();
    while serves(channel).await != expected {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{what}: after {:.1} s", start.elapsed().as_secs_f32());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanishing_qdrant_is_unavailable_and_nothing_is_lost() {
    let Some(server) = std::env::var("QDRANT_TEST_URL")
        .ok()
        .filter(|url| !url.is_empty())
    else {
        println!("SKIPPED: set QDRANT_TEST_URL to a Qdrant server's gRPC address");
        return;
    };
    let store = QdrantStore::connect(&server, None, QdrantOptions::default()).unwrap();
    // A run that broke off may have left it.
    store.drop_collection(COLLECTION).await.unwrap();
    let server = server.trim_start_matches("http://").to_owned();
    let (address, link) = proxy("127.0.0.1:0", server.clone()).await;
    let sandbox = Sandbox::new().unwrap();
    let store_url = format!("http://{address}");
    let flags = ["--store-kind", "qdrant", "--store-url", &store_url];
    let (mut process, url) = sandbox.router(&flags).unwrap();
    wait_until_serving(&url).await.unwrap();
    let channel = connect(&url).await.unwrap();
    let outcomes = ingest(&channel, COLLECTION, texts::documents(40))
        .await
        .unwrap();
    assert_eq!(outcomes.len(), 40);
    let before = attend(&channel).await.unwrap();
    assert!(!before.passages.is_empty());

    link.abort();
    let _ = link.await;
    let status = attend(&channel).await.unwrap_err();
    println!("away: {status}");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains(&address), "{status}");
    let status = ingest(&channel, COLLECTION, texts::documents(41))
        .await
        .unwrap_err();
    println!("ingest while away: {status}");
    until("not serving once Qdrant is away", &channel, false).await;
    assert!(process.exited().unwrap().is_none());

    let (_, link) = proxy(&address, server).await;
    until("serving once Qdrant is back", &channel, true).await;
    let after = attend(&channel).await.unwrap();
    assert_eq!(before.passages, after.passages);
    store.drop_collection(COLLECTION).await.unwrap();
    link.abort();
    assert!(!process.log().contains("panicked"), "{}", process.log());
}
