//! The device-free form of one collection's model: named f32 tensors (DESIGN.md section 4,
//! "Checkpoint contents").
//!
//! Everything that reads weights from outside the process goes through
//! [`CollectionWeights::from_tensors`], so names, shapes, finiteness and ranges are checked in one
//! place and the rest of the crate can rely on them.

use std::collections::BTreeMap;

use moerag_retrieve::GATE_INPUTS;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::classifier::LinearClassifier;
use crate::error::ModelError;
use crate::features::{GateFeatures, Standardiser};
use crate::layout::{HeadLayout, feedback_head};
use crate::prior::{HEAD_COLUMNS, LEVELS, NUM_VIEWS, QUERY_TYPES, START_ALPHA};
use crate::single::SingleHead;

/// Length of the gate's input `x`: the gate inputs and the level posterior.
pub const GATE_FEATURES: usize = GATE_INPUTS + LEVELS.len();

/// Widest query vector accepted from a file; a bound, not a choice.
const MAX_QUERY_DIM: usize = 16_384;

/// Tensor names, sorted as in the file.
pub mod names {
    /// Bias of the gate's linear layer, `[heads]`.
    pub const GATE_BIAS: &str = "gate.bias";
    /// Learned log of the static gate, `[heads]`; starts at `ln g0`.
    pub const GATE_LOG_BIAS: &str = "gate.log_bias";
    /// The prior gate `g0`, `[heads]`, summing to 1; not trained.
    pub const GATE_PRIOR: &str = "gate.prior";
    /// Weight of the gate's linear layer, `[62, heads]`.
    pub const GATE_WEIGHT: &str = "gate.weight";
    /// Log of the heads' temperatures, `[heads]`.
    pub const HEAD_LOG_TEMPERATURE: &str = "heads.log_temperature";
    /// Which views each head reads, `[heads, 14]`, 0 or 1; not trained.
    pub const HEAD_MASK: &str = "heads.mask";
    /// In-head weights before softplus, `[heads, 14]`.
    pub const HEAD_RAW: &str = "heads.raw";
    /// Bias of the level classifier, `[6]`.
    pub const LEVEL_BIAS: &str = "level.bias";
    /// Weight of the level classifier, `[6, 56]`.
    pub const LEVEL_WEIGHT: &str = "level.weight";
    /// Log of `alpha`, `[1]`.
    pub const LOG_ALPHA: &str = "mixture.log_alpha";
    /// Mean of the gate's input over the synthetic queries, `[62]`.
    pub const STANDARD_MEAN: &str = "standardiser.mean";
    /// Standard deviation of the same, `[62]`, above 0.
    pub const STANDARD_SD: &str = "standardiser.sd";
    /// Bias of the query-type classifier, `[8]`.
    pub const TYPE_BIAS: &str = "type.bias";
    /// Weight of the query-type classifier, `[8, d_model]`; `[8, 0]` when it is untrained.
    pub const TYPE_WEIGHT: &str = "type.weight";

    /// Weights of the linear head, `[13]`; only with [`LINEAR_SHARE`].
    pub const LINEAR_WEIGHT: &str = "linear.weight";
    /// What the linear head takes of the weights of the first stage, `[1]`, above 0, at most 1; only with
    /// [`LINEAR_WEIGHT`].
    pub const LINEAR_SHARE: &str = "linear.share";

    /// Those that only mixtures with a linear head have.
    pub const OPTIONAL: [&str; 2] = [LINEAR_SHARE, LINEAR_WEIGHT];

    /// Those that every mixture has, sorted.
    pub const ALL: [&str; 14] = [
        GATE_BIAS,
        GATE_LOG_BIAS,
        GATE_PRIOR,
        GATE_WEIGHT,
        HEAD_LOG_TEMPERATURE,
        HEAD_MASK,
        HEAD_RAW,
        LEVEL_BIAS,
        LEVEL_WEIGHT,
        LOG_ALPHA,
        STANDARD_MEAN,
        STANDARD_SD,
        TYPE_BIAS,
        TYPE_WEIGHT,
    ];
}

/// A dense f32 tensor, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Lengths of the dimensions.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl WeightTensor {
    /// A tensor of `shape` with `data`; [`CollectionWeights::from_tensors`] checks that they fit.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self {
            shape: shape.into(),
            data,
        }
    }
}

/// Heads, gate, standardiser and classifiers of one collection. Always valid: the names are
/// [`names::ALL`] and all or none of [`names::OPTIONAL`], shapes fit, every value is finite and within its
/// range.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionWeights {
    tensors: BTreeMap<String, WeightTensor>,
}

impl CollectionWeights {
    /// The built-in untrained mixture, version 0: the gate is `g0` for every query, the level and
    /// type posteriors are uniform.
    pub fn prior() -> Self {
        Self::of_layout(&HeadLayout::default())
    }

    /// The untrained mixture of other heads.
    pub fn of_layout(layout: &HeadLayout) -> Self {
        let (heads, gate) = (layout.len(), layout.gate());
        let tensors = [
            (names::HEAD_RAW, vec![heads, HEAD_COLUMNS], layout.raw()),
            (names::HEAD_MASK, vec![heads, HEAD_COLUMNS], layout.mask()),
            (
                names::HEAD_LOG_TEMPERATURE,
                vec![heads],
                layout.temperatures().iter().map(|t| t.ln()).collect(),
            ),
            (names::LOG_ALPHA, vec![1], vec![START_ALPHA.ln()]),
            (names::GATE_PRIOR, vec![heads], gate.clone()),
            (
                names::GATE_LOG_BIAS,
                vec![heads],
                gate.iter().map(|share| share.ln()).collect(),
            ),
            (
                names::GATE_WEIGHT,
                vec![GATE_FEATURES, heads],
                vec![0.0; GATE_FEATURES * heads],
            ),
            (names::GATE_BIAS, vec![heads], vec![0.0; heads]),
            (
                names::STANDARD_MEAN,
                vec![GATE_FEATURES],
                vec![0.0; GATE_FEATURES],
            ),
            (
                names::STANDARD_SD,
                vec![GATE_FEATURES],
                vec![1.0; GATE_FEATURES],
            ),
            (
                names::LEVEL_WEIGHT,
                vec![LEVELS.len(), GATE_INPUTS],
                vec![0.0; LEVELS.len() * GATE_INPUTS],
            ),
            (
                names::LEVEL_BIAS,
                vec![LEVELS.len()],
                vec![0.0; LEVELS.len()],
            ),
            (names::TYPE_WEIGHT, vec![QUERY_TYPES.len(), 0], Vec::new()),
            (
                names::TYPE_BIAS,
                vec![QUERY_TYPES.len()],
                vec![0.0; QUERY_TYPES.len()],
            ),
        ];
        Self {
            tensors: tensors
                .into_iter()
                .map(|(name, shape, data)| (name.to_owned(), WeightTensor { shape, data }))
                .collect(),
        }
    }

    /// The prior with a collection's own standardiser and classifiers: what is published when
    /// training does not beat the prior (DESIGN.md section 4), so that levels and query types are
    /// predicted all the same.
    pub fn fallback(
        layout: &HeadLayout,
        features: &GateFeatures,
        types: Option<&LinearClassifier>,
    ) -> Self {
        let mut weights = Self::of_layout(layout);
        let mut put = |name: &'static str, data: &[f32]| {
            weights.tensor_mut(name).data = data.to_vec();
        };
        put(names::STANDARD_MEAN, &features.standardiser.mean);
        put(names::STANDARD_SD, &features.standardiser.sd);
        put(names::LEVEL_WEIGHT, &features.levels.weight);
        put(names::LEVEL_BIAS, &features.levels.bias);
        if let Some(types) = types {
            put(names::TYPE_WEIGHT, &types.weight);
            put(names::TYPE_BIAS, &types.bias);
            weights.tensor_mut(names::TYPE_WEIGHT).shape = vec![QUERY_TYPES.len(), types.inputs];
        }
        weights
    }

    /// Where training starts: the fallback with the gate's linear layer drawn from a uniform
    /// distribution of .01 / sqrt(62) (RECIPE.md, "Router"). Drawn on the host, so that a seed
    /// means the same on every device.
    pub fn start(
        layout: &HeadLayout,
        seed: u64,
        features: &GateFeatures,
        types: Option<&LinearClassifier>,
    ) -> Self {
        let mut weights = Self::fallback(layout, features, types);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 0.01 / (GATE_FEATURES as f32).sqrt();
        let (heads, feedback) = (weights.heads(), weights.feedback_head());
        let data = &mut weights.tensor_mut(names::GATE_WEIGHT).data;
        for (at, value) in data.iter_mut().enumerate() {
            let drawn = rng.random_range(-bound..bound);
            // The margin alone decides about feedback until there is something to learn from.
            if feedback != Some(at % heads) {
                *value = drawn;
            }
        }
        weights
    }

    /// Takes tensors from a file or a device.
    ///
    /// # Errors
    ///
    /// A missing or unknown name, a wrong shape, a value that is not finite, or one that would
    /// make the outputs useless (see [`ModelError::OutOfRange`]).
    pub fn from_tensors(tensors: BTreeMap<String, WeightTensor>) -> Result<Self, ModelError> {
        if let Some(unknown) = tensors.keys().find(|name| {
            let name = name.as_str();
            !names::ALL.contains(&name) && !names::OPTIONAL.contains(&name)
        }) {
            return Err(ModelError::UnknownTensor(unknown.clone()));
        }
        Self::like(&Self::prior(), tensors)
    }

    /// The same for tensors of the shapes that `base` has.
    pub(crate) fn like(
        base: &Self,
        tensors: BTreeMap<String, WeightTensor>,
    ) -> Result<Self, ModelError> {
        for (name, start) in &base.tensors {
            let tensor = tensors
                .get(name)
                .ok_or_else(|| ModelError::MissingTensor(name.clone()))?;
            check_shape(name, tensor, start)?;
            check_values(name, tensor)?;
        }
        let optional = names::OPTIONAL.map(|name| (name, tensors.get(name)));
        if optional.iter().any(|(_, tensor)| tensor.is_some()) {
            for (name, tensor) in optional {
                let tensor = tensor.ok_or_else(|| ModelError::MissingTensor(name.to_owned()))?;
                let length = if name == names::LINEAR_WEIGHT {
                    NUM_VIEWS
                } else {
                    1
                };
                check_shape(
                    name,
                    tensor,
                    &WeightTensor::new([length], vec![0.0; length]),
                )?;
                check_values(name, tensor)?;
            }
        }
        let weights = Self { tensors };
        weights.check_head_mask()?;
        Ok(weights)
    }

    /// All tensors by name, sorted.
    pub fn tensors(&self) -> &BTreeMap<String, WeightTensor> {
        &self.tensors
    }

    /// Width of the query vectors that the type classifier was trained on; 0 when it is untrained.
    pub fn query_dim(&self) -> usize {
        self.tensor(names::TYPE_WEIGHT).shape[1]
    }

    /// The gate's input side: standardiser and level classifier.
    pub fn gate_features(&self) -> GateFeatures {
        GateFeatures {
            standardiser: Standardiser {
                mean: self.data(names::STANDARD_MEAN).to_vec(),
                sd: self.data(names::STANDARD_SD).to_vec(),
            },
            levels: LinearClassifier {
                inputs: GATE_INPUTS,
                weight: self.data(names::LEVEL_WEIGHT).to_vec(),
                bias: self.data(names::LEVEL_BIAS).to_vec(),
            },
        }
    }

    /// The query-type classifier; `None` when it is untrained.
    pub fn type_classifier(&self) -> Option<LinearClassifier> {
        (self.query_dim() > 0).then(|| LinearClassifier {
            inputs: self.query_dim(),
            weight: self.data(names::TYPE_WEIGHT).to_vec(),
            bias: self.data(names::TYPE_BIAS).to_vec(),
        })
    }

    /// sha256 over sorted names, shapes and little-endian values, in hex: what "same weights" means.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        self.hash_into("", &mut hasher);
        hex::encode(hasher.finalize())
    }

    pub(crate) fn hash_into(&self, prefix: &str, hasher: &mut Sha256) {
        for (name, tensor) in &self.tensors {
            let name = format!("{prefix}{name}");
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update((tensor.shape.len() as u64).to_le_bytes());
            for length in &tensor.shape {
                hasher.update((*length as u64).to_le_bytes());
            }
            for value in &tensor.data {
                hasher.update(value.to_le_bytes());
            }
        }
    }

    pub(crate) fn tensor(&self, name: &'static str) -> &WeightTensor {
        self.tensors
            .get(name)
            .expect("every constructor puts all of names::ALL in")
    }

    /// Number of heads, the linear one left out.
    pub fn heads(&self) -> usize {
        self.data(names::GATE_PRIOR).len()
    }

    /// The head that reads the feedback view, if there is one.
    pub(crate) fn feedback_head(&self) -> Option<usize> {
        feedback_head(self.data(names::HEAD_MASK))
    }

    /// The same heads and gate, read as sharply as `alpha` says; the ranking is the same. Not above 0
    /// or not finite leaves the sharpness as it is.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f32) -> Self {
        if alpha > 0.0 && alpha.is_finite() {
            self.tensor_mut(names::LOG_ALPHA).data = vec![alpha.ln()];
        }
        self
    }

    /// The same mixture with a linear head beside its own, which takes a share of the weights of the first
    /// stage.
    ///
    /// # Errors
    ///
    /// What [`CollectionWeights::from_tensors`] refuses: a share that is not above 0 and at most 1, weights
    /// that are not finite.
    pub fn with_linear(self, head: &SingleHead, share: f32) -> Result<Self, ModelError> {
        let mut tensors = self.tensors.clone();
        let mut put = |name: &str, data: Vec<f32>| {
            tensors.insert(name.to_owned(), WeightTensor::new([data.len()], data));
        };
        put(names::LINEAR_WEIGHT, head.weights.clone());
        put(names::LINEAR_SHARE, vec![share]);
        Self::like(&self, tensors)
    }

    /// Weights and share of the linear head, where there is one.
    pub fn linear(&self) -> Option<(&[f32], f32)> {
        let weights = self.tensors.get(names::LINEAR_WEIGHT)?;
        let share = self.tensors.get(names::LINEAR_SHARE)?.data.first()?;
        Some((&weights.data, *share))
    }

    /// Sharpness of the mixture, `alpha` in `S = alpha ln A`.
    pub fn alpha(&self) -> f32 {
        self.data(names::LOG_ALPHA)
            .first()
            .map_or(START_ALPHA, |log| log.exp())
    }

    pub(crate) fn data(&self, name: &'static str) -> &[f32] {
        &self.tensor(name).data
    }

    fn tensor_mut(&mut self, name: &'static str) -> &mut WeightTensor {
        self.tensors
            .get_mut(name)
            .expect("every constructor puts all of names::ALL in")
    }

    /// A head without a view would divide by zero.
    fn check_head_mask(&self) -> Result<(), ModelError> {
        let mask = self.data(names::HEAD_MASK);
        for (head, row) in mask.chunks(HEAD_COLUMNS).enumerate() {
            if row.iter().all(|value| *value == 0.0) {
                return Err(ModelError::OutOfRange {
                    tensor: names::HEAD_MASK.to_owned(),
                    index: head * HEAD_COLUMNS,
                    value: 0.0,
                    allowed: "at least one view per head",
                });
            }
        }
        Ok(())
    }
}

fn check_shape(name: &str, tensor: &WeightTensor, start: &WeightTensor) -> Result<(), ModelError> {
    let fits = if name == names::TYPE_WEIGHT {
        matches!(tensor.shape[..], [classes, inputs]
            if classes == QUERY_TYPES.len() && inputs <= MAX_QUERY_DIM)
    } else {
        tensor.shape == start.shape
    };
    if !fits {
        return Err(ModelError::BadShape {
            tensor: name.to_owned(),
            expected: start.shape.clone(),
            found: tensor.shape.clone(),
        });
    }
    let expected: usize = tensor.shape.iter().product();
    if tensor.data.len() != expected {
        return Err(ModelError::BadShape {
            tensor: name.to_owned(),
            expected: tensor.shape.clone(),
            found: vec![tensor.data.len()],
        });
    }
    Ok(())
}

fn check_values(name: &str, tensor: &WeightTensor) -> Result<(), ModelError> {
    if let Some(index) = tensor.data.iter().position(|value| !value.is_finite()) {
        return Err(ModelError::NonFinite {
            tensor: name.to_owned(),
            index,
        });
    }
    type Allowed = fn(f32) -> bool;
    let (allowed, words): (Allowed, _) = match name {
        // exp() of these multiplies logits: beyond this the softmax is a constant or an argmax.
        names::HEAD_LOG_TEMPERATURE | names::LOG_ALPHA => (|v| v.abs() <= 10.0, "-10 to 10"),
        // softplus of less than -50 is 0 in f32, and a head's weights would be 0 / 0.
        names::HEAD_RAW => (|v| v.abs() <= 50.0, "-50 to 50"),
        names::HEAD_MASK => (|v| v == 0.0 || v == 1.0, "0 or 1"),
        names::GATE_PRIOR => (|v| v > 0.0 && v <= 1.0, "above 0, at most 1"),
        names::LINEAR_SHARE => (|v| v > 0.0 && v <= 1.0, "above 0, at most 1"),
        names::STANDARD_SD => (|v| v > 0.0, "above 0"),
        _ => (|v| v.abs() <= 1e6, "-1e6 to 1e6"),
    };
    match tensor.data.iter().position(|value| !allowed(*value)) {
        None => Ok(()),
        Some(index) => Err(ModelError::OutOfRange {
            tensor: name.to_owned(),
            index,
            value: tensor.data[index],
            allowed: words,
        }),
    }
}
