//! Collections: list, look, delete, read back.

use std::collections::HashSet;
use std::sync::Arc;

use moerag_retrieve::{CorpusStats, PassageFeatures};
use moerag_store::{CollectionInfo, Passage, ScrollQuery, Share, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use super::engine::{Inner, RouterEngine};
use crate::domain::validate;
use crate::domain::violations::Violations;
use crate::domain::{RouterError, Source};

/// Largest number of passages in one page.
const MAX_PAGE: u32 = 1000;
/// Passages in a page without features.
const DEFAULT_PAGE: u32 = 256;
/// Passages in a page with features: about 25 KB each, and clients commonly refuse messages of
/// more than 4 MiB.
const DEFAULT_FEATURE_PAGE: u32 = 64;

/// A page of a walk over a collection.
#[derive(Debug)]
pub struct PassagePage {
    /// The passages, with their features if asked for.
    pub records: Vec<(Passage, Option<PassageFeatures>)>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
    /// Digest of the corpus when the walk began; on the last page, when it ended.
    pub corpus_digest: String,
    /// Passages in the collection at the same moment.
    pub total_passages: u64,
}

/// A walk over the passages of a collection.
pub struct PassagePager {
    engine: Arc<Inner>,
    collection: String,
    /// The next page; `None` once the last was read.
    query: Option<ScrollQuery>,
    /// The collection when the walk began: the digest reads all documents, so not for every page.
    info: CollectionInfo,
    _permit: OwnedSemaphorePermit,
}

impl RouterEngine {
    /// All collections by name, each with the source of the weights that would serve it now.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list_collections(&self) -> Result<Vec<(CollectionInfo, Source)>, RouterError> {
        let model = self.inner.models.take();
        let mut infos = self.inner.store.collections().await?;
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos
            .into_iter()
            .map(|info| {
                let source = model.source_of(&info.name);
                (info, source)
            })
            .collect())
    }

    /// One collection.
    ///
    /// # Errors
    /// It does not exist, or the store fails.
    pub async fn get_collection(
        &self,
        name: &str,
    ) -> Result<(CollectionInfo, Source), RouterError> {
        check_name(name)?;
        let info = self.inner.store.collection(name).await?;
        let source = self.inner.models.take().source_of(name);
        Ok((info, source))
    }

    /// Statistics of a collection's passages.
    ///
    /// # Errors
    /// It does not exist, or the store fails.
    pub async fn corpus_stats(&self, name: &str) -> Result<Arc<CorpusStats>, RouterError> {
        check_name(name)?;
        Ok(self.inner.store.stats(name).await?)
    }

    /// Deletes documents. Returns how many there were, and which ids the collection did not have.
    ///
    /// # Errors
    /// An unknown collection, or the store fails.
    pub async fn delete_documents(
        &self,
        collection: &str,
        ids: &[String],
    ) -> Result<(usize, Vec<String>), RouterError> {
        let mut violations = Violations::new();
        validate::delete(collection, ids, &mut violations);
        violations.finish()?;
        let known: HashSet<String> = self
            .inner
            .store
            .revisions(collection, ids)
            .await?
            .into_keys()
            .collect();
        let (found, mut missing): (Vec<String>, Vec<String>) =
            ids.iter().cloned().partition(|id| known.contains(id));
        missing.sort();
        missing.dedup();
        // Deleting an empty list still tells whether the collection exists.
        let deleted = self
            .inner
            .store
            .delete_documents(collection, &found)
            .await?;
        Ok((deleted, missing))
    }

    /// Deletes a collection with all its documents; returns what it was.
    ///
    /// # Errors
    /// It does not exist, or the store fails.
    pub async fn delete_collection(&self, name: &str) -> Result<CollectionInfo, RouterError> {
        check_name(name)?;
        let info = match self.inner.store.collection(name).await {
            // Perhaps one whose drop was interrupted: nobody sees it, but it can be finished.
            Err(StoreError::UnknownCollection { .. }) => None,
            found => Some(found?),
        };
        let there = self.inner.store.drop_collection(name).await;
        self.inner.forget(name);
        if let (true, Some(info)) = (there?, info) {
            tracing::info!(
                collection = name,
                documents = info.documents,
                "collection deleted"
            );
            return Ok(info);
        }
        // It was not there, or somebody else was faster.
        let name = name.to_owned();
        Err(StoreError::UnknownCollection { name }.into())
    }

    /// Begins a walk over a share of the passages of a collection. `page_size` 0 means a good one, `share`
    /// 0 all.
    ///
    /// # Errors
    /// An unknown collection, a page that is too large, no share, no free stream.
    pub async fn passages(
        &self,
        collection: &str,
        with_features: bool,
        cursor: Option<String>,
        page_size: u32,
        share: f64,
    ) -> Result<PassagePager, RouterError> {
        let mut violations = Violations::new();
        validate::collection(collection, &mut violations);
        violations.check(page_size <= MAX_PAGE, "page_size", || {
            format!("is {page_size}, must be 0 to {MAX_PAGE}")
        });
        let known = Share::new(if share == 0.0 { 1.0 } else { share });
        violations.check(known.is_some(), "share", || {
            format!("is {share}, must be above 0 and at most 1, or 0 for all passages")
        });
        violations.finish()?;
        let info = self.inner.store.collection(collection).await?;
        let page_size = match (page_size, with_features) {
            (0, true) => DEFAULT_FEATURE_PAGE,
            (0, false) => DEFAULT_PAGE,
            (size, _) => size,
        };
        Ok(PassagePager {
            _permit: self.inner.admission.passage_stream()?,
            engine: Arc::clone(&self.inner),
            collection: collection.to_owned(),
            query: Some(ScrollQuery {
                share: known.unwrap_or(Share::ALL),
                ..ScrollQuery::new(cursor, page_size as usize, with_features)
            }),
            info,
        })
    }
}

impl PassagePager {
    /// The next page, or `None` after the last. A collection without passages has one empty page.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self) -> Result<Option<PassagePage>, RouterError> {
        let Some(query) = self.query.take() else {
            return Ok(None);
        };
        let store = &self.engine.store;
        let page = store.scroll(&self.collection, &query).await?;
        if page.next.is_none() {
            self.info = store.collection(&self.collection).await?;
        }
        self.query = query.following(&page);
        Ok(Some(PassagePage {
            records: page.records,
            next: page.next,
            corpus_digest: self.info.corpus_digest.clone(),
            total_passages: self.info.passages,
        }))
    }
}

fn check_name(name: &str) -> Result<(), RouterError> {
    let mut violations = Violations::new();
    validate::collection(name, &mut violations);
    violations.finish()
}
