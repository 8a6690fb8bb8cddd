//! `CorpusService`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moerag_proto::v1;
use moerag_proto::v1::corpus_service_server::CorpusService;
use moerag_proto::v1::ingest_request::Message;
use moerag_runtime::Shutdown;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::context::Context;
use super::server::Services;
use super::{from_proto, to_proto};
use crate::domain::RouterError;
use crate::service::{DocumentOutcome, IngestProgress, IngestSession, RouterEngine};

/// Responses that wait for a slow client before the work itself waits.
const BUFFERED: usize = 4;
/// A client that pauses this long gets what it sent acknowledged.
const IDLE_FLUSH: Duration = Duration::from_millis(50);
/// How often a client hears of progress while a batch is being encoded.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

type Responses<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl CorpusService for Services {
    type IngestStream = Responses<v1::IngestResponse>;
    type StreamPassagesStream = Responses<v1::StreamPassagesResponse>;

    async fn ingest(
        &self,
        request: Request<Streaming<v1::IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        let context = Context::new("Ingest", request.metadata());
        let engine = self.engine().map_err(|error| context.status(&error))?;
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let ingest = Ingest {
            inbound: request.into_inner(),
            sender,
            shutdown: self.shutdown().clone(),
        };
        let span = context.span();
        // A task of its own: a batch that has begun is finished although the client has gone.
        tokio::spawn(
            async move {
                let sender = ingest.sender.clone();
                if let Err(end) = ingest.run(&engine).await {
                    let status = match end {
                        End::Error(error) => context.status(&error),
                        End::Client(status) => status,
                    };
                    // Nobody is there to read it if the client has gone.
                    let _ = sender.send(Err(status)).await;
                }
            }
            .instrument(span),
        );
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn delete_documents(
        &self,
        request: Request<v1::DeleteDocumentsRequest>,
    ) -> Result<Response<v1::DeleteDocumentsResponse>, Status> {
        let context = Context::new("DeleteDocuments", request.metadata());
        context
            .run(async {
                let request = request.into_inner();
                let engine = self.engine()?;
                let (deleted, missing_document_ids) = engine
                    .delete_documents(&request.collection, &request.document_ids)
                    .await?;
                Ok(v1::DeleteDocumentsResponse {
                    deleted: deleted as u64,
                    missing_document_ids,
                })
            })
            .await
    }

    async fn delete_collection(
        &self,
        request: Request<v1::DeleteCollectionRequest>,
    ) -> Result<Response<v1::DeleteCollectionResponse>, Status> {
        let context = Context::new("DeleteCollection", request.metadata());
        context
            .run(async {
                let name = request.into_inner().collection;
                let info = self.engine()?.delete_collection(&name).await?;
                Ok(v1::DeleteCollectionResponse {
                    documents: info.documents,
                    passages: info.passages,
                })
            })
            .await
    }

    async fn list_collections(
        &self,
        request: Request<v1::ListCollectionsRequest>,
    ) -> Result<Response<v1::ListCollectionsResponse>, Status> {
        let context = Context::new("ListCollections", request.metadata());
        context
            .run(async {
                let infos = self.engine()?.list_collections().await?;
                let collections = infos.into_iter().map(to_proto::collection).collect();
                Ok(v1::ListCollectionsResponse { collections })
            })
            .await
    }

    async fn get_collection(
        &self,
        request: Request<v1::GetCollectionRequest>,
    ) -> Result<Response<v1::GetCollectionResponse>, Status> {
        let context = Context::new("GetCollection", request.metadata());
        context
            .run(async {
                let v1::GetCollectionRequest {
                    collection: name,
                    with_stats,
                } = request.into_inner();
                let engine = self.engine()?;
                let info = engine.get_collection(&name).await?;
                let stats = if with_stats {
                    let stats = engine.corpus_stats(&name).await?;
                    engine
                        .in_background(move || to_proto::stats(&stats))
                        .await?
                } else {
                    Vec::new()
                };
                Ok(v1::GetCollectionResponse {
                    collection: Some(to_proto::collection(info)),
                    stats,
                })
            })
            .await
    }

    async fn stream_passages(
        &self,
        request: Request<v1::StreamPassagesRequest>,
    ) -> Result<Response<Self::StreamPassagesStream>, Status> {
        let context = Context::new("StreamPassages", request.metadata());
        let request = request.into_inner();
        let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let opened = async {
            let engine = self.engine()?;
            let pager = engine
                .passages(
                    &request.collection,
                    request.with_features,
                    cursor,
                    request.page_size,
                    request.share,
                )
                .await?;
            Ok((engine, pager))
        };
        let (engine, mut pager) = context.run(opened).await?.into_inner();
        let span = context.span();
        let pages = async move {
            loop {
                let page = match pager.next().await {
                    Ok(Some(page)) => page,
                    Ok(None) => return,
                    Err(error) => {
                        let _ = sender.send(Err(context.status(&error))).await;
                        return;
                    }
                };
                let encoded = engine
                    .in_background(move || to_proto::passages_response(page))
                    .await;
                let response = encoded.map_err(|error| context.status(&error));
                let failed = response.is_err();
                if sender.send(response).await.is_err() || failed {
                    return;
                }
            }
        };
        tokio::spawn(pages.instrument(span));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Why an ingest stream ended early.
enum End {
    Error(RouterError),
    /// The client broke the stream.
    Client(Status),
}

impl From<RouterError> for End {
    fn from(error: RouterError) -> Self {
        Self::Error(error)
    }
}

/// One ingest stream.
struct Ingest {
    inbound: Streaming<v1::IngestRequest>,
    sender: mpsc::Sender<Result<v1::IngestResponse, Status>>,
    shutdown: Shutdown,
}

impl Ingest {
    async fn run(mut self, engine: &RouterEngine) -> Result<(), End> {
        let mut session = self.open(engine).await?;
        loop {
            if self.sender.is_closed() {
                return Ok(());
            }
            let message = if session.has_waiting() {
                match tokio::time::timeout(IDLE_FLUSH, self.next()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.flush(&mut session).await?;
                        continue;
                    }
                }
            } else {
                self.next().await
            };
            let message = match message {
                Ok(message) => message,
                Err(end) => {
                    // What arrived whole is taken in: the client may have gone, not its documents.
                    self.flush(&mut session).await?;
                    return Err(end);
                }
            };
            match message {
                Some(Message::Document(document)) => match from_proto::document(document) {
                    Ok(document) => self.push(&mut session, document).await?,
                    Err((id, reason)) => session.refuse(id, reason),
                },
                Some(Message::Finish(finish)) => {
                    self.flush(&mut session).await?;
                    if finish.prune {
                        session.prune(&finish.keep_document_ids).await?;
                    }
                    self.send(Vec::new(), &session).await;
                    return Ok(());
                }
                None => {
                    self.flush(&mut session).await?;
                    self.send(Vec::new(), &session).await;
                    return Ok(());
                }
                Some(Message::Start(_)) => {
                    self.flush(&mut session).await?;
                    return Err(misplaced("start must be the first message and only there"));
                }
            }
        }
    }

    async fn open(&mut self, engine: &RouterEngine) -> Result<IngestSession, End> {
        match self.next().await? {
            Some(Message::Start(start)) => {
                let language = Some(start.language).filter(|language| !language.is_empty());
                Ok(engine
                    .ingest_session(&start.collection, language.as_deref())
                    .await?)
            }
            _ => Err(misplaced(
                "the first message must be start, with the collection's name",
            )),
        }
    }

    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Message>, End> {
        let message = tokio::select! {
            biased;
            () = self.shutdown.begun() => return Err(End::Error(RouterError::Unavailable {
                what: "router".to_owned(),
                reason: "it is shutting down; send what was not acknowledged again".to_owned(),
                retry_after: Duration::from_secs(5),
            })),
            message = self.inbound.message() => message.map_err(End::Client)?,
        };
        match message {
            None => Ok(None),
            Some(v1::IngestRequest {
                message: Some(message),
            }) => Ok(Some(message)),
            Some(v1::IngestRequest { message: None }) => Err(misplaced("is empty")),
        }
    }

    async fn push(
        &self,
        session: &mut IngestSession,
        document: moerag_store::Document,
    ) -> Result<(), End> {
        let (totals, counter) = (session.progress(), session.encoded());
        let outcomes = self
            .with_progress(session.push(document), totals, &counter)
            .await?;
        if !outcomes.is_empty() {
            self.send(outcomes, session).await;
        }
        Ok(())
    }

    async fn flush(&self, session: &mut IngestSession) -> Result<(), End> {
        let (totals, counter) = (session.progress(), session.encoded());
        let outcomes = self
            .with_progress(session.flush(), totals, &counter)
            .await?;
        if !outcomes.is_empty() {
            self.send(outcomes, session).await;
        }
        Ok(())
    }

    /// Runs a batch and tells the client how it gets on.
    async fn with_progress(
        &self,
        work: impl Future<Output = Result<Vec<DocumentOutcome>, RouterError>>,
        totals: IngestProgress,
        encoded: &AtomicU64,
    ) -> Result<Vec<DocumentOutcome>, RouterError> {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(PROGRESS_EVERY, &mut work).await {
                Ok(outcomes) => return outcomes,
                Err(_) => {
                    let passages_encoded = encoded.load(Ordering::Relaxed);
                    let progress = IngestProgress {
                        passages_encoded,
                        ..totals
                    };
                    // Progress is not worth waiting for a slow client.
                    let response = to_proto::ingest_response(Vec::new(), progress);
                    let _ = self.sender.try_send(Ok(response));
                }
            }
        }
    }

    /// Sends outcomes; the last response of a stream may have none. A client that has gone is
    /// noticed at the next turn.
    async fn send(&self, outcomes: Vec<DocumentOutcome>, session: &IngestSession) {
        let response = to_proto::ingest_response(outcomes, session.progress());
        let _ = self.sender.send(Ok(response)).await;
    }
}

fn misplaced(description: &str) -> End {
    End::Error(RouterError::invalid("message", description))
}
