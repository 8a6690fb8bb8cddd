//! Pin, unpin, roll back, and garbage collection.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::ObjectStore;

use crate::error::CheckpointError;
use crate::load::LoadedVersion;
use crate::manifest::Current;
use crate::publish::ATTEMPTS;
use crate::store::CheckpointStore;
use crate::verify::Expected;
use crate::version::{parse_version_name, version_path};

/// A directory without a manifest is a publisher at work; after this long it is a dead one.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a garbage collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Versions deleted, ascending.
    pub removed: Vec<u64>,
    /// Numbers whose publisher died before the manifest, deleted, ascending.
    pub abandoned: Vec<u64>,
}

impl CheckpointStore {
    /// Serves `version` from now on, whatever is published, until [`Self::unpin`]. The version is
    /// verified first, and that it is as `expected` by whoever will serve it.
    ///
    /// # Errors
    ///
    /// What is wrong with the version, or the store's failure.
    pub async fn pin(&self, version: u64, expected: &Expected) -> Result<Current, CheckpointError> {
        let _lock = self.lock().await?;
        let loaded = self.load(version).await?;
        self.move_to(&loaded, true, expected).await
    }

    /// Follows the newest version again, and moves to it now. It is verified first, as by [`Self::pin`]; a
    /// pin that is not there is no error.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NotFound`] in an empty store, what is wrong with the newest version, or
    /// the store's failure.
    pub async fn unpin(&self, expected: &Expected) -> Result<Current, CheckpointError> {
        let _lock = self.lock().await?;
        let Some(newest) = self.list().await?.versions.pop() else {
            return Err(CheckpointError::NotFound("a version".to_owned()));
        };
        let loaded = self.load(newest.version).await?;
        self.move_to(&loaded, false, expected).await
    }

    /// Goes back to an older version and pins it: `to`, or else the one served before the current
    /// one, or else the newest older one; of these two only one that is as `expected`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Refused`] when there is nothing older or `to` is not older, what is wrong
    /// with the version, or the store's failure.
    pub async fn rollback(
        &self,
        to: Option<u64>,
        expected: &Expected,
    ) -> Result<Current, CheckpointError> {
        let _lock = self.lock().await?;
        let Some(current) = self.current().await? else {
            return Err(CheckpointError::NotFound("a current version".to_owned()));
        };
        let version = match to {
            Some(version) if version >= current.version => {
                return Err(CheckpointError::Refused(format!(
                    "version {version} is not older than the current {}; pin it instead",
                    current.version
                )));
            }
            Some(version) => version,
            None => self.before(&current, expected).await?,
        };
        let loaded = self.load(version).await?;
        self.move_to(&loaded, true, expected).await
    }

    async fn before(&self, current: &Current, expected: &Expected) -> Result<u64, CheckpointError> {
        let versions = self.list().await?.versions;
        let older = || {
            versions
                .iter()
                .filter(|manifest| manifest.require(expected).is_ok())
                .map(|manifest| manifest.version)
                .filter(|v| *v < current.version)
        };
        let previous = current
            .previous
            .filter(|previous| older().any(|v| v == *previous));
        previous.or_else(|| older().max()).ok_or_else(|| {
            CheckpointError::Refused(format!(
                "there is no version before {} that fits the encoder",
                current.version
            ))
        })
    }

    async fn move_to(
        &self,
        loaded: &LoadedVersion,
        pinned: bool,
        expected: &Expected,
    ) -> Result<Current, CheckpointError> {
        loaded.manifest.require(expected)?;
        let version = loaded.manifest.version;
        for _ in 0..ATTEMPTS {
            let seen = self.seen().await?;
            let before = seen.current();
            let next = Current {
                version,
                manifest_sha256: loaded.manifest_sha256.clone(),
                pinned,
                generation: before.map_or(0, |current| current.generation) + 1,
                previous: before.and_then(|current| {
                    if current.version == version {
                        current.previous
                    } else {
                        Some(current.version)
                    }
                }),
            };
            if self.commit(&seen, &next).await? {
                return Ok(next);
            }
        }
        Err(CheckpointError::Busy(
            "other writers keep changing CURRENT.json".to_owned(),
        ))
    }

    /// Deletes old versions: all but the newest `keep` (at least 1) and never the current one (a
    /// pin is on it) nor the one served before. Versions that cannot be read are left to a person.
    ///
    /// # Errors
    ///
    /// The store's failure; what was deleted until then stays deleted.
    pub async fn gc(&self, keep: usize) -> Result<GcReport, CheckpointError> {
        let _lock = self.lock().await?;
        let current = self.current().await?;
        let protected: BTreeSet<u64> = current
            .iter()
            .flat_map(|current| [Some(current.version), current.previous])
            .flatten()
            .collect();
        let listing = self.list().await?;
        let versions: Vec<u64> = listing
            .versions
            .iter()
            .map(|manifest| manifest.version)
            .collect();
        let old = versions.len().saturating_sub(keep.max(1));
        let mut report = GcReport::default();
        for version in versions[..old]
            .iter()
            .filter(|version| !protected.contains(version))
        {
            self.remove(*version).await?;
            report.removed.push(*version);
        }
        let newest = versions.last().copied().unwrap_or(0);
        for problem in &listing.problems {
            if let Ok(number) = parse_version_name(&problem.name)
                && number < newest
                && !protected.contains(&number)
                && self.is_abandoned(number).await?
            {
                self.remove(number).await?;
                report.abandoned.push(number);
            }
        }
        Ok(report)
    }

    /// No manifest, and nothing written for a day.
    async fn is_abandoned(&self, version: u64) -> Result<bool, CheckpointError> {
        if !matches!(
            self.manifest(version).await,
            Err(CheckpointError::NotFound(_))
        ) {
            return Ok(false);
        }
        let path = version_path(&self.prefix, version);
        let failed = CheckpointError::store(format!("listing {path}"));
        let objects: Vec<_> = self
            .objects
            .list(Some(&path))
            .try_collect()
            .await
            .map_err(failed)?;
        let newest = objects
            .iter()
            .map(|object| SystemTime::from(object.last_modified))
            .max();
        Ok(newest.is_none_or(|written| written.elapsed().is_ok_and(|age| age > ABANDONED_AFTER)))
    }
}
