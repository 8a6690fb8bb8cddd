//! A gRPC client in Rust: puts three documents into a collection of its own and attends over them.
//!
//! ```text
//! moerag up                                   # in another terminal
//! cargo run -p moerag-example -- http://127.0.0.1:50051
//! ```
#![allow(clippy::print_stdout)] // an example shows what it got

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{
    AttendRequest, DeleteDocumentsRequest, Document, DocumentFormat, DocumentStatus, IngestRequest,
    IngestStart,
};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

const COLLECTION: &str = "example-rust";

const DOCUMENTS: [(&str, &str, &str); 3] = [
    (
        "bees",
        "Honey bees",
        "A honey bee colony survives the winter as a cluster. The bees shiver their flight muscles to keep \
         the queen warm and live on the honey that was stored in summer.",
    ),
    (
        "glaciers",
        "Glaciers",
        "A glacier forms where more snow falls than melts. Under its own weight the snow turns to ice, \
         which flows slowly downhill and carves valleys.",
    ),
    (
        "bread",
        "Sourdough",
        "Sourdough bread rises because wild yeasts in the starter make carbon dioxide, while lactic acid \
         bacteria give it its taste. A cool night in the fridge slows both down.",
    ),
];

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let channel = Channel::from_shared(url.clone())?
        .connect()
        .await
        .with_context(|| format!("cannot reach a router at {url}; start one with `moerag up`"))?;

    ingest(channel.clone()).await?;
    attend(channel.clone(), "How do bees get through the cold season?").await?;

    // The example leaves the store as it found it, except for an empty collection.
    let ids = DOCUMENTS.map(|(id, _, _)| id.to_owned()).to_vec();
    let request = DeleteDocumentsRequest {
        collection: COLLECTION.into(),
        document_ids: ids,
    };
    let deleted = CorpusServiceClient::new(channel)
        .delete_documents(request)
        .await?
        .into_inner()
        .deleted;
    println!("deleted {deleted} documents");
    Ok(())
}

/// Streams the documents in; every acknowledged one is durable.
async fn ingest(channel: Channel) -> Result<()> {
    let start = IngestStart {
        collection: COLLECTION.into(),
        language: "en".into(),
    };
    let documents = DOCUMENTS.map(|(id, title, text)| {
        Message::Document(Document {
            id: id.into(),
            title: title.into(),
            text: text.into(),
            format: DocumentFormat::Plain as i32,
            metadata: HashMap::from([("kind".to_owned(), "example".to_owned())]),
            whole: false,
        })
    });
    let messages = std::iter::once(Message::Start(start)).chain(documents);
    let requests: Vec<IngestRequest> = messages
        .map(|message| IngestRequest {
            message: Some(message),
        })
        .collect();

    let mut replies = CorpusServiceClient::new(channel)
        .ingest(tokio_stream::iter(requests))
        .await?
        .into_inner();
    while let Some(reply) = replies.next().await {
        for outcome in reply?.outcomes {
            if outcome.status == DocumentStatus::Refused as i32 {
                bail!("{} was refused: {}", outcome.document_id, outcome.reason);
            }
            println!(
                "durable: {} ({} passages)",
                outcome.document_id, outcome.passages
            );
        }
    }
    Ok(())
}

/// Asks, and prints who answered and why.
async fn attend(channel: Channel, query: &str) -> Result<()> {
    let request = AttendRequest {
        query: query.into(),
        collections: vec![COLLECTION.into()],
        top_k: Some(2),
        ..AttendRequest::default()
    };
    let reply = RouterServiceClient::new(channel)
        .attend(request)
        .await?
        .into_inner();
    let model = reply.model.unwrap_or_default();
    println!(
        "\n{query}\nanswered by version {} ({})",
        model.version,
        model.source().as_str_name()
    );
    for head in &reply.heads {
        println!("  head {:<9} {:.3}", head.head, head.weight);
    }
    for passage in &reply.passages {
        println!(
            "  {:.4}  {}: {}",
            passage.attn_weight, passage.document_id, passage.text
        );
    }
    match reply.passages.first() {
        Some(first) if first.document_id == "bees" => Ok(()),
        Some(first) => bail!(
            "expected the passage about bees first, got {}",
            first.document_id
        ),
        None => bail!("no passage was returned"),
    }
}
