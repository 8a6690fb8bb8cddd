//! What is particular to the Qdrant store: a server that is away, several routers on one server.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use moerag_store::{CandidateQuery, Filter, PassageStore, QdrantOptions, QdrantStore, StoreError};

/// A router of its own on the test server.
fn router(url: &str) -> QdrantStore {
    let options = QdrantOptions {
        prefix: "moerag-test".into(),
        ..QdrantOptions::default()
    };
    QdrantStore::connect(url, None, options).unwrap()
}

fn server(test: &str) -> Option<String> {
    let url = std::env::var("QDRANT_TEST_URL")
        .ok()
        .filter(|url| !url.is_empty());
    if url.is_none() {
        println!("SKIPPED {test}: set QDRANT_TEST_URL to a server's gRPC address");
    }
    url
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    // A port that was free a moment ago, and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let options = QdrantOptions {
        retries: 1,
        ..QdrantOptions::default()
    };
    let store = QdrantStore::connect(&format!("http://{free}"), None, options).unwrap();
    let start = Instant::now();
    let query = CandidateQuery {
        vector: vec![0.0; DIM],
        sparse: Vec::new(),
        n: 1,
        filter: Filter::default(),
    };
    let errors = [
        store.health().await.unwrap_err(),
        store.collections().await.unwrap_err(),
        store.ensure_collection("c", &spec()).await.unwrap_err(),
        store.candidates("c", &query).await.unwrap_err(),
        store
            .put_documents("c", vec![document("d", 1, 1, &[])])
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(&free.to_string()), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    let wrong = QdrantStore::connect("not a url", None, QdrantOptions::default());
    assert!(matches!(wrong.err(), Some(StoreError::InvalidInput { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routers_share_a_collection() {
    let Some(url) = server("two_routers_share_a_collection") else {
        return;
    };
    let name = "two_routers";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    one.ensure_collection(name, &spec()).await.unwrap();
    two.ensure_collection(name, &spec()).await.unwrap();
    let mut model = Model::default();
    for round in 0..4 {
        // Both write at the same time, each its own documents.
        let of = |who: &str| -> Vec<_> {
            (0..6)
                .map(|i| document(&format!("{who} {i}"), 1 + i % 3, round, &[]))
                .collect()
        };
        let (left, right) = (of("one"), of("two"));
        left.iter()
            .chain(&right)
            .for_each(|document| model.put(document));
        let (a, b) = tokio::join!(
            one.put_documents(name, left),
            two.put_documents(name, right)
        );
        a.unwrap();
        b.unwrap();
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        for store in [&one, &two] {
            check_whole(store, name, &model).await;
            check_searches(store, name, &model, round).await;
        }
    }
    // Both write the same document in different revisions: one of them is there in the end, whole.
    for round in 0..5 {
        let (a, b) = (
            document("same", 4, 100 + round, &[]),
            document("same", 3, 200 + round, &[]),
        );
        let (left, right) = tokio::join!(
            one.put_documents(name, vec![a.clone()]),
            two.put_documents(name, vec![b.clone()])
        );
        left.unwrap();
        right.unwrap();
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        let documents = one.documents(name).await.unwrap();
        let (_, revision) = documents.iter().find(|(id, _)| id == "same").unwrap();
        let winner = if *revision == a.revision { &a } else { &b };
        assert_eq!(*revision, winner.revision);
        model.put(winner);
        for store in [&one, &two] {
            check_whole(store, name, &model).await;
            check_searches(store, name, &model, 10 + round).await;
        }
    }
    // What one drops is gone for the other, which finds the new one when it is made again.
    assert!(one.drop_collection(name).await.unwrap());
    let error = two.collection(name).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownCollection { .. }),
        "{error}"
    );
    let mut other = spec();
    other.space = "another space".into();
    one.ensure_collection(name, &other).await.unwrap();
    assert_eq!(
        two.collection(name).await.unwrap().spec.space,
        "another space"
    );
    one.drop_collection(name).await.unwrap();
}

/// A router dies between any two steps of a write: nothing is lost, and the next start finishes it.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_writes_are_finished() {
    let Some(url) = server("interrupted_writes_are_finished") else {
        return;
    };
    let name = "interrupted_writes";
    let store = router(&url);
    store.drop_collection(name).await.unwrap();
    store.ensure_collection(name, &spec()).await.unwrap();
    let first = document("d", 3, 0, &[]);
    store
        .put_documents(name, vec![first.clone()])
        .await
        .unwrap();
    let mut version = 0;
    let mut cut = 0;
    let mut millis = 0;
    while millis < 60 {
        version += 1;
        let next = document("d", 2 + (version % 4) as u32, version, &[]);
        let writer = router(&url);
        // Dropping the call in its middle is what a kill looks like to the server.
        let write = writer.put_documents(name, vec![next.clone()]);
        let done = tokio::time::timeout(Duration::from_millis(millis), write).await;
        cut += u32::from(done.is_err());
        millis += 2;
        // A request on its way when its sender died may still arrive.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let restarted = router(&url);
        restarted.ensure_collection(name, &spec()).await.unwrap();
        let documents = restarted.documents(name).await.unwrap();
        let revision = &documents[0].1;
        let mut model = Model::default();
        let there = (0..=version)
            .map(|v| {
                if v == 0 {
                    first.clone()
                } else {
                    document("d", 2 + (v % 4) as u32, v, &[])
                }
            })
            .find(|document| document.revision == *revision)
            .unwrap();
        if let Ok(done) = done {
            done.unwrap();
            assert_eq!(
                there.revision, next.revision,
                "an acknowledged write is gone"
            );
        }
        model.put(&there);
        check_whole(&restarted, name, &model).await;
        check_searches(&restarted, name, &model, version).await;
    }
    assert!(cut > 0, "no write was cut off");
    store.drop_collection(name).await.unwrap();
}

/// A drop that stops between any two steps leaves nothing that comes back with the name.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_leaves_nothing() {
    let Some(url) = server("an_interrupted_drop_leaves_nothing") else {
        return;
    };
    let name = "interrupted_drop";
    let store = router(&url);
    store.drop_collection(name).await.unwrap();
    let (mut cut, mut gone) = (0, 0);
    for millis in (0..200).step_by(8) {
        let store = router(&url);
        store.ensure_collection(name, &spec()).await.unwrap();
        let there = document("d", 3, 0, &[]);
        store.put_documents(name, vec![there]).await.unwrap();
        let drop = store.drop_collection(name);
        let done = tokio::time::timeout(Duration::from_millis(millis), drop).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = router(&url);
        match done {
            Ok(done) => assert!(done.unwrap()),
            Err(_) => {
                cut += 1;
                // The client tries again, or makes the collection anew.
                if millis % 16 == 0 {
                    next.drop_collection(name).await.unwrap();
                }
            }
        }
        let before = next.collections().await.unwrap();
        if before.iter().any(|collection| collection.name == name) {
            // Cut before it began.
            continue;
        }
        gone += 1;
        next.ensure_collection(name, &spec()).await.unwrap();
        check_whole(&next, name, &Model::default()).await;
        next.drop_collection(name).await.unwrap();
    }
    assert!(
        cut > 0 && gone > 1,
        "{cut} drops were cut, {gone} went through"
    );
    store.drop_collection(name).await.unwrap();
}

/// Several routers make one collection at once, and drop it at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_made_once() {
    let Some(url) = server("a_collection_is_made_once") else {
        return;
    };
    let name = "made_once";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    for round in 0..4 {
        let spec = spec();
        let (a, b) = tokio::join!(
            one.ensure_collection(name, &spec),
            two.ensure_collection(name, &spec)
        );
        a.unwrap();
        b.unwrap();
        let mut model = Model::default();
        for (store, id) in [(&one, "one"), (&two, "two")] {
            let document = document(id, 3, round, &[]);
            model.put(&document);
            store.put_documents(name, vec![document]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        check_whole(&one, name, &model).await;
        check_whole(&two, name, &model).await;
        let (a, b) = tokio::join!(one.drop_collection(name), two.drop_collection(name));
        assert!(a.unwrap() | b.unwrap());
        assert!(!one.drop_collection(name).await.unwrap());
    }
}

/// Two routers write the same documents at once; one of them may die. What was acknowledged is searched.
#[tokio::test(flavor = "multi_thread")]
async fn one_revision_through_two_routers_stays_searched() {
    let Some(url) = server("one_revision_through_two_routers_stays_searched") else {
        return;
    };
    let name = "one_revision";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    one.ensure_collection(name, &spec()).await.unwrap();
    two.ensure_collection(name, &spec()).await.unwrap();
    let mut model = Model::default();
    for round in 0..12u64 {
        let of = |kind: &str, count: u32| -> Vec<_> {
            (0..count)
                .map(|i| document(&format!("{kind} {round} {i}"), 2 + i % 3, round, &[]))
                .collect()
        };
        // The second router has more to write, and comes to the documents of both when the first is done.
        let (both, more) = (of("z", 4), of("a", 60));
        let all = more.iter().chain(&both).cloned().collect();
        both.iter()
            .chain(&more)
            .for_each(|document| model.put(document));
        let killed = tokio::time::timeout(
            Duration::from_millis(25 * round),
            two.put_documents(name, all),
        );
        whole_and_killed(tokio::join!(one.put_documents(name, both), killed));
        tokio::time::sleep(Duration::from_millis(100)).await;
        one.put_documents(name, more).await.unwrap();
        check_searches(&one, name, &model, round).await;
    }
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    check_whole(&one, name, &model).await;
    one.drop_collection(name).await.unwrap();
}

/// The first write has to succeed; the second may have been cut off.
fn whole_and_killed<E>(
    (whole, killed): (Result<(), StoreError>, Result<Result<(), StoreError>, E>),
) {
    whole.unwrap();
    if let Ok(killed) = killed {
        killed.unwrap();
    }
}

/// A document is written anew while two others finish its interrupted deletion: the new one stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_nothing_that_was_written_after_it() {
    let Some(url) = server("a_deletion_takes_nothing_that_was_written_after_it") else {
        return;
    };
    let name = "late_deletion";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    one.ensure_collection(name, &spec()).await.unwrap();
    let mut cut = 0;
    for round in 0..20u64 {
        let old = document("d", 3, 0, &[]);
        one.put_documents(name, vec![old.clone()]).await.unwrap();
        let ids = ["d".to_owned()];
        let delete = one.delete_documents(name, &ids);
        let done = tokio::time::timeout(Duration::from_millis(round), delete).await;
        cut += u32::from(done.is_err());
        // In turns what was there, and something else.
        let next = if round % 2 == 0 {
            old
        } else {
            document("d", 4, round, &[])
        };
        let other = router(&url);
        let same = spec();
        let (finished, written) = tokio::join!(other.ensure_collection(name, &same), async {
            tokio::time::sleep(Duration::from_millis(round % 7)).await;
            two.put_documents(name, vec![next.clone()]).await
        });
        finished.unwrap();
        written.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let fresh = router(&url);
        fresh.ensure_collection(name, &same).await.unwrap();
        let mut model = Model::default();
        model.put(&next);
        if fresh.documents(name).await.unwrap().is_empty() {
            // A deletion cut so early that it arrived after the write had found the document unchanged.
            assert!(round % 2 == 0, "an acknowledged write is gone");
            continue;
        }
        check_whole(&fresh, name, &model).await;
        check_searches(&fresh, name, &model, round).await;
    }
    assert!(cut > 0, "no deletion was cut off");
    one.drop_collection(name).await.unwrap();
}

/// A document is put back while its change, cut off somewhere, is finished by a third router: what its mark says is
/// whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_during_a_change_is_whole() {
    let Some(url) = server("what_is_put_back_during_a_change_is_whole") else {
        return;
    };
    let name = "put_back";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    one.ensure_collection(name, &spec()).await.unwrap();
    two.ensure_collection(name, &spec()).await.unwrap();
    let (old, new) = (document("d", 3, 0, &[]), document("d", 4, 1, &[]));
    one.put_documents(name, vec![old.clone()]).await.unwrap();
    let started = Instant::now();
    two.put_documents(name, vec![new.clone()]).await.unwrap();
    let takes = started.elapsed();
    let (mut cut, mut back) = (0, 0);
    for round in 0..84u32 {
        one.put_documents(name, vec![old.clone()]).await.unwrap();
        let change = two.put_documents(name, vec![new.clone()]);
        let change = tokio::time::timeout(takes * (9 + round % 12) / 20, change).await;
        cut += u32::from(change.is_err());
        // A third router finishes the change meanwhile.
        let third = router(&url);
        let same = spec();
        let (put, finished) = tokio::join!(one.put_documents(name, vec![old.clone()]), async {
            tokio::time::sleep(takes * (round % 7) / 14).await;
            third.ensure_collection(name, &same).await
        });
        put.unwrap();
        finished.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        let fresh = router(&url);
        fresh.ensure_collection(name, &spec()).await.unwrap();
        let there = fresh.documents(name).await.unwrap();
        back += u32::from(there[0].1 == old.revision);
        let mut model = Model::default();
        model.put(if there[0].1 == old.revision {
            &old
        } else {
            &new
        });
        check_whole(&fresh, name, &model).await;
        check_searches(&fresh, name, &model, round.into()).await;
    }
    assert!(cut > 0, "no change was cut off");
    assert!(back > 0, "it was never put back");
    one.drop_collection(name).await.unwrap();
}

/// A router that knows a collection searches what another one made anew under its name.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_anew_is_searched() {
    let Some(url) = server("what_was_made_anew_is_searched") else {
        return;
    };
    let name = "made_anew";
    let (one, two) = (router(&url), router(&url));
    one.drop_collection(name).await.unwrap();
    for round in 0..4u64 {
        let store = if round % 2 == 0 { &one } else { &two };
        store.drop_collection(name).await.unwrap();
        store.ensure_collection(name, &spec()).await.unwrap();
        let document = document(&format!("d {round}"), 3, round, &[]);
        let mut model = Model::default();
        model.put(&document);
        store.put_documents(name, vec![document]).await.unwrap();
        for store in [&one, &two] {
            check_searches(store, name, &model, round).await;
        }
        let knows_the_old = if round % 2 == 0 { &two } else { &one };
        knows_the_old
            .ensure_collection(name, &spec())
            .await
            .unwrap();
        check_whole(knows_the_old, name, &model).await;
    }
    one.drop_collection(name).await.unwrap();
}

/// What an interrupted making left does not keep a name for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_making_can_be_dropped() {
    let Some(url) = server("an_interrupted_making_can_be_dropped") else {
        return;
    };
    let name = "interrupted_making";
    let mut other = spec();
    other.space.push_str(" of another encoder");
    let mut left = 0;
    for millis in (0..160).step_by(16) {
        let store = router(&url);
        store.drop_collection(name).await.unwrap();
        let made = spec();
        let making = store.ensure_collection(name, &made);
        // Cut or not.
        let _ = tokio::time::timeout(Duration::from_millis(millis), making).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = router(&url);
        left += u32::from(next.ensure_collection(name, &other).await.is_err());
        next.drop_collection(name).await.unwrap();
        next.ensure_collection(name, &other).await.unwrap();
        next.drop_collection(name).await.unwrap();
    }
    assert!(left > 0, "no making was cut off after it had begun");
}
