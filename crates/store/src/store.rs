//! The contract of a passage store.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use moerag_retrieve::{CorpusStats, KeyBlock, LexBlock, PassageFeatures, QueryFeatures};

use crate::error::StoreError;
use crate::filter::Filter;
use crate::passage::{Passage, PassageRecord, PassageRef};
use crate::share::Share;
use crate::spec::{CollectionInfo, CollectionSpec};

/// One document to write: all its passages, in order.
#[derive(Debug, Clone)]
pub struct DocumentPut {
    /// The document.
    pub document_id: String,
    /// Its [`revision`](crate::revision).
    pub revision: String,
    /// Its passages with `ordinal` 0, 1, …; may be empty (a document without text).
    pub records: Vec<PassageRecord>,
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct CandidateQuery {
    /// Unit vector `[dim]` of the query.
    pub vector: Vec<f32>,
    /// `(term, count × IDF)`, one entry a distinct term (`QueryFeatures::sparse`). Stores keep BM25 weights
    /// *without* IDF and add none of their own, so that a score means the same on every store.
    pub sparse: Vec<(u32, f32)>,
    /// Length of each list: dense top `n` and lexical top `n` (score > 0).
    pub n: usize,
    /// Applied to both lists.
    pub filter: Filter,
}

impl CandidateQuery {
    /// The query of `features`, its terms weighted with the IDF of `stats`.
    #[must_use]
    pub fn new(features: &QueryFeatures, stats: &CorpusStats, n: usize, filter: Filter) -> Self {
        Self {
            vector: features.vector.clone(),
            sparse: features.sparse(stats),
            n,
            filter,
        }
    }
}

/// A passage that a search found, with what the cheap views need.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where it lies.
    pub at: PassageRef,
    /// Unit vector `[dim]`.
    pub vector: Arc<[f32]>,
    /// Its terms.
    pub lex: Arc<LexBlock>,
}

/// Stands for the content of a collection as searches see it at a moment: equal states have equal
/// content. Of use within a process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentState {
    /// The opening of the collection that the numbers count in.
    pub(crate) opened: u64,
    /// Last change committed, which statistics follow.
    pub(crate) committed: u64,
    /// Last change that searches see.
    pub(crate) searchable: u64,
}

/// The next part of a walk over a collection.
#[derive(Debug, Clone)]
pub struct ScrollQuery {
    /// Cursor of the page before; `None`: from the start.
    pub after: Option<String>,
    /// Most passages of the page.
    pub limit: usize,
    /// Whether features are wanted.
    pub with_features: bool,
    /// The passages of the walk; what is left out costs next to nothing.
    pub share: Share,
}

impl ScrollQuery {
    /// A page of a walk over all passages.
    #[must_use]
    pub fn new(after: Option<String>, limit: usize, with_features: bool) -> Self {
        Self {
            after,
            limit,
            with_features,
            share: Share::ALL,
        }
    }

    /// The page after this one; `None` if it was the last.
    #[must_use]
    pub fn following(self, page: &ScrollPage) -> Option<Self> {
        let after = page.next.clone()?;
        Some(Self {
            after: Some(after),
            ..self
        })
    }
}

/// Part of a walk over a collection.
#[derive(Debug, Clone)]
pub struct ScrollPage {
    /// Passages, with their features when asked for; the passages of a document follow each other by
    /// `ordinal`, documents in a fixed order of the store's own.
    pub records: Vec<(Passage, Option<PassageFeatures>)>,
    /// Cursor of the next page, opaque; `None` at the end.
    pub next: Option<String>,
}

/// Keeps passages and their features by document, and finds candidates for a query.
///
/// Calls may run at the same time. What a read returns is committed: of a document never a part, and
/// of two revisions never both within one call.
#[async_trait]
pub trait PassageStore: Send + Sync {
    /// Makes the collection, or checks that it was made with the same spec.
    ///
    /// # Errors
    /// [`StoreError::SpecMismatch`] naming the first field that differs.
    async fn ensure_collection(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError>;

    /// All collections, by name.
    async fn collections(&self) -> Result<Vec<CollectionInfo>, StoreError>;

    /// One collection.
    async fn collection(&self, name: &str) -> Result<CollectionInfo, StoreError>;

    /// The specification of one collection, for those who ask often: nothing has to be counted for it.
    async fn spec(&self, name: &str) -> Result<CollectionSpec, StoreError> {
        Ok(self.collection(name).await?.spec)
    }

    /// The specifications of all collections, by name.
    async fn specs(&self) -> Result<Vec<(String, CollectionSpec)>, StoreError> {
        let all = self.collections().await?.into_iter();
        Ok(all.map(|info| (info.name, info.spec)).collect())
    }

    /// Removes a collection with everything in it; false if there was none.
    async fn drop_collection(&self, name: &str) -> Result<bool, StoreError>;

    /// The committed revisions of those of `document_ids` that the collection has.
    async fn revisions(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<HashMap<String, String>, StoreError>;

    /// Writes documents, each replacing its older revision as one change. Returns when all of them are
    /// durable; on an error some of them may be. A document whose revision is already there is skipped.
    async fn put_documents(
        &self,
        collection: &str,
        documents: Vec<DocumentPut>,
    ) -> Result<(), StoreError>;

    /// Deletes documents; returns how many there were. Durable on return.
    async fn delete_documents(
        &self,
        collection: &str,
        document_ids: &[String],
    ) -> Result<usize, StoreError>;

    /// Dense top `n` united with lexical top `n`, without duplicates, in the order
    /// `(document_id, ordinal)`. Ties at the end of a list go to the smaller `(document_id, ordinal)`.
    async fn candidates(
        &self,
        collection: &str,
        query: &CandidateQuery,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// Keys of passages (of what the pruning left), in the order of `refs`; `None` where the passage was
    /// replaced or deleted since the search (the caller drops such a candidate).
    async fn keys(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Arc<KeyBlock>>>, StoreError>;

    /// Passages, in the order of `refs`; `None` as for [`keys`](Self::keys).
    async fn passages(
        &self,
        collection: &str,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Passage>>, StoreError>;

    /// The next passages after a cursor. The order is fixed, so a walk meets every passage of its share
    /// that is there throughout exactly once. A page may be shorter than its limit, also before the last.
    async fn scroll(&self, collection: &str, query: &ScrollQuery)
    -> Result<ScrollPage, StoreError>;

    /// All documents as `(document_id, revision)`, sorted.
    async fn documents(&self, collection: &str) -> Result<Vec<(String, String)>, StoreError>;

    /// Statistics of the committed passages.
    async fn stats(&self, collection: &str) -> Result<Arc<CorpusStats>, StoreError>;

    /// The present content of a collection; `None` from a store that cannot tell without asking a
    /// server. Does not block.
    fn content_state(&self, _collection: &str) -> Option<ContentState> {
        None
    }

    /// Ok if the store answers now.
    async fn health(&self) -> Result<(), StoreError>;
}
