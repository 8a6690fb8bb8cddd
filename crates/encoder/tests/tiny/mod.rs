//! A whole encoder directory of a few kilobytes, for tests that damage it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Hidden size.
pub(crate) const D: usize = 8;
const WIDE: usize = 16;
const VOCABULARY: [&str; 10] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "a", "b", ",", ":",
];

/// The directory; removed on drop.
pub(crate) struct Tiny {
    dir: tempfile::TempDir,
}

/// A tensor about to be written.
pub(crate) struct Draft {
    pub(crate) values: Vec<f32>,
    pub(crate) integers: bool,
    pub(crate) half: bool,
    shape: Vec<usize>,
}

#[allow(dead_code, reason = "not every test file uses all of it")]
impl Tiny {
    pub(crate) fn new() -> Self {
        let tiny = Tiny {
            dir: tempfile::tempdir().unwrap(),
        };
        let config = json!({
            "model_type": "bert", "hidden_act": "gelu", "vocab_size": VOCABULARY.len(),
            "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": WIDE, "max_position_embeddings": 32,
        });
        tiny.write("config.json", &config.to_string());
        let ids: BTreeMap<_, _> = VOCABULARY.iter().zip(0..).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [], "decoder": null,
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": ids,
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        });
        tiny.write("tokenizer.json", &tokenizer.to_string());
        tiny.write_weights(|_, _| ());
        tiny
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, file: &str, content: &str) {
        let path = self.dir().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn edit_config(&self, field: &str, value: impl Into<Value>) {
        let path = self.dir().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value.into();
        fs::write(path, config.to_string()).unwrap();
    }

    /// Writes fixed pseudo-random weights, after `edit` has seen each tensor.
    pub(crate) fn write_weights(&self, edit: impl Fn(&str, &mut Draft)) {
        self.write_named("", edit);
    }

    /// Renames all tensors of half-precision weights.
    pub(crate) fn prefix_weights(&self, prefix: &str) {
        self.write_named(prefix, |_, tensor| tensor.half = true);
    }

    fn write_named(&self, prefix: &str, edit: impl Fn(&str, &mut Draft)) {
        let mut state = 12345u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut stored = Vec::new();
        for (name, shape) in shapes() {
            let mut draft = Draft {
                values: (0..shape.iter().product()).map(|_| next()).collect(),
                integers: false,
                half: false,
                shape,
            };
            edit(&name, &mut draft);
            let kind = match (draft.integers, draft.half) {
                (true, _) => Dtype::I32,
                (_, true) => Dtype::BF16,
                _ => Dtype::F32,
            };
            let bytes: Vec<u8> = if draft.half {
                draft
                    .values
                    .iter()
                    .flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes())
                    .collect()
            } else {
                draft.values.iter().flat_map(|x| x.to_le_bytes()).collect()
            };
            stored.push((format!("{prefix}{name}"), kind, draft.shape, bytes));
        }
        let views = stored.iter().map(|(name, kind, shape, bytes)| {
            (
                name.clone(),
                TensorView::new(*kind, shape.clone(), bytes).unwrap(),
            )
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        fs::write(self.dir().join("model.safetensors"), bytes).unwrap();
    }
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        (
            "embeddings.word_embeddings.weight".to_owned(),
            vec![VOCABULARY.len(), D],
        ),
        (
            "embeddings.position_embeddings.weight".to_owned(),
            vec![32, D],
        ),
        (
            "embeddings.token_type_embeddings.weight".to_owned(),
            vec![2, D],
        ),
        ("embeddings.LayerNorm.weight".to_owned(), vec![D]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![D]),
    ];
    let layer = "encoder.layer.0";
    for (name, out, input) in [
        ("attention.self.query", D, D),
        ("attention.self.key", D, D),
        ("attention.self.value", D, D),
        ("attention.output.dense", D, D),
        ("intermediate.dense", WIDE, D),
        ("output.dense", D, WIDE),
    ] {
        shapes.push((format!("{layer}.{name}.weight"), vec![out, input]));
        shapes.push((format!("{layer}.{name}.bias"), vec![out]));
    }
    for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
        shapes.push((format!("{layer}.{name}.weight"), vec![D]));
        shapes.push((format!("{layer}.{name}.bias"), vec![D]));
    }
    shapes
}
