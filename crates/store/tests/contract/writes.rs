//! What puts, deletes and collections do.

use std::collections::BTreeMap;

use moerag_store::{CandidateQuery, Filter, ScrollQuery, StoreError};

use crate::common::*;
use crate::{Store, corpus, ingest};

pub(crate) async fn a_second_ingest_changes_nothing(store: Store, name: &str) {
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

pub(crate) async fn a_changed_document_leaves_nothing_stale(store: Store, name: &str) {
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

pub(crate) async fn deleted_documents_are_gone(store: Store, name: &str) {
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

pub(crate) async fn specs_and_names_are_checked(store: Store, name: &str) {
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
        store
            .scroll(unknown, &ScrollQuery::new(None, 1, false))
            .await
            .unwrap_err(),
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

pub(crate) async fn statistics_equal_a_count_from_nothing(store: Store, name: &str) {
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

pub(crate) async fn bad_input_is_refused_and_loses_nothing(store: Store, name: &str) {
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
    refuse(&|d| d.records[0].features.keys.tokens.codes.push(0)).await;
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

pub(crate) async fn collections_come_and_go(store: Store, name: &str) {
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

pub(crate) async fn the_last_of_two_puts_in_one_call_counts(store: Store, name: &str) {
    let (first, second) = (document("a", 3, 1, &[]), document("a", 2, 2, &[("k", "v")]));
    // The second time, what is to be the last is there already.
    for _ in 0..2 {
        let both = vec![first.clone(), second.clone()];
        store.put_documents(name, both).await.unwrap();
    }
    let mut model = Model::default();
    model.put(&second);
    check_whole(&*store, name, &model).await;
    check_searches(&*store, name, &model, 11).await;
}
