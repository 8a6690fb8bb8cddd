//! The only writer of a checkpoint store: publish (DESIGN.md section 6, "Checkpoint store";
//! invariant 5). Moving `CURRENT.json` by hand and garbage collection are in `admin.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moerag_model::{CollectionWeights, LsiBasis, ViewConfig, WarmupCase};
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::draft::{Draft, Files};
use crate::error::CheckpointError;
use crate::load::limit;
use crate::local::{self, Lock};
use crate::manifest::{
    CollectionStatus, Current, MANIFEST_FILE, MODEL_FILE, Manifest, WARMUP_FILE,
};
use crate::store::{CheckpointStore, Seen};
use crate::verify;
use crate::version::{file_path, parse_version_name};

/// Attempts against other writers of the same store before giving up.
pub(crate) const ATTEMPTS: usize = 16;

/// Newly trained weights of one collection.
#[derive(Clone, Debug)]
pub struct CollectionUpdate {
    /// The weights; the prior's with the collection's statistics for a fallback.
    pub weights: CollectionWeights,
    /// The collection's latent space; `None` for one that is too small.
    pub lsi: Option<Arc<LsiBasis>>,
    /// Whether training beat the prior.
    pub status: CollectionStatus,
    /// Why these weights serve, for people: the losses that decided.
    pub reason: String,
    /// sha256 of the sorted (document_id, revision), hex.
    pub corpus_digest: String,
    /// Digest of the CorpusStats used.
    pub stats_digest: String,
    /// Measures on held-out synthetic queries; finite.
    pub metrics: BTreeMap<String, f64>,
    /// Every hyper-parameter of the training.
    pub hyper_parameters: serde_json::Value,
    /// Seed of the training.
    pub seed: u64,
}

/// What to publish. Collections that are not in it keep the weights of the current version.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// Newly trained collections by name; at least one.
    pub collections: BTreeMap<String, CollectionUpdate>,
    /// Collections that do not exist any more, whose weights are left out.
    pub deleted: BTreeSet<String>,
    /// Warm-up queries for these collections.
    pub warmup: Vec<WarmupCase>,
    /// Candidates, pruning, views and KeySpec of the training.
    pub view_config: ViewConfig,
    /// The embedding space of the training.
    pub embedding_space_id: String,
    /// The build that trained.
    pub code_version: String,
}

/// What publishing did.
#[derive(Clone, Debug)]
pub struct PublishOutcome {
    /// The new version's manifest.
    pub manifest: Manifest,
    /// Whether `CURRENT.json` moved to it; a pinned one does not.
    pub promoted: bool,
    /// `CURRENT.json` afterwards.
    pub current: Current,
    /// Collections whose weights came along from the version before.
    pub carried: Vec<String>,
    /// Collections left out because they were deleted, or because they were trained with
    /// another encoder or view configuration; the prior serves these until they are trained again.
    pub dropped: Vec<String>,
}

impl CheckpointStore {
    /// Writes a new version and points `CURRENT.json` at it, unless that is pinned.
    ///
    /// A crash at any moment leaves either no trace of the version, an unreferenced one, or the
    /// whole: never half of one.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Refused`] for a request without collections, with weights that are the
    /// wrong way or metrics that are not finite, or for a version too large to be read again;
    /// [`CheckpointError::Busy`] when other writers are always faster; the current version's
    /// damage, when its other collections must be carried along; the store's failure.
    pub async fn publish(
        &self,
        request: PublishRequest,
    ) -> Result<PublishOutcome, CheckpointError> {
        check(&request)?;
        let _lock = self.lock().await?;
        for _ in 0..ATTEMPTS {
            let seen = self.seen().await?;
            let base = match seen.current() {
                Some(current) => Some(self.load(current.version).await?),
                None => None,
            };
            let draft = Draft::merge(&request, base);
            let (manifest, manifest_bytes) = self.write(&request, &draft, seen.current()).await?;
            let next = next_current(&seen, &manifest, &manifest_bytes);
            let outcome = |promoted, current| PublishOutcome {
                manifest: manifest.clone(),
                promoted,
                current,
                carried: draft.carried.clone(),
                dropped: draft.dropped.clone(),
            };
            match seen.current() {
                Some(current) if current.pinned => return Ok(outcome(false, current.clone())),
                _ if self.commit(&seen, &next).await? => return Ok(outcome(true, next)),
                _ => self.withdraw(manifest.version).await,
            }
        }
        Err(CheckpointError::Busy(
            "other publishers keep changing CURRENT.json".to_owned(),
        ))
    }

    /// The writers' lock of a directory; an object store has conditional writes instead.
    pub(crate) async fn lock(&self) -> Result<Option<Lock>, CheckpointError> {
        let Some(root) = &self.local else {
            return Ok(None);
        };
        let lock = Lock::acquire(root).await?;
        let root = root.clone();
        let left = local::blocking(move || local::clean_staged(&root)).await?;
        if left > 0 {
            tracing::warn!(
                left,
                "removed what unfinished checkpoint writes left behind"
            );
        }
        Ok(Some(lock))
    }

    /// Gives the draft a number that nobody has and writes its files, the manifest last.
    async fn write(
        &self,
        request: &PublishRequest,
        draft: &Draft,
        current: Option<&Current>,
    ) -> Result<(Manifest, Vec<u8>), CheckpointError> {
        let mut version = current.map_or(0, |current| current.version);
        for name in self.names().await? {
            version = version.max(parse_version_name(&name).unwrap_or(0));
        }
        for _ in 0..ATTEMPTS {
            version += 1;
            let (manifest, files) = draft.files(request, version)?;
            check_sizes(&files)?;
            if self.write_files(version, &files).await? {
                let bytes = files
                    .into_iter()
                    .last()
                    .map(|(_, bytes)| bytes)
                    .unwrap_or_default();
                return Ok((manifest, bytes));
            }
        }
        Err(CheckpointError::Busy(
            "other publishers keep taking the next version".to_owned(),
        ))
    }

    /// `false` when somebody else has this number.
    async fn write_files(&self, version: u64, files: &Files) -> Result<bool, CheckpointError> {
        if let Some(root) = self.local.clone() {
            let files = files.clone();
            local::blocking(move || local::write_version(&root, version, &files)).await?;
            return Ok(true);
        }
        for (name, bytes) in files {
            let path = file_path(&self.prefix, version, name);
            let payload = PutPayload::from(bytes.clone());
            // Create-if-absent for every file: a slower publisher of the same number must not
            // replace the files of the one whose manifest stands.
            match self
                .objects
                .put_opts(&path, payload, PutOptions::from(PutMode::Create))
                .await
            {
                Ok(_) => {}
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) => return Err(CheckpointError::store(format!("writing {path}"))(error)),
            }
        }
        Ok(true)
    }

    /// Takes back a version that lost the race for `CURRENT.json`; leaving it would be harmless.
    async fn withdraw(&self, version: u64) {
        if let Err(error) = self.remove(version).await {
            tracing::warn!(version, %error, "an unreferenced version stays in the checkpoint store");
        }
    }

    /// Deletes a version; its manifest first, so that it stops being one.
    pub(crate) async fn remove(&self, version: u64) -> Result<(), CheckpointError> {
        if let Some(root) = self.local.clone() {
            return local::blocking(move || local::remove_version(&root, version)).await;
        }
        for name in [MANIFEST_FILE, WARMUP_FILE, MODEL_FILE] {
            let path = file_path(&self.prefix, version, name);
            match self.objects.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    return Err(CheckpointError::store(format!("deleting {path}"))(error));
                }
            }
        }
        Ok(())
    }
}

fn check(request: &PublishRequest) -> Result<(), CheckpointError> {
    let refuse = |reason: String| Err(CheckpointError::Refused(reason));
    if request.collections.is_empty() {
        return refuse("nothing to publish: the request has no collections".to_owned());
    }
    for (name, update) in &request.collections {
        if name.is_empty() {
            return refuse("a collection needs a name".to_owned());
        }
        if let Some((metric, _)) = update.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return refuse(format!(
                "metric `{metric}` of collection `{name}` is not finite"
            ));
        }
    }
    if let Some(case) = request
        .warmup
        .iter()
        .find(|case| !request.collections.contains_key(&case.collection))
    {
        return refuse(format!(
            "a warm-up query is for `{}`, which is not published",
            case.collection
        ));
    }
    Ok(())
}

/// A version that nothing can load must not be written: it would be current.
fn check_sizes(files: &Files) -> Result<(), CheckpointError> {
    for (name, bytes) in files {
        let (size, limit) = (bytes.len() as u64, limit(name));
        if size > limit {
            return Err(CheckpointError::Refused(format!(
                "{name} of the new version would have {size} bytes, at most {limit} are read; delete \
                 collections that are not needed, or give some a checkpoint store of their own"
            )));
        }
    }
    Ok(())
}

fn next_current(seen: &Seen, manifest: &Manifest, manifest_bytes: &[u8]) -> Current {
    Current {
        version: manifest.version,
        manifest_sha256: verify::sha256(manifest_bytes),
        pinned: false,
        generation: seen.current().map_or(0, |current| current.generation) + 1,
        previous: seen.current().map(|current| current.version),
    }
}
