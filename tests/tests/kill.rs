//! kill -9 of the router in the middle of an ingest: what was acknowledged is there, nothing is half.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{
    AttendRequest, Document, DocumentStatus, IngestRequest, IngestStart, StreamPassagesRequest,
};
use moerag_tests::{Sandbox, connect, texts, wait_until_serving};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::transport::Channel;

const COLLECTION: &str = "notes";
const ROUNDS: usize = 20;

/// A document of several passages, so that half of one could be seen.
fn long_document(i: usize) -> Document {
    let parts: Vec<String> = (0..4).map(|k| texts::document(i * 4 + k).text).collect();
    Document {
        id: format!("long-{i:05}"),
        text: parts.join("\n\n"),
        ..texts::document(i)
    }
}

/// Sends documents until the router is gone; gives the passages of each acknowledged one.
async fn ingest_until_killed(channel: Channel, first: usize) -> BTreeMap<String, u32> {
    let (send, receive) = tokio::sync::mpsc::channel::<IngestRequest>(4);
    tokio::spawn(async move {
        let start = IngestStart {
            collection: COLLECTION.to_owned(),
            ..IngestStart::default()
        };
        let messages = std::iter::once(Message::Start(start))
            .chain((first..).map(|i| Message::Document(long_document(i))));
        for message in messages {
            if send
                .send(IngestRequest {
                    message: Some(message),
                })
                .await
                .is_err()
            {
                break;
            }
        }
    });
    let mut acknowledged = BTreeMap::new();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    if let Ok(replies) = CorpusServiceClient::new(channel).ingest(requests).await {
        let mut replies = replies.into_inner();
        while let Ok(Some(reply)) = replies.message().await {
            for outcome in reply.outcomes {
                assert_eq!(
                    outcome.status,
                    DocumentStatus::Written as i32,
                    "{}",
                    outcome.reason
                );
                acknowledged.insert(outcome.document_id, outcome.passages);
            }
        }
    }
    acknowledged
}

/// Every stored document with its ordinals.
async fn stored(channel: &Channel) -> BTreeMap<String, BTreeSet<u32>> {
    let request = StreamPassagesRequest {
        collection: COLLECTION.to_owned(),
        ..StreamPassagesRequest::default()
    };
    let mut documents: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let Ok(stream) = CorpusServiceClient::new(channel.clone())
        .stream_passages(request)
        .await
    else {
        return documents;
    };
    let mut stream = stream.into_inner();
    while let Some(page) = stream.message().await.unwrap() {
        for passage in page.passages {
            documents
                .entry(passage.document_id)
                .or_default()
                .insert(passage.ordinal);
        }
    }
    documents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_documents_survive_kill_9_and_none_is_half() {
    let sandbox = Sandbox::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut acknowledged: BTreeMap<String, u32> = BTreeMap::new();
    let (mut lost_in_flight, mut first) = (0, 0);
    for round in 0..=ROUNDS {
        // Small batches: many acknowledgements, so that a kill often falls right behind one.
        let (mut process, url) = sandbox
            .router_with(&[], &[("MOERAG_INGEST__BATCH_DOCUMENTS", "4")])
            .unwrap();
        wait_until_serving(&url).await.unwrap();
        let channel = connect(&url).await.unwrap();
        let documents = stored(&channel).await;
        for (id, passages) in &acknowledged {
            let found = documents
                .get(id)
                .unwrap_or_else(|| panic!("round {round}: {id} was acknowledged and is lost"));
            assert_eq!(
                found.len(),
                *passages as usize,
                "round {round}: {id} is half there: {found:?}"
            );
        }
        for (id, ordinals) in &documents {
            let whole: BTreeSet<u32> = (0..ordinals.len() as u32).collect();
            assert_eq!(ordinals, &whole, "round {round}: {id} has gaps");
        }
        lost_in_flight += documents.len().abs_diff(acknowledged.len());
        if !acknowledged.is_empty() {
            // The index over the truth answers too, and only with whole documents.
            let request = AttendRequest {
                query: texts::query(round),
                collections: vec![COLLECTION.to_owned()],
                ..AttendRequest::default()
            };
            let reply = RouterServiceClient::new(channel.clone())
                .attend(request)
                .await
                .unwrap()
                .into_inner();
            assert!(!reply.passages.is_empty());
            for passage in reply.passages {
                assert!(documents[&passage.document_id].contains(&passage.ordinal));
            }
        }
        if round == ROUNDS {
            break;
        }
        let ingest = tokio::spawn(ingest_until_killed(channel, first));
        tokio::time::sleep(Duration::from_millis(random.random_range(50..2500))).await;
        process.kill().unwrap();
        let new = ingest.await.unwrap();
        first += new.len() + 40;
        acknowledged.extend(new);
    }
    println!(
        "kill -9: {ROUNDS} rounds, {} documents acknowledged, none lost or half; {lost_in_flight} durable beyond the acknowledgement",
        acknowledged.len()
    );
    assert!(
        acknowledged.len() > ROUNDS,
        "too little was ingested to mean anything: {}",
        acknowledged.len()
    );
}
