//! Passages from the router: the trainer's way to an embedded store, which only the router may open.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use moerag_proto::v1;
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_retrieve::{CorpusStats, PassageFeatures};
use moerag_store::Share;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::convert;
use crate::corpus::{
    CollectionSummary, CorpusSource, CorpusSpec, Sampler, TrainingCorpus, TrainingPassage,
};
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};

/// A page of 256 passages of the longest kind is about 8 MiB.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const PAGE: u32 = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A host that vanishes closes no connection: without these its call, and the queue, would wait for ever.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Breaks of one snapshot that are mended by going on at the last cursor.
const MAX_RESUMES: u32 = 5;
const RESUME_PAUSE: Duration = Duration::from_millis(500);
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads collections over `CorpusService`.
#[derive(Debug, Clone)]
pub struct RouterSource {
    address: String,
    client: CorpusServiceClient<Channel>,
    models: ModelServiceClient<Channel>,
}

impl RouterSource {
    /// Connects when first used, so that the router may start later.
    ///
    /// # Errors
    /// [`TrainError::Config`] for an address that is not a URI.
    pub fn new(address: &str) -> Result<Self, TrainError> {
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|_| TrainError::Config {
            field: "router_url",
            reason: format!(
                "{address:?} is not an address; use for example http://127.0.0.1:50051"
            ),
        })?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .tcp_nodelay(true)
            .connect_lazy();
        let client =
            CorpusServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let models = ModelServiceClient::new(channel);
        Ok(Self {
            address: address.to_owned(),
            client,
            models,
        })
    }

    fn failed(&self, collection: &str, status: &Status) -> TrainError {
        if status.code() == Code::NotFound {
            return TrainError::UnknownCollection {
                name: collection.to_owned(),
            };
        }
        // Why a connection failed is in the last of the causes alone.
        let root = std::iter::successors(status.source(), |cause| (*cause).source()).last();
        let root = root.map_or_else(String::new, |cause| format!(": {cause}"));
        TrainError::Source {
            source_name: format!("the router at {}", self.address),
            reason: format!("{}: {}{root}", status.code(), status.message()),
        }
    }

    fn unreadable(&self, what: String) -> TrainError {
        TrainError::Source {
            source_name: format!("the router at {}", self.address),
            reason: format!("{what}; run router and trainer of the same build"),
        }
    }

    fn spec(&self, collection: &v1::Collection) -> Result<CorpusSpec, TrainError> {
        Ok(CorpusSpec {
            collection: collection.name.clone(),
            space: collection.embedding_space_id.clone(),
            key_spec: convert::key_spec(&collection.key_spec).ok_or_else(|| {
                self.unreadable(format!("unknown keys {:?}", collection.key_spec))
            })?,
            language: convert::language(&collection.language).ok_or_else(|| {
                self.unreadable(format!("unknown language {:?}", collection.language))
            })?,
        })
    }

    fn passage(
        &self,
        spec: &CorpusSpec,
        message: v1::StoredPassage,
    ) -> Result<TrainingPassage, TrainError> {
        let name = format!("passage {} of {:?}", message.ordinal, message.document_id);
        let features = message
            .features
            .ok_or_else(|| self.unreadable(format!("{name} came without features")))?;
        let (numbers, rest) = features.vector.as_chunks::<4>();
        let vector: Vec<f32> = numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let fits = rest.is_empty()
            && vector.len() == usize::from(spec.key_spec.dims)
            && vector.iter().all(|value| value.is_finite());
        if !fits {
            return Err(self.unreadable(format!(
                "{name} has a vector of {} bytes",
                features.vector.len()
            )));
        }
        let lex = postcard::from_bytes(&features.lex)
            .map_err(|error| self.unreadable(format!("terms of {name}: {error}")))?;
        let keys: moerag_retrieve::KeyBlock = postcard::from_bytes(&features.keys)
            .map_err(|error| self.unreadable(format!("keys of {name}: {error}")))?;
        keys.validate(&spec.key_spec)
            .map_err(|error| self.unreadable(format!("keys of {name}: {error}")))?;
        let sentences = message
            .sentences
            .iter()
            .map(|range| range.start as usize..range.end as usize)
            .collect();
        Ok(TrainingPassage {
            document_id: message.document_id,
            ordinal: message.ordinal,
            revision: message.revision,
            title: message.title,
            text: message.text,
            sentences,
            features: PassageFeatures { vector, lex, keys },
        })
    }
}

/// What has been read so far.
struct Reading {
    share: Share,
    sample: Sampler,
    read: usize,
    cursor: String,
    digest: String,
    complete: bool,
}

impl RouterSource {
    /// Reads until the stream ends or breaks; `Err` holds the break.
    async fn read(
        &self,
        spec: &CorpusSpec,
        reading: &mut Reading,
        clock: &StageClock<'_>,
    ) -> Result<(), ReadError> {
        let request = v1::StreamPassagesRequest {
            collection: spec.collection.clone(),
            with_features: true,
            cursor: reading.cursor.clone(),
            page_size: PAGE,
            share: reading.share.get(),
        };
        let mut client = self.client.clone();
        let mut pages = client.stream_passages(request).await?.into_inner();
        while let Some(page) = pages.message().await? {
            if !reading.digest.is_empty() && reading.digest != page.corpus_digest {
                tracing::debug!(collection = %spec.collection, "the corpus changed during the snapshot");
            }
            reading.digest = page.corpus_digest;
            for message in page.passages {
                let passage = self.passage(spec, message).map_err(ReadError::Content)?;
                reading.sample.push(passage);
                reading.read += 1;
            }
            clock.advance(reading.read, None);
            reading.complete = page.next_cursor.is_empty();
            reading.cursor = page.next_cursor;
            if reading.complete {
                break;
            }
        }
        Ok(())
    }
}

enum ReadError {
    /// The connection or the router; going on later may help.
    Stream(Status),
    /// What came cannot be used.
    Content(TrainError),
}

impl From<Status> for ReadError {
    fn from(status: Status) -> Self {
        Self::Stream(status)
    }
}

#[async_trait]
impl CorpusSource for RouterSource {
    async fn collections(&self) -> Result<Vec<CollectionSummary>, TrainError> {
        let mut client = self.client.clone();
        let reply = client.list_collections(v1::ListCollectionsRequest {}).await;
        let reply = reply
            .map_err(|status| self.failed("", &status))?
            .into_inner();
        Ok(reply
            .collections
            .into_iter()
            .map(|collection| CollectionSummary {
                name: collection.name,
                passages: collection.passages,
                corpus_digest: collection.corpus_digest,
            })
            .collect())
    }

    async fn snapshot(
        &self,
        collection: &str,
        max_passages: usize,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<TrainingCorpus, TrainError> {
        let mut client = self.client.clone();
        let request = v1::GetCollectionRequest {
            collection: collection.to_owned(),
            with_stats: true,
        };
        let reply = client.get_collection(request).await;
        let reply = reply
            .map_err(|status| self.failed(collection, &status))?
            .into_inner();
        let about = reply.collection.unwrap_or_default();
        let spec = self.spec(&about)?;
        let mut stats = CorpusStats::from_bytes(&reply.stats)
            .map_err(|error| self.unreadable(format!("statistics of {collection:?}: {error}")))?;
        let total = about.passages as usize;
        let clock = StageClock::start(Stage::Snapshot, total.min(max_passages), progress);
        let mut reading = Reading {
            share: Share::of(max_passages, about.passages),
            sample: Sampler::new(max_passages),
            read: 0,
            cursor: String::new(),
            digest: String::new(),
            complete: about.passages == 0,
        };
        let mut resumes = 0;
        while !reading.complete {
            let before = reading.read;
            let outcome = tokio::select! {
                () = cancel.cancelled() => return Err(TrainError::Cancelled),
                outcome = self.read(&spec, &mut reading, &clock) => outcome,
            };
            let broken = match outcome {
                Err(ReadError::Content(error)) => return Err(error),
                Err(ReadError::Stream(status)) => status,
                // A stream that ends with a cursor left is a broken one, whatever its status says.
                Ok(()) if !reading.complete => Status::unavailable("the stream ended early"),
                Ok(()) => break,
            };
            resumes = if reading.read > before {
                1
            } else {
                resumes + 1
            };
            let final_code = matches!(
                broken.code(),
                Code::NotFound
                    | Code::InvalidArgument
                    | Code::FailedPrecondition
                    | Code::Unimplemented
            );
            if final_code || resumes > MAX_RESUMES {
                return Err(self.failed(collection, &broken));
            }
            tracing::warn!(collection, resumes, error = %broken.message(), "snapshot interrupted, going on");
            tokio::select! {
                () = cancel.cancelled() => return Err(TrainError::Cancelled),
                () = tokio::time::sleep(RESUME_PAUSE * resumes) => {}
            }
        }
        let passages = reading.sample.into_passages();
        // Of the sample, so that the same passages always give the same floats.
        stats.fit_geometry(passages.iter().map(|p| p.features.vector.as_slice()));
        let mut corpus = TrainingCorpus::new(spec, passages, Some(stats));
        if !reading.digest.is_empty() {
            corpus.corpus_digest = reading.digest;
        }
        corpus.total_passages = total.max(corpus.len());
        Ok(corpus)
    }

    async fn published(&self) {
        let mut models = self.models.clone();
        let reload = models.reload_model(v1::ReloadModelRequest {});
        match tokio::time::timeout(RELOAD_TIMEOUT, reload).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => {
                tracing::debug!(error = %status.message(), "the router was not told")
            }
            Err(_) => tracing::debug!("the router did not answer in time"),
        }
    }
}
