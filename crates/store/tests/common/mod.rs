//! Made-up passages and a model of what a store should hold.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::single_range_in_vec_init,
    unreachable_pub
)]

pub mod disk;

use std::collections::{BTreeMap, BTreeSet};

use moerag_retrieve::keys::window_count;
use moerag_retrieve::{
    CorpusStats, KeyBlock, KeySpec, Language, LexBlock, PassageFeatures, SentenceCodes, TokenCode,
    TokenCodes,
};
use moerag_store::{
    CandidateQuery, CollectionSpec, DocumentPut, Filter, Passage, PassageRecord, PassageStore,
    ScrollQuery, Walk, point_id,
};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

pub const DIM: usize = 32;
/// Every passage has this many terms, so that BM25 weights do not depend on when they were computed.
pub const TERMS: usize = 30;

pub fn spec() -> CollectionSpec {
    let key_spec = KeySpec {
        version: 1,
        dims: DIM as u16,
        code: TokenCode::Sign1,
        pooling: 15,
        rotation_seed: 0,
    };
    CollectionSpec {
        space: "test".into(),
        dim: DIM as u32,
        key_spec,
        language: Language::English,
    }
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn unit_vector(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let raw: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x / norm).collect()
}

/// A unit vector that half precision holds exactly, as a store may keep no more: half of its entries
/// are a quarter, up or down.
pub fn half_vector(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut order: Vec<usize> = (0..DIM).collect();
    order.shuffle(rng);
    let mut vector = vec![0.0; DIM];
    for i in &order[..DIM / 2] {
        vector[*i] = if rng.random() { 0.25 } else { -0.25 };
    }
    vector
}

pub fn features(rng: &mut ChaCha8Rng) -> PassageFeatures {
    let terms: Vec<u32> = (0..TERMS).map(|_| rng.random_range(1..400)).collect();
    // Every tenth has keys of several pages.
    let seq = if rng.random_bool(0.1) {
        1_500
    } else {
        rng.random_range(1..60)
    };
    let wordpieces: BTreeSet<u32> = (0..seq).map(|_| rng.random_range(0..3_000)).collect();
    // Every other one has a code for each token, the others share theirs.
    let slots: Vec<u8> = match rng.random() {
        true => (0..seq).map(|_| rng.random()).collect(),
        false => Vec::new(),
    };
    let codes = (slots.iter().max()).map_or(seq, |last| usize::from(*last) + 1);
    let keys = KeyBlock {
        tokens: TokenCodes {
            slots,
            codes: (0..codes * spec().key_spec.bytes_per_code())
                .map(|_| rng.random())
                .collect(),
            gains: vec![9; codes],
            centre: 0.25,
        },
        smooth_norms: vec![7; seq],
        window_norms: vec![8; window_count(seq)],
        mean_norm: 0.5,
        sentence_tokens: vec![(0, seq as u16)],
        sentences: SentenceCodes {
            codes: (0..DIM / 4).map(|_| rng.random()).collect(),
            steps: vec![100],
            centres: vec![40_000],
        },
        wordpieces: wordpieces.into_iter().collect(),
    };
    let lex = LexBlock {
        title_terms: 2,
        sentence_ends: vec![TERMS as u32],
        terms,
    };
    PassageFeatures {
        vector: half_vector(rng),
        lex,
        keys,
    }
}

/// A document of `passages` passages; different seeds give different content and revisions.
pub fn document(id: &str, passages: u32, seed: u64, metadata: &[(&str, &str)]) -> DocumentPut {
    let mut rng = rng(seed ^ u64::from_le_bytes(Sha256::digest(id)[..8].try_into().unwrap()));
    let revision = hex::encode(Sha256::digest(format!("{id} {passages} {seed}")));
    let metadata: BTreeMap<String, String> = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let records = (0..passages)
        .map(|ordinal| {
            let text = format!("Passage {ordinal} of {id}, seed {seed}. It has a second sentence.");
            let passage = Passage {
                document_id: id.to_owned(),
                ordinal,
                revision: revision.clone(),
                title: format!("Title of {id}"),
                start: ordinal as usize * 100,
                end: ordinal as usize * 100 + text.len(),
                sentences: vec![0..text.len()],
                text,
                metadata: metadata.clone(),
            };
            PassageRecord {
                passage,
                features: features(&mut rng),
            }
        })
        .collect();
    DocumentPut {
        document_id: id.to_owned(),
        revision,
        records,
    }
}

/// What a store should hold.
#[derive(Default, Clone)]
pub struct Model {
    pub documents: BTreeMap<String, DocumentPut>,
}

impl Model {
    pub fn put(&mut self, document: &DocumentPut) {
        self.documents
            .insert(document.document_id.clone(), document.clone());
    }

    pub fn records(&self) -> impl Iterator<Item = &PassageRecord> + Clone {
        self.documents
            .values()
            .flat_map(|document| &document.records)
    }

    pub fn stats(&self) -> CorpusStats {
        let mut stats = CorpusStats::default();
        self.records()
            .for_each(|record| stats.add(&record.features));
        stats
    }

    pub fn corpus_digest(&self) -> String {
        let mut hash = Sha256::new();
        for (id, document) in &self.documents {
            for part in [id, &document.revision] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        hex::encode(hash.finalize())
    }

    /// Dense top n united with lexical top n.
    pub fn candidates(&self, query: &CandidateQuery) -> Expected {
        let stats = self.stats();
        let passing: Vec<_> = self
            .records()
            .filter(|r| {
                query
                    .filter
                    .matches(&r.passage.document_id, &r.passage.metadata)
            })
            .collect();
        let top = |score: &dyn Fn(&PassageRecord) -> Option<f32>| {
            let mut scored: Vec<_> = passing
                .iter()
                .filter_map(|r| {
                    let at = (r.passage.document_id.clone(), r.passage.ordinal);
                    Some((score(r)?, at))
                })
                .collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let last = (query.n.min(scored.len()).checked_sub(1)).map_or(0.0, |n| scored[n].0);
            let noise = last.abs() * ROUNDING;
            let some = |least: f32| {
                let kept = scored.iter().filter(move |(score, _)| *score >= least);
                kept.map(|(_, at)| at.clone()).collect::<BTreeSet<_>>()
            };
            // Equal scores have an order; those that rounding makes equal may have another.
            let first: BTreeSet<_> = scored
                .iter()
                .take(query.n)
                .map(|(_, at)| at.clone())
                .collect();
            let clear = scored
                .get(query.n)
                .is_none_or(|next| last == next.0 || last - next.0 > noise);
            match clear {
                true => (first.clone(), first),
                false => (some(last + noise), some(last - noise)),
            }
        };
        let dense = top(&|r| {
            Some(
                r.features
                    .vector
                    .iter()
                    .zip(&query.vector)
                    .map(|(a, b)| a * b)
                    .sum(),
            )
        });
        let lexical = top(&|r| {
            let weights: BTreeMap<u32, f32> =
                stats.bm25_weights(&r.features.lex).into_iter().collect();
            let score: f32 = query
                .sparse
                .iter()
                .filter_map(|(t, q)| Some(weights.get(t)? * q))
                .sum();
            (score > 0.0).then_some(score)
        });
        Expected {
            surely: dense.0.union(&lexical.0).cloned().collect(),
            perhaps: dense.1.union(&lexical.1).cloned().collect(),
        }
    }
}

/// Scores that differ by a smaller part are equal for a store, which rounds (`rank.rs`: 2^-17).
const ROUNDING: f32 = 1.6e-5;

/// Candidates by brute force, as `(document_id, ordinal)`: the same set twice unless scores at the end of a
/// list are as near to each other as rounding is.
#[derive(Debug)]
pub struct Expected {
    pub surely: BTreeSet<(String, u32)>,
    pub perhaps: BTreeSet<(String, u32)>,
}

/// A query with a random vector and some terms, weighted by the model's IDF.
pub fn query(rng: &mut ChaCha8Rng, model: &Model, n: usize, filter: Filter) -> CandidateQuery {
    let stats = model.stats();
    let terms: BTreeSet<u32> = (0..5).map(|_| rng.random_range(1..400)).collect();
    let sparse = terms
        .into_iter()
        .filter_map(|t| Some((t, stats.idf(t)?)))
        .collect();
    CandidateQuery {
        vector: unit_vector(rng),
        sparse,
        n,
        filter,
    }
}

/// Every passage of a collection, read page by page.
pub async fn scroll_all(
    store: &dyn PassageStore,
    name: &str,
    limit: usize,
    with_features: bool,
) -> Vec<(Passage, Option<PassageFeatures>)> {
    let mut all = Vec::new();
    let mut walk = Walk::new(store, name, ScrollQuery::new(None, limit, with_features));
    while let Some(page) = walk.page().await.unwrap() {
        assert!(page.records.len() <= limit);
        all.extend(page.records);
    }
    all
}

/// Compares everything a store says about a collection with the model.
pub async fn check_whole(store: &dyn PassageStore, name: &str, model: &Model) {
    let info = store.collection(name).await.unwrap();
    assert_eq!(info.documents, model.documents.len() as u64);
    assert_eq!(info.passages, model.records().count() as u64);
    assert_eq!(info.corpus_digest, model.corpus_digest());
    assert_eq!(info.stats_digest, model.stats().digest());
    assert_eq!(
        store.stats(name).await.unwrap().digest(),
        model.stats().digest()
    );
    let revisions: Vec<_> = model
        .documents
        .values()
        .map(|d| (d.document_id.clone(), d.revision.clone()))
        .collect();
    assert_eq!(store.documents(name).await.unwrap(), revisions);

    let mut found = scroll_all(store, name, 64, true).await;
    found.sort_by_key(|(p, _)| (p.document_id.clone(), p.ordinal));
    assert_eq!(found.len(), model.records().count());
    for ((passage, features), record) in found.iter().zip(model.records()) {
        assert_eq!(*passage, record.passage);
        let features = features.as_ref().unwrap();
        assert_eq!(features.lex, record.features.lex);
        assert_eq!(features.keys, record.features.keys);
        assert_close(&features.vector, &record.features.vector);
    }
}

/// Compares searches with brute force over the model.
pub async fn check_searches(store: &dyn PassageStore, name: &str, model: &Model, seed: u64) {
    let mut rng = rng(seed);
    for n in [1, 3, 10, 40] {
        let query = query(&mut rng, model, n, Filter::default());
        check_search(store, name, model, &query).await;
    }
}

pub async fn check_search(
    store: &dyn PassageStore,
    name: &str,
    model: &Model,
    query: &CandidateQuery,
) {
    let found = store.candidates(name, query).await.unwrap();
    let places: BTreeSet<_> = found
        .iter()
        .map(|c| (c.at.document_id.clone(), c.at.ordinal))
        .collect();
    assert_eq!(places.len(), found.len());
    let expected = model.candidates(query);
    assert!(
        places.is_superset(&expected.surely) && places.is_subset(&expected.perhaps),
        "n = {}: {places:?}, {expected:?}",
        query.n
    );
    for candidate in &found {
        let document = &model.documents[&candidate.at.document_id];
        let record = &document.records[candidate.at.ordinal as usize];
        let id = point_id(
            name,
            &document.document_id,
            &document.revision,
            candidate.at.ordinal,
        );
        assert_eq!(candidate.at.point, id);
        assert_close(&candidate.vector, &record.features.vector);
        assert_eq!(*candidate.lex, record.features.lex);
    }
    let refs: Vec<_> = found.iter().map(|c| c.at.clone()).collect();
    let keys = store.keys(name, &refs).await.unwrap();
    let passages = store.passages(name, &refs).await.unwrap();
    assert_eq!((keys.len(), passages.len()), (refs.len(), refs.len()));
    for ((at, keys), passage) in refs.iter().zip(keys).zip(passages) {
        let record = &model.documents[&at.document_id].records[at.ordinal as usize];
        assert_eq!(*keys.unwrap(), record.features.keys);
        assert_eq!(passage.unwrap(), record.passage);
    }
}

/// Equal but for the rounding of a store that normalises vectors itself.
pub fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    assert!(
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5),
        "{a:?}\n{b:?}"
    );
}
