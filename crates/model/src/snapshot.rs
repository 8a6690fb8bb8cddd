//! A model version over the whole deployment: the weights of every collection and the prior for
//! those it has not seen (DESIGN.md section 4, "Models against collections").

use std::collections::BTreeMap;

use moerag_encoder::DeviceKind;
use moerag_retrieve::ViewConfig;
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
}

impl ModelSnapshot {
    /// Version 0: the built-in prior for every collection.
    pub fn prior(view_config: ViewConfig) -> Self {
        Self {
            version: 0,
            view_config,
            collections: BTreeMap::new(),
            default: CollectionWeights::prior(),
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
        hex::encode(hasher.finalize())
    }

    /// The `model.safetensors` bytes: f32, little-endian, sorted names.
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
                tensors.push((format!("{prefix}{name}"), tensor.shape.clone(), bytes));
            }
        }
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name, view))
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
    /// [`ModelError::Malformed`] for a file that does not parse, holds another type than f32 or an
    /// unknown name; else what [`CollectionWeights::from_tensors`] refuses.
    pub fn from_safetensors(
        bytes: &[u8],
        version: u64,
        view_config: ViewConfig,
    ) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| ModelError::Malformed(error.to_string()))?;
        if file.len() > (MAX_COLLECTIONS + 1) * names::ALL.len() {
            return Err(ModelError::Malformed(format!(
                "it holds {} tensors",
                file.len()
            )));
        }
        let mut models: BTreeMap<Option<String>, BTreeMap<String, WeightTensor>> = BTreeMap::new();
        for (name, view) in file.iter() {
            let unknown = || ModelError::UnknownTensor(name.to_owned());
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
            let data = view
                .data()
                .chunks_exact(4)
                .map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
                .collect();
            let tensor_value = WeightTensor {
                shape: view.shape().to_vec(),
                data,
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
        Ok(Self {
            version,
            view_config,
            collections,
            default: CollectionWeights::from_tensors(default)?,
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
        })
    }
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
}

impl LoadedSnapshot {
    /// The model for `collection`, and whether it is its own (else the default).
    pub fn model_for(&self, collection: &str) -> (&CollectionModel, bool) {
        match self.collections.get(collection) {
            Some(model) => (model, true),
            None => (&self.default, false),
        }
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
