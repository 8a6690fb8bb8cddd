//! Every view, z-score and gate input against an independent numpy implementation of RECIPE.md's
//! definitions, masked and unmasked (`golden_views.py` says how the numbers were made).
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use moerag_retrieve::{
    CorpusStats, GoldMask, KeyBlock, KeySpec, LexBlock, PassageFeatures, QueryFeatures, TokenCode,
    TokenCodec, VIEWS, ViewMatrix, Views, feedback_vector, gate_inputs,
};
use ndarray::{Array2, ArrayView2, Axis};
use serde::Deserialize;

const DIMS: usize = 384;

#[derive(Deserialize)]
struct Golden {
    seq: Vec<usize>,
    passages: Vec<GoldenPassage>,
    queries: Vec<GoldenQuery>,
}

#[derive(Deserialize)]
struct GoldenPassage {
    terms: Vec<u32>,
    title_terms: u32,
    sentence_ends: Vec<u32>,
    token_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct GoldenQuery {
    terms: Vec<u32>,
    token_ids: Vec<u32>,
    raw: Vec<Vec<f32>>,
    z: Vec<Vec<f32>>,
    gate: Vec<f32>,
    masks: Vec<MaskedRow>,
}

#[derive(Deserialize)]
struct MaskedRow {
    candidate: usize,
    cut: Vec<usize>,
    hidden: HashSet<u32>,
    dropped: Vec<usize>,
    raw: Vec<f32>,
}

/// The hash `u` of golden_views.py.
fn u(a: usize, b: usize, c: usize) -> f64 {
    let mix = |x: usize, k: u64| (x as u64).wrapping_mul(k);
    let mut h = mix(a, 0x9E37_79B9_7F4A_7C15)
        ^ mix(b, 0xBF58_476D_1CE4_E5B9)
        ^ mix(c, 0x94D0_49BB_1331_11EB);
    h ^= h >> 31;
    h = h.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    h ^= h >> 32;
    (h >> 40) as f64 / f64::from(1 << 24) - 0.5
}

fn unit(mut x: Vec<f64>) -> Vec<f64> {
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    x.iter_mut().for_each(|x| *x /= norm);
    x
}

fn row(a: usize, b: usize) -> Vec<f64> {
    (0..DIMS).map(|c| u(a, b, c + 1)).collect()
}

fn mixed(a: &[f64], weight: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| x + weight * y).collect()
}

fn states(who: usize, n: usize) -> Vec<Vec<f64>> {
    let topics: Vec<Vec<f64>> = (0..7).map(|t| unit(row(1, t))).collect();
    (0..n)
        .map(|j| {
            let topic = ((u(who, j / 5, 9999) + 0.5) * 7.0) as usize;
            unit(mixed(&topics[topic], 0.9, &unit(row(who, j + 100))))
        })
        .collect()
}

fn pooled(who: usize, states: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; DIMS];
    states
        .iter()
        .for_each(|s| mean = mixed(&mean, 1.0 / states.len() as f64, s));
    unit(mixed(&mean, 0.3, &unit(row(who, 50))))
}

fn f32s(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn matrix(rows: &[Vec<f64>]) -> Array2<f32> {
    Array2::from_shape_fn((rows.len(), DIMS), |(i, j)| rows[i][j] as f32)
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden_views.json")).unwrap()
}

fn passages(golden: &Golden, codec: &TokenCodec) -> Vec<PassageFeatures> {
    let build = |(i, (p, seq)): (usize, (&GoldenPassage, &usize))| {
        let states = states(10 + i, *seq);
        let vector = pooled(10 + i, &states);
        let sentences: Vec<Vec<f32>> = (0..p.sentence_ends.len().min(24))
            .map(|s| f32s(&unit(mixed(&vector, 0.8, &unit(row(130 + i, s))))))
            .collect();
        let keys = KeyBlock::build(
            codec,
            &f32s(&vector),
            matrix(&states).view(),
            &p.token_ids,
            Vec::new(),
            &sentences,
        );
        keys.validate(codec.spec()).unwrap();
        PassageFeatures {
            vector: f32s(&vector),
            lex: LexBlock {
                title_terms: p.title_terms,
                terms: p.terms.clone(),
                sentence_ends: p.sentence_ends.clone(),
            },
            keys,
        }
    };
    golden
        .passages
        .iter()
        .zip(&golden.seq)
        .enumerate()
        .map(build)
        .collect()
}

fn query(k: usize, q: &GoldenQuery) -> QueryFeatures {
    let tokens = states(200 + k, q.token_ids.len());
    QueryFeatures {
        text: String::new(),
        terms: q.terms.clone(),
        vector: f32s(&pooled(200 + k, &tokens)),
        tokens: matrix(&tokens),
        token_ids: q.token_ids.clone(),
    }
}

fn table(rows: &[Vec<f32>]) -> Array2<f32> {
    Array2::from_shape_fn((rows.len(), VIEWS.len()), |(i, j)| rows[i][j])
}

fn assert_close(
    what: &str,
    found: ArrayView2<'_, f32>,
    expected: &Array2<f32>,
    limit: impl Fn(usize) -> f32,
) {
    assert_eq!(found.dim(), expected.dim());
    for ((i, j), x) in found.indexed_iter() {
        let e = expected[[i, j]];
        assert!(
            (x - e).abs() < limit(j),
            "{what}: row {i}, column {j}: {x} instead of {e}"
        );
    }
}

/// How far a view may be from its definition for the rounding of what is stored with every code:
/// sentence vectors in half a byte a dimension, norms of smoothed states in a byte.
fn stored(j: usize) -> f32 {
    match VIEWS[j] {
        "smax" => 0.03,
        "ph3" => 0.005,
        _ => 1e-4,
    }
}

struct World {
    golden: Golden,
    codec: TokenCodec,
    passages: Vec<PassageFeatures>,
    stats: CorpusStats,
}

impl World {
    fn new(code: TokenCode) -> Self {
        let (golden, codec) = (
            golden(),
            TokenCodec::new(&KeySpec {
                code,
                pooling: moerag_retrieve::keys::NOT_POOLED,
                ..KeySpec::default()
            }),
        );
        let passages = passages(&golden, &codec);
        let stats = CorpusStats::fit(passages.iter());
        Self {
            golden,
            codec,
            passages,
            stats,
        }
    }

    fn compute(&self, q: &QueryFeatures, mask: Option<&GoldMask>) -> ViewMatrix {
        let vectors: Vec<&[f32]> = self.passages.iter().map(|p| p.vector.as_slice()).collect();
        let all: Vec<&PassageFeatures> = self.passages.iter().collect();
        let views = Views::new(&self.codec, &self.stats);
        let tokens = views.prepare(q);
        views.compute(q, &tokens, &feedback_vector(q, &vectors), &all, mask)
    }

    fn mask(&self, m: &MaskedRow) -> GoldMask {
        let seq = self.golden.seq[m.candidate];
        GoldMask {
            candidate: m.candidate,
            dropped_tokens: (0..seq).map(|j| m.dropped.contains(&j)).collect(),
            cut_sentences: m.cut.clone(),
            hidden_terms: m.hidden.clone(),
        }
    }
}

#[test]
fn views_agree_with_the_definitions() {
    let world = World::new(TokenCode::F16);
    for (k, golden) in world.golden.queries.iter().enumerate() {
        let views = world.compute(&query(k, golden), None);
        assert_close("views", views.raw.view(), &table(&golden.raw), stored);
    }
}

#[test]
fn a_masked_candidate_is_scored_without_what_is_masked() {
    let world = World::new(TokenCode::F16);
    for (k, golden) in world.golden.queries.iter().enumerate() {
        for row in &golden.masks {
            let views = world.compute(&query(k, golden), Some(&world.mask(row)));
            let mut expected = table(&golden.raw);
            expected
                .row_mut(row.candidate)
                .assign(&ndarray::ArrayView1::from(&row.raw));
            assert_close("masked views", views.raw.view(), &expected, stored);
        }
    }
}

#[test]
fn z_scores_and_gate_inputs_agree_with_the_definitions() {
    let world = World::new(TokenCode::F16);
    for (k, golden) in world.golden.queries.iter().enumerate() {
        let matrix = ViewMatrix::new(table(&golden.raw));
        assert_close("z", matrix.z.view(), &table(&golden.z), |_| 1e-4);
        let inputs = gate_inputs(&matrix, &query(k, golden), &world.stats);
        assert_eq!(inputs.len(), golden.gate.len());
        for (i, (x, e)) in inputs.iter().zip(&golden.gate).enumerate() {
            assert!((x - e).abs() < 1e-4, "gate input {i}: {x} instead of {e}");
        }
    }
}

#[test]
fn sign_codes_stay_near_the_exact_views() {
    let world = World::new(TokenCode::Sign1);
    // Token views take the maximum of noisy cosines; the others do not read token codes at all.
    let noisy = ["ph3", "maxsim", "maxsim_idf", "wms", "sctx"];
    let limit = |j: usize| {
        if noisy.contains(&VIEWS[j]) {
            0.12
        } else {
            stored(j)
        }
    };
    let masked_limit = |j: usize| match VIEWS[j] {
        name if noisy.contains(&name) => 0.12,
        "dense" | "smax" | "prf" | "dcen" => 0.05,
        _ => 1e-4,
    };
    for (k, golden) in world.golden.queries.iter().enumerate().take(2) {
        let q = query(k, golden);
        assert_close(
            "sign views",
            world.compute(&q, None).raw.view(),
            &table(&golden.raw),
            limit,
        );
        // Where almost nothing is left, a mean over two coded tokens says little.
        let half = |m: &&MaskedRow| m.dropped.len() * 2 <= world.golden.seq[m.candidate];
        for row in golden.masks.iter().filter(half) {
            let views = world.compute(&q, Some(&world.mask(row)));
            let found = views
                .raw
                .slice_axis(Axis(0), (row.candidate..row.candidate + 1).into());
            assert_close(
                "masked sign views",
                found,
                &table(std::slice::from_ref(&row.raw)),
                masked_limit,
            );
        }
    }
}
