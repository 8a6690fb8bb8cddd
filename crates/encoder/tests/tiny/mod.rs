//! A whole encoder or cross-encoder directory of a few kilobytes, for tests that damage it. The
//! trainer's tests use it too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Hidden size.
pub(crate) const D: usize = 8;
const VOCABULARY: [&str; 6] = ["hello", "world", "a", "b", ",", ":"];
const SPECIALS: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// The directory; removed on drop.
pub(crate) struct Tiny {
    dir: tempfile::TempDir,
    vocabulary: Vec<String>,
    hidden: usize,
    layers: usize,
    positions: usize,
    /// Whether there are pooler and classifier.
    head: bool,
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
        Tiny::make(&VOCABULARY, D, 1, 32, false)
    }

    /// A cross-encoder of two layers that knows these words.
    pub(crate) fn cross_encoder<T: AsRef<str>>(vocabulary: &[T]) -> Self {
        let tiny = Tiny::make(vocabulary, 32, 2, 128, true);
        tiny.edit_config("architectures", json!(["BertForSequenceClassification"]));
        tiny.edit_config("id2label", json!({"0": "LABEL_0"}));
        tiny
    }

    /// An encoder of another width than the default's that knows these words.
    pub(crate) fn encoder<T: AsRef<str>>(vocabulary: &[T], hidden: usize) -> Self {
        Tiny::make(vocabulary, hidden, 2, 128, false)
    }

    fn make<T: AsRef<str>>(
        vocabulary: &[T],
        hidden: usize,
        layers: usize,
        positions: usize,
        head: bool,
    ) -> Self {
        let words = SPECIALS
            .into_iter()
            .chain(vocabulary.iter().map(AsRef::as_ref));
        let tiny = Tiny {
            dir: tempfile::tempdir().unwrap(),
            vocabulary: words.map(str::to_owned).collect(),
            hidden,
            layers,
            positions,
            head,
        };
        let config = json!({
            "model_type": "bert", "hidden_act": "gelu", "vocab_size": tiny.vocabulary.len(),
            "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 2,
            "intermediate_size": 2 * hidden, "max_position_embeddings": positions,
        });
        tiny.write("config.json", &config.to_string());
        let ids: BTreeMap<_, _> = tiny.vocabulary.iter().zip(0..).collect();
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
        self.write_named(if self.head { "bert." } else { "" }, edit);
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
        for (name, shape) in self.shapes() {
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
            // A classifier stands beside the encoder in the file, not in it.
            let prefix = if name.starts_with("classifier.") {
                ""
            } else {
                prefix
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

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (d, wide) = (self.hidden, 2 * self.hidden);
        let mut shapes = vec![
            (
                "embeddings.word_embeddings.weight".to_owned(),
                vec![self.vocabulary.len(), d],
            ),
            (
                "embeddings.position_embeddings.weight".to_owned(),
                vec![self.positions, d],
            ),
            (
                "embeddings.token_type_embeddings.weight".to_owned(),
                vec![2, d],
            ),
            ("embeddings.LayerNorm.weight".to_owned(), vec![d]),
            ("embeddings.LayerNorm.bias".to_owned(), vec![d]),
        ];
        for layer in (0..self.layers).map(|i| format!("encoder.layer.{i}")) {
            for (name, out, input) in [
                ("attention.self.query", d, d),
                ("attention.self.key", d, d),
                ("attention.self.value", d, d),
                ("attention.output.dense", d, d),
                ("intermediate.dense", wide, d),
                ("output.dense", d, wide),
            ] {
                shapes.push((format!("{layer}.{name}.weight"), vec![out, input]));
                shapes.push((format!("{layer}.{name}.bias"), vec![out]));
            }
            for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
                shapes.push((format!("{layer}.{name}.weight"), vec![d]));
                shapes.push((format!("{layer}.{name}.bias"), vec![d]));
            }
        }
        if self.head {
            for (name, out) in [("pooler.dense", d), ("classifier", 1)] {
                shapes.push((format!("{name}.weight"), vec![out, d]));
                shapes.push((format!("{name}.bias"), vec![out]));
            }
        }
        shapes
    }
}
