//! What is particular to the embedded store: reopening, a lost or broken index, limits.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;
use moerag_store::{CandidateQuery, EdgeOptions, EdgeStore, Filter, PassageStore, StoreError};

const NAME: &str = "docs";

fn open(dir: &Path) -> EdgeStore {
    EdgeStore::open(dir, EdgeOptions::default()).unwrap()
}

async fn filled(dir: &Path, documents: u32) -> (EdgeStore, Model) {
    let store = open(dir);
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..documents {
        model.put(&document(
            &format!("doc {i}"),
            1 + i % 4,
            3,
            &[("parity", ["even", "odd"][i as usize % 2])],
        ));
    }
    let all = model.documents.values().cloned().collect();
    store.put_documents(NAME, all).await.unwrap();
    (store, model)
}

async fn check(store: &EdgeStore, model: &Model) {
    check_whole(store, NAME, model).await;
    for seed in 0..3 {
        check_searches(store, NAME, model, seed).await;
    }
    let even = moerag_store::Condition {
        key: "parity".into(),
        any_of: vec!["even".into()],
    };
    let filter = Filter {
        must: vec![even],
        ..Filter::default()
    };
    let query = query(&mut rng(9), model, 7, filter);
    check_search(store, NAME, model, &query).await;
}

fn index_dirs(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir.join("collections").join(NAME))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path))
        } else {
            files.push(path)
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut model) = filled(dir.path(), 60).await;
    drop(store);
    let store = open(dir.path());
    check(&store, &model).await;
    let new = document("doc 3", 4, 77, &[("parity", "even")]);
    store.put_documents(NAME, vec![new.clone()]).await.unwrap();
    model.put(&new);
    store
        .delete_documents(NAME, &["doc 8".into()])
        .await
        .unwrap();
    model.documents.remove("doc 8");
    drop(store);
    let store = open(dir.path());
    check(&store, &model).await;
    assert_eq!(index_dirs(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (store, model) = filled(dir.path(), 60).await;
    drop(store);
    for index in index_dirs(dir.path()) {
        std::fs::remove_dir_all(index).unwrap();
    }
    check(&open(dir.path()), &model).await;
}

/// Every file of the shard in turn is emptied, cut in half or overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_index_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (store, model) = filled(dir.path(), 40).await;
    drop(store);
    let count = files_below(&index_dirs(dir.path())[0]).len();
    assert!(count > 10);
    for at in 0..count {
        let index = index_dirs(dir.path())[0].clone();
        let files = files_below(&index);
        let Some(file) = files.get(at) else { break };
        let length = std::fs::metadata(file).unwrap().len();
        match at % 3 {
            0 => std::fs::write(file, b"").unwrap(),
            1 => std::fs::OpenOptions::new()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(length / 2)
                .unwrap(),
            _ => std::fs::write(file, vec![0xa5; length.min(1 << 20) as usize]).unwrap(),
        }
        let store = open(dir.path());
        check(&store, &model).await;
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = EdgeStore::open(dir.path(), EdgeOptions::default())
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(store);
    open(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_stops_before_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (store, model) = filled(dir.path(), 5).await;
    drop(store);
    let options = EdgeOptions {
        reserve_bytes: u64::MAX / 4,
        ..EdgeOptions::default()
    };
    let store = EdgeStore::open(dir.path(), options).unwrap();
    let error = store
        .put_documents(NAME, vec![document("new", 1, 1, &[])])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(store.ensure_collection("other", &spec()).await.is_err());
    check(&store, &model).await;
    // What frees space still works.
    assert_eq!(
        store
            .delete_documents(NAME, &["doc 1".into()])
            .await
            .unwrap(),
        1
    );
}

/// The shard's log is never read, so it must not grow with the number of writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut model) = filled(dir.path(), 4).await;
    let mut written = 0;
    for round in 0..24 {
        let batch: Vec<_> = (0..100)
            .map(|i| document(&format!("big {i}"), 20, 1_000 + round, &[]))
            .collect();
        written += 100 * 20;
        if round == 23 {
            batch.iter().for_each(|document| model.put(document));
        }
        store.put_documents(NAME, batch).await.unwrap();
    }
    assert_eq!(written, 48_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let wal: u64 = files_below(&index_dirs(dir.path())[0])
        .iter()
        .filter(|path| path.parent().unwrap().ends_with("wal"))
        .map(|path| std::fs::metadata(path).unwrap().len())
        .sum();
    assert!(wal <= 16 << 20, "the log has {wal} bytes");
    check(&store, &model).await;
    drop(store);
    check(&open(dir.path()), &model).await;
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
    let open = |hnsw_from_points| {
        let options = EdgeOptions {
            hnsw_from_points,
            ..EdgeOptions::default()
        };
        EdgeStore::open(dir.path(), options).unwrap()
    };
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
    let options = EdgeOptions {
        hnsw_from_points: 1_500,
        ..EdgeOptions::default()
    };
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
    let options = EdgeOptions {
        hnsw_from_points: 20_000,
        ..EdgeOptions::default()
    };
    let store = EdgeStore::open(dir.path(), options.clone()).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..4_000 {
        model.put(&document(&format!("doc {i}"), 6, 5, &[]));
    }
    let all: Vec<_> = model.documents.values().cloned().collect();
    store.put_documents(NAME, all).await.unwrap();
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
        hnsw_from_points: 20_000,
        build_wait: Duration::ZERO,
        ..EdgeOptions::default()
    };
    let store = EdgeStore::open(dir.path(), options.clone()).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..4_000 {
        model.put(&document(&format!("doc {i}"), 6, 5, &[]));
    }
    let all: Vec<_> = model.documents.values().cloned().collect();
    store.put_documents(NAME, all).await.unwrap();
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
    let store = open(dir.path());
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    for i in 0..4_000 {
        model.put(&document(&format!("doc {i}"), 6, 5, &[]));
    }
    let all: Vec<_> = model.documents.values().cloned().collect();
    store.put_documents(NAME, all).await.unwrap();
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
    let store = open(dir.path());
    check_whole(&store, NAME, &model).await;
    write_and_search(&store, &mut model, written_meanwhile + 1).await;
    assert_eq!(index_dirs(dir.path()), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_creation_was_cut_short_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join("collections/half");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::create_dir_all(dir.path().join("collections/trash-1/x")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.collections().await.unwrap(), []);
    assert!(!half.exists() && !dir.path().join("collections/trash-1").exists());
    store.ensure_collection("half", &spec()).await.unwrap();
    check_whole(&store, "half", &Model::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_version_is_refused_with_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(dir.path(), 3).await;
    drop(store);
    let path = dir.path().join("collections").join(NAME).join("truth.redb");
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let database = redb::Database::open(&path).unwrap();
    let tx = database.begin_write().unwrap();
    tx.open_table(meta)
        .unwrap()
        .insert("format", &3u32.to_le_bytes()[..])
        .unwrap();
    tx.commit().unwrap();
    drop(database);
    let store = EdgeStore::open(dir.path(), EdgeOptions::default());
    let error = match store {
        Ok(store) => store.collection(NAME).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        matches!(error, StoreError::Format { found: 3, .. }),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains("has format 3") && message.contains("ingest the documents again"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn free_pages_are_given_back_when_a_collection_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut model) = filled(dir.path(), 300).await;
    let gone: Vec<String> = (0..250).map(|i| format!("doc {i}")).collect();
    store.delete_documents(NAME, &gone).await.unwrap();
    gone.iter().for_each(|id| drop(model.documents.remove(id)));
    drop(store);
    let file = dir.path().join("collections").join(NAME).join("truth.redb");
    // As `du` counts: blocks, not lengths.
    let used = || std::fs::metadata(&file).unwrap().blocks() * 512;
    let options = |compact_from_bytes| EdgeOptions {
        compact_from_bytes,
        ..EdgeOptions::default()
    };
    let before = used();
    drop(EdgeStore::open(dir.path(), options(1 << 40)).unwrap());
    assert_eq!(used(), before);
    let store = EdgeStore::open(dir.path(), options(0)).unwrap();
    check(&store, &model).await;
    let after = used();
    assert!(after < before / 2, "{after} of {before}");
    // It has not grown, so nothing is done again; it still takes documents.
    drop(store);
    let store = EdgeStore::open(dir.path(), options(0)).unwrap();
    assert!(used() <= after + after / 10);
    let new = document("new", 3, 8, &[("parity", "odd")]);
    model.put(&new);
    store.put_documents(NAME, vec![new]).await.unwrap();
    check(&store, &model).await;
}
