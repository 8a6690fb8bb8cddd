//! A collection read from its start to its end: page by page, or document by document.

use crate::error::StoreError;
use crate::passage::PassageRecord;
use crate::store::{DocumentPut, PassageStore, ScrollPage, ScrollQuery};

/// The pages of a walk over a collection.
pub struct Walk<'a> {
    store: &'a dyn PassageStore,
    collection: &'a str,
    /// What is asked next; `None` after the last page.
    query: Option<ScrollQuery>,
}

impl<'a> Walk<'a> {
    /// A walk that begins with this page.
    #[must_use]
    pub fn new(store: &'a dyn PassageStore, collection: &'a str, query: ScrollQuery) -> Self {
        Self {
            store,
            collection,
            query: Some(query),
        }
    }

    /// The next page, `None` after the last. A collection without passages has one empty page.
    ///
    /// # Errors
    /// As [`PassageStore::scroll`]; the walk has ended then.
    pub async fn page(&mut self) -> Result<Option<ScrollPage>, StoreError> {
        let Some(query) = self.query.take() else {
            return Ok(None);
        };
        let page = self.store.scroll(self.collection, &query).await?;
        self.query = query.following(&page);
        Ok(Some(page))
    }
}

/// A walk over whole documents with their features, for copies of a collection to which nobody writes
/// meanwhile (of a document that is replaced during the walk passages may be missing).
pub struct DocumentWalk<'a> {
    walk: Walk<'a>,
    /// The document at the end of the last page, which may go on in the next one.
    open: Option<DocumentPut>,
}

impl<'a> DocumentWalk<'a> {
    /// A walk over all documents, `page` passages at a time.
    #[must_use]
    pub fn new(store: &'a dyn PassageStore, collection: &'a str, page: usize) -> Self {
        Self {
            walk: Walk::new(store, collection, ScrollQuery::new(None, page, true)),
            open: None,
        }
    }

    /// The documents that ended with the next page, ready to be put into another store; `None` after
    /// the last ones.
    ///
    /// # Errors
    /// As [`PassageStore::scroll`]; the walk has ended then.
    pub async fn documents(&mut self) -> Result<Option<Vec<DocumentPut>>, StoreError> {
        let Some(page) = self.walk.page().await? else {
            return Ok(self.open.take().map(|last| vec![last]));
        };
        let mut whole = Vec::new();
        for (passage, features) in page.records {
            let Some(features) = features else { continue };
            let same = |open: &DocumentPut| open.document_id == passage.document_id;
            if !self.open.as_ref().is_some_and(same) {
                let next = DocumentPut {
                    document_id: passage.document_id.clone(),
                    revision: passage.revision.clone(),
                    records: Vec::new(),
                };
                whole.extend(self.open.replace(next));
            }
            if let Some(open) = &mut self.open {
                open.records.push(PassageRecord { passage, features });
            }
        }
        Ok(Some(whole))
    }
}
