//! The async front: lanes, order, progress, cancellation. Uses the real encoder, whose batches
//! take long enough to overtake.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use moerag_encoder::{EncodeOptions, Encoder, EncoderHandle, LoadOptions, default_dir};

fn handle() -> EncoderHandle {
    let options = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    let encoder = Encoder::load_with(&default_dir().unwrap(), &options)
        .unwrap_or_else(|error| panic!("{error}"));
    EncoderHandle::new(Arc::new(encoder))
}

fn passages(n: usize) -> Vec<String> {
    let words = "a canal lock lifts barges by letting water in from the upper reach ";
    (0..n)
        .map(|i| format!("passage {i}: {}", words.repeat(8 + i % 5)))
        .collect()
}

#[tokio::test]
async fn a_query_overtakes_a_long_ingest() {
    let handle = handle();
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let options = EncodeOptions {
        progress: Some(&|done| DONE.store(done, Ordering::SeqCst)),
        ..EncodeOptions::passage()
    };
    let ingest = tokio::spawn({
        let handle = handle.clone();
        async move { handle.encode(passages(150), options).await }
    });
    while DONE.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let start = Instant::now();
    let query = handle.encode_query("what lifts a barge?").await.unwrap();
    let waited = start.elapsed();
    assert_eq!(query.vector.len(), 384);
    let done = DONE.load(Ordering::SeqCst);
    assert!(
        done < 150,
        "the ingest was over before the query: {waited:?}"
    );
    let encodings = ingest.await.unwrap().unwrap();
    assert_eq!(encodings.len(), 150);
    assert_eq!(DONE.load(Ordering::SeqCst), 150);
    for (text, encoding) in passages(150).iter().zip(&encodings) {
        assert_eq!(
            handle.encoder().tokenizer().token_count(text),
            encoding.token_count
        );
    }
}

#[tokio::test]
async fn a_dropped_request_stops_and_the_next_one_runs() {
    let handle = handle();
    let long = handle.encode(passages(2000), EncodeOptions::passage());
    let timed_out = tokio::time::timeout(Duration::from_millis(300), long).await;
    assert!(timed_out.is_err(), "2000 passages cannot be done in 0.3 s");
    // 2000 passages take most of a minute; the batches that had not begun are gone.
    let next = handle.encode(passages(1), EncodeOptions::passage());
    let next = tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.len(), 1);
}

#[tokio::test]
async fn nothing_to_encode_and_long_input_are_fine() {
    let handle = handle();
    assert!(
        handle
            .encode(Vec::new(), EncodeOptions::query())
            .await
            .unwrap()
            .is_empty()
    );
    let megabyte = "word \u{1f600} caf\u{e9} ".repeat(1 << 16);
    let start = Instant::now();
    let encoding = handle.encode_query(&megabyte).await.unwrap();
    assert!(
        encoding.truncated && encoding.token_count == 3 << 16,
        "{}",
        encoding.token_count
    );
    assert_eq!(encoding.token_ids.len(), 254);
    assert!(start.elapsed() < Duration::from_secs(30));
    let error = handle
        .encode(
            vec!["a".to_owned()],
            EncodeOptions {
                max_tokens: 1,
                ..EncodeOptions::query()
            },
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("max_tokens is 1"), "{error}");
}

#[tokio::test]
async fn many_callers_get_their_own_answers() {
    let handle = handle();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.encode_query(&format!("query number {i}")).await })
        })
        .collect();
    let mut vectors = Vec::new();
    for task in tasks {
        vectors.push(task.await.unwrap().unwrap().vector);
    }
    for (i, vector) in vectors.iter().enumerate() {
        let alone = handle
            .encode_query(&format!("query number {i}"))
            .await
            .unwrap()
            .vector;
        let difference = alone
            .iter()
            .zip(vector)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(difference <= 1e-5);
    }
}
