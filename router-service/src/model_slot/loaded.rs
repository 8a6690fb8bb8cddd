//! A model in memory, ready to attend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use moerag_checkpoint::{CollectionStatus, LoadedVersion, Manifest};
use moerag_model::{
    AttendInput, CollectionModel, CollectionWeights, DeviceKind, LoadedSnapshot, ModelError,
    ModelSnapshot, NUM_VIEWS, Routing, names,
};
use moerag_retrieve::{GATE_INPUTS, LsiBasis, ViewConfig};
use ndarray::Array2;

use super::places::Places;
use crate::domain::Source;
use crate::domain::explain::LogitWeights;

/// Rows of the made-up query that warms a model.
const WARM_ROWS: usize = 8;

/// Counts the models in memory. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Generations(Arc<AtomicUsize>);

impl Generations {
    /// Number of models in memory.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Generation {
        self.0.fetch_add(1, Ordering::Relaxed);
        Generation(self.clone())
    }
}

#[derive(Debug)]
struct Generation(Generations);

impl Drop for Generation {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One model version on a device.
#[derive(Debug)]
pub struct LoadedModel {
    snapshot: LoadedSnapshot,
    weights_digest: String,
    sources: BTreeMap<String, Source>,
    reasons: BTreeMap<String, String>,
    logit_weights: BTreeMap<String, LogitWeights>,
    default_logit_weights: LogitWeights,
    places: Places,
    loaded_at: SystemTime,
    _generation: Generation,
}

impl LoadedModel {
    pub(super) fn prior(
        snapshot: &ModelSnapshot,
        kind: DeviceKind,
        generations: &Generations,
    ) -> Result<Self, ModelError> {
        let model = Self::new(snapshot, kind, generations)?;
        model.warm(0)?;
        Ok(model)
    }

    /// Loads a verified version, runs its warm-up queries and compares their results.
    pub(super) fn from_version(
        version: &LoadedVersion,
        kind: DeviceKind,
        dim: usize,
        generations: &Generations,
    ) -> Result<Self, ModelError> {
        let mut model = Self::new(&version.snapshot, kind, generations)?;
        model.sources = sources_of(&version.manifest);
        let collections = version.manifest.collections.iter();
        model.reasons = collections
            .map(|(name, collection)| (name.clone(), collection.reason.clone()))
            .collect();
        model.warm(dim)?;
        model.snapshot.check(&version.warmup)?;
        Ok(model)
    }

    fn new(
        snapshot: &ModelSnapshot,
        kind: DeviceKind,
        generations: &Generations,
    ) -> Result<Self, ModelError> {
        let loaded = snapshot.load(kind)?;
        let mut logit_weights = BTreeMap::new();
        for (name, weights) in &snapshot.collections {
            logit_weights.insert(name.clone(), logits(weights, loaded.model_for(name).0)?);
        }
        // The empty string names no collection, so it gets the default model.
        let default_logit_weights = logits(&snapshot.default, loaded.model_for("").0)?;
        Ok(Self {
            snapshot: loaded,
            weights_digest: snapshot.digest(),
            sources: BTreeMap::new(),
            reasons: BTreeMap::new(),
            logit_weights,
            default_logit_weights,
            places: Places::new(),
            loaded_at: SystemTime::now(),
            _generation: generations.enter(),
        })
    }

    /// The version; 0 is the built-in prior.
    pub fn version(&self) -> u64 {
        self.snapshot.version
    }

    /// What candidates and views it reads.
    pub fn view_config(&self) -> &ViewConfig {
        &self.snapshot.view_config
    }

    /// sha256 of its weights, hex.
    pub fn weights_digest(&self) -> &str {
        &self.weights_digest
    }

    /// When it was loaded.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// The model for a collection; the default one if the version has not seen it.
    pub fn model_for(&self, collection: &str) -> &CollectionModel {
        self.snapshot.model_for(collection).0
    }

    /// The latent space of a collection, if the version has one.
    pub fn lsi_for(&self, collection: &str) -> Option<&LsiBasis> {
        self.snapshot.lsi_for(collection)
    }

    /// Where passages lie in its latent spaces, as far as it was asked before.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Where the weights for a collection come from.
    pub fn source_of(&self, collection: &str) -> Source {
        self.sources
            .get(collection)
            .copied()
            .unwrap_or(Source::Prior)
    }

    /// Why these weights serve a collection, for people; empty for one that it has not seen.
    pub fn reason_of(&self, collection: &str) -> &str {
        self.reasons.get(collection).map_or("", String::as_str)
    }

    /// The same for the collections that the version has seen.
    pub fn reasons(&self) -> &BTreeMap<String, String> {
        &self.reasons
    }

    /// Sources of the collections that the version has seen.
    pub fn sources(&self) -> &BTreeMap<String, Source> {
        &self.sources
    }

    /// The weakest source of all collections that it has seen.
    pub fn weakest_source(&self) -> Source {
        self.sources
            .values()
            .copied()
            .min()
            .unwrap_or(Source::Prior)
    }

    /// `t_h w_hv` of a collection's model, `[heads][13]`; the feedback view has no column.
    pub fn logit_weights(&self, collection: &str) -> &LogitWeights {
        self.logit_weights
            .get(collection)
            .unwrap_or(&self.default_logit_weights)
    }

    /// Attends once with every model, so that a request does not pay for a first time, and so that
    /// a model which cannot read vectors of `dim` is found now. `dim` 0 checks nothing.
    fn warm(&self, dim: usize) -> Result<(), ModelError> {
        let z = Array2::from_shape_fn((WARM_ROWS, NUM_VIEWS), |(row, view)| {
            ((row * NUM_VIEWS + view) % 7) as f32 / 3.5 - 1.0
        });
        for name in self.logit_weights.keys().map(String::as_str).chain([""]) {
            let model = self.model_for(name);
            let width = if dim == 0 { model.query_dim() } else { dim };
            let input = AttendInput {
                z: z.view(),
                gate_inputs: &[0.0; GATE_INPUTS],
                feedback: None,
                named: &[],
                query_vector: &vec![0.0; width],
            };
            model.attend(&input, Routing::Soft)?;
        }
        Ok(())
    }
}

/// Where the weights of each collection of a version come from.
pub(crate) fn sources_of(manifest: &Manifest) -> BTreeMap<String, Source> {
    let source = |status| match status {
        CollectionStatus::Trained => Source::Trained,
        CollectionStatus::FallbackPrior => Source::FallbackPrior,
    };
    manifest
        .collections
        .iter()
        .map(|(name, c)| (name.clone(), source(c.status)))
        .collect()
}

fn logits(
    weights: &CollectionWeights,
    model: &CollectionModel,
) -> Result<LogitWeights, ModelError> {
    let temperatures = weights
        .tensors()
        .get(names::HEAD_LOG_TEMPERATURE)
        .ok_or_else(|| ModelError::MissingTensor(names::HEAD_LOG_TEMPERATURE.to_owned()))?;
    let rows = model.view_weights()?;
    let mut logits: LogitWeights = rows
        .iter()
        .zip(&temperatures.data)
        .map(|(row, log_temperature)| {
            let mut out = [0.0; NUM_VIEWS];
            for (slot, weight) in out.iter_mut().zip(row) {
                *slot = weight * log_temperature.exp();
            }
            out
        })
        .collect();
    let linear = weights.linear().map(|(weights, _)| {
        let mut out = [0.0; NUM_VIEWS];
        out.iter_mut().zip(weights).for_each(|(slot, w)| *slot = *w);
        out
    });
    logits.extend(linear);
    Ok(logits)
}
