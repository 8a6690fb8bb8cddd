//! The store on a Qdrant server or cluster.
//!
//! The server keeps everything; this side keeps names, a cache of keys and its share of the statistics.
//! Nothing is connected at start: a server that is away makes calls fail with
//! [`StoreError::Unavailable`] until it is back.

mod handle;
mod lifecycle;
mod ops;
mod read;
mod remote;
mod schema;
mod stats;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use moerag_retrieve::{CorpusStats, KeyBlock};

use crate::check;
use crate::edge::snapshot::corpus_digest;
use crate::error::StoreError;
use crate::passage::{Passage, PassageRef};
use crate::spec::{CollectionInfo, CollectionSpec, check_collection_name};
use crate::store::{Candidate, CandidateQuery, DocumentPut, PassageStore, ScrollPage, ScrollQuery};
use crate::tags::DOCUMENT_FIELD;
use handle::Handle;
use remote::Remote;
use schema::MarkState;

/// Payload fields of a commit mark.
const MARK_FIELDS: &[&str] = &[
    DOCUMENT_FIELD,
    schema::REVISION,
    schema::PASSAGES,
    schema::GENERATION,
    schema::STATE,
];

/// How a server is used.
#[derive(Debug, Clone)]
pub struct QdrantOptions {
    /// Start of every name on the server, so that deployments can share one. Default: `moerag`.
    pub prefix: String,
    /// Longest time of one call. Default: 30 s.
    pub timeout: Duration,
    /// Longest time to connect. Default: 2 s.
    pub connect_timeout: Duration,
    /// Further tries of a call that found the server away. Default: 3.
    pub retries: usize,
    /// Connections. Default: 2.
    pub connections: usize,
    /// Cache of decoded keys of one collection in bytes. Default: 128 MiB.
    pub key_cache_bytes: u64,
}

impl Default for QdrantOptions {
    fn default() -> Self {
        Self {
            prefix: "moerag".into(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            retries: 3,
            connections: 2,
            key_cache_bytes: 128 << 20,
        }
    }
}

/// Passage store on a Qdrant server; any number of processes may use it.
pub struct QdrantStore {
    remote: Arc<Remote>,
    options: QdrantOptions,
    /// Server collection with specs and statistics.
    meta: String,
    handles: RwLock<HashMap<String, Arc<Handle>>>,
}

impl QdrantStore {
    /// Sets the store up for the server's gRPC address. Does not connect; [`PassageStore::health`] tells
    /// whether the server answers.
    ///
    /// # Errors
    /// [`StoreError::InvalidInput`] if `url` is no address.
    pub fn connect(
        url: &str,
        api_key: Option<&str>,
        options: QdrantOptions,
    ) -> Result<Self, StoreError> {
        let remote = Arc::new(Remote::new(url, api_key, &options)?);
        let meta = schema::meta(&options.prefix);
        Ok(Self {
            remote,
            options,
            meta,
            handles: RwLock::default(),
        })
    }

    /// Forgets a collection that another router dropped, so that the next call looks it up again.
    fn seen<T>(&self, name: &str, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match result {
            Err(StoreError::UnknownCollection { .. }) => Err(self.forget(name)),
            other => other,
        }
    }

    async fn info(&self, name: &str) -> Result<CollectionInfo, StoreError> {
        let handle = self.handle(name).await?;
        let stats = self
            .book(&handle)
            .current(&mut *handle.stats.lock().await)
            .await?;
        let marks = self.all_marks(&handle).await?;
        let pairs = marks
            .iter()
            .map(|m| (m.document_id.as_str(), m.revision.as_str()));
        Ok(CollectionInfo {
            name: name.to_owned(),
            spec: handle.spec.clone(),
            documents: marks.len() as u64,
            passages: marks.iter().map(|mark| u64::from(mark.passages)).sum(),
            corpus_digest: corpus_digest(pairs),
            stats_digest: stats.digest(),
        })
    }
}

#[async_trait]
impl PassageStore for QdrantStore {
    async fn ensure_collection(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError> {
        check_collection_name(name)?;
        match self.ensure(name, spec).await {
            // Dropped meanwhile; what was remembered of it is in the way.
            Err(StoreError::UnknownCollection { .. }) => {
                self.forget(name);
                self.ensure(name, spec).await
            }
            other => other,
        }
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>, StoreError> {
        let mut all = Vec::new();
        for name in self.names().await? {
            match self.seen(&name, self.info(&name).await) {
                Ok(info) => all.push(info),
                // Dropped since the list was made.
                Err(StoreError::UnknownCollection { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn collection(&self, name: &str) -> Result<CollectionInfo, StoreError> {
        self.seen(name, self.info(name).await)
    }

    async fn drop_collection(&self, name: &str) -> Result<bool, StoreError> {
        self.remove(name).await
    }

    async fn revisions(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<HashMap<String, String>, StoreError> {
        let handle = self.handle(collection).await?;
        let ids: Vec<&str> = document_ids.iter().map(String::as_str).collect();
        let marks = self.marks(&handle, &ids).await?;
        let done = marks
            .into_values()
            .filter(|mark| mark.state == MarkState::Done);
        Ok(done.map(|mark| (mark.document_id, mark.revision)).collect())
    }

    async fn put_documents(
        &self,
        collection: &str,
        documents: Vec<DocumentPut>,
    ) -> Result<(), StoreError> {
        let handle = self.handle(collection).await?;
        self.seen(collection, self.put(&handle, documents).await)
    }

    async fn delete_documents(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<usize, StoreError> {
        let handle = self.handle(collection).await?;
        self.seen(collection, self.delete_marked(&handle, document_ids).await)
    }

    async fn candidates(
        &self,
        collection: &str,
        query: &CandidateQuery,
    ) -> Result<Vec<Candidate>, StoreError> {
        let handle = self.handle(collection).await?;
        check::query(query, &handle.spec)?;
        match self.search(&handle, query).await {
            // Dropped, and perhaps made again.
            Err(StoreError::UnknownCollection { .. }) => {
                self.forget(collection);
                let handle = self.handle(collection).await?;
                check::query(query, &handle.spec)?;
                self.seen(collection, self.search(&handle, query).await)
            }
            found => found,
        }
    }

    async fn keys(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Arc<KeyBlock>>>, StoreError> {
        let handle = self.handle(collection).await?;
        self.fetch_keys(&handle, refs).await
    }

    async fn passages(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Passage>>, StoreError> {
        let handle = self.handle(collection).await?;
        self.fetch_passages(&handle, refs).await
    }

    async fn scroll(
        &self,
        collection: &str,
        query: &ScrollQuery,
    ) -> Result<ScrollPage, StoreError> {
        let handle = self.handle(collection).await?;
        self.walk(&handle, query).await
    }

    async fn documents(&self, collection: &str) -> Result<Vec<(String, String)>, StoreError> {
        let handle = self.handle(collection).await?;
        let marks = self.all_marks(&handle).await?;
        Ok(marks
            .into_iter()
            .map(|mark| (mark.document_id, mark.revision))
            .collect())
    }

    async fn stats(&self, collection: &str) -> Result<Arc<CorpusStats>, StoreError> {
        let handle = self.handle(collection).await?;
        self.seen(collection, self.latest(&handle).await)
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.remote
            .call("health_check", || self.remote.client.health_check())
            .await
            .map(drop)
    }
}
