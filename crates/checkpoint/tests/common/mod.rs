//! Requests and stores for the tests.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_model::{
    AttendInput, CollectionModel, CollectionWeights, DeviceKind, NUM_VIEWS, ViewConfig, WarmupCase,
    names,
};
use ndarray::Array2;

pub(crate) const SPACE: &str = "minilm@abc/mean";

/// A directory store and a store that behaves like s3.
pub(crate) struct Stores {
    directory: tempfile::TempDir,
}

impl Stores {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn local(&self) -> CheckpointStore {
        CheckpointStore::open(self.root().to_str().unwrap()).unwrap()
    }

    pub(crate) fn both(&self) -> [(&'static str, CheckpointStore); 2] {
        [("file", self.local()), ("s3", CheckpointStore::in_memory())]
    }
}

/// Weights that differ from the prior by `seed`.
pub(crate) fn weights(seed: u64) -> CollectionWeights {
    let mut tensors = CollectionWeights::prior().tensors().clone();
    let bias = &mut tensors.get_mut(names::GATE_BIAS).unwrap().data;
    bias[0] = seed as f32 / 8.0;
    CollectionWeights::from_tensors(tensors).unwrap()
}

/// A request that publishes `collections`, each with its seed.
pub(crate) fn request(collections: &[(&str, u64)]) -> PublishRequest {
    let mut request = PublishRequest {
        collections: BTreeMap::new(),
        warmup: Vec::new(),
        view_config: ViewConfig::default(),
        embedding_space_id: SPACE.to_owned(),
        deleted: BTreeSet::new(),
        code_version: "0.1.0-test".to_owned(),
    };
    for (name, seed) in collections {
        let weights = weights(*seed);
        request.warmup.push(warmup(name, &weights));
        request.collections.insert(
            (*name).to_owned(),
            CollectionUpdate {
                weights,
                status: CollectionStatus::Trained,
                lsi: None,
                corpus_digest: format!("corpus-{seed}"),
                stats_digest: format!("stats-{seed}"),
                metrics: BTreeMap::from([("held_out_ce".to_owned(), 1.25)]),
                hyper_parameters: serde_json::json!({"epochs": 12, "anchor": 4.0}),
                reason: "held-out loss 1.5 (prior 2.0)".to_owned(),
                seed: *seed,
            },
        );
    }
    request
}

fn warmup(collection: &str, weights: &CollectionWeights) -> WarmupCase {
    let model = CollectionModel::load(weights, DeviceKind::Flex).unwrap();
    let z = Array2::from_shape_fn((6, NUM_VIEWS), |(i, v)| {
        ((i * 5 + v * 3) % 7) as f32 / 2.0 - 1.5
    });
    let gate_inputs: Vec<f32> = (0..56).map(|i| (i % 5) as f32 / 5.0).collect();
    let input = AttendInput {
        z: z.view(),
        gate_inputs: &gate_inputs,
        feedback: None,
        named: &[],
        query_vector: &[0.5; 4],
    };
    WarmupCase::record(collection, &model, &input).unwrap()
}
