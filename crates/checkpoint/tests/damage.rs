//! Damaged versions never load, and the error says what is wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::{Stores, request};
use moerag_checkpoint::{CheckpointError, CheckpointStore, Expected, Target};
use sha2::{Digest, Sha256};

/// A directory store with one published version.
async fn published() -> (Stores, CheckpointStore) {
    let stores = Stores::new();
    let store = stores.local();
    store.publish(request(&[("docs", 1)])).await.unwrap();
    (stores, store)
}

fn file(stores: &Stores, name: &str) -> PathBuf {
    stores.root().join("versions/00000001").join(name)
}

/// Changes a file and its entry in the manifest, as someone with a text editor would.
fn forge(stores: &Stores, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = file(stores, name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, &bytes).unwrap();
    edit_manifest(stores, |manifest| {
        manifest["files"][name]["size"] = bytes.len().into();
        manifest["files"][name]["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
    });
}

fn edit_manifest(stores: &Stores, change: impl FnOnce(&mut serde_json::Value)) {
    let path = file(stores, "manifest.json");
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[tokio::test]
async fn one_flipped_byte() {
    for name in ["model.safetensors", "warmup.json"] {
        let (stores, store) = published().await;
        let mut bytes = std::fs::read(file(&stores, name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file(&stores, name), bytes).unwrap();
        let error = store.load(1).await.unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Corrupt { version: 1, file, .. } if file == name),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_copy_that_broke_off() {
    let (stores, store) = published().await;
    let path = file(&stores, "model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 1, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let error = store.load(1).await.unwrap_err();
        assert!(
            matches!(error, CheckpointError::Truncated { found, expected, .. }
                if found == keep as u64 && expected == bytes.len() as u64),
            "{error}"
        );
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::Corrupt { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_nan_that_somebody_signed() {
    let (stores, store) = published().await;
    forge(&stores, "model.safetensors", |bytes| {
        // The last tensor's data ends the file: the default model's `type.bias`.
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = store.load(1).await.unwrap_err();
    assert!(
        matches!(&error, CheckpointError::NonFinite { version: 1, tensor } if tensor == "type.bias"),
        "{error}"
    );
}

#[tokio::test]
async fn other_weights_under_the_same_manifest() {
    let (stores, store) = published().await;
    forge(&stores, "model.safetensors", |bytes| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&0.25_f32.to_le_bytes());
    });
    let error = store.load(1).await.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_safetensors() {
    let (stores, store) = published().await;
    forge(&stores, "model.safetensors", |bytes| {
        *bytes = b"not a model at all".to_vec()
    });
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_tensor_of_another_build() {
    let (stores, store) = published().await;
    forge(&stores, "model.safetensors", |bytes| {
        let at = bytes
            .windows(9)
            .position(|window| window == b"gate.bias")
            .unwrap();
        bytes[at..at + 9].copy_from_slice(b"gate.bIas");
    });
    let error = store.load(1).await.unwrap_err();
    assert!(
        matches!(error, CheckpointError::BadWeights { version: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn manifests() {
    let (stores, store) = published().await;
    let path = file(&stores, "manifest.json");
    let good = std::fs::read(&path).unwrap();
    edit_manifest(&stores, |manifest| manifest["format_version"] = 99.into());
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::UnsupportedFormat {
            version: 1,
            found: 99,
            oldest: 1,
            newest: 1
        })
    ));
    let listing = store.list().await.unwrap();
    assert!(listing.versions.is_empty());
    assert!(
        listing.problems[0].reason.contains("format 99"),
        "{:?}",
        listing.problems
    );

    std::fs::write(&path, &good).unwrap();
    edit_manifest(&stores, |manifest| manifest["version"] = 2.into());
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::Corrupt { .. })
    ));

    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(
        store.load(1).await,
        Err(CheckpointError::Corrupt { .. })
    ));

    // Valid, but not the manifest that CURRENT.json names.
    std::fs::write(&path, &good).unwrap();
    edit_manifest(&stores, |manifest| {
        manifest["code_version"] = "other".into()
    });
    let current = store.current().await.unwrap().unwrap();
    assert!(store.load(1).await.is_ok());
    let error = store
        .load_target(&Target::from(&current))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("CURRENT.json"), "{error}");
}

#[tokio::test]
async fn a_damaged_version_is_not_moved_to() {
    let (stores, store) = published().await;
    store.publish(request(&[("docs", 2)])).await.unwrap();
    std::fs::write(file(&stores, "model.safetensors"), b"x").unwrap();
    assert!(store.rollback(Some(1), &Expected::default()).await.is_err());
    assert!(store.pin(1, &Expected::default()).await.is_err());
    let current = store.current().await.unwrap().unwrap();
    assert_eq!((current.version, current.pinned), (2, false));
}

#[tokio::test]
async fn a_damaged_current_file_is_an_error_not_an_empty_store() {
    let (stores, store) = published().await;
    std::fs::write(stores.root().join("CURRENT.json"), b"{").unwrap();
    assert!(matches!(
        store.current().await,
        Err(CheckpointError::CurrentCorrupt(_))
    ));
    assert!(store.publish(request(&[("docs", 2)])).await.is_err());
}
