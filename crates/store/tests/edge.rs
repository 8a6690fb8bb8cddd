//! What is particular to the embedded store: reopening, a lost or broken index, limits.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use common::disk::*;
use common::*;
use moerag_store::{EdgeOptions, EdgeStore, Filter, PassageStore, StoreError};

fn open(dir: &Path) -> EdgeStore {
    EdgeStore::open(dir, EdgeOptions::default()).unwrap()
}

/// Waits for what closing has left behind: on a busy machine an index may still be rewritten then, and
/// the directory stays locked as long.
fn reopened(dir: &Path) -> EdgeStore {
    for _ in 0..600 {
        match EdgeStore::open(dir, EdgeOptions::default()) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(100)),
            other => return other.unwrap(),
        }
    }
    panic!("{} is still locked after a minute", dir.display());
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
    check(&reopened(dir.path()), &model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_creation_was_cut_short_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join("collections/half");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::create_dir_all(dir.path().join("collections/.trash-1/x")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.collections().await.unwrap(), []);
    assert!(!half.exists() && !dir.path().join("collections/.trash-1").exists());
    store.ensure_collection("half", &spec()).await.unwrap();
    check_whole(&store, "half", &Model::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_whatever_name_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["trash-1", "index-1", "truth.redb", "collections", "lock"];
    let store = open(dir.path());
    for name in names {
        store.ensure_collection(name, &spec()).await.unwrap();
    }
    drop(store);
    let found = reopened(dir.path()).collections().await.unwrap();
    let mut found: Vec<&str> = found.iter().map(|info| info.name.as_str()).collect();
    found.sort_unstable_by_key(|name| names.iter().position(|n| n == name));
    assert_eq!(found, names);
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
