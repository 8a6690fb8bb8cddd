//! A collection copied from store to store without encoding anything again.

use moerag_retrieve::PassageFeatures;
use moerag_store::{DocumentPut, Passage, PassageRecord, PassageStore, ScrollQuery, StoreError};

/// Passages that are copied at a time.
const PAGE: usize = 256;

/// Copies a collection to one that must not be there yet, each passage's features as `change` leaves
/// them.
pub(crate) async fn copy(
    (from, collection): (&dyn PassageStore, &str),
    (to, name): (&dyn PassageStore, &str),
    change: impl Fn(&Passage, &mut PassageFeatures),
) -> Result<(), StoreError> {
    let spec = from.collection(collection).await?.spec;
    to.ensure_collection(name, &spec).await?;
    let mut walk = Walk::new(from, collection);
    // A page may end within a document, and a document is written as a whole.
    let mut open: Option<DocumentPut> = None;
    while let Some(page) = walk.next().await? {
        let mut whole = Vec::new();
        for (passage, mut features) in page {
            change(&passage, &mut features);
            if open
                .as_ref()
                .is_none_or(|put| put.document_id != passage.document_id)
            {
                let next = DocumentPut {
                    document_id: passage.document_id.clone(),
                    revision: passage.revision.clone(),
                    records: Vec::new(),
                };
                whole.extend(open.replace(next));
            }
            if let Some(put) = &mut open {
                put.records.push(PassageRecord { passage, features });
            }
        }
        to.put_documents(name, whole).await?;
    }
    to.put_documents(name, open.into_iter().collect()).await
}

/// All passages of a collection with their features, page by page.
pub(crate) struct Walk<'a> {
    store: &'a dyn PassageStore,
    collection: &'a str,
    cursor: Option<String>,
    ended: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a dyn PassageStore, collection: &'a str) -> Walk<'a> {
        Walk {
            store,
            collection,
            cursor: None,
            ended: false,
        }
    }

    pub(crate) async fn next(
        &mut self,
    ) -> Result<Option<Vec<(Passage, PassageFeatures)>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = self
            .store
            .scroll(
                self.collection,
                &ScrollQuery::new(self.cursor.take(), PAGE, true),
            )
            .await?;
        self.cursor = page.next;
        self.ended = self.cursor.is_none();
        // Features are missing of a passage that was replaced during the walk.
        let records = page.records.into_iter();
        Ok(Some(
            records
                .filter_map(|(passage, features)| Some((passage, features?)))
                .collect(),
        ))
    }
}
