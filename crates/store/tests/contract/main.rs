//! What every passage store has to do: one suite, run against each implementation.
//!
//! The Qdrant server is that of `QDRANT_TEST_URL` (its gRPC address); without it those tests say that
//! they were skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod reads;
mod writes;

use std::sync::Arc;

use common::*;
use moerag_store::{EdgeOptions, EdgeStore, PassageStore, QdrantOptions, QdrantStore};

/// Every check, wherever it is.
mod checks {
    pub(crate) use super::{reads::*, writes::*};
}

/// A store to test, and what has to live as long as it.
struct Subject {
    store: Arc<dyn PassageStore>,
    collection: &'static str,
    _dir: Option<tempfile::TempDir>,
}

async fn edge(collection: &'static str) -> Option<Subject> {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(dir.path(), EdgeOptions::default()).unwrap();
    store.ensure_collection(collection, &spec()).await.unwrap();
    Some(Subject {
        store: Arc::new(store),
        collection,
        _dir: Some(dir),
    })
}

async fn qdrant(collection: &'static str) -> Option<Subject> {
    let Some(url) = std::env::var("QDRANT_TEST_URL")
        .ok()
        .filter(|url| !url.is_empty())
    else {
        println!("SKIPPED {collection} on Qdrant: set QDRANT_TEST_URL to a server's gRPC address");
        return None;
    };
    let options = QdrantOptions {
        prefix: "moerag-test".into(),
        ..QdrantOptions::default()
    };
    let store = QdrantStore::connect(&url, None, options).unwrap();
    store.drop_collection(collection).await.unwrap();
    store.ensure_collection(collection, &spec()).await.unwrap();
    Some(Subject {
        store: Arc::new(store),
        collection,
        _dir: None,
    })
}

macro_rules! contract {
    ($($check:ident),* $(,)?) => {
        mod on_edge {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let subject = super::edge(stringify!($check)).await.unwrap();
                crate::checks::$check(subject.store.clone(), subject.collection).await;
            })*
        }
        mod on_qdrant {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                if let Some(subject) = super::qdrant(stringify!($check)).await {
                    crate::checks::$check(subject.store.clone(), subject.collection).await;
                    subject.store.drop_collection(subject.collection).await.unwrap();
                }
            })*
        }
    };
}

contract!(
    a_second_ingest_changes_nothing,
    a_changed_document_leaves_nothing_stale,
    deleted_documents_are_gone,
    scroll_meets_every_passage_once,
    filters_hold_on_both_lists,
    specs_and_names_are_checked,
    ties_go_to_the_smaller_id,
    statistics_equal_a_count_from_nothing,
    candidates_equal_brute_force,
    searches_beside_ingest_see_whole_revisions,
    bad_input_is_refused_and_loses_nothing,
    collections_come_and_go,
    the_last_of_two_puts_in_one_call_counts,
);

type Store = Arc<dyn PassageStore>;

fn corpus(seed: u64, documents: u32) -> Model {
    let mut model = Model::default();
    for i in 0..documents {
        let language = ["en", "de", "fr"][i as usize % 3];
        let id = format!("dir/doc {i:03}.md");
        model.put(&document(
            &id,
            1 + i % 5,
            seed,
            &[("lang", language), ("odd \"key.[]", "x y")],
        ));
    }
    model
}

async fn ingest(store: &Store, name: &str, model: &Model) {
    let documents: Vec<_> = model.documents.values().cloned().collect();
    for batch in documents.chunks(50) {
        store.put_documents(name, batch.to_vec()).await.unwrap();
    }
}
