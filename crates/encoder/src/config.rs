//! Reads what an encoder directory says about itself.
//!
//! The Hugging Face layout spreads it over `config.json` (the network), `modules.json` and
//! `1_Pooling/config.json` (pooling), `sentence_bert_config.json` (length) and
//! `config_sentence_transformers.json` (prefixes). Only the first is required. Whatever this crate
//! does not compute is refused here, so that no encoder is ever run as something it is not.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::EncoderError;

/// The file that describes the network.
const CONFIG_FILE: &str = "config.json";
const LENGTH_FILE: &str = "sentence_bert_config.json";
/// A text has CLS, SEP and something between.
const LEAST_TOKENS: usize = 3;

/// How token states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Mean over all tokens, CLS and SEP included, as sentence-transformers does it.
    Mean,
    /// The CLS state.
    Cls,
}

/// The dimensions of a BERT encoder; the fields of `config.json` that matter here.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct BertShape {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "bert_eps")]
    pub(crate) layer_norm_eps: f64,
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn two() -> usize {
    2
}

fn bert_eps() -> f64 {
    1e-12
}

/// Everything an encoder directory says about itself, checked.
#[derive(Clone, Debug)]
pub(crate) struct EncoderConfig {
    pub(crate) bert: BertShape,
    pub(crate) pooling: Pooling,
    pub(crate) query_prefix: String,
    pub(crate) passage_prefix: String,
    /// The longest text that the encoder is meant for, in tokens, CLS and SEP included.
    pub(crate) max_tokens: usize,
}

/// What `config.json` says about a classifier.
#[derive(Deserialize, Default)]
struct HeadFile {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    id2label: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize, Default)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

#[derive(Deserialize)]
struct ModuleEntry {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
struct LengthFile {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize, Default)]
struct PromptsFile {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
}

impl EncoderConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, EncoderError> {
        let bert = BertShape::read(dir)?;
        check_modules(dir)?;
        let prompts = optional::<PromptsFile>(&dir.join("config_sentence_transformers.json"))?;
        let prompt = |names: &[&str]| {
            let found = names.iter().find_map(|name| prompts.prompts.get(*name));
            found.cloned().unwrap_or_default()
        };
        let length = optional::<LengthFile>(&dir.join(LENGTH_FILE))?;
        let positions = bert.max_position_embeddings;
        let max_tokens = length.max_seq_length.unwrap_or(positions).min(positions);
        if max_tokens < LEAST_TOKENS {
            let reason =
                format!("a text may have {max_tokens} tokens, expected {LEAST_TOKENS} or more");
            return Err(EncoderError::damaged(&dir.join(LENGTH_FILE), reason));
        }
        Ok(EncoderConfig {
            pooling: read_pooling(dir)?,
            query_prefix: prompt(&["query"]),
            passage_prefix: prompt(&["passage", "document"]),
            max_tokens,
            bert,
        })
    }
}

impl BertShape {
    /// The network that `dir`'s `config.json` describes.
    pub(crate) fn read(dir: &Path) -> Result<Self, EncoderError> {
        let path = dir.join(CONFIG_FILE);
        let bert = read_json(&path)?.ok_or_else(|| EncoderError::missing(&path))?;
        check_bert(&bert, &path)?;
        Ok(bert)
    }
}

/// Refuses a `config.json` that is not a classifier with one label; what it leaves out is found by
/// the shape of the classifier's tensors.
pub(crate) fn check_one_label(dir: &Path) -> Result<(), EncoderError> {
    let path = dir.join(CONFIG_FILE);
    let head: HeadFile = optional(&path)?;
    let wanted = "BertForSequenceClassification";
    if let Some(names) = &head.architectures
        && !names.iter().any(|name| name == wanted)
    {
        let what = format!("architecture {names:?}");
        return Err(EncoderError::unsupported(&path, what));
    }
    match head.id2label.map(|labels| labels.len()) {
        None | Some(1) => Ok(()),
        Some(labels) => {
            let what = format!("a classifier of {labels} labels");
            Err(EncoderError::unsupported(&path, what))
        }
    }
}

fn check_bert(bert: &BertShape, path: &Path) -> Result<(), EncoderError> {
    let refuse = |what: String| Err(EncoderError::unsupported(path, what));
    if let Some(kind) = bert.model_type.as_deref().filter(|kind| *kind != "bert") {
        return refuse(format!("model_type `{kind}`"));
    }
    if let Some(act) = bert.hidden_act.as_deref().filter(|act| *act != "gelu") {
        return refuse(format!("hidden_act `{act}`"));
    }
    if let Some(kind) = bert
        .position_embedding_type
        .as_deref()
        .filter(|kind| *kind != "absolute")
    {
        return refuse(format!("position_embedding_type `{kind}`"));
    }
    let sizes = [
        ("vocab_size", bert.vocab_size, 1 << 21),
        ("hidden_size", bert.hidden_size, 1 << 13),
        ("num_hidden_layers", bert.num_hidden_layers, 1 << 7),
        ("num_attention_heads", bert.num_attention_heads, 1 << 8),
        ("intermediate_size", bert.intermediate_size, 1 << 15),
        (
            "max_position_embeddings",
            bert.max_position_embeddings,
            1 << 16,
        ),
        ("type_vocab_size", bert.type_vocab_size, 1 << 8),
    ];
    // The upper bounds keep a mangled config from allocating the machine's memory.
    for (name, size, most) in sizes {
        if size == 0 || size > most {
            return Err(EncoderError::damaged(
                path,
                format!("{name} is {size}, expected 1 to {most}"),
            ));
        }
    }
    if !bert.hidden_size.is_multiple_of(bert.num_attention_heads) {
        return Err(EncoderError::damaged(
            path,
            format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                bert.hidden_size, bert.num_attention_heads
            ),
        ));
    }
    Ok(())
}

fn check_modules(dir: &Path) -> Result<(), EncoderError> {
    let path = dir.join("modules.json");
    let modules: Vec<ModuleEntry> = read_json(&path)?.unwrap_or_default();
    for module in modules {
        let name = module.kind.rsplit('.').next().unwrap_or_default();
        if !["Transformer", "Pooling", "Normalize"].contains(&name) {
            return Err(EncoderError::unsupported(
                &path,
                format!("module `{}`", module.kind),
            ));
        }
    }
    Ok(())
}

fn read_pooling(dir: &Path) -> Result<Pooling, EncoderError> {
    let path = dir.join("1_Pooling").join("config.json");
    let Some(file) = read_json::<PoolingFile>(&path)? else {
        return Ok(Pooling::Mean);
    };
    let other = file.pooling_mode_max_tokens || file.pooling_mode_mean_sqrt_len_tokens;
    match (
        file.pooling_mode_mean_tokens,
        file.pooling_mode_cls_token,
        other,
    ) {
        (true, false, false) => Ok(Pooling::Mean),
        (false, true, false) => Ok(Pooling::Cls),
        _ => Err(EncoderError::unsupported(&path, "this pooling mode")),
    }
}

fn optional<T: DeserializeOwned + Default>(path: &Path) -> Result<T, EncoderError> {
    Ok(read_json(path)?.unwrap_or_default())
}

/// `None` when the file is absent.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EncoderError> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EncoderError::reading(path, error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| EncoderError::damaged(path, error))
}
