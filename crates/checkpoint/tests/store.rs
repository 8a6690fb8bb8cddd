//! Publishing, listing, moving and collecting versions, on a directory and on an s3-like store.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{SPACE, Stores, request, weights};
use moerag_checkpoint::{
    CheckpointError, CheckpointStore, CollectionStatus, Expected, PublishRequest, Target,
    version_name,
};
use moerag_model::{DeviceKind, KeySpec, ViewConfig};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

async fn publish(store: &CheckpointStore, collections: &[(&str, u64)]) -> u64 {
    store
        .publish(request(collections))
        .await
        .unwrap()
        .manifest
        .version
}

async fn current(store: &CheckpointStore) -> u64 {
    store.current().await.unwrap().unwrap().version
}

#[tokio::test]
async fn what_is_published_is_what_is_loaded() {
    for (kind, store) in Stores::new().both() {
        assert_eq!(store.current().await.unwrap(), None, "{kind}");
        assert!(store.list().await.unwrap().versions.is_empty(), "{kind}");
        let outcome = store.publish(request(&[("docs", 3)])).await.unwrap();
        assert!(outcome.promoted, "{kind}");
        assert_eq!(outcome.manifest.version, 1);
        let seen = store.current().await.unwrap().unwrap();
        assert_eq!(
            (seen.version, seen.generation, seen.pinned, seen.previous),
            (1, 1, false, None)
        );

        let loaded = store.load_target(&Target::from(&seen)).await.unwrap();
        assert_eq!(loaded.manifest, outcome.manifest);
        assert_eq!(loaded.snapshot.version, 1);
        assert_eq!(loaded.snapshot.weights_for("docs"), (&weights(3), true));
        let entry = &loaded.manifest.collections["docs"];
        assert_eq!(entry.status, CollectionStatus::Trained);
        assert_eq!(entry.weights_digest, weights(3).digest());
        assert_eq!((entry.published_in, entry.seed), (1, 3));
        assert_eq!(entry.hyper_parameters["anchor"], 4.0);
        assert!(loaded.manifest.created_at.ends_with('Z'));
        loaded
            .snapshot
            .load(DeviceKind::Flex)
            .unwrap()
            .check(&loaded.warmup)
            .unwrap();
    }
}

#[tokio::test]
async fn the_same_weights_have_the_same_digest_whenever_they_are_published() {
    let (first, second) = (CheckpointStore::in_memory(), Stores::new());
    let a = first
        .publish(request(&[("docs", 3)]))
        .await
        .unwrap()
        .manifest;
    let second = second.local();
    publish(&second, &[("docs", 9)]).await;
    let b = second
        .publish(request(&[("docs", 3)]))
        .await
        .unwrap()
        .manifest;
    assert_ne!(a.version, b.version);
    assert_eq!(a.weights_digest, b.weights_digest);
}

#[tokio::test]
async fn other_collections_come_along() {
    for (kind, store) in Stores::new().both() {
        publish(&store, &[("a", 1)]).await;
        publish(&store, &[("b", 2)]).await;
        let outcome = store.publish(request(&[("a", 3)])).await.unwrap();
        assert_eq!(outcome.carried, ["b"], "{kind}");
        assert_eq!(outcome.manifest.base_version, 2);
        let loaded = store.load(3).await.unwrap();
        assert_eq!(loaded.snapshot.weights_for("a").0, &weights(3));
        assert_eq!(loaded.snapshot.weights_for("b").0, &weights(2));
        assert_eq!(loaded.manifest.collections["b"].published_in, 2);
        let mut warmed: Vec<&str> = loaded
            .warmup
            .cases
            .iter()
            .map(|case| case.collection.as_str())
            .collect();
        warmed.sort_unstable();
        assert_eq!(
            warmed,
            ["a", "b"],
            "one case each, the old one of `a` is gone"
        );

        let outcome = store.publish(PublishRequest {
            deleted: ["b".to_owned()].into(),
            ..request(&[("c", 6)])
        });
        let outcome = outcome.await.unwrap();
        assert_eq!(
            (outcome.carried, outcome.dropped),
            (vec!["a".to_owned()], vec!["b".to_owned()])
        );
        let loaded = store.load(4).await.unwrap();
        assert!(!loaded.snapshot.collections.contains_key("b"), "{kind}");
        assert!(
            loaded
                .warmup
                .cases
                .iter()
                .all(|case| case.collection != "b")
        );

        let mut elsewhere = request(&[("a", 4)]);
        elsewhere.embedding_space_id = "another".to_owned();
        let outcome = store.publish(elsewhere).await.unwrap();
        assert_eq!(
            outcome.dropped,
            ["c"],
            "weights of another space do not come along"
        );
        let other_views = PublishRequest {
            view_config: ViewConfig {
                prune_to: None,
                ..ViewConfig::default()
            },
            embedding_space_id: "another".to_owned(),
            ..request(&[("c", 5)])
        };
        assert_eq!(store.publish(other_views).await.unwrap().dropped, ["a"]);
    }
}

#[tokio::test]
async fn a_pin_stays_where_a_person_put_it() {
    for (kind, store) in Stores::new().both() {
        publish(&store, &[("docs", 1)]).await;
        publish(&store, &[("docs", 2)]).await;
        let pinned = store.pin(1, &Expected::default()).await.unwrap();
        assert_eq!(
            (pinned.version, pinned.pinned, pinned.previous),
            (1, true, Some(2)),
            "{kind}"
        );
        let outcome = store.publish(request(&[("docs", 3)])).await.unwrap();
        assert!(!outcome.promoted);
        assert_eq!(outcome.current, pinned, "CURRENT.json is as it was");
        assert_eq!(current(&store).await, 1);
        let unpinned = store.unpin(&Expected::default()).await.unwrap();
        assert_eq!((unpinned.version, unpinned.pinned), (3, false));
        assert_eq!(publish(&store, &[("docs", 4)]).await, 4);
        assert_eq!(current(&store).await, 4, "publishing moves it again");
        assert!(matches!(
            store.pin(9, &Expected::default()).await,
            Err(CheckpointError::NotFound(_))
        ));
        assert_eq!(current(&store).await, 4);
    }
}

#[tokio::test]
async fn rollback_goes_to_an_older_version_and_pins_it() {
    for (kind, store) in Stores::new().both() {
        assert!(matches!(
            store.rollback(None, &Expected::default()).await,
            Err(CheckpointError::NotFound(_))
        ));
        publish(&store, &[("docs", 1)]).await;
        assert!(
            matches!(
                store.rollback(None, &Expected::default()).await,
                Err(CheckpointError::Refused(_))
            ),
            "{kind}"
        );
        for seed in 2..=4 {
            publish(&store, &[("docs", seed)]).await;
        }
        let rolled = store.rollback(None, &Expected::default()).await.unwrap();
        assert_eq!(
            (rolled.version, rolled.pinned, rolled.previous),
            (3, true, Some(4))
        );
        assert_eq!(
            store
                .rollback(None, &Expected::default())
                .await
                .unwrap()
                .version,
            2,
            "once more goes further back"
        );
        assert!(matches!(
            store.rollback(Some(3), &Expected::default()).await,
            Err(CheckpointError::Refused(_))
        ));
        assert_eq!(
            store
                .rollback(Some(1), &Expected::default())
                .await
                .unwrap()
                .version,
            1
        );
        assert_eq!(store.current().await.unwrap().unwrap().generation, 7);
    }
}

#[tokio::test]
async fn garbage_collection_keeps_what_may_be_needed() {
    for (kind, store) in Stores::new().both() {
        for seed in 1..=7 {
            publish(&store, &[("docs", seed)]).await;
        }
        store.rollback(Some(2), &Expected::default()).await.unwrap();
        let report = store.gc(2).await.unwrap();
        assert_eq!(
            report.removed,
            [1, 3, 4, 5],
            "{kind}: 2 is current and pinned, 7 was before"
        );
        let left: Vec<u64> = store
            .list()
            .await
            .unwrap()
            .versions
            .iter()
            .map(|m| m.version)
            .collect();
        assert_eq!(left, [2, 6, 7]);
        store.load(2).await.unwrap();
        assert_eq!(
            store.gc(0).await.unwrap().removed,
            [6],
            "at least the newest stays"
        );
        assert!(matches!(
            store.load(6).await,
            Err(CheckpointError::NotFound(_))
        ));
        assert_eq!(
            publish(&store, &[("docs", 8)]).await,
            8,
            "numbers are not used again"
        );
    }
}

#[tokio::test]
async fn racing_publishers_get_different_numbers_and_lose_nothing() {
    let stores = Stores::new();
    let slow = Duration::from_millis(2);
    let throttle = ThrottleConfig {
        wait_get_per_call: slow,
        wait_put_per_call: slow,
        wait_list_with_delimiter_per_call: slow,
        ..ThrottleConfig::default()
    };
    // The pauses make the publishers of the s3-like store interleave at every request.
    let throttled = Arc::new(ThrottledStore::new(InMemory::new(), throttle));
    let s3 = || CheckpointStore::with_object_store(throttled.clone(), Path::from("some/prefix"));
    for (kind, racers) in [
        ("file", [stores.local(), stores.local()]),
        ("s3", [s3(), s3()]),
    ] {
        let [first, second] = racers;
        let (a, b) = tokio::join!(
            first.publish(request(&[("a", 1)])),
            second.publish(request(&[("b", 2)])),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_ne!(a.manifest.version, b.manifest.version, "{kind}");
        let seen = first.current().await.unwrap().unwrap();
        assert_eq!(
            seen.version,
            a.manifest.version.max(b.manifest.version),
            "{kind}"
        );
        let loaded = second.load_target(&Target::from(&seen)).await.unwrap();
        assert!(
            loaded.snapshot.weights_for("a").1 && loaded.snapshot.weights_for("b").1,
            "{kind}"
        );
        let listing = first.list().await.unwrap();
        assert_eq!(listing.problems, [], "{kind}");
        for manifest in &listing.versions {
            first.load(manifest.version).await.unwrap();
        }
    }
}

#[tokio::test]
async fn odd_names_are_reported() {
    let stores = Stores::new();
    let store = stores.local();
    publish(&store, &[("docs", 1)]).await;
    let versions = stores.root().join("versions");
    std::fs::create_dir(versions.join("v0.1")).unwrap();
    std::fs::create_dir(versions.join("42")).unwrap();
    std::fs::write(versions.join("notes.txt"), "x").unwrap();
    std::fs::create_dir(versions.join(version_name(5))).unwrap();
    let listing = store.list().await.unwrap();
    assert_eq!(listing.versions.len(), 1);
    let names: Vec<&str> = listing
        .problems
        .iter()
        .map(|problem| problem.name.as_str())
        .collect();
    assert_eq!(names, ["42", "notes.txt", "v0.1", "00000005"]);
    assert!(listing.problems[0].reason.contains("00000042"));
    assert!(listing.problems[3].reason.contains("manifest.json"));
    assert_eq!(
        publish(&store, &[("docs", 2)]).await,
        6,
        "a taken number is not used"
    );
}

#[tokio::test]
async fn crashes_between_the_steps_leave_nothing_half() {
    let stores = Stores::new();
    let store = stores.local();
    publish(&store, &[("docs", 1)]).await;
    let versions = stores.root().join("versions");
    let before = std::fs::read(stores.root().join("CURRENT.json")).unwrap();

    // Before the rename: a staged directory without a manifest.
    let staged = versions.join(".staged-x1y2");
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join("model.safetensors"), [0; 10]).unwrap();
    let listing = store.list().await.unwrap();
    assert_eq!(
        (listing.versions.len(), listing.problems.len()),
        (1, 0),
        "not seen"
    );
    publish(&store, &[("docs", 2)]).await;
    assert!(!staged.exists(), "the next writer cleans up");

    // After the rename, before CURRENT.json: complete, but not referenced.
    std::fs::write(stores.root().join("CURRENT.json"), before).unwrap();
    assert_eq!(current(&store).await, 1);
    let outcome = store.publish(request(&[("other", 3)])).await.unwrap();
    assert_eq!(
        (outcome.manifest.version, outcome.manifest.base_version),
        (3, 1)
    );
    assert_eq!(current(&store).await, 3);
}

#[tokio::test]
async fn an_s3_number_taken_by_a_dead_publisher_is_passed_over() {
    let objects = Arc::new(InMemory::new());
    let store = CheckpointStore::with_object_store(objects.clone(), Path::from("p"));
    publish(&store, &[("docs", 1)]).await;
    let orphan = Path::from("p/versions/00000002/model.safetensors");
    object_store::ObjectStoreExt::put(objects.as_ref(), &orphan, vec![1, 2, 3].into())
        .await
        .unwrap();
    assert_eq!(publish(&store, &[("docs", 2)]).await, 3);
    assert_eq!(store.list().await.unwrap().problems[0].name, "00000002");
    assert_eq!(
        store.gc(9).await.unwrap().abandoned,
        [] as [u64; 0],
        "it may still be at work"
    );
}

#[tokio::test]
async fn unusable_requests_are_refused_before_anything_is_written() {
    for (_, store) in Stores::new().both() {
        let mut nan = request(&[("docs", 1)]);
        nan.collections
            .get_mut("docs")
            .unwrap()
            .metrics
            .insert("x".to_owned(), f64::NAN);
        let mut stray = request(&[("docs", 1)]);
        stray.warmup[0].collection = "elsewhere".to_owned();
        for bad in [request(&[]), request(&[("", 1)]), nan, stray] {
            assert!(matches!(
                store.publish(bad).await,
                Err(CheckpointError::Refused(_))
            ));
        }
        assert!(store.list().await.unwrap().versions.is_empty());
    }
}

#[tokio::test]
async fn a_version_that_could_not_be_read_again_is_not_written() {
    for (kind, store) in Stores::new().both() {
        publish(&store, &[("docs", 1)]).await;
        let large = PublishRequest {
            code_version: "x".repeat(16 << 20),
            ..request(&[("docs", 2)])
        };
        let refused = store.publish(large).await.unwrap_err();
        assert!(matches!(refused, CheckpointError::Refused(_)), "{kind}");
        let message = refused.to_string();
        let limit = (16u64 << 20).to_string();
        assert!(
            message.starts_with("manifest.json") && message.contains(&limit),
            "{message}"
        );
        assert_eq!(store.list().await.unwrap().versions.len(), 1, "{kind}");
        assert_eq!(current(&store).await, 1, "{kind}");
    }
}

#[tokio::test]
async fn a_version_for_something_else_is_named_as_such() {
    let store = CheckpointStore::in_memory();
    publish(&store, &[("docs", 1)]).await;
    let manifest = store.load(1).await.unwrap().manifest;
    let expected = |space: &str, key_spec: KeySpec| Expected {
        embedding_space_id: Some(space.to_owned()),
        key_spec: Some(key_spec),
    };
    manifest
        .require(&expected(SPACE, KeySpec::default()))
        .unwrap();
    manifest.require(&Expected::default()).unwrap();
    assert!(matches!(
        manifest.require(&expected("bge@1", KeySpec::default())),
        Err(CheckpointError::SpaceMismatch { version: 1, .. })
    ));
    let other = KeySpec {
        rotation_seed: 9,
        ..KeySpec::default()
    };
    assert!(matches!(
        manifest.require(&expected(SPACE, other)),
        Err(CheckpointError::KeySpecMismatch { version: 1, .. })
    ));
}

#[tokio::test]
async fn addresses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/store");
    let url = format!("file://{}", path.display());
    publish(&CheckpointStore::open(&url).unwrap(), &[("docs", 1)]).await;
    assert_eq!(
        current(&CheckpointStore::open(path.to_str().unwrap()).unwrap()).await,
        1
    );
    for bad in ["", "gs://bucket/x", "file://"] {
        assert!(
            matches!(
                CheckpointStore::open(bad),
                Err(CheckpointError::BadUrl { .. })
            ),
            "{bad}"
        );
    }
    std::fs::write(directory.path().join("file"), "x").unwrap();
    let file = directory.path().join("file");
    assert!(matches!(
        CheckpointStore::open(file.to_str().unwrap()),
        Err(CheckpointError::Io { .. })
    ));
}
