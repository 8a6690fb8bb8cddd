//! What searches and scrolls find, beside writes too.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moerag_store::{
    CandidateQuery, Condition, DocumentPut, DocumentWalk, Filter, PassageStore, ScrollQuery, Share,
    StoreError, Walk,
};

use crate::common::*;
use crate::{Store, corpus, ingest};

pub(crate) async fn scroll_meets_every_passage_once(store: Store, name: &str) {
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
    a_share_is_chosen_by_hash_alone(&*store, name, &first.unwrap()).await;
    documents_come_whole(&*store, name, &model).await;
    // A cursor is a place: it holds when documents before and behind it come and go.
    let page = store
        .scroll(name, &ScrollQuery::new(None, 5, false))
        .await
        .unwrap();
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
        let page = store
            .scroll(name, &ScrollQuery::new(Some(cursor), 5, false))
            .await
            .unwrap();
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
    let wrong = ScrollQuery::new(Some("no cursor".into()), 5, false);
    let wrong = store.scroll(name, &wrong).await;
    assert!(
        matches!(wrong, Err(StoreError::InvalidInput { .. })),
        "{wrong:?}"
    );
}

/// However pages cut them.
async fn documents_come_whole(store: &dyn PassageStore, name: &str, model: &Model) {
    let passages = |put: &DocumentPut| {
        let records = put.records.iter();
        let passages: Vec<_> = records.map(|record| record.passage.clone()).collect();
        (put.revision.clone(), passages)
    };
    // A document without passages is not met.
    let filled = model
        .documents
        .iter()
        .filter(|(_, put)| !put.records.is_empty());
    let expected: BTreeMap<_, _> = filled
        .map(|(id, put)| (id.clone(), passages(put)))
        .collect();
    for page in [1, 3, 1_000] {
        let (mut found, mut walk) = (BTreeMap::new(), DocumentWalk::new(store, name, page));
        while let Some(documents) = walk.documents().await.unwrap() {
            for put in documents {
                let twice = found.insert(put.document_id.clone(), passages(&put));
                assert!(twice.is_none(), "{} comes twice", put.document_id);
            }
        }
        assert_eq!(found, expected, "{page} passages at a time");
        assert!(walk.documents().await.unwrap().is_none());
    }
}

/// Walks over shares of `places`, all there is in their order.
async fn a_share_is_chosen_by_hash_alone(
    store: &dyn PassageStore,
    name: &str,
    places: &[(String, u32)],
) {
    for share in [0.01, 0.2, 0.6].map(|share| Share::new(share).unwrap()) {
        for limit in [1, 3, 1_000] {
            let query = ScrollQuery {
                share,
                ..ScrollQuery::new(None, limit, false)
            };
            let (mut found, mut walk) = (Vec::new(), Walk::new(store, name, query));
            while let Some(page) = walk.page().await.unwrap() {
                assert!(page.records.len() <= limit);
                let records = page.records.into_iter();
                found.extend(records.map(|(p, _)| (p.document_id, p.ordinal)));
            }
            let expected = places.iter().filter(|(id, n)| share.has(id, *n));
            assert!(found.iter().eq(expected), "{share:?}, limit {limit}");
        }
    }
}

pub(crate) async fn filters_hold_on_both_lists(store: Store, name: &str) {
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

pub(crate) async fn ties_go_to_the_smaller_id(store: Store, name: &str) {
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

pub(crate) async fn candidates_equal_brute_force(store: Store, name: &str) {
    let model = corpus(8, 300);
    ingest(&store, name, &model).await;
    for seed in 0..8 {
        check_searches(&*store, name, &model, seed).await;
    }
}

pub(crate) async fn searches_beside_ingest_see_whole_revisions(store: Store, name: &str) {
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
    // The first version has been away and is back, and what was remembered of it is no longer so.
    check_searches(&*store, name, &versions[0], 1).await;
}
