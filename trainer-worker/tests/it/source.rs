//! Passages from a router: pages, a broken stream, a sample, refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moerag_proto::v1;
use moerag_proto::v1::corpus_service_server::{CorpusService, CorpusServiceServer};
use moerag_store::Share;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use trainer_worker::corpus::{CorpusSource, TrainingCorpus};
use trainer_worker::transport::RouterSource;
use trainer_worker::{NoProgress, TrainError};

use crate::support::corpus;

/// Serves the test corpus; the first stream breaks after two pages.
struct FakeRouter {
    passages: Vec<v1::StoredPassage>,
    about: v1::Collection,
    stats: Vec<u8>,
    streams: Arc<AtomicUsize>,
    /// Passages that went over the wire.
    sent: Arc<AtomicUsize>,
}

type Pages = tokio_stream::Iter<std::vec::IntoIter<Result<v1::StreamPassagesResponse, Status>>>;
type NoStream = tokio_stream::Empty<Result<v1::IngestResponse, Status>>;

#[tonic::async_trait]
impl CorpusService for FakeRouter {
    type IngestStream = NoStream;
    type StreamPassagesStream = Pages;

    async fn ingest(
        &self,
        _: Request<Streaming<v1::IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn delete_documents(
        &self,
        _: Request<v1::DeleteDocumentsRequest>,
    ) -> Result<Response<v1::DeleteDocumentsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn delete_collection(
        &self,
        _: Request<v1::DeleteCollectionRequest>,
    ) -> Result<Response<v1::DeleteCollectionResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_collections(
        &self,
        _: Request<v1::ListCollectionsRequest>,
    ) -> Result<Response<v1::ListCollectionsResponse>, Status> {
        let collections = vec![self.about.clone()];
        Ok(Response::new(v1::ListCollectionsResponse { collections }))
    }

    async fn get_collection(
        &self,
        request: Request<v1::GetCollectionRequest>,
    ) -> Result<Response<v1::GetCollectionResponse>, Status> {
        if request.get_ref().collection != self.about.name {
            return Err(Status::not_found("no such collection"));
        }
        let collection = Some(self.about.clone());
        let stats = match request.get_ref().with_stats {
            true => self.stats.clone(),
            false => Vec::new(),
        };
        Ok(Response::new(v1::GetCollectionResponse {
            collection,
            stats,
        }))
    }

    async fn stream_passages(
        &self,
        request: Request<v1::StreamPassagesRequest>,
    ) -> Result<Response<Pages>, Status> {
        let from: usize = request.get_ref().cursor.parse().unwrap_or(0);
        let share = Share::new(request.get_ref().share).unwrap();
        let mut pages = Vec::new();
        let page = 10;
        for start in (from..self.passages.len()).step_by(page) {
            let end = (start + page).min(self.passages.len());
            let last = end == self.passages.len();
            let chosen = self.passages[start..end].iter();
            let chosen = chosen.filter(|p| share.has(&p.document_id, p.ordinal));
            let passages: Vec<_> = chosen.cloned().collect();
            self.sent.fetch_add(passages.len(), Ordering::SeqCst);
            pages.push(Ok(v1::StreamPassagesResponse {
                passages,
                next_cursor: if last { String::new() } else { end.to_string() },
                corpus_digest: self.about.corpus_digest.clone(),
                total_passages: self.about.passages,
            }));
        }
        if self.streams.fetch_add(1, Ordering::SeqCst) == 0 {
            pages.truncate(2);
            pages.push(Err(Status::unavailable("restarting")));
        }
        Ok(Response::new(tokio_stream::iter(pages)))
    }
}

fn stored(corpus: &TrainingCorpus) -> Vec<v1::StoredPassage> {
    let pairs = corpus.texts.iter().zip(&corpus.features);
    pairs
        .map(|(text, features)| v1::StoredPassage {
            document_id: text.document_id.clone(),
            ordinal: text.ordinal,
            revision: text.revision.clone(),
            title: text.title.clone(),
            text: text.text.clone(),
            sentences: text
                .sentences
                .iter()
                .map(|range| v1::ByteRange {
                    start: range.start as u64,
                    end: range.end as u64,
                })
                .collect(),
            features: Some(v1::PassageFeatures {
                vector: features
                    .vector
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect(),
                lex: postcard::to_allocvec(&features.lex).unwrap(),
                keys: postcard::to_allocvec(&features.keys).unwrap(),
            }),
            ..v1::StoredPassage::default()
        })
        .collect()
}

async fn serve(change: impl FnOnce(&mut FakeRouter)) -> (RouterSource, Arc<AtomicUsize>) {
    let corpus = corpus();
    let streams = Arc::new(AtomicUsize::new(0));
    let mut router = FakeRouter {
        passages: stored(&corpus),
        stats: corpus.stats.to_bytes().unwrap(),
        about: v1::Collection {
            name: "articles".into(),
            passages: corpus.len() as u64,
            documents: corpus.len() as u64,
            embedding_space_id: corpus.space.clone(),
            key_spec: corpus.key_spec.id(),
            language: "en".into(),
            corpus_digest: "a digest".into(),
            ..v1::Collection::default()
        },
        streams: Arc::clone(&streams),
        sent: Arc::default(),
    };
    change(&mut router);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = CorpusServiceServer::new(router);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (RouterSource::new(&address.to_string()).unwrap(), streams)
}

async fn snapshot(source: &RouterSource, most: usize) -> Result<TrainingCorpus, TrainError> {
    source
        .snapshot("articles", most, &NoProgress, &CancellationToken::new())
        .await
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_stopped() {
    let (source, streams) = serve(|_| {}).await;
    let read = snapshot(&source, 1000).await.unwrap();
    let expected = corpus();
    assert_eq!(streams.load(Ordering::SeqCst), 2);
    assert_eq!(
        (read.texts.as_slice(), read.len()),
        (expected.texts.as_slice(), expected.len())
    );
    assert_eq!(read.features, expected.features);
    assert_eq!(read.corpus_digest, "a digest");
    assert_eq!(read.stats.n(), expected.stats.n());
    let listed = source.collections().await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].passages),
        (1, expected.len() as u64)
    );
}

#[tokio::test]
async fn a_large_collection_is_sampled_but_counted_whole() {
    let mut sent = None;
    let (source, _) = serve(|router| {
        router.streams.store(1, Ordering::SeqCst);
        sent = Some(Arc::clone(&router.sent));
    })
    .await;
    let read = snapshot(&source, 8).await.unwrap();
    assert_eq!((read.len(), read.total_passages), (8, corpus().len()));
    assert_eq!(read.stats.digest(), corpus().stats.digest());
    let sent = sent.unwrap().load(Ordering::SeqCst);
    assert!(
        (8..corpus().len()).contains(&sent),
        "{sent} passages were sent"
    );
    assert_eq!(snapshot(&source, 8).await.unwrap().texts, read.texts);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_a_reason() {
    let (source, _) = serve(|router| router.about.key_spec = "k9-d1-int4-r0".into()).await;
    let error = snapshot(&source, 100).await.unwrap_err().to_string();
    assert!(error.contains("k9-d1-int4-r0"), "{error}");

    let (source, _) = serve(|router| router.stats.clear()).await;
    let error = snapshot(&source, 100).await.unwrap_err().to_string();
    assert!(error.contains("the same build"), "{error}");

    let (source, _) = serve(|router| {
        if let Some(features) = &mut router.passages[3].features {
            features.vector.pop();
        }
    })
    .await;
    let error = snapshot(&source, 100).await.unwrap_err().to_string();
    assert!(error.contains("passage 0 of \"doc-003\""), "{error}");

    let (source, _) = serve(|_| {}).await;
    let missing = source
        .snapshot("other", 10, &NoProgress, &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(missing, TrainError::UnknownCollection { .. }));

    let nobody = RouterSource::new("127.0.0.1:1").unwrap();
    let error = snapshot(&nobody, 10).await.unwrap_err().to_string();
    assert!(error.contains("the router at 127.0.0.1:1"), "{error}");
}
