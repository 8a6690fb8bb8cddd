//! SIGKILL in the middle of an ingest, again and again: what was acknowledged is there, nothing else is
//! there by halves.
//!
//! The test starts itself as the process to be killed (`child_that_is_killed`).

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use moerag_store::{CandidateQuery, EdgeOptions, EdgeStore, Filter, PassageStore};
use rand::Rng;

const NAME: &str = "docs";
const CHILD_DIR: &str = "MOERAG_KILL_TEST_DIR";
const CHILD_SEED: &str = "MOERAG_KILL_TEST_SEED";
const ROUNDS: u64 = 20;
const DOCUMENTS: u64 = 60;
/// Points from which on some rounds build graphs: fewer than there are.
const GRAPH_FROM: usize = 50;
/// Quiet enough for the store to look after its index.
const QUIET: Duration = Duration::from_millis(310);

/// Document `number` in version `version`; its seed names the version.
fn versioned(number: u64, version: u64) -> moerag_store::DocumentPut {
    document(
        &format!("d{number}"),
        1 + ((number + version) % 6) as u32,
        version,
        &[],
    )
}

/// In every second round the cut-off index is brought up to date instead of built anew; in every second pair of
/// rounds graphs are built beside the writes.
fn options(round: u64) -> EdgeOptions {
    let rebuild_unclean_below = if round.is_multiple_of(2) {
        0
    } else {
        usize::MAX
    };
    let defaults = EdgeOptions::default();
    let hnsw_from_points = match (round / 2).is_multiple_of(2) {
        true => GRAPH_FROM,
        false => defaults.hnsw_from_points,
    };
    EdgeOptions {
        rebuild_unclean_below,
        hnsw_from_points,
        ..defaults
    }
}

/// Says `word` and what it is about on a line of its own, at once.
fn say(word: &str, batch: &[(u64, u64)]) {
    let mut out = std::io::stdout().lock();
    let items: Vec<_> = batch.iter().map(|(n, v)| format!("{n}:{v}")).collect();
    writeln!(out, "\n@{word} {}", items.join(" ")).unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: does nothing unless the test below starts it.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let seed: u64 = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let store = EdgeStore::open(Path::new(&dir), options(seed)).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut rng = rng(seed);
    for step in 0.. {
        let batch: BTreeMap<u64, u64> = (0..rng.random_range(1..9))
            .map(|_| (rng.random_range(0..DOCUMENTS), seed * 1_000_000 + step))
            .collect();
        let batch: Vec<_> = batch.into_iter().collect();
        say("start", &batch);
        let documents = batch.iter().map(|(n, v)| versioned(*n, *v)).collect();
        store.put_documents(NAME, documents).await.unwrap();
        say("ack", &batch);
        if rng.random_bool(0.05) {
            tokio::time::sleep(QUIET).await;
        }
    }
}

fn parse(items: &str) -> Vec<(u64, u64)> {
    items
        .split_whitespace()
        .filter_map(|item| item.split_once(':'))
        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_documents_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = rng(99);
    // Document -> versions that may be there: the last acknowledged one and those begun after it.
    let mut possible: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut acknowledged = 0;
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_is_killed",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_SEED, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (started, wait_for_start) = std::sync::mpsc::sync_channel(1);
        let reader = std::thread::Builder::new()
            .name("kill-test-reader".into())
            .spawn(move || {
                let mut said = Vec::new();
                for line in lines.map_while(Result::ok) {
                    let _ = started.try_send(());
                    if line.starts_with('@') {
                        said.push(line);
                    }
                }
                said
            });
        wait_for_start
            .recv_timeout(Duration::from_secs(60))
            .unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(30..900)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.unwrap().join().unwrap() {
            let (word, items) = line.split_once(' ').unwrap();
            for (number, version) in parse(items) {
                let versions = possible.entry(number).or_default();
                if word == "@ack" {
                    acknowledged += 1;
                    versions.retain(|v| *v >= version);
                    assert!(versions.contains(&version));
                } else {
                    if versions.is_empty() {
                        versions.push(0);
                    }
                    versions.push(version);
                }
            }
        }
        check_after_kill(dir.path(), &mut possible, round).await;
    }
    println!("{acknowledged} acknowledged documents over {ROUNDS} kills");
    assert!(acknowledged > ROUNDS);
}

/// Version 0 stands for "not there".
async fn check_after_kill(dir: &Path, possible: &mut BTreeMap<u64, Vec<u64>>, round: u64) {
    let store = EdgeStore::open(dir, options(round)).unwrap();
    store.ensure_collection(NAME, &spec()).await.unwrap();
    let mut model = Model::default();
    let revisions: BTreeMap<String, String> =
        store.documents(NAME).await.unwrap().into_iter().collect();
    for (number, versions) in possible.iter_mut() {
        let found = match revisions.get(&format!("d{number}")) {
            None => 0,
            Some(revision) => *versions
                .iter()
                .find(|v| versioned(*number, **v).revision == *revision)
                .unwrap_or_else(|| panic!("round {round}: d{number} is none of {versions:?}")),
        };
        assert!(
            versions.contains(&found),
            "round {round}: d{number} is gone, not {versions:?}"
        );
        *versions = vec![found];
        if found != 0 {
            model.put(&versioned(*number, found));
        }
    }
    // Every passage of every document, features, statistics and digests included.
    check_whole(&store, NAME, &model).await;
    check_searches(&store, NAME, &model, round).await;
    for document in model
        .documents
        .values()
        .filter(|d| !d.records.is_empty())
        .take(10)
    {
        let query = CandidateQuery {
            vector: document.records[0].features.vector.clone(),
            sparse: Vec::new(),
            n: 50,
            filter: Filter {
                document_ids: Some(vec![document.document_id.clone()]),
                ..Filter::default()
            },
        };
        let found = store.candidates(NAME, &query).await.unwrap();
        assert_eq!(
            found.len(),
            document.records.len(),
            "a part of {}",
            document.document_id
        );
    }
}
