//! Checkpoints for the tests: the prior with its gate moved, published into a sandbox.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_model::{CollectionWeights, ViewConfig, names};

/// The prior with the gate bias of head `head` raised by `by`.
///
/// # Errors
/// When the weights are refused.
pub fn shifted(head: usize, by: f32) -> Result<CollectionWeights> {
    let mut tensors = CollectionWeights::prior().tensors().clone();
    if let Some(bias) = tensors.get_mut(names::GATE_BIAS) {
        bias.data[head] += by;
    }
    Ok(CollectionWeights::from_tensors(tensors)?)
}

/// A request that publishes `weights` for `collection` in the embedding space `space`.
pub fn request(collection: &str, weights: CollectionWeights, space: &str) -> PublishRequest {
    let update = CollectionUpdate {
        weights,
        status: CollectionStatus::Trained,
        lsi: None,
        corpus_digest: "test".to_owned(),
        stats_digest: "test".to_owned(),
        metrics: BTreeMap::new(),
        reason: "held-out loss 1.5 (prior 2.0)".to_owned(),
        hyper_parameters: serde_json::json!({}),
        seed: 0,
    };
    PublishRequest {
        collections: BTreeMap::from([(collection.to_owned(), update)]),
        warmup: Vec::new(),
        view_config: ViewConfig::default(),
        embedding_space_id: space.to_owned(),
        deleted: BTreeSet::new(),
        code_version: "test".to_owned(),
    }
}

/// Publishes the prior with head `head` raised; gives the version.
///
/// # Errors
/// When the store refuses.
pub async fn publish(
    store: &CheckpointStore,
    collection: &str,
    space: &str,
    head: usize,
) -> Result<u64> {
    let outcome = store
        .publish(request(collection, shifted(head, 1.5)?, space))
        .await?;
    Ok(outcome.manifest.version)
}
