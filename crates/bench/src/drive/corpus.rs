//! Documents into a collection, and the time that takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::{
    DeleteDocumentsRequest, Document, DocumentFormat, DocumentStatus, GetActiveModelRequest,
    GetCollectionRequest, IngestProgress, IngestRequest, IngestStart,
};
use moerag_store::load::{LoadOptions, walk};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::Session;
use crate::connect::refusal;

/// Documents read ahead of the router.
const QUEUE: usize = 64;
/// Ids in one call that deletes; the service takes 10,000.
const DELETE_AT_ONCE: usize = 1000;
/// Between two lines of progress in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What came of an ingest.
struct Ingested {
    ids: Vec<String>,
    progress: IngestProgress,
    seconds: f64,
}

impl Session {
    /// Takes the passages in; those that are there already cost a look-up.
    pub(super) async fn open(&self, passages: &Path) -> Result<Value> {
        let done = self.ingest(&self.args.collection, passages).await?;
        let request = GetCollectionRequest {
            collection: self.args.collection.clone(),
            with_stats: false,
        };
        let reply = self.corpus().get_collection(request).await;
        let collection = reply
            .map_err(|status| refusal("cannot ask for the collection", &status))?
            .into_inner()
            .collection
            .context("the router described no collection")?;
        let active = self
            .models()
            .get_active_model(GetActiveModelRequest {})
            .await;
        let model = active
            .map_err(|status| refusal("cannot ask for the model", &status))?
            .into_inner()
            .model
            .unwrap_or_default();
        Ok(json!({
            "system": "ours",
            "versions": {
                "moerag": env!("CARGO_PKG_VERSION"),
                "embedding_space": collection.embedding_space_id,
                "key_spec": collection.key_spec,
                "model": model.version,
            },
            "passages": collection.passages,
            "seconds": done.seconds,
            "encoded": done.progress.passages_encoded,
            "encoded_per_s": done.progress.passages_encoded as f64 / done.seconds.max(1e-9),
        }))
    }

    /// Takes a sample into a collection of its own and out again. Only the way in is timed.
    pub(super) async fn ingest_sample(&self, passages: &Path) -> Result<Value> {
        let scratch = format!("{}-scratch", self.args.collection);
        // What an earlier run left behind would be skipped, not encoded.
        let left = read_ids(passages.to_owned()).await?;
        self.delete(&scratch, &left).await?;
        let done = self.ingest(&scratch, passages).await;
        self.delete(&scratch, &left).await?;
        let done = done?;
        ensure!(
            done.progress.unchanged == 0,
            "{} of the sample's passages were there already",
            done.progress.unchanged
        );
        Ok(json!({ "passages": done.ids.len(), "seconds": done.seconds }))
    }

    async fn ingest(&self, collection: &str, passages: &Path) -> Result<Ingested> {
        let (sender, receiver) = channel(QUEUE);
        let start = IngestStart {
            collection: collection.to_owned(),
            ..IngestStart::default()
        };
        let path = passages.to_owned();
        let started = Instant::now();
        let reading = tokio::task::spawn_blocking(move || send(&path, start, &sender));
        let replies = self.corpus().ingest(ReceiverStream::new(receiver)).await;
        let mut replies = replies
            .map_err(|status| refusal("cannot ingest", &status))?
            .into_inner();
        let mut progress = IngestProgress::default();
        let mut ids = Vec::new();
        let mut logged = Instant::now();
        loop {
            let reply = replies.message().await;
            let Some(reply) = reply.map_err(|status| refusal("the ingest broke off", &status))?
            else {
                break;
            };
            for outcome in reply.outcomes {
                if outcome.status == DocumentStatus::Refused as i32 {
                    bail!("{} was refused: {}", outcome.document_id, outcome.reason);
                }
                ids.push(outcome.document_id);
            }
            progress = reply.progress.unwrap_or(progress);
            if logged.elapsed() > PROGRESS_EVERY {
                logged = Instant::now();
                tracing::info!(documents = ids.len(), collection, "ingesting");
            }
        }
        let sent = reading.await.context("reading the passages")??;
        ensure!(
            sent == ids.len(),
            "{sent} passages were sent and {} acknowledged",
            ids.len()
        );
        Ok(Ingested {
            ids,
            progress,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn delete(&self, collection: &str, ids: &[String]) -> Result<()> {
        for ids in ids.chunks(DELETE_AT_ONCE) {
            let request = DeleteDocumentsRequest {
                collection: collection.to_owned(),
                document_ids: ids.to_vec(),
            };
            match self.corpus().delete_documents(request).await {
                Err(status) if status.code() != Code::NotFound => {
                    return Err(refusal("cannot delete the sample", &status));
                }
                // Of a collection that is not there yet nothing has to be deleted.
                _ => {}
            }
        }
        Ok(())
    }
}

/// The documents of a file of JSON lines, each one passage: every system of a comparison has the same.
fn documents(path: &Path) -> Result<impl Iterator<Item = Result<moerag_store::Document>>> {
    let options = LoadOptions {
        whole_records: true,
        ..LoadOptions::default()
    };
    Ok(walk(path, options)?.map(|document| Ok(document?)))
}

async fn read_ids(path: PathBuf) -> Result<Vec<String>> {
    tokio::task::spawn_blocking(move || documents(&path)?.map(|d| Ok(d?.id)).collect())
        .await
        .context("reading the passages")?
}

/// Sends every document; returns how many. A receiver that went away has said why by itself.
fn send(path: &Path, start: IngestStart, to: &Sender<IngestRequest>) -> Result<usize> {
    let send = |message| {
        let request = IngestRequest {
            message: Some(message),
        };
        to.blocking_send(request).is_ok()
    };
    let mut sent = 0;
    let mut open = send(Message::Start(start));
    let mut all = documents(path)?;
    while open && let Some(document) = all.next() {
        open = send(Message::Document(to_proto(document?)));
        sent += usize::from(open);
    }
    Ok(sent)
}

fn to_proto(document: moerag_store::Document) -> Document {
    Document {
        id: document.id,
        title: document.title,
        text: document.text,
        format: DocumentFormat::Plain as i32,
        metadata: document.metadata.into_iter().collect(),
        whole: document.whole,
    }
}
