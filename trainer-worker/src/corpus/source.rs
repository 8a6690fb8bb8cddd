//! Where passages come from: a store in process or on a server, memory. The router's stream is in
//! `transport`, because proto types stay there.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use moerag_retrieve::CorpusStats;
use moerag_runtime::chain;
use moerag_store::{CollectionInfo, PassageStore, ScrollQuery, Share, Walk};
use tokio_util::sync::CancellationToken;

use super::{CorpusSpec, Sampler, TrainingCorpus, TrainingPassage};
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};

/// Passages per page of a walk over a store.
const PAGE: usize = 256;

/// What a source says about a collection without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionSummary {
    /// Name.
    pub name: String,
    /// Passages now.
    pub passages: u64,
    /// Digest of its documents and revisions.
    pub corpus_digest: String,
}

/// A source of training passages.
#[async_trait]
pub trait CorpusSource: Send + Sync {
    /// All collections, by name.
    async fn collections(&self) -> Result<Vec<CollectionSummary>, TrainError>;

    /// All passages of a collection, or a sample of `max_passages` of them.
    async fn snapshot(
        &self,
        collection: &str,
        max_passages: usize,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<TrainingCorpus, TrainError>;

    /// A hint to whoever serves that a version was published; failures do not matter, because
    /// routers poll.
    async fn published(&self) {}
}

/// Reads a [`PassageStore`] directly: a Qdrant server, or the embedded store within its own process.
pub struct StoreSource {
    store: Arc<dyn PassageStore>,
}

impl StoreSource {
    /// A source over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn PassageStore>) -> Self {
        Self { store }
    }

    fn failed(error: &moerag_store::StoreError) -> TrainError {
        match error {
            moerag_store::StoreError::UnknownCollection { name } => {
                TrainError::UnknownCollection { name: name.clone() }
            }
            other => TrainError::Source {
                source_name: "the passage store".into(),
                reason: chain(other),
            },
        }
    }
}

impl From<CollectionInfo> for CollectionSummary {
    fn from(info: CollectionInfo) -> Self {
        Self {
            name: info.name,
            passages: info.passages,
            corpus_digest: info.corpus_digest,
        }
    }
}

#[async_trait]
impl CorpusSource for StoreSource {
    async fn collections(&self) -> Result<Vec<CollectionSummary>, TrainError> {
        let all = self
            .store
            .collections()
            .await
            .map_err(|e| Self::failed(&e))?;
        Ok(all.into_iter().map(Into::into).collect())
    }

    async fn snapshot(
        &self,
        collection: &str,
        max_passages: usize,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<TrainingCorpus, TrainError> {
        let info = self
            .store
            .collection(collection)
            .await
            .map_err(|e| Self::failed(&e))?;
        let stats = self
            .store
            .stats(collection)
            .await
            .map_err(|e| Self::failed(&e))?;
        let spec = CorpusSpec {
            collection: collection.to_owned(),
            space: info.spec.space.clone(),
            key_spec: info.spec.key_spec.clone(),
            language: info.spec.language,
        };
        let total = info.passages as usize;
        let clock = StageClock::start(Stage::Snapshot, total.min(max_passages), progress);
        let mut sample = Sampler::new(max_passages);
        let share = Share::of(max_passages, info.passages);
        let query = ScrollQuery {
            share,
            ..ScrollQuery::new(None, PAGE, true)
        };
        let (mut walk, mut read) = (Walk::new(&*self.store, collection, query), 0);
        while let Some(page) = walk.page().await.map_err(|e| Self::failed(&e))? {
            if cancel.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            for (passage, features) in page.records {
                read += 1;
                // A passage without features is one that was replaced during the walk.
                let Some(features) = features else { continue };
                sample.push(TrainingPassage {
                    document_id: passage.document_id,
                    ordinal: passage.ordinal,
                    revision: passage.revision,
                    title: passage.title,
                    text: passage.text,
                    sentences: passage.sentences,
                    features,
                });
            }
            clock.advance(read, None);
        }
        let mut corpus = TrainingCorpus::new(
            spec,
            sample.into_passages(),
            Some(CorpusStats::clone(&stats)),
        );
        corpus.corpus_digest = info.corpus_digest;
        corpus.total_passages = total.max(corpus.len());
        Ok(corpus)
    }
}

/// Collections held in memory, for tests and embedding programs.
#[derive(Default)]
pub struct MemorySource {
    collections: RwLock<BTreeMap<String, Arc<TrainingCorpus>>>,
}

impl MemorySource {
    /// Adds or replaces a collection.
    pub fn put(&self, corpus: TrainingCorpus) {
        self.collections
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(corpus.collection.clone(), Arc::new(corpus));
    }

    /// Removes a collection.
    pub fn remove(&self, name: &str) {
        self.collections
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(name);
    }

    fn get(&self, name: &str) -> Option<Arc<TrainingCorpus>> {
        self.collections
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

#[async_trait]
impl CorpusSource for MemorySource {
    async fn collections(&self) -> Result<Vec<CollectionSummary>, TrainError> {
        let all = self
            .collections
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(all
            .values()
            .map(|corpus| CollectionSummary {
                name: corpus.collection.clone(),
                passages: corpus.total_passages as u64,
                corpus_digest: corpus.corpus_digest.clone(),
            })
            .collect())
    }

    async fn snapshot(
        &self,
        collection: &str,
        _max_passages: usize,
        progress: &dyn Progress,
        _cancel: &CancellationToken,
    ) -> Result<TrainingCorpus, TrainError> {
        let corpus = self
            .get(collection)
            .ok_or_else(|| TrainError::UnknownCollection {
                name: collection.to_owned(),
            })?;
        StageClock::start(Stage::Snapshot, corpus.len(), progress).advance(corpus.len(), None);
        Ok(TrainingCorpus::clone(&corpus))
    }
}
