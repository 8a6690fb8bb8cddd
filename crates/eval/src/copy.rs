//! A collection copied from store to store without encoding anything again.

use moerag_retrieve::PassageFeatures;
use moerag_store::{DocumentWalk, Passage, PassageStore, StoreError};

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
    let mut walk = walk(from, collection);
    while let Some(mut documents) = walk.documents().await? {
        for record in documents.iter_mut().flat_map(|put| &mut put.records) {
            change(&record.passage, &mut record.features);
        }
        to.put_documents(name, documents).await?;
    }
    Ok(())
}

/// All documents of a collection with the features of their passages.
pub(crate) fn walk<'a>(store: &'a dyn PassageStore, collection: &'a str) -> DocumentWalk<'a> {
    DocumentWalk::new(store, collection, PAGE)
}
