//! A version in the making: the new collections over those of the current version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use moerag_model::{ModelSnapshot, Warmup};

use crate::error::CheckpointError;
use crate::load::LoadedVersion;
use crate::manifest::{
    CollectionManifest, MANIFEST_FILE, MODEL_FILE, Manifest, NEWEST_FORMAT, WARMUP_FILE,
};
use crate::publish::PublishRequest;
use crate::verify;

/// Files of a version by name, in the order of writing.
pub(crate) type Files = Vec<(&'static str, Vec<u8>)>;

/// A merged version, before it has a number.
pub(crate) struct Draft {
    snapshot: ModelSnapshot,
    warmup: Warmup,
    collections: BTreeMap<String, CollectionManifest>,
    base_version: u64,
    pub(crate) carried: Vec<String>,
    pub(crate) dropped: Vec<String>,
}

impl Draft {
    /// Puts the new collections over those of the current version.
    pub(crate) fn merge(request: &PublishRequest, base: Option<LoadedVersion>) -> Self {
        let mut draft = Self {
            snapshot: ModelSnapshot::prior(request.view_config.clone()),
            warmup: Warmup {
                cases: request.warmup.clone(),
            },
            collections: BTreeMap::new(),
            base_version: base.as_ref().map_or(0, |base| base.manifest.version),
            carried: Vec::new(),
            dropped: Vec::new(),
        };
        if let Some(mut base) = base {
            let fits = base.manifest.embedding_space_id == request.embedding_space_id
                && base.manifest.view_config == request.view_config;
            for (name, weights) in base.snapshot.collections {
                if request.collections.contains_key(&name) {
                    continue;
                }
                let wanted = fits && !request.deleted.contains(&name);
                match base.manifest.collections.remove(&name) {
                    Some(entry) if wanted => {
                        draft.snapshot.collections.insert(name.clone(), weights);
                        if let Some(basis) = base.snapshot.lsi.remove(&name) {
                            draft.snapshot.lsi.insert(name.clone(), basis);
                        }
                        draft.collections.insert(name.clone(), entry);
                        draft.carried.push(name);
                    }
                    _ => draft.dropped.push(name),
                }
            }
            let kept = base.warmup.cases.into_iter();
            draft
                .warmup
                .cases
                .extend(kept.filter(|case| draft.carried.contains(&case.collection)));
        }
        for (name, update) in &request.collections {
            draft
                .snapshot
                .collections
                .insert(name.clone(), update.weights.clone());
            if let Some(basis) = &update.lsi {
                draft.snapshot.lsi.insert(name.clone(), Arc::clone(basis));
            }
            draft.collections.insert(
                name.clone(),
                CollectionManifest {
                    status: update.status,
                    reason: update.reason.clone(),
                    // Filled in when the draft gets its number.
                    published_in: 0,
                    corpus_digest: update.corpus_digest.clone(),
                    stats_digest: update.stats_digest.clone(),
                    weights_digest: update.weights.digest(),
                    seed: update.seed,
                    hyper_parameters: update.hyper_parameters.clone(),
                    metrics: update.metrics.clone(),
                },
            );
        }
        draft
    }

    /// All files of a version in the order of writing, the manifest last.
    pub(crate) fn files(
        &self,
        request: &PublishRequest,
        version: u64,
    ) -> Result<(Manifest, Files), CheckpointError> {
        let model = self
            .snapshot
            .to_safetensors()
            .map_err(|error| CheckpointError::weights(version, error))?;
        let json =
            |error: serde_json::Error| CheckpointError::corrupt(version, MANIFEST_FILE, error);
        let warmup = serde_json::to_vec(&self.warmup).map_err(json)?;
        let mut collections = self.collections.clone();
        for (name, entry) in &mut collections {
            if request.collections.contains_key(name) {
                entry.published_in = version;
            }
        }
        let manifest = Manifest {
            format_version: NEWEST_FORMAT,
            version,
            created_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            base_version: self.base_version,
            files: BTreeMap::from([
                (MODEL_FILE.to_owned(), verify::entry(&model)),
                (WARMUP_FILE.to_owned(), verify::entry(&warmup)),
            ]),
            weights_digest: self.snapshot.digest(),
            embedding_space_id: request.embedding_space_id.clone(),
            view_config: request.view_config.clone(),
            code_version: request.code_version.clone(),
            collections,
        };
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(json)?;
        Ok((
            manifest,
            vec![
                (MODEL_FILE, model),
                (WARMUP_FILE, warmup),
                (MANIFEST_FILE, bytes),
            ],
        ))
    }
}
