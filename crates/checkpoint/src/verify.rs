//! Checks of a version's bytes: sizes, digests, format, weights (pure, no I/O).

use moerag_model::{KeySpec, ModelSnapshot, Warmup};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::CheckpointError;
use crate::manifest::{
    FileEntry, MANIFEST_FILE, MODEL_FILE, Manifest, NEWEST_FORMAT, OLDEST_FORMAT, WARMUP_FILE,
};

/// sha256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Size and digest of a file about to be written.
pub(crate) fn entry(bytes: &[u8]) -> FileEntry {
    FileEntry {
        sha256: sha256(bytes),
        size: bytes.len() as u64,
    }
}

/// What the process that loads a version works with; what is `None` is not checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// The encoder's embedding space.
    pub embedding_space_id: Option<String>,
    /// The collection's KeySpec.
    pub key_spec: Option<KeySpec>,
}

/// Parses a manifest; the format is checked before the rest, so that a newer one is named as such.
pub(crate) fn manifest(bytes: &[u8], version: u64) -> Result<Manifest, CheckpointError> {
    #[derive(Deserialize)]
    struct Format {
        format_version: u32,
    }
    let corrupt = |error| CheckpointError::corrupt(version, MANIFEST_FILE, error);
    let format: Format = serde_json::from_slice(bytes).map_err(corrupt)?;
    if !(OLDEST_FORMAT..=NEWEST_FORMAT).contains(&format.format_version) {
        return Err(CheckpointError::UnsupportedFormat {
            version,
            found: format.format_version,
            oldest: OLDEST_FORMAT,
            newest: NEWEST_FORMAT,
        });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(corrupt)?;
    if manifest.version != version {
        let reason = format!("it names version {}", manifest.version);
        return Err(CheckpointError::corrupt(version, MANIFEST_FILE, reason));
    }
    for file in [MODEL_FILE, WARMUP_FILE] {
        if !manifest.files.contains_key(file) {
            let reason = format!("it does not list {file}");
            return Err(CheckpointError::corrupt(version, MANIFEST_FILE, reason));
        }
    }
    Ok(manifest)
}

/// Compares a file with its entry.
pub(crate) fn file(manifest: &Manifest, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
    let version = manifest.version;
    let Some(entry) = manifest.files.get(name) else {
        return Err(CheckpointError::corrupt(
            version,
            MANIFEST_FILE,
            format!("no entry for {name}"),
        ));
    };
    let found = bytes.len() as u64;
    if found < entry.size {
        return Err(CheckpointError::Truncated {
            version,
            file: name.to_owned(),
            expected: entry.size,
            found,
        });
    }
    if found > entry.size {
        let reason = format!("{found} bytes, the manifest says {}", entry.size);
        return Err(CheckpointError::corrupt(version, name, reason));
    }
    if sha256(bytes) != entry.sha256 {
        return Err(CheckpointError::corrupt(
            version,
            name,
            "its sha256 is not the manifest's",
        ));
    }
    Ok(())
}

/// Parses verified weights and compares them with the manifest.
pub(crate) fn snapshot(
    manifest: &Manifest,
    bytes: &[u8],
) -> Result<ModelSnapshot, CheckpointError> {
    let version = manifest.version;
    let snapshot = ModelSnapshot::from_safetensors(bytes, version, manifest.view_config.clone())
        .map_err(|error| CheckpointError::weights(version, error))?;
    if snapshot.digest() != manifest.weights_digest {
        let reason = "the weights' digest is not the manifest's";
        return Err(CheckpointError::corrupt(version, MODEL_FILE, reason));
    }
    if !snapshot.collections.keys().eq(manifest.collections.keys()) {
        let reason = "its collections are not the manifest's";
        return Err(CheckpointError::corrupt(version, MODEL_FILE, reason));
    }
    Ok(snapshot)
}

/// Parses verified warm-up queries.
pub(crate) fn warmup(manifest: &Manifest, bytes: &[u8]) -> Result<Warmup, CheckpointError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CheckpointError::corrupt(manifest.version, WARMUP_FILE, error))
}

impl Manifest {
    /// Compares embedding space and KeySpec with what the process works with.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::SpaceMismatch`] or [`CheckpointError::KeySpecMismatch`].
    pub fn require(&self, expected: &Expected) -> Result<(), CheckpointError> {
        if let Some(space) = &expected.embedding_space_id
            && *space != self.embedding_space_id
        {
            return Err(CheckpointError::SpaceMismatch {
                version: self.version,
                expected: space.clone(),
                found: self.embedding_space_id.clone(),
            });
        }
        if let Some(key_spec) = &expected.key_spec
            && *key_spec != self.view_config.key_spec
        {
            return Err(CheckpointError::KeySpecMismatch {
                version: self.version,
                expected: key_spec.id(),
                found: self.view_config.key_spec.id(),
            });
        }
        Ok(())
    }
}
