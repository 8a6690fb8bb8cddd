//! A tiny store grown and read back.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use moerag_retrieve::linalg::{norm, normalise};
use moerag_retrieve::{
    Analyzer, KeySpec, Language, PassageFeatures, PassageInput, TokenCodec, encoded_text,
    lex::lex_block, sentences,
};
use moerag_store::{CollectionSpec, DocumentPut, Passage, PassageRecord, ScrollQuery};
use ndarray::Array2;

use super::*;

const DIM: usize = 16;
const TOPICS: [&str; 4] = ["glacier", "compiler", "violin", "harbour"];

fn spec() -> CollectionSpec {
    CollectionSpec {
        space: "test".into(),
        dim: DIM as u32,
        key_spec: KeySpec {
            dims: DIM as u16,
            ..KeySpec::default()
        },
        language: Language::English,
    }
}

fn unit(rng: &mut ChaCha8Rng, topic: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..DIM).map(|_| rng.random_range(-0.4..0.4)).collect();
    vector[topic] += 1.0;
    normalise(&mut vector);
    vector
}

/// Document `i`: four sentences about its topic, one token a word.
fn put(i: usize, rng: &mut ChaCha8Rng) -> DocumentPut {
    let topic = i % TOPICS.len();
    let word = TOPICS[topic];
    let text = format!(
        "The {word} number {i} is old. People visit this {word} in spring. \
         Nobody owns {word} number {i}. A painter drew the {word} twice."
    );
    let (title, ranges) = (format!("Notes {i}"), sentences(&text));
    let encoded = encoded_text(&title, &text);
    let mut offsets = Vec::new();
    for token in encoded.split(' ') {
        let start = token.as_ptr() as usize - encoded.as_ptr() as usize;
        offsets.push((start, start + token.len()));
    }
    let states: Vec<f32> = offsets.iter().flat_map(|_| unit(rng, topic)).collect();
    let states = Array2::from_shape_vec((offsets.len(), DIM), states).unwrap();
    let ids: Vec<u32> = (0..offsets.len() as u32).collect();
    let sentence_vectors: Vec<Vec<f32>> = ranges.iter().map(|_| unit(rng, topic)).collect();
    let vector = unit(rng, topic);
    let input = PassageInput {
        title: &title,
        body: &text,
        sentences: &ranges,
        vector: &vector,
        states: states.view(),
        token_ids: &ids,
        offsets: &offsets,
        sentence_vectors: &sentence_vectors,
    };
    let codec = TokenCodec::new(&spec().key_spec);
    let features = PassageFeatures::build(&codec, &Analyzer::new(Language::English), &input);
    let passage = Passage {
        document_id: format!("d{i}"),
        ordinal: 0,
        revision: "r".into(),
        title,
        start: 0,
        end: text.len(),
        text,
        sentences: ranges,
        metadata: BTreeMap::new(),
    };
    DocumentPut {
        document_id: passage.document_id.clone(),
        revision: passage.revision.clone(),
        records: vec![PassageRecord { passage, features }],
    }
}

async fn close(store: Arc<dyn PassageStore>) {
    tokio::task::spawn_blocking(move || drop(store))
        .await
        .unwrap();
}

async fn passages(dir: &Path) -> Vec<(Passage, PassageFeatures)> {
    let store = open(dir).await.unwrap();
    let query = ScrollQuery::new(None, 10_000, true);
    let page = store.scroll("c", &query).await.unwrap();
    close(store).await;
    let records = page.records.into_iter();
    records
        .map(|(p, features)| (p, features.unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tiny_store_grows_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = open(&from).await.unwrap();
    store.ensure_collection("c", &spec()).await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let real: Vec<DocumentPut> = (0..40).map(|i| put(i, &mut rng)).collect();
    store.put_documents("c", real.clone()).await.unwrap();
    close(store).await;

    let to_size = |passages| {
        grow(Grow {
            from: from.clone(),
            collection: "c".into(),
            to: to.clone(),
            passages,
            seed: 7,
        })
    };
    assert!(to_size(39).await.is_err(), "fewer than there are");
    let report = to_size(200).await.unwrap();
    assert_eq!(
        (&report["passages"], &report["real_passages"]),
        (&json!(200), &json!(40))
    );
    let cosine = |name: &str| report[name].as_f64().unwrap();
    assert!(
        (cosine("top1_real") - cosine("top1_grown")).abs() < 0.15,
        "{report}"
    );
    let first = passages(&to).await;
    // The second run writes nothing but what is missing.
    to_size(230).await.unwrap();
    let grown = passages(&to).await;
    assert_eq!((first.len(), grown.len()), (200, 230));

    let analyzer = Analyzer::new(Language::English);
    let whole: HashSet<String> = real
        .iter()
        .flat_map(|put| {
            let passage = &put.records[0].passage;
            passage
                .sentences
                .iter()
                .map(|s| passage.text[s.clone()].to_owned())
        })
        .collect();
    for record in &real {
        let PassageRecord { passage, features } = &record.records[0];
        let (_, found) = grown.iter().find(|(p, _)| p == passage).unwrap();
        assert_eq!((&found.lex, &found.keys), (&features.lex, &features.keys));
        // The store keeps a byte an entry: about half a step of a 127th of the largest.
        let largest = features.vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let mut pairs = found.vector.iter().zip(&features.vector);
        assert!(pairs.all(|(a, b)| (a - b).abs() <= 0.6 * largest / 127.0));
    }
    let (mut texts, mut lengths) = (HashSet::new(), Vec::new());
    for (passage, features) in grown
        .iter()
        .filter(|(p, _)| p.document_id.starts_with("grown-"))
    {
        features.keys.validate(&spec().key_spec).unwrap();
        assert!((norm(&features.vector) - 1.0).abs() < 1e-3);
        let lex = lex_block(&analyzer, &passage.title, &passage.text, &passage.sentences);
        assert_eq!(features.lex, lex);
        assert!(
            passage.sentences.len() >= 2
                && features.keys.sentence_tokens.len() == passage.sentences.len()
        );
        for (range, tokens) in passage.sentences.iter().zip(&features.keys.sentence_tokens) {
            let sentence = &passage.text[range.clone()];
            assert!(
                whole.contains(sentence),
                "not a sentence of the source: {sentence}"
            );
            assert_eq!(
                usize::from(tokens.1 - tokens.0),
                sentence.split(' ').count()
            );
        }
        texts.insert(passage.text.clone());
        lengths.push(passage.text.len() as f64);
    }
    assert!(texts.len() > 150, "{} different texts of 190", texts.len());
    let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
    let of_real = real
        .iter()
        .map(|p| p.records[0].passage.text.len() as f64)
        .sum::<f64>()
        / 40.0;
    assert!((mean / of_real - 1.0).abs() < 0.1, "{mean} {of_real}");
    assert!(
        first.iter().all(|old| grown.contains(old)),
        "a second run changed what was there"
    );
}
