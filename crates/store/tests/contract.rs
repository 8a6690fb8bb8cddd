//! What every passage store has to do: one suite, run against each implementation.
//!
//! The Qdrant server is that of `QDRANT_TEST_URL` (its gRPC address); without it those tests say that
//! they were skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use moerag_store::{
    CandidateQuery, Condition, EdgeOptions, EdgeStore, Filter, PassageStore, QdrantOptions,
    QdrantStore, StoreError,
};

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
    let Ok(url) = std::env::var("QDRANT_TEST_URL") else {
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
                super::$check(subject.store.clone(), subject.collection).await;
            })*
        }
        mod on_qdrant {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                if let Some(subject) = super::qdrant(stringify!($check)).await {
                    super::$check(subject.store.clone(), subject.collection).await;
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

async fn a_second_ingest_changes_nothing(store: Store, name: &str) {
    let model = corpus(1, 30);
    ingest(&store, name, &model).await;
    let before = store.collection(name).await.unwrap();
    ingest(&store, name, &model).await;
    assert_eq!(store.collection(name).await.unwrap(), before);
    let ids: Vec<_> = model
        .documents
        .keys()
        .cloned()
        .chain(["unknown".to_owned()])
        .collect();
    let revisions: BTreeMap<_, _> = store
        .revisions(name, &ids)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let expected: BTreeMap<_, _> = model
        .documents
        .iter()
        .map(|(id, d)| (id.clone(), d.revision.clone()))
        .collect();
    assert_eq!(revisions, expected);
    check_whole(&*store, name, &model).await;
    check_searches(&*store, name, &model, 1).await;
}

async fn a_changed_document_leaves_nothing_stale(store: Store, name: &str) {
    let mut model = corpus(2, 20);
    ingest(&store, name, &model).await;
    let old = model.documents["dir/doc 004.md"].clone();
    assert_eq!(old.records.len(), 5);
    for passages in [2, 7, 0, 1] {
        let new = document(&old.document_id, passages, 100 + u64::from(passages), &[]);
        store.put_documents(name, vec![new.clone()]).await.unwrap();
        model.put(&new);
        check_whole(&*store, name, &model).await;
        // The old passage's own vector finds it only if it is still there.
        let vector = old.records[3].features.vector.clone();
        let query = CandidateQuery {
            vector,
            sparse: Vec::new(),
            n: 5,
            filter: Filter::default(),
        };
        check_search(&*store, name, &model, &query).await;
    }
    let stale = moerag_store::PassageRef {
        document_id: old.document_id.clone(),
        ordinal: 0,
        point: moerag_store::point_id(name, &old.document_id, &old.revision, 0),
    };
    assert_eq!(
        store
            .passages(name, std::slice::from_ref(&stale))
            .await
            .unwrap(),
        [None]
    );
    assert_eq!(store.keys(name, &[stale]).await.unwrap(), [None]);
    // Back to the first revision: a revision that was there before is as good as a new one.
    store.put_documents(name, vec![old.clone()]).await.unwrap();
    model.put(&old);
    check_whole(&*store, name, &model).await;
    check_searches(&*store, name, &model, 2).await;
}

async fn deleted_documents_are_gone(store: Store, name: &str) {
    let mut model = corpus(3, 24);
    ingest(&store, name, &model).await;
    let ids: Vec<_> = model.documents.keys().step_by(3).cloned().collect();
    let asked: Vec<_> = ids
        .iter()
        .cloned()
        .chain(["never there".to_owned()])
        .collect();
    assert_eq!(
        store.delete_documents(name, &asked).await.unwrap(),
        ids.len()
    );
    assert_eq!(store.delete_documents(name, &asked).await.unwrap(), 0);
    model.documents.retain(|id, _| !ids.contains(id));
    check_whole(&*store, name, &model).await;
    check_searches(&*store, name, &model, 3).await;
    let rest: Vec<_> = model.documents.keys().cloned().collect();
    assert_eq!(
        store.delete_documents(name, &rest).await.unwrap(),
        rest.len()
    );
    check_whole(&*store, name, &Model::default()).await;
    let query = CandidateQuery {
        vector: unit_vector(&mut rng(1)),
        sparse: vec![(1, 1.0)],
        n: 10,
        filter: Filter::default(),
    };
    assert_eq!(store.candidates(name, &query).await.unwrap(), []);
}

async fn scroll_meets_every_passage_once(store: Store, name: &str) {
    let model = corpus(4, 17);
    ingest(&store, name, &model).await;
    let mut first = None;
    for limit in [1, 3, 7, 1_000] {
        for with_features in [false, true] {
            let found = scroll_all(&*store, name, limit, with_features).await;
            assert!(
                found
                    .iter()
                    .all(|(_, features)| features.is_some() == with_features)
            );
            let places: Vec<_> = found
                .iter()
                .map(|(p, _)| (p.document_id.clone(), p.ordinal))
                .collect();
            let distinct: HashSet<_> = places.iter().collect();
            assert_eq!(
                (places.len(), distinct.len()),
                (model.records().count(), places.len())
            );
            assert_eq!(
                *first.get_or_insert(places.clone()),
                places,
                "the order is fixed"
            );
        }
    }
    // A cursor is a place: it holds when documents before and behind it come and go.
    let page = store.scroll(name, None, 5, false).await.unwrap();
    let seen: HashSet<_> = page
        .records
        .iter()
        .map(|(p, _)| (p.document_id.clone(), p.ordinal))
        .collect();
    let gone = page.records[0].0.document_id.clone();
    let cut = page.records[4].0.document_id.clone();
    store
        .delete_documents(name, std::slice::from_ref(&gone))
        .await
        .unwrap();
    let mut rest = HashSet::new();
    let mut after = page.next;
    while let Some(cursor) = after {
        let page = store.scroll(name, Some(cursor), 5, false).await.unwrap();
        for (passage, _) in page.records {
            assert!(rest.insert((passage.document_id, passage.ordinal)));
        }
        after = page.next;
    }
    for record in model.records().map(|r| &r.passage) {
        let at = (record.document_id.clone(), record.ordinal);
        if record.document_id != gone && record.document_id != cut {
            assert!(seen.contains(&at) != rest.contains(&at), "{at:?}");
        }
    }
    let wrong = store.scroll(name, Some("no cursor".into()), 5, false).await;
    assert!(
        matches!(wrong, Err(StoreError::InvalidInput { .. })),
        "{wrong:?}"
    );
}

async fn filters_hold_on_both_lists(store: Store, name: &str) {
    let model = corpus(5, 60);
    ingest(&store, name, &model).await;
    let is = |key: &str, values: &[&str]| Condition {
        key: key.to_owned(),
        any_of: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let ids = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
    let some = ["dir/doc 001.md", "dir/doc 002.md", "unknown"];
    let filters = [
        Filter {
            must: vec![is("lang", &["en"])],
            ..Filter::default()
        },
        Filter {
            must: vec![is("lang", &["en", "de"])],
            ..Filter::default()
        },
        Filter {
            must_not: vec![is("lang", &["en", "de"])],
            ..Filter::default()
        },
        Filter {
            must: vec![is("odd \"key.[]", &["x y"])],
            ..Filter::default()
        },
        Filter {
            must: vec![is("lang", &["de", "fr"]), is("odd \"key.[]", &["x y", "z"])],
            must_not: vec![is("lang", &["fr"])],
            document_ids: None,
        },
        Filter {
            document_ids: ids(&some),
            ..Filter::default()
        },
        Filter {
            must: vec![is("lang", &["de"])],
            document_ids: ids(&some),
            ..Filter::default()
        },
        Filter {
            document_ids: ids(&[]),
            ..Filter::default()
        },
        Filter {
            must: vec![is("lang", &[])],
            ..Filter::default()
        },
        Filter {
            must_not: vec![is("lang", &[])],
            ..Filter::default()
        },
        Filter {
            must: vec![is("no such key", &["x"])],
            ..Filter::default()
        },
    ];
    let mut rng = rng(5);
    for filter in filters {
        for n in [3, 200] {
            let query = query(&mut rng, &model, n, filter.clone());
            check_search(&*store, name, &model, &query).await;
        }
    }
}

async fn specs_and_names_are_checked(store: Store, name: &str) {
    store.ensure_collection(name, &spec()).await.unwrap();
    let mut others = [spec(), spec(), spec(), spec()];
    others[0].space = "another".into();
    others[1].dim = 16;
    others[2].key_spec.rotation_seed = 9;
    others[3].language = moerag_retrieve::Language::None;
    for other in others {
        let error = store.ensure_collection(name, &other).await.unwrap_err();
        assert!(matches!(error, StoreError::SpecMismatch { .. }), "{error}");
    }
    assert_eq!(store.collection(name).await.unwrap().spec, spec());
    let error = store.ensure_collection("a/b", &spec()).await.unwrap_err();
    assert!(matches!(error, StoreError::InvalidName { .. }), "{error}");
    let unknown = "no-such-collection";
    let query = CandidateQuery {
        vector: vec![0.0; DIM],
        sparse: Vec::new(),
        n: 1,
        filter: Filter::default(),
    };
    let errors = [
        store.collection(unknown).await.unwrap_err(),
        store.put_documents(unknown, Vec::new()).await.unwrap_err(),
        store.candidates(unknown, &query).await.unwrap_err(),
        store.scroll(unknown, None, 1, false).await.unwrap_err(),
        store.stats(unknown).await.unwrap_err(),
        store.delete_documents(unknown, &[]).await.unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, StoreError::UnknownCollection { .. }),
            "{error}"
        );
    }
    assert!(!store.drop_collection(unknown).await.unwrap());
}

async fn ties_go_to_the_smaller_id(store: Store, name: &str) {
    let mut model = Model::default();
    let twin = features(&mut rng(6));
    for i in (0..120).rev() {
        let mut one = document(&format!("{i:03}"), 2, 6, &[]);
        for record in &mut one.records {
            record.features = twin.clone();
        }
        store.put_documents(name, vec![one.clone()]).await.unwrap();
        model.put(&one);
    }
    let terms: HashSet<u32> = twin.lex.terms.iter().copied().collect();
    let mut sparse: Vec<_> = terms.into_iter().map(|term| (term, 1.0)).collect();
    sparse.sort_by_key(|(term, _)| *term);
    for n in [1, 5, 30] {
        let query = CandidateQuery {
            vector: twin.vector.clone(),
            sparse: sparse.clone(),
            n,
            filter: Filter::default(),
        };
        let found = store.candidates(name, &query).await.unwrap();
        let places: Vec<_> = found
            .iter()
            .map(|c| (c.at.document_id.clone(), c.at.ordinal))
            .collect();
        let expected: Vec<_> = (0..n as u32)
            .map(|i| (format!("{:03}", i / 2), i % 2))
            .collect();
        assert_eq!(places, expected);
    }
}

async fn statistics_equal_a_count_from_nothing(store: Store, name: &str) {
    use rand::Rng;
    let mut rng = rng(7);
    let mut model = Model::default();
    for round in 0..25 {
        if rng.random_bool(0.3) && !model.documents.is_empty() {
            let ids: Vec<_> = model.documents.keys().step_by(4).cloned().collect();
            store.delete_documents(name, &ids).await.unwrap();
            model.documents.retain(|id, _| !ids.contains(id));
        }
        let batch: Vec<_> = (0..rng.random_range(1..6))
            .map(|_| {
                let id = format!("d{}", rng.random_range(0..15));
                document(&id, rng.random_range(0..4), round, &[])
            })
            .collect();
        for document in &batch {
            model.put(document);
        }
        store.put_documents(name, batch).await.unwrap();
        let info = store.collection(name).await.unwrap();
        assert_eq!(info.stats_digest, model.stats().digest(), "round {round}");
        assert_eq!(info.corpus_digest, model.corpus_digest(), "round {round}");
    }
    let stats = store.stats(name).await.unwrap();
    assert_eq!(stats.geometry().mean.len(), DIM);
    check_whole(&*store, name, &model).await;
}

async fn candidates_equal_brute_force(store: Store, name: &str) {
    let model = corpus(8, 300);
    ingest(&store, name, &model).await;
    for seed in 0..8 {
        check_searches(&*store, name, &model, seed).await;
    }
}

/// Documents are replaced over and over while searches run: no reply may mix two revisions of one
/// document, and every passage in it has to be of a revision that was put.
async fn searches_beside_ingest_see_whole_revisions(store: Store, name: &str) {
    let versions: Vec<Model> = (0..6).map(|seed| corpus(50 + seed, 12)).collect();
    ingest(&store, name, &versions[0]).await;
    let point = |d: &moerag_store::DocumentPut, ordinal| {
        moerag_store::point_id(name, &d.document_id, &d.revision, ordinal)
    };
    let known: Arc<BTreeMap<_, _>> = Arc::new(
        versions
            .iter()
            .enumerate()
            .flat_map(|(version, model)| model.documents.values().map(move |d| (version, d)))
            .flat_map(|(version, d)| {
                (0..d.records.len() as u32)
                    .map(move |o| (point(d, o), (version, d.document_id.clone())))
            })
            .collect(),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for seed in 0..3 {
        let (store, stop, known) = (store.clone(), stop.clone(), known.clone());
        let (name, model) = (name.to_owned(), versions[0].clone());
        readers.push(tokio::spawn(async move {
            let mut rng = rng(seed);
            let mut searches = 0;
            while !stop.load(Ordering::Relaxed) || searches == 0 {
                let query = query(&mut rng, &model, 200, Filter::default());
                let found = store.candidates(&name, &query).await.unwrap();
                let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
                for candidate in &found {
                    let (version, document) = &known[&candidate.at.point];
                    assert_eq!(*document, candidate.at.document_id);
                    let first = *versions.entry(document).or_insert(*version);
                    assert_eq!(first, *version, "two revisions of {document} in one reply");
                }
                let refs: Vec<_> = found.iter().map(|c| c.at.clone()).collect();
                let passages = store.passages(&name, &refs).await.unwrap();
                for (at, passage) in refs.iter().zip(passages) {
                    if let Some(passage) = passage {
                        let id = moerag_store::point_id(
                            &name,
                            &passage.document_id,
                            &passage.revision,
                            passage.ordinal,
                        );
                        assert_eq!(id, at.point);
                    }
                }
                searches += 1;
            }
            searches
        }));
    }
    for model in versions.iter().cycle().skip(1).take(18) {
        ingest(&store, name, model).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    check_whole(&*store, name, &versions[0]).await;
}

async fn bad_input_is_refused_and_loses_nothing(store: Store, name: &str) {
    let model = corpus(9, 10);
    ingest(&store, name, &model).await;
    let refuse = async |change: &dyn Fn(&mut moerag_store::DocumentPut)| {
        let mut bad = document("bad", 2, 9, &[]);
        change(&mut bad);
        let good = document("good", 1, 9, &[]);
        let error = store
            .put_documents(name, vec![good, bad])
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::InvalidInput { .. }), "{error}");
    };
    refuse(&|d| d.records[1].features.vector[3] = f32::NAN).await;
    refuse(&|d| d.records[0].features.vector.push(0.0)).await;
    refuse(&|d| d.records[0].features.keys.codes.push(0)).await;
    refuse(&|d| d.records[0].passage.document_id = "else".into()).await;
    refuse(&|d| d.records[1].passage.revision = "else".into()).await;
    refuse(&|d| d.records.swap(0, 1)).await;
    refuse(&|d| d.revision = String::new()).await;
    refuse(&|d| d.document_id = String::new()).await;
    refuse(&|d| d.document_id = "x".repeat(5_000)).await;

    let good = query(&mut rng(9), &model, 5, Filter::default());
    let bad = [
        CandidateQuery {
            vector: vec![f32::NAN; DIM],
            ..good.clone()
        },
        CandidateQuery {
            vector: vec![1.0; DIM + 1],
            ..good.clone()
        },
        CandidateQuery {
            vector: Vec::new(),
            ..good.clone()
        },
        CandidateQuery {
            sparse: vec![(1, f32::INFINITY)],
            ..good.clone()
        },
        CandidateQuery {
            n: 1_000_000_000,
            ..good.clone()
        },
    ];
    for query in bad {
        let error = store.candidates(name, &query).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidInput { .. }), "{error}");
    }
    let nothing = CandidateQuery {
        n: 0,
        ..good.clone()
    };
    assert_eq!(store.candidates(name, &nothing).await.unwrap(), []);
    let zero = CandidateQuery {
        vector: vec![0.0; DIM],
        sparse: Vec::new(),
        ..good
    };
    assert!(store.candidates(name, &zero).await.unwrap().len() <= 5);
    store.put_documents(name, Vec::new()).await.unwrap();
    check_whole(&*store, name, &model).await;
    store.health().await.unwrap();
}

async fn collections_come_and_go(store: Store, name: &str) {
    let other = "collections_come_and_go-2.b";
    let mut wide = spec();
    wide.space = "other space".into();
    store.drop_collection(other).await.unwrap();
    store.ensure_collection(other, &wide).await.unwrap();
    let model = corpus(10, 5);
    ingest(&store, name, &model).await;
    let mine: Vec<_> = store
        .collections()
        .await
        .unwrap()
        .into_iter()
        .filter(|info| info.name.starts_with("collections_come_and_go"))
        .map(|info| (info.name, info.spec.space, info.documents))
        .collect();
    assert_eq!(
        mine,
        [
            (name.to_owned(), "test".to_owned(), 5),
            (other.to_owned(), "other space".to_owned(), 0)
        ]
    );
    check_whole(&*store, other, &Model::default()).await;
    assert!(store.drop_collection(name).await.unwrap());
    assert!(!store.drop_collection(name).await.unwrap());
    let error = store.collection(name).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownCollection { .. }),
        "{error}"
    );
    // The name is free again, for another spec too.
    store.ensure_collection(name, &wide).await.unwrap();
    check_whole(&*store, name, &Model::default()).await;
    ingest(&store, name, &model).await;
    check_whole(&*store, name, &model).await;
    assert!(store.drop_collection(other).await.unwrap());
}

async fn the_last_of_two_puts_in_one_call_counts(store: Store, name: &str) {
    let (first, second) = (document("a", 3, 1, &[]), document("a", 2, 2, &[("k", "v")]));
    store
        .put_documents(name, vec![first, second.clone()])
        .await
        .unwrap();
    let mut model = Model::default();
    model.put(&second);
    check_whole(&*store, name, &model).await;
    check_searches(&*store, name, &model, 11).await;
}
