//! Passages straight from a store, as with a Qdrant server or in the evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use moerag_retrieve::linalg::{dot, norm};
use moerag_store::{
    CollectionSpec, DocumentPut, EdgeOptions, EdgeStore, Passage, PassageRecord, PassageStore,
};
use tokio_util::sync::CancellationToken;
use trainer_worker::corpus::{CorpusSource, StoreSource};
use trainer_worker::{NoProgress, TrainError};

use crate::support::corpus;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gives_the_corpus_it_was_given() {
    let expected = corpus();
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(dir.path(), EdgeOptions::default()).unwrap();
    let spec = CollectionSpec {
        space: expected.space.clone(),
        dim: 384,
        key_spec: expected.key_spec.clone(),
        language: expected.language,
    };
    store.ensure_collection("articles", &spec).await.unwrap();
    let pairs = expected.texts.iter().zip(&expected.features);
    let puts = pairs.map(|(text, features)| DocumentPut {
        document_id: text.document_id.clone(),
        revision: text.revision.clone(),
        records: vec![PassageRecord {
            passage: Passage {
                document_id: text.document_id.clone(),
                ordinal: text.ordinal,
                revision: text.revision.clone(),
                title: text.title.clone(),
                text: text.text.clone(),
                start: 0,
                end: text.text.len(),
                sentences: text.sentences.clone(),
                metadata: BTreeMap::new(),
            },
            features: features.clone(),
        }],
    });
    store
        .put_documents("articles", puts.collect())
        .await
        .unwrap();

    let source = StoreSource::new(Arc::new(store));
    let summaries = source.collections().await.unwrap();
    assert_eq!(
        (summaries.len(), summaries[0].passages),
        (1, expected.len() as u64)
    );
    let cancel = CancellationToken::new();
    let read = source
        .snapshot("articles", 1000, &NoProgress, &cancel)
        .await
        .unwrap();
    assert_eq!(read.texts, expected.texts);
    for (read, expected) in read.features.iter().zip(&expected.features) {
        assert_eq!((&read.lex, &read.keys), (&expected.lex, &expected.keys));
        // The store keeps a byte an entry: about half a step of a 127th of the largest, and the length.
        let largest = expected.vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let mut pairs = read.vector.iter().zip(&expected.vector);
        assert!(pairs.all(|(a, b)| (a - b).abs() <= 0.6 * largest / 127.0));
        let lengths = norm(&read.vector) * norm(&expected.vector);
        let cosine = dot(&read.vector, &expected.vector) / lengths;
        assert!(
            cosine > 0.9999 && (lengths - 1.0).abs() < 5e-4,
            "{cosine} {lengths}"
        );
    }
    assert_eq!(read.stats.n(), expected.stats.n());
    assert_eq!(read.corpus_digest, summaries[0].corpus_digest);

    cancel.cancel();
    let cancelled = source
        .snapshot("articles", 1000, &NoProgress, &cancel)
        .await;
    assert!(matches!(cancelled, Err(TrainError::Cancelled)));
    let cancel = CancellationToken::new();
    let missing = source.snapshot("other", 1000, &NoProgress, &cancel).await;
    assert!(matches!(missing, Err(TrainError::UnknownCollection { .. })));
}
