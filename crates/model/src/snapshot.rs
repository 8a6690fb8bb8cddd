//! A model version over the whole deployment: the weights of every collection and the prior for
//! those it has not seen (DESIGN.md section 4, "Models against collections").

use std::collections::BTreeMap;
use std::sync::Arc;

use moerag_encoder::DeviceKind;
use moerag_retrieve::{LsiBasis, ViewConfig};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::infer::CollectionModel;
use crate::warmup::{WARMUP_TOLERANCE, Warmup};
use crate::weights::{CollectionWeights, WeightTensor, names};

/// Prefix of a collection's tensors in the file: `collections/<name>/<tensor>`.
const COLLECTIONS: &str = "collections/";

/// Prefix of the default model's tensors in the file.
const DEFAULT: &str = "default/";

/// Tensors of a collection's latent space, beside those of its weights.
const LSI_TERMS: &str = "lsi.terms";
const LSI_SCALES: &str = "lsi.scales";
const LSI_CODES: &str = "lsi.codes";

/// Most collections accepted from one file.
pub const MAX_COLLECTIONS: usize = 10_000;

/// Weights of a whole deployment, without a device.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSnapshot {
    /// The version; 0 is the built-in prior.
    pub version: u64,
    /// What candidates and views the weights were made for.
    pub view_config: ViewConfig,
    /// Weights by collection name.
    pub collections: BTreeMap<String, CollectionWeights>,
    /// Weights for a collection that is not in `collections`.
    pub default: CollectionWeights,
    /// Latent spaces by collection name, for those large enough to have one.
    pub lsi: BTreeMap<String, Arc<LsiBasis>>,
}

impl ModelSnapshot {
    /// Version 0: the built-in prior for every collection.
    pub fn prior(view_config: ViewConfig) -> Self {
        Self {
            version: 0,
            view_config,
            collections: BTreeMap::new(),
            default: CollectionWeights::prior(),
            lsi: BTreeMap::new(),
        }
    }

    /// The weights for `collection`, and whether they are its own (else the default's).
    pub fn weights_for(&self, collection: &str) -> (&CollectionWeights, bool) {
        match self.collections.get(collection) {
            Some(weights) => (weights, true),
            None => (&self.default, false),
        }
    }

    /// sha256 over sorted names, shapes and values of all collections, in hex. The version number
    /// and times are not part of it.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, weights) in &self.collections {
            weights.hash_into(&format!("{COLLECTIONS}{name}/"), &mut hasher);
        }
        self.default.hash_into(DEFAULT, &mut hasher);
        for (name, basis) in &self.lsi {
            for (tensor, dtype, shape, bytes) in lsi_tensors(basis) {
                hasher.update(format!("{COLLECTIONS}{name}/{tensor} {dtype:?} {shape:?}"));
                hasher.update(bytes);
            }
        }
        hex::encode(hasher.finalize())
    }

    /// The `model.safetensors` bytes: little-endian; weights in f32, latent spaces in bytes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Malformed`] when the library refuses (a header above its limit).
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let named = self
            .collections
            .iter()
            .map(|(name, weights)| (format!("{COLLECTIONS}{name}/"), weights))
            .chain([(DEFAULT.to_owned(), &self.default)]);
        let mut tensors = Vec::new();
        for (prefix, weights) in named {
            for (name, tensor) in weights.tensors() {
                let bytes: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
                let name = format!("{prefix}{name}");
                tensors.push((name, Dtype::F32, tensor.shape.clone(), bytes));
            }
        }
        for (collection, basis) in &self.lsi {
            for (name, dtype, shape, bytes) in lsi_tensors(basis) {
                let name = format!("{COLLECTIONS}{collection}/{name}");
                tensors.push((name, dtype, shape, bytes));
            }
        }
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view))
            })
            .collect();
        let views = views.map_err(|error| ModelError::Malformed(error.to_string()))?;
        safetensors::serialize(views, None)
            .map_err(|error| ModelError::Malformed(error.to_string()))
    }

    /// Reads `model.safetensors`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Malformed`] for a file that does not parse, or holds a tensor of another type
    /// than it should have, an unknown name or a latent space that does not fit together; else what
    /// [`CollectionWeights::from_tensors`] refuses.
    pub fn from_safetensors(
        bytes: &[u8],
        version: u64,
        view_config: ViewConfig,
    ) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| ModelError::Malformed(error.to_string()))?;
        if file.len() > (MAX_COLLECTIONS + 1) * (names::ALL.len() + names::OPTIONAL.len() + 3) {
            return Err(ModelError::Malformed(format!(
                "it holds {} tensors",
                file.len()
            )));
        }
        let mut models: BTreeMap<Option<String>, BTreeMap<String, WeightTensor>> = BTreeMap::new();
        let mut lsi: BTreeMap<String, StoredLsi> = BTreeMap::new();
        for (name, view) in file.iter() {
            let unknown = || ModelError::UnknownTensor(name.to_owned());
            if let Some((collection, tensor @ (LSI_TERMS | LSI_SCALES | LSI_CODES))) = name
                .strip_prefix(COLLECTIONS)
                .and_then(|rest| rest.rsplit_once('/'))
            {
                let stored = lsi.entry(collection.to_owned()).or_default();
                stored.put(tensor, &view)?;
                continue;
            }
            if view.dtype() != Dtype::F32 {
                return Err(ModelError::Malformed(format!(
                    "tensor `{name}` is {:?}, expected F32",
                    view.dtype()
                )));
            }
            let (collection, tensor) = match name.strip_prefix(DEFAULT) {
                Some(tensor) => (None, tensor),
                None => {
                    let rest = name.strip_prefix(COLLECTIONS).ok_or_else(unknown)?;
                    // Tensor names hold no slash, so the last one ends the collection's name.
                    let (collection, tensor) = rest.rsplit_once('/').ok_or_else(unknown)?;
                    (Some(collection.to_owned()), tensor)
                }
            };
            let tensor_value = WeightTensor {
                shape: view.shape().to_vec(),
                data: words(view.data()).map(f32::from_le_bytes).collect(),
            };
            models
                .entry(collection)
                .or_default()
                .insert(tensor.to_owned(), tensor_value);
        }
        let default = models
            .remove(&None)
            .ok_or_else(|| ModelError::MissingTensor(format!("{DEFAULT}*")))?;
        let mut collections = BTreeMap::new();
        for (collection, tensors) in models {
            if let Some(collection) = collection {
                collections.insert(collection, CollectionWeights::from_tensors(tensors)?);
            }
        }
        let lsi: Result<_, ModelError> = lsi
            .into_iter()
            .map(|(name, stored)| {
                let basis = stored.finish(&name)?;
                if collections.contains_key(&name) {
                    Ok((name, Arc::new(basis)))
                } else {
                    Err(ModelError::MissingTensor(format!("{COLLECTIONS}{name}/*")))
                }
            })
            .collect();
        Ok(Self {
            version,
            view_config,
            collections,
            default: CollectionWeights::from_tensors(default)?,
            lsi: lsi?,
        })
    }

    /// Puts every collection's weights on a device.
    ///
    /// # Errors
    ///
    /// [`ModelError::Device`] when the device is not there.
    pub fn load(&self, kind: DeviceKind) -> Result<LoadedSnapshot, ModelError> {
        let mut collections = BTreeMap::new();
        for (name, weights) in &self.collections {
            collections.insert(name.clone(), CollectionModel::load(weights, kind)?);
        }
        Ok(LoadedSnapshot {
            version: self.version,
            view_config: self.view_config.clone(),
            device: kind,
            collections,
            default: CollectionModel::load(&self.default, kind)?,
            lsi: self.lsi.clone(),
        })
    }
}

type NamedTensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn lsi_tensors(basis: &LsiBasis) -> [NamedTensor; 3] {
    let n = basis.terms().len();
    let terms = basis.terms().iter().flat_map(|t| t.to_le_bytes());
    let scales = basis.scales().iter().flat_map(|s| s.to_le_bytes());
    let codes = basis.codes().iter().flat_map(|c| c.to_le_bytes());
    [
        (LSI_TERMS, Dtype::U32, vec![n], terms.collect()),
        (LSI_SCALES, Dtype::F32, vec![n], scales.collect()),
        (LSI_CODES, Dtype::I8, vec![n, basis.dims()], codes.collect()),
    ]
}

/// A latent space as it is read, tensor by tensor.
#[derive(Default)]
struct StoredLsi {
    terms: Vec<u32>,
    scales: Vec<f32>,
    codes: Vec<i8>,
}

impl StoredLsi {
    fn put(&mut self, name: &str, view: &TensorView<'_>) -> Result<(), ModelError> {
        let data = view.data();
        match (name, view.dtype()) {
            (LSI_TERMS, Dtype::U32) => self.terms = words(data).map(u32::from_le_bytes).collect(),
            (LSI_SCALES, Dtype::F32) => {
                self.scales = words(data).map(f32::from_le_bytes).collect();
            }
            (LSI_CODES, Dtype::I8) => {
                self.codes = data.iter().map(|b| i8::from_le_bytes([*b])).collect();
            }
            (name, dtype) => {
                return Err(ModelError::Malformed(format!(
                    "tensor `{name}` is {dtype:?}"
                )));
            }
        }
        Ok(())
    }

    fn finish(self, collection: &str) -> Result<LsiBasis, ModelError> {
        LsiBasis::from_parts(self.terms, self.scales, self.codes).ok_or_else(|| {
            ModelError::Malformed(format!(
                "the latent space of `{collection}` does not fit together"
            ))
        })
    }
}

/// Groups of four bytes; safetensors checked that there are no others.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().copied()
}

/// A model version on a device, ready to attend.
#[derive(Debug)]
pub struct LoadedSnapshot {
    /// The version; 0 is the built-in prior.
    pub version: u64,
    /// What candidates and views to compute.
    pub view_config: ViewConfig,
    /// Where it computes.
    pub device: DeviceKind,
    collections: BTreeMap<String, CollectionModel>,
    default: CollectionModel,
    lsi: BTreeMap<String, Arc<LsiBasis>>,
}

impl LoadedSnapshot {
    /// The model for `collection`, and whether it is its own (else the default).
    pub fn model_for(&self, collection: &str) -> (&CollectionModel, bool) {
        match self.collections.get(collection) {
            Some(model) => (model, true),
            None => (&self.default, false),
        }
    }

    /// The latent space of `collection`, if it has one.
    pub fn lsi_for(&self, collection: &str) -> Option<&LsiBasis> {
        self.lsi.get(collection).map(Arc::as_ref)
    }

    /// Runs the warm-up queries and compares; also compiles and caches what a first query would.
    ///
    /// # Errors
    ///
    /// [`ModelError::WarmupMismatch`] for the first case beyond [`WARMUP_TOLERANCE`], or whatever
    /// attending gives.
    pub fn check(&self, warmup: &Warmup) -> Result<(), ModelError> {
        for (case, expected) in warmup.cases.iter().enumerate() {
            let difference = expected.difference(self.model_for(&expected.collection).0)?;
            if difference > WARMUP_TOLERANCE {
                return Err(ModelError::WarmupMismatch {
                    case,
                    collection: expected.collection.clone(),
                    difference,
                    tolerance: WARMUP_TOLERANCE,
                });
            }
        }
        Ok(())
    }
}
