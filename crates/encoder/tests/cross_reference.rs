//! The cross-encoder against its definition: `BertForSequenceClassification` written out in plain
//! double precision, one pair at a time, from the same file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tiny;

use std::collections::HashMap;
use std::fs;

use moerag_encoder::{CrossEncoder, DeviceKind};
use safetensors::SafeTensors;
use tiny::Tiny;

const WORDS: [&str; 8] = [
    "copper", "roofs", "turn", "green", "why", "do", "bees", "dance",
];
const CLS: usize = 2;
const SEP: usize = 3;
const FIRST_WORD: usize = 4;
/// Heads, as the tiny directory has them.
const HEADS: usize = 2;

type Row = Vec<f64>;

/// Tensors by name, as rows; a vector is one row.
struct Reference(HashMap<String, Vec<Row>>);

impl Reference {
    fn read(tiny: &Tiny) -> Self {
        let bytes = fs::read(tiny.dir().join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let rows = tensors.iter().map(|(name, view)| {
            let values: Row = view
                .data()
                .chunks_exact(4)
                .map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap())))
                .collect();
            let width = *view.shape().last().unwrap();
            (
                name.to_owned(),
                values.chunks(width).map(<[f64]>::to_vec).collect(),
            )
        });
        Reference(rows.collect())
    }

    fn rows(&self, name: &str) -> &[Row] {
        &self.0[name]
    }

    fn linear(&self, x: &[f64], name: &str) -> Row {
        let bias = &self.rows(&format!("{name}.bias"))[0];
        let rows = self.rows(&format!("{name}.weight")).iter().zip(bias);
        rows.map(|(row, bias)| dot(row, x) + bias).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Row {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let (scale, shift) = (
            &self.rows(&format!("{name}.weight"))[0],
            &self.rows(&format!("{name}.bias"))[0],
        );
        (0..x.len())
            .map(|i| (x[i] - mean) / (variance + 1e-12).sqrt() * scale[i] + shift[i])
            .collect()
    }

    fn score(&self, query: &str, passage: &str) -> f64 {
        let id = |word| FIRST_WORD + WORDS.iter().position(|w| *w == word).unwrap();
        let mut ids = vec![CLS];
        ids.extend(query.split_whitespace().map(id));
        ids.push(SEP);
        let first = ids.len();
        ids.extend(passage.split_whitespace().map(id));
        ids.push(SEP);

        let table = |name: &str, row: usize| {
            self.rows(&format!("bert.embeddings.{name}_embeddings.weight"))[row].clone()
        };
        let mut states: Vec<Row> = ids
            .iter()
            .enumerate()
            .map(|(place, id)| {
                let kind = table("token_type", usize::from(place >= first));
                let sum = add(&add(&table("word", *id), &table("position", place)), &kind);
                self.norm(&sum, "bert.embeddings.LayerNorm")
            })
            .collect();
        for layer in (0..2).map(|i| format!("bert.encoder.layer.{i}")) {
            let of = |kind: &str| -> Vec<Row> {
                let name = format!("{layer}.attention.self.{kind}");
                states.iter().map(|x| self.linear(x, &name)).collect()
            };
            let context = attend(&of("query"), &of("key"), &of("value"));
            states = states
                .iter()
                .zip(context)
                .map(|(x, context)| {
                    let name = format!("{layer}.attention.output");
                    let attended = add(&self.linear(&context, &format!("{name}.dense")), x);
                    let x = self.norm(&attended, &format!("{name}.LayerNorm"));
                    let wide = self.linear(&x, &format!("{layer}.intermediate.dense"));
                    let wide: Row = wide.into_iter().map(gelu).collect();
                    let out = add(&self.linear(&wide, &format!("{layer}.output.dense")), &x);
                    self.norm(&out, &format!("{layer}.output.LayerNorm"))
                })
                .collect();
        }
        let pooled = self.linear(&states[0], "bert.pooler.dense");
        let pooled: Row = pooled.into_iter().map(f64::tanh).collect();
        self.linear(&pooled, "classifier")[0]
    }
}

fn attend(query: &[Row], key: &[Row], value: &[Row]) -> Vec<Row> {
    let width = query[0].len() / HEADS;
    let row = |query: &Row| -> Row {
        (0..HEADS)
            .flat_map(|head| {
                let own = head * width..(head + 1) * width;
                let weights: Row = key
                    .iter()
                    .map(|key| {
                        let logit = dot(&query[own.clone()], &key[own.clone()]);
                        (logit / (width as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                own.map(move |i| {
                    let values = weights.iter().zip(value);
                    values.map(|(w, value)| w / sum * value[i]).sum::<f64>()
                })
                .collect::<Row>()
            })
            .collect()
    };
    query.iter().map(row).collect()
}

/// `x / 2 * (1 + erf(x / sqrt 2))`, erf by its series, which converges for every x and is exact
/// enough for those of a layer.
fn gelu(x: f64) -> f64 {
    let z = x * std::f64::consts::FRAC_1_SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..200u32 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    x / 2.0 * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64]) -> Row {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn scores_are_those_of_the_definition() {
    let tiny = Tiny::cross_encoder(&WORDS);
    let network = CrossEncoder::load(tiny.dir(), DeviceKind::Flex).unwrap();
    let reference = Reference::read(&tiny);
    let pairs = [
        ("why do copper roofs turn green", "copper roofs turn green"),
        ("why do bees dance", "bees dance"),
        ("why", "green green green bees dance copper roofs do turn"),
        ("", "dance"),
        ("dance bees", ""),
    ];
    let scores = network.score(&pairs).unwrap();
    for ((query, passage), score) in pairs.iter().zip(scores) {
        let expected = reference.score(query, passage);
        let off = (f64::from(score) - expected).abs();
        assert!(
            off < 1e-5,
            "{query} / {passage}: {score}, by definition {expected}"
        );
    }
}
