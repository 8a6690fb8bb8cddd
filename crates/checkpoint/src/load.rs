//! Reading a version: fetch, verify, parse.

use bytes::Bytes;
use moerag_model::{ModelSnapshot, Warmup};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::error::CheckpointError;
use crate::manifest::{MANIFEST_FILE, MODEL_FILE, Manifest, WARMUP_FILE};
use crate::policy::Target;
use crate::store::CheckpointStore;
use crate::verify;
use crate::version::{file_path, version_name};

/// Largest size of a version's file that is read, and therefore written.
pub(crate) fn limit(file: &str) -> u64 {
    match file {
        // A collection has some 40 KB, and up to 6 MB of latent space.
        MODEL_FILE => 1 << 30,
        WARMUP_FILE => 256 << 20,
        _ => 16 << 20,
    }
}

/// A verified version in memory, on no device yet.
#[derive(Debug)]
pub struct LoadedVersion {
    /// What was published, and how.
    pub manifest: Manifest,
    /// sha256 of the manifest's bytes, hex.
    pub manifest_sha256: String,
    /// The weights.
    pub snapshot: ModelSnapshot,
    /// Warm-up queries; `snapshot.load(device)?.check(&warmup)` before a swap.
    pub warmup: Warmup,
}

impl CheckpointStore {
    /// Reads and verifies a version: sizes, digests, format, names, shapes, finite weights.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NotFound`] for a version that is not there (or was never completed), else
    /// what is wrong with it, or the store's failure.
    pub async fn load(&self, version: u64) -> Result<LoadedVersion, CheckpointError> {
        let (manifest, manifest_sha256) = self.manifest(version).await?;
        let model = self.read_file(&manifest, MODEL_FILE).await?;
        let warmup = self.read_file(&manifest, WARMUP_FILE).await?;
        // Hashing and parsing belong on no async thread.
        let parsed = tokio::task::spawn_blocking(move || {
            verify::file(&manifest, MODEL_FILE, &model)?;
            verify::file(&manifest, WARMUP_FILE, &warmup)?;
            let snapshot = verify::snapshot(&manifest, &model)?;
            let warmup = verify::warmup(&manifest, &warmup)?;
            Ok(LoadedVersion {
                manifest,
                manifest_sha256,
                snapshot,
                warmup,
            })
        });
        parsed
            .await
            .map_err(|error| CheckpointError::Refused(format!("loading stopped: {error}")))?
    }

    /// [`Self::load`], and the manifest must be the one that `CURRENT.json` names.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; [`CheckpointError::Corrupt`] when the manifest is another one.
    pub async fn load_target(&self, target: &Target) -> Result<LoadedVersion, CheckpointError> {
        let loaded = self.load(target.version).await?;
        if loaded.manifest_sha256 == target.manifest_sha256 {
            return Ok(loaded);
        }
        let reason = "its sha256 is not the one in CURRENT.json";
        Err(CheckpointError::corrupt(
            target.version,
            MANIFEST_FILE,
            reason,
        ))
    }

    /// A version's manifest and the sha256 of its bytes.
    pub(crate) async fn manifest(
        &self,
        version: u64,
    ) -> Result<(Manifest, String), CheckpointError> {
        let path = file_path(&self.prefix, version, MANIFEST_FILE);
        let bytes = match self.read(&path, limit(MANIFEST_FILE)).await {
            Err(CheckpointError::NotFound(_)) => {
                return Err(CheckpointError::NotFound(format!(
                    "version {} (no {MANIFEST_FILE})",
                    version_name(version)
                )));
            }
            read => read?,
        };
        Ok((verify::manifest(&bytes, version)?, verify::sha256(&bytes)))
    }

    async fn read_file(&self, manifest: &Manifest, name: &str) -> Result<Bytes, CheckpointError> {
        let path = file_path(&self.prefix, manifest.version, name);
        self.read(&path, limit(name)).await
    }

    pub(crate) async fn read(&self, path: &Path, limit: u64) -> Result<Bytes, CheckpointError> {
        let failed = || format!("reading {path}");
        let object = self
            .objects
            .get(path)
            .await
            .map_err(CheckpointError::store(failed()))?;
        let size = object.meta.size;
        if size > limit {
            return Err(CheckpointError::TooLarge {
                file: path.to_string(),
                size,
                limit,
            });
        }
        object
            .bytes()
            .await
            .map_err(CheckpointError::store(failed()))
    }
}
