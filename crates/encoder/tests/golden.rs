//! The encoder against the original Python implementation, on every device.
//!
//! `tests/golden/encoder.json` holds 50 texts with values from sentence-transformers on PyTorch;
//! `scripts/gen_reference.py` says how they were made. `wgpu` runs where there is an adapter, a
//! software Vulkan driver included, and its absence is announced.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::Path;

use moerag_encoder::{
    DeviceKind, EncodeOptions, Encoder, Encoding, LoadOptions, Precision, default_dir,
};
use serde::Deserialize;

/// The project's bound on the difference to the reference (issue 2).
const BOUND: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    weights_sha256: String,
    max_tokens: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    token_count: usize,
    token_ids: Vec<u32>,
    offsets: Vec<(usize, usize)>,
    vector: Vec<f32>,
    #[serde(default)]
    states: Vec<State>,
    #[serde(default)]
    cls_layers: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct State {
    token: usize,
    state: Vec<f32>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/encoder.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(device: DeviceKind) -> Encoder {
    load_in(device, Precision::F32)
}

fn load_in(device: DeviceKind, precision: Precision) -> Encoder {
    let options = LoadOptions {
        device,
        precision,
        ..LoadOptions::default()
    };
    Encoder::load_with(&default_dir().unwrap(), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The largest difference over vector, token states and CLS states.
fn compare(case: &Case, got: &Encoding, dim: usize) -> f32 {
    let mut worst = difference(&got.vector, &case.vector);
    for state in &case.states {
        let own = &got.states[state.token * dim..][..dim];
        worst = worst.max(difference(own, &state.state));
    }
    for (got, want) in got.cls_layers.iter().zip(&case.cls_layers) {
        worst = worst.max(difference(got, want));
    }
    worst
}

fn check(encoder: &Encoder) {
    let golden = golden();
    assert!(
        encoder
            .space()
            .as_str()
            .contains(&golden.weights_sha256[..12]),
        "the golden values belong to other weights than {}",
        encoder.space()
    );
    let texts: Vec<&str> = golden.cases.iter().map(|case| case.text.as_str()).collect();
    assert!(texts.len() >= 40);
    let options = EncodeOptions {
        cls_layers: true,
        max_tokens: golden.max_tokens,
        windows: 1,
        ..EncodeOptions::passage()
    };
    let encodings = encoder.encode(&texts, &options).unwrap();
    assert_eq!(encodings.len(), golden.cases.len());
    let mut worst = (0.0, "");
    for (case, got) in golden.cases.iter().zip(&encodings) {
        let shown = case.text.chars().take(40).collect::<String>();
        assert_eq!(got.token_ids, case.token_ids, "{shown:?}");
        assert_eq!(got.token_count, case.token_count, "{shown:?}");
        assert_eq!(
            got.truncated,
            case.token_count > golden.max_tokens - 2,
            "{shown:?}"
        );
        assert_eq!(
            got.states.len(),
            got.token_ids.len() * encoder.dim(),
            "{shown:?}"
        );
        assert_eq!(got.cls_layers.len(), 6, "{shown:?}");
        let here = compare(case, got, encoder.dim());
        assert!(here <= BOUND, "{} on {shown:?}: {here}", encoder.device());
        if here > worst.0 {
            worst = (here, &case.text);
        }
    }
    say(&format!(
        "golden: {} differs by {:.1e} at most, on {:?}",
        encoder.device(),
        worst.0,
        worst.1.chars().take(40).collect::<String>()
    ));
}

/// Past the test harness, which keeps what `println!` says to itself.
fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

#[test]
fn flex_equals_the_reference() {
    check(&load(DeviceKind::Flex));
}

#[test]
fn ndarray_equals_the_reference() {
    check(&load(DeviceKind::Ndarray));
}

#[test]
fn wgpu_equals_the_reference() {
    match DeviceKind::Wgpu.device() {
        Ok(_) => check(&load(DeviceKind::Wgpu)),
        Err(error) => say(&format!("SKIPPED: golden test on wgpu: {error}")),
    }
}

/// The 8-bit encoder's vectors point where the reference's do: by cosine, as everything reads them.
#[test]
fn int8_is_close_to_the_reference() {
    let golden = golden();
    let encoder = load_in(DeviceKind::Flex, Precision::Int8);
    let texts: Vec<&str> = golden.cases.iter().map(|case| case.text.as_str()).collect();
    let options = EncodeOptions {
        cls_layers: true,
        max_tokens: golden.max_tokens,
        windows: 1,
        ..EncodeOptions::passage()
    };
    let encodings = encoder.encode(&texts, &options).unwrap();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let (mut vectors, mut states, mut cls) = (1.0f32, 1.0f32, 1.0f32);
    for (case, got) in golden.cases.iter().zip(&encodings) {
        assert_eq!(got.token_ids, case.token_ids);
        vectors = vectors.min(cosine(&got.vector, &case.vector));
        for state in &case.states {
            let own = &got.states[state.token * encoder.dim()..][..encoder.dim()];
            states = states.min(cosine(own, &state.state));
        }
        assert_eq!(got.cls_layers.len(), 6);
        for (got, want) in got.cls_layers.iter().zip(&case.cls_layers) {
            cls = cls.min(cosine(got, want));
        }
    }
    say(&format!(
        "golden: int8, least cosines: vectors {vectors:.4}, token states {states:.4}, CLS {cls:.4}"
    ));
    assert!(vectors > 0.98 && states > 0.95 && cls > 0.95);
}

#[test]
fn offsets_are_bytes_of_the_given_text() {
    let encoder = load(DeviceKind::Flex);
    for case in golden().cases {
        let spans = encoder.tokenizer().spans(&case.text, 254).unwrap();
        let offsets: Vec<_> = spans.iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(offsets, case.offsets, "{:?}", case.text);
        for window in offsets.windows(2) {
            assert!(window[0].0 <= window[1].0, "{:?}", case.text);
        }
        for (start, end) in offsets {
            assert!(
                start < end && case.text.get(start..end).is_some(),
                "{:?}",
                case.text
            );
        }
        assert_eq!(
            encoder.tokenizer().token_count(&case.text),
            case.token_count
        );
    }
}

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    let cases = golden().cases;
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    for (device, precision, bound) in [
        (DeviceKind::Flex, Precision::Int8, 0.0),
        (DeviceKind::Flex, Precision::F32, 1e-5),
        (DeviceKind::Ndarray, Precision::F32, 1e-5),
    ] {
        let encoder = load_in(device, precision);
        let options = EncodeOptions {
            cls_layers: true,
            ..EncodeOptions::passage()
        };
        let together = encoder.encode(&texts, &options).unwrap();
        let backwards: Vec<&str> = texts.iter().rev().copied().collect();
        let backwards = encoder.encode(&backwards, &options).unwrap();
        let others = backwards.into_iter().rev();
        for ((text, batched), other) in texts.iter().zip(&together).zip(others) {
            let alone = encoder.encode(&[text], &options).unwrap().remove(0);
            for version in [&other, &alone] {
                assert!(
                    difference(&batched.vector, &version.vector) <= bound,
                    "{text:?}"
                );
                assert!(
                    difference(&batched.states, &version.states) <= bound,
                    "{text:?}"
                );
                for (a, b) in batched.cls_layers.iter().zip(&version.cls_layers) {
                    assert!(difference(a, b) <= bound, "{text:?}");
                }
            }
        }
    }
}
