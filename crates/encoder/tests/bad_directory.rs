//! Encoder directories that are not right: each gives an error that names the file and the remedy.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tiny;

use std::fs;
use std::path::Path;

use moerag_encoder::{DeviceKind, EncodeOptions, Encoder, EncoderError};
use tiny::Tiny;

fn load(dir: &Path) -> Result<Encoder, EncoderError> {
    Encoder::load(dir, DeviceKind::Flex)
}

fn refused(dir: &Path) -> EncoderError {
    let error = load(dir).expect_err("this directory must be refused");
    if !matches!(error, EncoderError::NotFinite { .. }) {
        let checked = Encoder::check(dir).expect_err("so must its files");
        assert_eq!(checked.to_string(), error.to_string());
    }
    error
}

#[test]
fn a_tiny_encoder_loads_so_the_others_fail_for_their_own_reason() {
    let tiny = Tiny::new();
    let encoder = load(tiny.dir()).unwrap();
    assert_eq!(encoder.dim(), tiny::D);
    let got = encoder
        .encode(&["Hello, world"], &EncodeOptions::query())
        .unwrap()
        .remove(0);
    assert_eq!(got.token_ids.len(), 3);
    assert_eq!(got.states.len(), 3 * tiny::D);
    let norm: f32 = got.vector.iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-5);
}

#[test]
fn a_missing_file_is_named_with_the_command_that_gets_it() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let tiny = Tiny::new();
        fs::remove_file(tiny.dir().join(file)).unwrap();
        let error = refused(tiny.dir());
        assert!(matches!(error, EncoderError::MissingFile { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(file) && text.contains("moerag model fetch"),
            "{text}"
        );
        assert!(text.contains("MOERAG_ENCODER_DIR"), "{text}");
    }
    let error = refused(Path::new("/nonexistent/encoder"));
    assert!(matches!(error, EncoderError::MissingFile { .. }), "{error}");
}

#[test]
fn a_wrong_shape_is_named_with_its_tensor() {
    let tiny = Tiny::new();
    tiny.edit_config("intermediate_size", 24);
    let error = refused(tiny.dir()).to_string();
    assert!(
        error.contains("encoder.layer.0.intermediate.dense.weight"),
        "{error}"
    );
    assert!(
        error.contains("[24, 8]") && error.contains("[16, 8]"),
        "{error}"
    );
    assert!(error.contains("moerag model fetch"), "{error}");
}

#[test]
fn a_missing_tensor_is_named() {
    let tiny = Tiny::new();
    tiny.edit_config("num_hidden_layers", 2);
    let error = refused(tiny.dir());
    assert!(
        matches!(error, EncoderError::MissingTensor { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("encoder.layer.1."), "{error}");
}

#[test]
fn integer_weights_are_refused() {
    let tiny = Tiny::new();
    tiny.write_weights(|name, tensor| {
        if name == "embeddings.LayerNorm.bias" {
            tensor.integers = true;
        }
    });
    let error = refused(tiny.dir());
    assert!(matches!(error, EncoderError::WrongTensor { .. }), "{error}");
    assert!(
        error.to_string().contains("embeddings.LayerNorm.bias"),
        "{error}"
    );
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() * 2 / 3].to_vec()
}

fn garble(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

fn empty(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

#[test]
fn damaged_files_are_refused() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        for damage in [cut, garble, empty] {
            let tiny = Tiny::new();
            let path = tiny.dir().join(file);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, damage(&bytes)).unwrap();
            let error = refused(tiny.dir());
            assert!(
                matches!(error, EncoderError::Damaged { .. }),
                "{file}: {error}"
            );
            assert!(error.to_string().contains(file), "{error}");
        }
    }
}

#[test]
fn nan_weights_are_refused() {
    let tiny = Tiny::new();
    tiny.write_weights(|name, tensor| {
        if name == "encoder.layer.0.output.dense.weight" {
            tensor.values[3] = f32::NAN;
        }
    });
    assert!(matches!(
        refused(tiny.dir()),
        EncoderError::NotFinite { .. }
    ));
}

#[test]
fn a_tokenizer_of_another_encoder_is_refused() {
    let tiny = Tiny::new();
    tiny.edit_config("vocab_size", 5);
    let error = refused(tiny.dir());
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn nonsense_sizes_are_refused_before_anything_is_allocated() {
    for (field, value) in [
        ("hidden_size", 0u64),
        ("hidden_size", u64::from(u32::MAX)),
        ("num_attention_heads", 3),
        ("num_hidden_layers", 1 << 40),
    ] {
        let tiny = Tiny::new();
        tiny.edit_config(field, value);
        let error = refused(tiny.dir());
        assert!(
            error.to_string().contains("config.json"),
            "{field} {value}: {error}"
        );
    }
}

#[test]
fn what_this_crate_does_not_compute_is_refused() {
    for (file, content) in [
        (
            "modules.json",
            r#"[{"type":"sentence_transformers.models.Dense"}]"#,
        ),
        (
            "1_Pooling/config.json",
            r#"{"pooling_mode_max_tokens":true}"#,
        ),
    ] {
        let tiny = Tiny::new();
        tiny.write(file, content);
        let error = refused(tiny.dir());
        assert!(matches!(error, EncoderError::Unsupported { .. }), "{error}");
    }
    let tiny = Tiny::new();
    tiny.edit_config("model_type", "roberta");
    assert!(refused(tiny.dir()).to_string().contains("roberta"));
}

#[test]
fn texts_that_could_have_no_token_are_refused() {
    for length in [0, 1, 2] {
        let tiny = Tiny::new();
        let file = format!(r#"{{"max_seq_length":{length}}}"#);
        tiny.write("sentence_bert_config.json", &file);
        let error = load(tiny.dir()).unwrap_err().to_string();
        assert!(error.contains("sentence_bert_config.json"), "{error}");
        assert!(error.contains("expected 3 or more"), "{error}");
    }
}

#[test]
fn prefixes_pooling_and_length_come_from_the_directory() {
    let plain = Tiny::new();
    let marked = Tiny::new();
    marked.write(
        "config_sentence_transformers.json",
        r#"{"prompts":{"query":"hello: ","document":"world "}}"#,
    );
    marked.write("sentence_bert_config.json", r#"{"max_seq_length":8}"#);
    let (plain, marked) = (load(plain.dir()).unwrap(), load(marked.dir()).unwrap());
    assert_ne!(plain.space(), marked.space());
    assert!(
        marked.space().as_str().contains("hello: "),
        "{}",
        marked.space()
    );
    assert_eq!((plain.max_tokens(), marked.max_tokens()), (32, 8));
    let encode = |encoder: &Encoder, text: &str, options: &EncodeOptions<'_>| {
        encoder.encode(&[text], options).unwrap().remove(0)
    };
    let wanted = encode(&plain, "hello: a b", &EncodeOptions::query());
    let got = encode(&marked, "a b", &EncodeOptions::query());
    assert_eq!(got.vector, wanted.vector);
    assert_eq!(got.states, wanted.states[2 * tiny::D..]);
    assert_eq!(got.offsets, [(0, 1), (2, 3)]);
    assert_eq!((got.token_count, got.truncated), (2, false));
    assert_ne!(
        encode(&marked, "a b", &EncodeOptions::passage()).vector,
        got.vector
    );
    let long = encode(&marked, "a b a b a b a b", &EncodeOptions::query());
    assert_eq!(
        (long.token_count, long.token_ids.len(), long.truncated),
        (8, 4, true)
    );
    // Windows of four tokens after the prefix's two: the second reads two anew, with two before them.
    let windows = EncodeOptions {
        windows: 2,
        ..EncodeOptions::query()
    };
    let both = encode(&marked, "a b a b a b a b", &windows);
    assert_eq!(both.vector, long.vector);
    assert_eq!(both.states[..4 * tiny::D], long.states);
    let second = encode(&marked, "a b a b", &EncodeOptions::query());
    assert_eq!(both.states[4 * tiny::D..], second.states[2 * tiny::D..]);
    assert_eq!(both.offsets[3..], [(6, 7), (8, 9), (10, 11)]);
    assert_eq!((both.token_ids.len(), both.truncated), (6, true));
    let tight = EncodeOptions {
        max_tokens: 3,
        ..EncodeOptions::query()
    };
    let none = encode(&marked, "a b", &tight);
    assert_eq!((none.token_ids.len(), none.truncated), (0, true));
    assert!(none.states.is_empty());
    let error = marked
        .encode(
            &["a"],
            &EncodeOptions {
                max_tokens: 2,
                ..tight
            },
        )
        .unwrap_err();
    assert!(matches!(error, EncoderError::MaxTokens(2)), "{error}");
}

#[test]
fn cls_pooling_and_half_precision_and_a_task_prefix_load() {
    let plain = Tiny::new();
    let other = Tiny::new();
    other.write(
        "1_Pooling/config.json",
        r#"{"pooling_mode_cls_token":true}"#,
    );
    other.write_weights(|_, tensor| tensor.half = true);
    other.prefix_weights("bert.");
    let (plain, other) = (load(plain.dir()).unwrap(), load(other.dir()).unwrap());
    let options = EncodeOptions {
        cls_layers: true,
        ..EncodeOptions::query()
    };
    let encode = |encoder: &Encoder| encoder.encode(&["hello"], &options).unwrap().remove(0);
    let (plain, other) = (encode(&plain), encode(&other));
    let cls = &plain.cls_layers[0];
    let norm = cls.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (want, got) in cls.iter().zip(&other.vector) {
        assert!((want / norm - got).abs() < 5e-3, "{want} {got}");
    }
    assert_ne!(plain.vector, other.vector);
}
