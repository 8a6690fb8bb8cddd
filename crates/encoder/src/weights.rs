//! Loads `model.safetensors` into the burn module, after checking every tensor by name and shape.
//!
//! The check comes first and is ours: burn-store's messages name burn's paths, not the file's, and
//! a user with a mismatched directory needs to know which file and which tensor.

use std::path::Path;

use burn::store::{
    FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore,
};
use burn::tensor::{DType, Device};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::bert::Bert;
use crate::config::BertShape;
use crate::error::EncoderError;

/// The weights file of the Hugging Face layout.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";

/// A weights file, read and checked against the configuration.
pub(crate) struct Weights {
    bytes: Vec<u8>,
    /// Lower-case hex SHA-256 of the file.
    pub(crate) sha256: String,
}

impl Weights {
    /// Reads `dir`'s weights and checks that they are what `shape` promises.
    pub(crate) fn read(dir: &Path, shape: &BertShape) -> Result<Self, EncoderError> {
        let path = dir.join(WEIGHTS_FILE);
        let bytes = fs_err::read(&path).map_err(|error| EncoderError::reading(&path, error))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| EncoderError::damaged(&path, error))?;
        // Checkpoints saved from a task model carry a `bert.` prefix.
        let prefix = if tensors
            .tensor("bert.embeddings.word_embeddings.weight")
            .is_ok()
        {
            "bert."
        } else {
            ""
        };
        for (name, expected) in expected_tensors(shape) {
            let tensor = format!("{prefix}{name}");
            let Ok(found) = tensors.tensor(&tensor) else {
                return Err(EncoderError::MissingTensor { path, tensor });
            };
            let float = matches!(
                found.dtype(),
                Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64
            );
            if found.shape() != expected || !float {
                return Err(EncoderError::WrongTensor {
                    path,
                    tensor,
                    expected: format!("floats of shape {expected:?}"),
                    found: format!("{:?} of shape {:?}", found.dtype(), found.shape()),
                });
            }
        }
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Weights { bytes, sha256 })
    }

    /// Builds the module on `device`.
    pub(crate) fn load(
        self,
        dir: &Path,
        shape: &BertShape,
        device: &Device,
    ) -> Result<Bert, EncoderError> {
        let mut bert = shape.init(device);
        let mut store = SafetensorsStore::from_bytes(Some(self.bytes))
            .with_from_adapter(PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32)))
            .with_key_remapping(r"^bert\.", "")
            .with_key_remapping(r"attention\.self\.", "attention.")
            .with_key_remapping("LayerNorm", "layer_norm");
        bert.load_from(&mut store)
            .map_err(|error| EncoderError::damaged(&dir.join(WEIGHTS_FILE), error))?;
        Ok(bert)
    }
}

/// Names and shapes of the tensors that a BERT encoder of this shape needs, as PyTorch stores
/// them (a linear layer is `[out, in]`).
fn expected_tensors(shape: &BertShape) -> Vec<(String, Vec<usize>)> {
    let (d, wide) = (shape.hidden_size, shape.intermediate_size);
    let mut expected = Vec::new();
    let mut add = |name: String, shape: &[usize]| expected.push((name, shape.to_vec()));
    for (name, rows) in [
        ("word", shape.vocab_size),
        ("position", shape.max_position_embeddings),
        ("token_type", shape.type_vocab_size),
    ] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, d]);
    }
    add("embeddings.LayerNorm.weight".to_owned(), &[d]);
    add("embeddings.LayerNorm.bias".to_owned(), &[d]);
    for i in 0..shape.num_hidden_layers {
        for (name, out, input) in [
            ("attention.self.query", d, d),
            ("attention.self.key", d, d),
            ("attention.self.value", d, d),
            ("attention.output.dense", d, d),
            ("intermediate.dense", wide, d),
            ("output.dense", d, wide),
        ] {
            add(format!("encoder.layer.{i}.{name}.weight"), &[out, input]);
            add(format!("encoder.layer.{i}.{name}.bias"), &[out]);
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(format!("encoder.layer.{i}.{name}.weight"), &[d]);
            add(format!("encoder.layer.{i}.{name}.bias"), &[d]);
        }
    }
    expected
}
