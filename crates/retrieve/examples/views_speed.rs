//! Time of the views of one query on one core: 128 candidates of 170 tokens, 13 query tokens.
//!
//! `cargo run -p moerag-retrieve --example views_speed`
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use moerag_retrieve::{
    Analyzer, CheapCandidate, CorpusStats, KeySpec, PassageFeatures, PassageInput, QueryFeatures,
    TokenCode, TokenCodec, ViewConfig, Views, feedback_vector, gate_inputs, prune,
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMS: usize = 384;
const CANDIDATES: usize = 166;
const TOKENS: usize = 170;
const QUERY_TOKENS: usize = 13;
const SENTENCES: usize = 8;
const ROUNDS: u32 = 50;

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
    let vectors: Vec<Vec<f32>> = unit_rows(rng, SENTENCES)
        .rows()
        .into_iter()
        .map(|r| r.to_vec())
        .collect();
    let offsets: Vec<(usize, usize)> = (0..TOKENS).map(|j| (j * 4, j * 4 + 4)).collect();
    PassageFeatures::build(
        codec,
        analyzer,
        &PassageInput {
            title: "",
            body: &body,
            sentences: &sentences,
            vector: &unit_rows(rng, 1).row(0).to_vec(),
            states: states.view(),
            token_ids: &(0..TOKENS as u32).collect::<Vec<_>>(),
            offsets: &offsets,
            sentence_vectors: &vectors,
        },
    )
}

fn timed<T>(mut work: impl FnMut() -> T) -> Duration {
    black_box(work());
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| {
        black_box(work());
    });
    start.elapsed() / ROUNDS
}

fn main() {
    for code in [TokenCode::Sign1, TokenCode::F16] {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let spec = KeySpec {
            code,
            ..KeySpec::default()
        };
        let start = Instant::now();
        let codec = TokenCodec::new(&spec);
        let rotation = start.elapsed();
        let analyzer = Analyzer::default();
        let start = Instant::now();
        let passages: Vec<PassageFeatures> = (0..CANDIDATES)
            .map(|_| passage(&codec, &analyzer, &mut rng))
            .collect();
        let build = start.elapsed() / CANDIDATES as u32;
        let start = Instant::now();
        let stats = CorpusStats::fit(passages.iter());
        let fit = start.elapsed();
        let config = ViewConfig {
            key_spec: spec.clone(),
            ..ViewConfig::default()
        };
        let tokens = unit_rows(&mut rng, QUERY_TOKENS);
        let vector = unit_rows(&mut rng, 1).row(0).to_vec();
        let q = QueryFeatures::new(
            &analyzer,
            words(&mut rng, 8),
            vector,
            tokens,
            (0..QUERY_TOKENS as u32).collect(),
        );
        let cheap: Vec<CheapCandidate<'_>> = passages
            .iter()
            .map(|p| CheapCandidate {
                vector: &p.vector,
                lex: &p.lex,
            })
            .collect();
        let vectors: Vec<&[f32]> = passages.iter().map(|p| p.vector.as_slice()).collect();
        let kept: Vec<&PassageFeatures> = prune(&q, &cheap, &stats, &config, None)
            .into_iter()
            .map(|i| &passages[i])
            .collect();
        let prf = feedback_vector(&q, &vectors);
        let views = Views::new(&codec, &stats);
        let matrix = views.compute(&q, &views.prepare(&q), &prf, &kept, None);
        let bytes = postcard::to_allocvec(&passages[0].keys).unwrap_or_default();
        println!("{} ({} bytes a key block)", spec.id(), bytes.len());
        println!("  rotation, once      {rotation:>10.2?}");
        println!("  features, a passage {build:>10.2?}");
        println!("  statistics          {fit:>10.2?}");
        println!(
            "  prune + feedback    {:>10.2?}",
            timed(|| (
                prune(&q, &cheap, &stats, &config, None),
                feedback_vector(&q, &vectors)
            ))
        );
        println!(
            "  read 128 key blocks {:>10.2?}",
            timed(|| (0..128)
                .map(|_| postcard::from_bytes::<moerag_retrieve::KeyBlock>(&bytes))
                .collect::<Vec<_>>())
        );
        println!(
            "  views               {:>10.2?}  ({} candidates)",
            timed(|| views.compute(&q, &views.prepare(&q), &prf, &kept, None)),
            kept.len()
        );
        println!(
            "  gate inputs         {:>10.2?}",
            timed(|| gate_inputs(&matrix, &q, &stats))
        );
        println!(
            "  sentence scores     {:>10.2?}  (8 passages)",
            timed(|| kept
                .iter()
                .take(8)
                .map(|p| views.sentence_scores(&q, &views.prepare(&q), *p))
                .collect::<Vec<_>>())
        );
    }
}
