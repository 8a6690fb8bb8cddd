//! Versions: hot-loading, refusing, pinning, rolling back.

use std::collections::{BTreeMap, BTreeSet};

use moerag_checkpoint::{CheckpointStore, CollectionStatus, CollectionUpdate, PublishRequest};
use moerag_model::{CollectionWeights, names};
use moerag_proto::v1;
use moerag_retrieve::ViewConfig;
use tonic::Code;

use crate::sandbox::{Sandbox, copy_dir, library, question};

/// The prior with one head favoured, so that a version can be told from its replies.
fn weights(favoured: usize) -> CollectionWeights {
    let mut tensors = CollectionWeights::prior().tensors().clone();
    tensors.get_mut(names::GATE_BIAS).unwrap().data[favoured] = 5.0;
    CollectionWeights::from_tensors(tensors).unwrap()
}

fn request(favoured: usize, status: CollectionStatus, space: &str) -> PublishRequest {
    let update = CollectionUpdate {
        weights: weights(favoured),
        status,
        lsi: None,
        corpus_digest: "c".repeat(64),
        stats_digest: "s".repeat(64),
        metrics: [("held_out_loss".to_owned(), 1.5)].into(),
        reason: "held-out loss 1.5 (prior 2.0)".to_owned(),
        hyper_parameters: serde_json::json!({"epochs": 1}),
        seed: 7,
    };
    PublishRequest {
        collections: BTreeMap::from([("docs".to_owned(), update)]),
        warmup: Vec::new(),
        view_config: ViewConfig::default(),
        embedding_space_id: space.to_owned(),
        deleted: BTreeSet::new(),
        code_version: "test".into(),
    }
}

async fn space(sandbox: &mut Sandbox) -> String {
    let active = sandbox
        .models
        .get_active_model(v1::GetActiveModelRequest {})
        .await
        .unwrap();
    active.into_inner().model.unwrap().embedding_space_id
}

async fn reload(sandbox: &mut Sandbox) -> Result<v1::ReloadModelResponse, tonic::Status> {
    let reply = sandbox.models.reload_model(v1::ReloadModelRequest {}).await;
    reply.map(tonic::Response::into_inner)
}

fn favoured(reply: &v1::AttendResponse) -> usize {
    let by_weight =
        |a: &usize, b: &usize| reply.heads[*a].weight.total_cmp(&reply.heads[*b].weight);
    (0..reply.heads.len()).max_by(by_weight).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_version_is_loaded_and_every_reply_names_it() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    sandbox.ingest("unseen", library()).await;
    let store = CheckpointStore::open(sandbox.checkpoints().to_str().unwrap()).unwrap();
    let space = space(&mut sandbox).await;
    assert!(
        !reload(&mut sandbox).await.unwrap().changed,
        "nothing to load yet"
    );

    store
        .publish(request(6, CollectionStatus::Trained, &space))
        .await
        .unwrap();
    assert!(reload(&mut sandbox).await.unwrap().changed);
    assert!(
        !reload(&mut sandbox).await.unwrap().changed,
        "already there"
    );
    let mut query = question("how do bees dance?");
    query.collections = vec!["docs".into()];
    let reply = sandbox
        .router
        .attend(query.clone())
        .await
        .unwrap()
        .into_inner();
    let model = reply.model.clone().unwrap();
    assert_eq!(
        (model.version, model.source()),
        (1, v1::ModelSource::Trained)
    );
    assert_eq!(favoured(&reply), 6);

    // A collection that the version has not seen gets the prior, and the reply says so.
    let both = sandbox.ask("how do bees dance?").await;
    let sources: Vec<_> = both
        .collections
        .iter()
        .map(|c| (c.collection.as_str(), c.source()))
        .collect();
    assert_eq!(
        sources,
        [
            ("docs", v1::ModelSource::Trained),
            ("unseen", v1::ModelSource::Prior)
        ]
    );
    assert_eq!(both.model.unwrap().source(), v1::ModelSource::Prior);
    let reasons: Vec<&str> = both
        .collections
        .iter()
        .map(|c| c.source_reason.as_str())
        .collect();
    assert_eq!(reasons.concat(), "held-out loss 1.5 (prior 2.0)");

    store
        .publish(request(3, CollectionStatus::FallbackPrior, &space))
        .await
        .unwrap();
    reload(&mut sandbox).await.unwrap();
    let reply = sandbox
        .router
        .attend(query.clone())
        .await
        .unwrap()
        .into_inner();
    let model = reply.model.clone().unwrap();
    assert_eq!(
        (model.version, model.source()),
        (2, v1::ModelSource::FallbackPrior)
    );
    assert_eq!(favoured(&reply), 3);

    let list = sandbox
        .models
        .list_versions(v1::ListVersionsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        list.versions
            .iter()
            .map(|v| (v.version, v.active))
            .collect::<Vec<_>>(),
        [(2, true), (1, false)]
    );
    assert_eq!((list.current_version, list.pinned), (2, false));
    let newest = &list.versions[0];
    assert_eq!(
        (newest.seed, newest.metrics["docs/held_out_loss"]),
        (7, 1.5)
    );
    assert!(newest.created_at.is_some() && newest.size_bytes > 1000);

    let back = sandbox
        .models
        .rollback(v1::RollbackRequest { version: None })
        .await
        .unwrap();
    assert_eq!(back.into_inner().model.unwrap().version, 1);
    let missing = sandbox
        .models
        .pin_version(v1::PinVersionRequest { version: 9 })
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let zero = sandbox
        .models
        .pin_version(v1::PinVersionRequest { version: 0 })
        .await
        .unwrap_err();
    assert_eq!(zero.code(), Code::InvalidArgument);
    let pinned = sandbox
        .models
        .pin_version(v1::PinVersionRequest { version: 1 })
        .await
        .unwrap();
    assert_eq!(pinned.into_inner().model.unwrap().version, 1);
    let unpinned = sandbox
        .models
        .unpin_version(v1::UnpinVersionRequest {})
        .await
        .unwrap();
    assert_eq!(unpinned.into_inner().model.unwrap().version, 2);

    let active = sandbox
        .models
        .get_active_model(v1::GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((active.live_generations, active.failed_loads), (1, 0));
    assert_eq!(active.swaps, 4);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_versions_are_refused_and_the_old_one_serves_on() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let root = sandbox.checkpoints();
    let store = CheckpointStore::open(root.to_str().unwrap()).unwrap();
    let space = space(&mut sandbox).await;
    store
        .publish(request(6, CollectionStatus::Trained, &space))
        .await
        .unwrap();
    reload(&mut sandbox).await.unwrap();

    // A flipped byte in the weights.
    store
        .publish(request(5, CollectionStatus::Trained, &space))
        .await
        .unwrap();
    let model = root.join("versions/00000002/model.safetensors");
    let good = fs_err::read(&model).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 0x40;
    fs_err::write(&model, &bad).unwrap();
    let status = reload(&mut sandbox).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("version 2"), "{status}");
    // A copy that broke off.
    fs_err::write(&model, &good[..good.len() / 2]).unwrap();
    assert_eq!(
        reload(&mut sandbox).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let reply = sandbox.ask("how do bees dance?").await;
    assert_eq!(
        (reply.model.clone().unwrap().version, favoured(&reply)),
        (1, 6)
    );
    let active = sandbox
        .models
        .get_active_model(v1::GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((active.failed_loads, active.live_generations), (2, 1));
    assert!(
        active.last_load_error.contains("truncated"),
        "{}",
        active.last_load_error
    );

    // A later version is seen although this one failed.
    fs_err::write(&model, &good).unwrap();
    store
        .publish(request(4, CollectionStatus::Trained, &space))
        .await
        .unwrap();
    assert!(reload(&mut sandbox).await.unwrap().changed);
    let reply = sandbox.ask("how do bees dance?").await;
    assert_eq!(
        (reply.model.clone().unwrap().version, favoured(&reply)),
        (3, 4)
    );

    // Another encoder's version.
    store
        .publish(request(2, CollectionStatus::Trained, "another-encoder"))
        .await
        .unwrap();
    let status = reload(&mut sandbox).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("another-encoder"), "{status}");
    // Going back cures it, and nobody is sent there by hand.
    let rollback = v1::RollbackRequest { version: None };
    let back = sandbox.models.rollback(rollback).await.unwrap();
    let active = v1::GetActiveModelRequest {};
    let active = sandbox.models.get_active_model(active).await.unwrap();
    assert_eq!(back.into_inner().model.unwrap().version, 3);
    assert_eq!(active.into_inner().last_load_error, "");
    let before = store.current().await.unwrap();
    let pin = v1::PinVersionRequest { version: 4 };
    let status = sandbox.models.pin_version(pin).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(store.current().await.unwrap(), before);

    // The whole store vanishes.
    let aside = root.with_extension("aside");
    copy_dir(&root, &aside);
    fs_err::remove_dir_all(&root).unwrap();
    let _ = reload(&mut sandbox).await;
    assert_eq!(
        sandbox
            .ask("how do bees dance?")
            .await
            .model
            .unwrap()
            .version,
        3
    );
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_finds_a_version_and_a_restart_keeps_it() {
    let mut sandbox =
        Sandbox::start_with(|config| config.checkpoints.poll_interval_millis = 20).await;
    sandbox.ingest("docs", library()).await;
    let store = CheckpointStore::open(sandbox.checkpoints().to_str().unwrap()).unwrap();
    let space = space(&mut sandbox).await;
    store
        .publish(request(6, CollectionStatus::Trained, &space))
        .await
        .unwrap();
    let waiting = async {
        while sandbox.ask("bees").await.model.unwrap().version != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting)
        .await
        .unwrap();
    let dir = sandbox.stop().await;
    let mut sandbox = Sandbox::start_in(dir, |_| {}).await;
    assert_eq!(sandbox.ask("bees").await.model.unwrap().version, 1);
    sandbox.stop().await;
}
