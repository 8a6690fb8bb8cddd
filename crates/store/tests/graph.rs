//! What takes long for a large index happens beside writes and searches: graphs, another index.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::disk::*;
use common::*;
use moerag_store::{CandidateQuery, EdgeOptions, EdgeStore, Filter, PassageStore, StoreError};

/// A collection has a graph from so many points on.
fn graph_from(hnsw_from_points: usize) -> EdgeOptions {
    EdgeOptions {
        hnsw_from_points,
        ..EdgeOptions::default()
    }
}

fn has_graph(dir: &Path) -> bool {
    let files = files_below(&index_dirs(dir)[0]);
    files
        .iter()
        .any(|path| path.file_name().unwrap() == "hnsw_config.json" || path.ends_with("graph.bin"))
}

async fn wait_for_graph(dir: &Path) {
    for _ in 0..100 {
        if has_graph(dir) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{:?}", files_below(&index_dirs(dir)[0]));
}

/// A process may end before its points have a graph; the next one makes it, without a write to ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_graph_that_is_overdue_is_built_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |points| EdgeStore::open(dir.path(), graph_from(points)).unwrap();
    let store = open(1_000_000);
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let all: Vec<_> = (0..800)
        .map(|i| document(&format!("doc {i}"), 3, 5, &[]))
        .collect();
    store.put_documents(NAME, all).await.unwrap();
    drop(store);
    assert!(!has_graph(dir.path()));
    let _store = open(1_500);
    wait_for_graph(dir.path()).await;
}

/// Above the threshold an HNSW index is built in a quiet moment; searches stay right.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_collection_gets_an_hnsw_index() {
    let dir = tempfile::tempdir().unwrap();
    let options = graph_from(1_500);
    let store = EdgeStore::open(dir.path(), options).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..800 {
        model.put(&document(&format!("doc {i}"), 3, 5, &[]));
    }
    let all: Vec<_> = model.documents.values().cloned().collect();
    for batch in all.chunks(200) {
        store.put_documents(NAME, batch.to_vec()).await.unwrap();
    }
    wait_for_graph(dir.path()).await;
    let mut rng = rng(1);
    let mut found = 0;
    for _ in 0..20 {
        let mut query = query(&mut rng, &model, 10, Filter::default());
        query.sparse.clear();
        let places: Vec<_> = store
            .candidates(NAME, &query)
            .await
            .unwrap()
            .into_iter()
            .map(|c| (c.at.document_id, c.at.ordinal))
            .collect();
        let expected = model.candidates(&query);
        found += (expected.surely.iter())
            .filter(|at| places.contains(at))
            .count();
    }
    assert!(found >= 190, "{found} of 200 nearest passages found");
}

/// A store with 24,000 passages: what is built of them takes a while.
async fn large(dir: &Path, options: &EdgeOptions) -> (EdgeStore, Model) {
    let store = EdgeStore::open(dir, options.clone()).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..4_000 {
        model.put(&document(&format!("doc {i}"), 6, 5, &[]));
    }
    let all: Vec<_> = model.documents.values().cloned().collect();
    store.put_documents(NAME, all).await.unwrap();
    (store, model)
}

/// Writes a document and deletes another; searches see both at once.
async fn write_and_search(store: &EdgeStore, model: &mut Model, i: usize) {
    let new = document(&format!("late {i}"), 1, 5, &[]);
    let query = CandidateQuery {
        vector: new.records[0].features.vector.clone(),
        sparse: Vec::new(),
        n: 50,
        filter: Filter::default(),
    };
    store.put_documents(NAME, vec![new.clone()]).await.unwrap();
    model.put(&new);
    let gone = vec![format!("doc {i}")];
    store.delete_documents(NAME, &gone).await.unwrap();
    model.documents.remove(&gone[0]);
    let found = store.candidates(NAME, &query).await.unwrap();
    let has = |id: &str| found.iter().any(|candidate| candidate.at.document_id == id);
    assert!(has(&new.document_id) && !has(&gone[0]), "{i}");
}

/// While a graph is built, what is written is found at once, what is deleted is gone at once, and all of it
/// is still so when the graph is there and after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_written_and_searched_while_its_graph_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let options = graph_from(20_000);
    let (store, mut model) = large(dir.path(), &options).await;
    let building = || {
        let below = files_below(&index_dirs(dir.path())[0]);
        below
            .iter()
            .any(|path| path.iter().any(|part| part == "temp_segments"))
    };
    let mut written_meanwhile = 0;
    for i in 0..10_000 {
        if has_graph(dir.path()) {
            break;
        }
        let before = building();
        write_and_search(&store, &mut model, i).await;
        written_meanwhile += usize::from(before && building());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(written_meanwhile > 0);
    wait_for_graph(dir.path()).await;
    check_whole(&store, NAME, &model).await;
    drop(store);
    let store = EdgeStore::open(dir.path(), options).unwrap();
    check_whole(&store, NAME, &model).await;
}

/// Who closes a store does not wait for a graph. Nobody else gets the directory until nobody writes there, and
/// then everything is there.
#[tokio::test(flavor = "multi_thread")]
async fn closing_leaves_a_graph_that_takes_long() {
    let dir = tempfile::tempdir().unwrap();
    let options = EdgeOptions {
        build_wait: Duration::ZERO,
        ..graph_from(20_000)
    };
    let (store, mut model) = large(dir.path(), &options).await;
    drop(store);
    let mut refused = 0;
    let store = loop {
        match EdgeStore::open(dir.path(), options.clone()) {
            Ok(store) => break store,
            Err(StoreError::Locked { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(refused > 0);
    check_whole(&store, NAME, &model).await;
    write_and_search(&store, &mut model, 0).await;
    wait_for_graph(dir.path()).await;
    check_whole(&store, NAME, &model).await;
}

/// When passages become longer on average, their weights are computed anew in another index. What is
/// written until it is there is found all along, and found in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_written_and_searched_while_its_index_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut model) = large(dir.path(), &EdgeOptions::default()).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let first = index_dirs(dir.path());
    assert_eq!(first.len(), 1);
    let mut long: Vec<_> = (0..500)
        .map(|i| document(&format!("long {i}"), 4, 6, &[]))
        .collect();
    for record in long.iter_mut().flat_map(|document| &mut document.records) {
        let lex = &mut record.features.lex;
        lex.terms = lex.terms.repeat(3);
        lex.sentence_ends = vec![lex.terms.len() as u32];
    }
    long.iter().for_each(|document| model.put(document));
    store.put_documents(NAME, long).await.unwrap();
    for _ in 0..1_000 {
        if index_dirs(dir.path()).len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut written_meanwhile = 0;
    while index_dirs(dir.path()).len() == 2 {
        write_and_search(&store, &mut model, written_meanwhile).await;
        written_meanwhile += 1;
    }
    assert!(written_meanwhile > 1);
    let now = index_dirs(dir.path());
    assert!(now.len() == 1 && now != first, "{now:?}");
    check_whole(&store, NAME, &model).await;
    write_and_search(&store, &mut model, written_meanwhile).await;
    drop(store);
    let store = EdgeStore::open(dir.path(), EdgeOptions::default()).unwrap();
    check_whole(&store, NAME, &model).await;
    write_and_search(&store, &mut model, written_meanwhile + 1).await;
    assert_eq!(index_dirs(dir.path()), now);
}
