//! The functions that a query's time goes into, alone: `scripts/bench --check`.
//!
//! Times of these machines say little, so what is compared is each function's time over that of
//! `reference`, a plain matrix product that none of our changes touch, measured first and last.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use moerag_encoder::{EncodeOptions, Encoder, LoadOptions, default_dir};
use moerag_model::{AttendInput, CollectionModel, CollectionWeights, DeviceKind, Routing};
use moerag_retrieve::{
    Analyzer, CheapCandidate, CorpusStats, FeaturesRef, KeySpec, LsiBasis, PassageFeatures,
    PassageInput, QueryFeatures, TokenCodec, ViewConfig, Views, cheap_scores, feedback_vector,
    gate_inputs, prune,
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMS: usize = 384;
/// Candidates of a query before pruning, tokens and sentences of each: fiqa's means.
const CANDIDATES: usize = 166;
const TOKENS: usize = 150;
const SENTENCES: usize = 8;
const QUERY: &str = "how does water move from the upper lock to the lower";

fn reference(c: &mut Criterion, name: &str) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (a, b) = (unit_rows(&mut rng, 256), unit_rows(&mut rng, DIMS));
    c.bench_function(name, |bench| {
        bench.iter(|| black_box(&a).dot(black_box(&b)))
    });
}

fn encoder(c: &mut Criterion) {
    let options = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    let encoder = default_dir().and_then(|dir| Encoder::load_with(&dir, &options));
    let encoder = match encoder {
        Ok(encoder) => encoder,
        Err(error) => {
            eprintln!("SKIPPED: the encoder: {error}");
            return;
        }
    };
    // What encoding concurrent queries in one batch could save.
    c.bench_function("encode_four_queries", |bench| {
        bench.iter(|| encoder.encode(black_box(&[QUERY; 4]), &EncodeOptions::query()));
    });
    let passage = "the lock gates open slowly when water rises and boats pass ".repeat(12);
    let passages = vec![passage; 8];
    c.bench_function("encode_query", |bench| {
        bench.iter(|| encoder.encode(black_box(&[QUERY]), &EncodeOptions::query()));
    });
    c.bench_function("encode_passages", |bench| {
        bench.iter(|| encoder.encode(black_box(&passages), &EncodeOptions::passage()));
    });
}

fn views(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (codec, analyzer) = (TokenCodec::new(&KeySpec::default()), Analyzer::default());
    let passages: Vec<PassageFeatures> = (0..CANDIDATES)
        .map(|_| passage(&codec, &analyzer, &mut rng))
        .collect();
    let stats = CorpusStats::fit(passages.iter());
    let tokens = unit_rows(&mut rng, 12);
    let vector = unit_rows(&mut rng, 1).row(0).to_vec();
    let ids = (0..12).collect();
    let q = QueryFeatures::new(&analyzer, words(&mut rng, 8), vector, tokens, ids);
    let cheap = |q| cheap_scores(q, passages.iter().map(CheapCandidate::from), &stats);
    let config = ViewConfig::default();
    c.bench_function("prune", |bench| {
        bench.iter(|| prune(&cheap(black_box(&q)), &config, None));
    });

    let kept: Vec<FeaturesRef<'_>> = prune(&cheap(&q), &config, None)
        .into_iter()
        .map(|i| FeaturesRef::from(&passages[i]))
        .collect();
    let vectors: Vec<&[f32]> = passages.iter().map(|p| p.vector.as_slice()).collect();
    let prf = feedback_vector(&q, &vectors);
    let views = Views::new(&codec, &stats);
    c.bench_function("prepare_query", |bench| {
        bench.iter(|| views.prepare(black_box(&q)))
    });
    let prepared = views.prepare(&q);
    c.bench_function("views", |bench| {
        bench.iter(|| views.raw(black_box(&q), &prepared, &prf, &kept, None));
    });

    let blocks: Vec<_> = passages.iter().map(|p| &p.lex).collect();
    if let Some(basis) = LsiBasis::fit(&blocks, &stats, &|| false) {
        c.bench_function("latent_places", |bench| {
            bench.iter(|| {
                let places = kept.iter().map(|p| basis.vector(p.lex, &stats));
                places.collect::<Vec<_>>()
            });
        });
    }

    let matrix = views.compute(&q, &prepared, &prf, &kept, None);
    let inputs = gate_inputs(&matrix, &q, &stats);
    let Ok(model) = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex) else {
        eprintln!("SKIPPED: attend: no flex device");
        return;
    };
    let input = AttendInput {
        z: matrix.z.view(),
        gate_inputs: &inputs,
        feedback: None,
        named: &[],
        query_vector: &q.vector,
    };
    c.bench_function("attend", |bench| {
        bench.iter(|| model.attend(black_box(&input), Routing::Soft));
    });
}

fn unit_rows(rng: &mut ChaCha8Rng, n: usize) -> Array2<f32> {
    let mut rows = Array2::from_shape_fn((n, DIMS), |_| rng.random::<f32>() - 0.5);
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    rows
}

fn words(rng: &mut ChaCha8Rng, n: usize) -> String {
    (0..n)
        .map(|_| format!("word{} ", rng.random_range(0..400)))
        .collect()
}

fn passage(codec: &TokenCodec, analyzer: &Analyzer, rng: &mut ChaCha8Rng) -> PassageFeatures {
    let (mut body, mut sentences) = (String::new(), Vec::new());
    for _ in 0..SENTENCES {
        let start = body.len();
        body.push_str(&words(rng, 12));
        sentences.push(start..body.len());
    }
    let states = unit_rows(rng, TOKENS);
    let vectors = unit_rows(rng, SENTENCES);
    let input = PassageInput {
        title: "",
        body: &body,
        sentences: &sentences,
        vector: &unit_rows(rng, 1).row(0).to_vec(),
        states: states.view(),
        token_ids: &(0..TOKENS as u32).collect::<Vec<_>>(),
        offsets: &(0..TOKENS).map(|j| (j * 4, j * 4 + 4)).collect::<Vec<_>>(),
        sentence_vectors: &vectors
            .rows()
            .into_iter()
            .map(|r| r.to_vec())
            .collect::<Vec<_>>(),
    };
    PassageFeatures::build(codec, analyzer, &input)
}

fn first(c: &mut Criterion) {
    reference(c, "reference");
}

fn last(c: &mut Criterion) {
    reference(c, "reference_again");
}

criterion_group! {
    name = hot;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .without_plots();
    targets = first, encoder, views, last
}
criterion_main!(hot);
