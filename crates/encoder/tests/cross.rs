//! The cross-encoder on tiny random weights: scores belong to the pair alone, and wrong files are
//! named.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tiny;

use std::fs;
use std::io::Write;

use moerag_encoder::{CrossEncoder, DeviceKind, EncoderError};
use tiny::Tiny;

const WORDS: [&str; 8] = [
    "copper", "roofs", "turn", "green", "why", "do", "bees", "dance",
];

const PAIRS: [(&str, &str); 4] = [
    ("why do copper roofs turn green", "copper roofs turn green"),
    ("why do bees dance", "bees dance"),
    ("why", "green green green bees dance copper roofs do turn"),
    ("", "dance"),
];

fn load(tiny: &Tiny, device: DeviceKind) -> Result<CrossEncoder, EncoderError> {
    CrossEncoder::load(tiny.dir(), device)
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn a_score_depends_on_its_pair_alone() {
    let tiny = Tiny::cross_encoder(&WORDS);
    let network = load(&tiny, DeviceKind::Flex).unwrap();
    let together = network.score(&PAIRS).unwrap();
    assert_eq!(together, network.score(&PAIRS).unwrap(), "deterministic");
    let again = load(&tiny, DeviceKind::Flex).unwrap();
    assert_eq!(together, again.score(&PAIRS).unwrap());
    for (pair, score) in PAIRS.iter().zip(&together) {
        let alone = network.score(&[*pair]).unwrap();
        assert!(near(&alone, &[*score]), "{pair:?}: {alone:?} {score}");
    }
    let mut reversed = PAIRS;
    reversed.reverse();
    let mut scores = network.score(&reversed).unwrap();
    scores.reverse();
    assert!(near(&scores, &together), "{scores:?} {together:?}");
    let mut distinct = together.clone();
    distinct.sort_by(f32::total_cmp);
    assert!(distinct.windows(2).all(|w| w[1] - w[0] > 1e-3));
    assert!(network.score::<&str, &str>(&[]).unwrap().is_empty());
}

#[test]
fn the_two_sides_of_a_pair_are_told_apart() {
    let tiny = Tiny::cross_encoder(&WORDS);
    let network = load(&tiny, DeviceKind::Flex).unwrap();
    // The same tokens at the same places, but for where the first text ends.
    let scores = network
        .score(&[
            ("why do bees", "dance"),
            ("why do", "bees dance"),
            ("dance", "why do bees"),
        ])
        .unwrap();
    assert!((scores[0] - scores[1]).abs() > 1e-3, "{scores:?}");
    assert!((scores[0] - scores[2]).abs() > 1e-3, "{scores:?}");
}

#[test]
fn the_devices_agree() {
    let tiny = Tiny::cross_encoder(&WORDS);
    let flex = load(&tiny, DeviceKind::Flex).unwrap();
    let scores = flex.score(&PAIRS).unwrap();
    for device in [DeviceKind::Ndarray, DeviceKind::Wgpu] {
        if let Err(error) = device.device() {
            // Past the test harness, which keeps what a test says to itself.
            writeln!(std::io::stderr(), "SKIPPED on {device}: {error}").unwrap();
            continue;
        }
        // Three pairs, which wgpu pads to four.
        let other = load(&tiny, device).unwrap().score(&PAIRS[..3]).unwrap();
        assert!(near(&other, &scores[..3]), "{device}: {other:?} {scores:?}");
    }
}

/// The head by hand: with a zero pooler only the biases are left.
#[test]
fn pooler_and_classifier_are_tanh_and_a_linear_layer() {
    let tiny = Tiny::cross_encoder(&WORDS);
    tiny.write_weights(|name, tensor| match name {
        "pooler.dense.weight" => tensor.values.fill(0.0),
        "pooler.dense.bias" => tensor.values.fill(0.5),
        "classifier.weight" => tensor.values.fill(0.25),
        "classifier.bias" => tensor.values.fill(-1.0),
        _ => {}
    });
    let scores = load(&tiny, DeviceKind::Flex)
        .unwrap()
        .score(&PAIRS)
        .unwrap();
    let expected = 32.0 * 0.25 * 0.5f32.tanh() - 1.0;
    assert!(near(&scores, &[expected; 4]), "{scores:?} {expected}");
}

#[test]
fn long_pairs_are_cut_to_the_positions() {
    let tiny = Tiny::cross_encoder(&WORDS);
    let network = load(&tiny, DeviceKind::Flex).unwrap();
    let long = "bees dance ".repeat(500);
    // 128 positions, three specials, one word of the query: what comes after is not read.
    let cut = "bees dance ".repeat(62);
    let scores = network.score(&[("why", &long), ("why", &cut)]).unwrap();
    assert!(scores.iter().all(|score| score.is_finite()));
    assert!((scores[0] - scores[1]).abs() < 1e-5, "{scores:?}");
    assert!(network.score(&[(&long, &long)]).is_ok());
}

#[test]
fn wrong_directories_name_the_file_and_the_remedy() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let tiny = Tiny::cross_encoder(&WORDS);
        fs::remove_file(tiny.dir().join(file)).unwrap();
        let error = load(&tiny, DeviceKind::Flex).unwrap_err();
        assert!(matches!(error, EncoderError::MissingFile { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("cross-encoder file") && text.contains(file),
            "{text}"
        );
        assert!(text.contains("BertForSequenceClassification"), "{text}");
        assert!(!text.contains("model fetch"), "{text}");
    }

    // A sentence encoder has no head.
    let text = load(&Tiny::new(), DeviceKind::Flex)
        .unwrap_err()
        .to_string();
    assert!(text.contains("pooler.dense.weight"), "{text}");

    let tiny = Tiny::cross_encoder(&WORDS);
    tiny.write_weights(|name, tensor| tensor.integers = name == "classifier.bias");
    let text = load(&tiny, DeviceKind::Flex).unwrap_err().to_string();
    assert!(text.contains("`classifier.bias`"), "{text}");

    tiny.write_weights(|name, tensor| {
        if name == "classifier.bias" {
            tensor.values.fill(f32::NAN);
        }
    });
    let error = load(&tiny, DeviceKind::Flex).unwrap_err();
    assert!(matches!(error, EncoderError::NotFinite { .. }), "{error}");
    assert!(error.to_string().starts_with("cross-encoder weights"));
}

#[test]
fn other_networks_are_refused_by_name() {
    for (field, value, part) in [
        (
            "id2label",
            serde_json::json!({"0": "no", "1": "yes"}),
            "2 labels",
        ),
        (
            "architectures",
            serde_json::json!(["RobertaForSequenceClassification"]),
            "Roberta",
        ),
        ("model_type", "electra".into(), "electra"),
        ("max_position_embeddings", 4.into(), "below 5"),
        ("type_vocab_size", 1.into(), "pairs"),
    ] {
        let tiny = Tiny::cross_encoder(&WORDS);
        tiny.edit_config(field, value);
        let error = load(&tiny, DeviceKind::Flex).unwrap_err();
        assert!(matches!(error, EncoderError::Unsupported { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains("use a BERT cross-encoder"),
            "{text}"
        );
    }
}
