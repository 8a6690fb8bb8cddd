//! Reads `model.safetensors`, after checking every tensor by name and shape.
//!
//! The check comes first and is ours: burn-store's messages name burn's paths, not the file's, and
//! a user with a mismatched directory needs to know which file and which tensor.

use std::path::{Path, PathBuf};

use burn::store::{
    FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore,
};
use burn::tensor::{DType, Device};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::bert::{Bert, Head};
use crate::config::BertShape;
use crate::error::{EncoderError, Role};

/// The weights file of the Hugging Face layout.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";

/// A weights file, read and checked against the configuration.
pub(crate) struct Weights {
    bytes: Vec<u8>,
    /// What stands before the names of the encoder's tensors.
    prefix: &'static str,
    /// Lower-case hex SHA-256 of the file.
    pub(crate) sha256: String,
}

impl Weights {
    /// Reads `dir`'s weights and checks that they are what `shape` promises.
    pub(crate) fn read(dir: &Path, shape: &BertShape) -> Result<Self, EncoderError> {
        Weights::read_named(dir, |prefix| {
            let own = expected_tensors(shape).into_iter();
            own.map(|(name, shape)| (format!("{prefix}{name}"), shape))
                .collect()
        })
    }

    /// As [`Weights::read`], with pooler and classifier of a cross-encoder.
    pub(crate) fn read_with_head(dir: &Path, shape: &BertShape) -> Result<Self, EncoderError> {
        let d = shape.hidden_size;
        Weights::read_named(dir, |prefix| {
            let own = expected_tensors(shape).into_iter();
            let pooler = [
                ("pooler.dense.weight".to_owned(), vec![d, d]),
                ("pooler.dense.bias".to_owned(), vec![d]),
            ];
            own.chain(pooler)
                .map(|(name, shape)| (format!("{prefix}{name}"), shape))
                .chain([
                    ("classifier.weight".to_owned(), vec![1, d]),
                    ("classifier.bias".to_owned(), vec![1]),
                ])
                .collect()
        })
    }

    /// `expected` names the tensors of a file whose encoder tensors carry the given prefix.
    fn read_named(
        dir: &Path,
        expected: impl FnOnce(&str) -> Vec<(String, Vec<usize>)>,
    ) -> Result<Self, EncoderError> {
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
        for (tensor, expected) in expected(prefix) {
            let Ok(found) = tensors.tensor(&tensor) else {
                let role = Role::default();
                return Err(EncoderError::MissingTensor { role, path, tensor });
            };
            let float = matches!(
                found.dtype(),
                Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64
            );
            if found.shape() != expected || !float {
                return Err(EncoderError::WrongTensor {
                    role: Role::default(),
                    path,
                    tensor,
                    expected: format!("floats of shape {expected:?}"),
                    found: format!("{:?} of shape {:?}", found.dtype(), found.shape()),
                });
            }
        }
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Weights {
            bytes,
            prefix,
            sha256,
        })
    }

    /// The file's tensors one by one.
    pub(crate) fn tensors(&self, dir: &Path) -> Result<Tensors<'_>, EncoderError> {
        let path = dir.join(WEIGHTS_FILE);
        let tensors = SafeTensors::deserialize(&self.bytes)
            .map_err(|error| EncoderError::damaged(&path, error))?;
        Ok(Tensors {
            tensors,
            prefix: self.prefix,
            path,
        })
    }

    /// Builds the module on `device`.
    pub(crate) fn load(
        self,
        dir: &Path,
        shape: &BertShape,
        device: &Device,
    ) -> Result<Bert, EncoderError> {
        fill(shape.init(device), self.bytes, dir)
    }

    /// Builds the encoder and the head of a cross-encoder on `device`.
    pub(crate) fn load_with_head(
        self,
        dir: &Path,
        shape: &BertShape,
        device: &Device,
    ) -> Result<(Bert, Head), EncoderError> {
        let head = fill(shape.init_head(device), self.bytes.clone(), dir)?;
        Ok((fill(shape.init(device), self.bytes, dir)?, head))
    }
}

/// Tensors of a checked file, as f32.
pub(crate) struct Tensors<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
    path: PathBuf,
}

impl Tensors<'_> {
    /// The elements of a tensor of the encoder, named without prefix.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>, EncoderError> {
        let view = self
            .tensors
            .tensor(&format!("{}{name}", self.prefix))
            .map_err(|error| EncoderError::damaged(&self.path, error))?;
        let bytes = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F16 => halves(bytes, |half| f16::from_le_bytes(half).to_f32()),
            Dtype::BF16 => halves(bytes, |half| bf16::from_le_bytes(half).to_f32()),
            Dtype::F64 => {
                let (words, _) = bytes.as_chunks::<8>();
                words
                    .iter()
                    .map(|x| f64::from_le_bytes(*x) as f32)
                    .collect()
            }
            // The check at reading leaves nothing else.
            _ => {
                let (words, _) = bytes.as_chunks::<4>();
                words.iter().map(|x| f32::from_le_bytes(*x)).collect()
            }
        };
        // Quantised, they would look like any other number.
        if values.iter().any(|x| !x.is_finite()) {
            return Err(EncoderError::NotFinite {
                role: Role::default(),
                path: self.path.clone(),
            });
        }
        Ok(values)
    }
}

fn halves(bytes: &[u8], read: impl Fn([u8; 2]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|x| read(*x)).collect()
}

/// Gives `module` its tensors of the file; the file's other tensors are left alone.
fn fill<M: ModuleSnapshot>(mut module: M, bytes: Vec<u8>, dir: &Path) -> Result<M, EncoderError> {
    let mut store = SafetensorsStore::from_bytes(Some(bytes))
        .with_from_adapter(PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32)))
        .with_key_remapping(r"^bert\.", "")
        .with_key_remapping(r"attention\.self\.", "attention.")
        .with_key_remapping("LayerNorm", "layer_norm");
    module
        .load_from(&mut store)
        .map_err(|error| EncoderError::damaged(&dir.join(WEIGHTS_FILE), error))?;
    Ok(module)
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
