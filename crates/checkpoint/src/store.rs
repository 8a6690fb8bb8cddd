//! The store's address, listing and `CURRENT.json`.
//!
//! Reads go through `object_store` everywhere. Writes differ: a directory has rename and locks but
//! no conditional update, an object store the other way round (`local.rs`, `publish.rs`).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::error::CheckpointError;
use crate::local;
use crate::manifest::{CURRENT_FILE, Current, Manifest};
use crate::version::{STAGED_PREFIX, VERSIONS, parse_version_name};

/// Largest `CURRENT.json` read.
const MAX_CURRENT: u64 = 64 << 10;
/// Manifests read at the same time by a listing.
const LISTING_READS: usize = 8;

/// A place where versions are published and read. Cheap to clone.
#[derive(Clone)]
pub struct CheckpointStore {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    /// The directory, for the writes of a `file://` store.
    pub(crate) local: Option<PathBuf>,
}

impl fmt::Debug for CheckpointStore {
    /// The address only: an object store's own form may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointStore({}/{})", self.objects, self.prefix)
    }
}

/// An entry under `versions/` that is not a usable version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The entry's name.
    pub name: String,
    /// What is wrong, for a person.
    pub reason: String,
}

/// All of a store's versions, and what looks like one but is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Complete versions by number, ascending. Their files are not verified.
    pub versions: Vec<Manifest>,
    /// Odd names, incomplete or unreadable versions.
    pub problems: Vec<Problem>,
}

/// How `CURRENT.json` was when it was read: the condition of the next write.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Absent,
    Present(Current, UpdateVersion),
}

impl Seen {
    pub(crate) fn current(&self) -> Option<&Current> {
        match self {
            Self::Absent => None,
            Self::Present(current, _) => Some(current),
        }
    }
}

impl CheckpointStore {
    /// Opens `s3://bucket/prefix` (credentials and endpoint from `AWS_*` variables), `file:///dir`
    /// or a directory, which is created when it is not there. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::BadUrl`] for another scheme or an incomplete s3 configuration,
    /// [`CheckpointError::Io`] when the directory cannot be made.
    pub fn open(address: &str) -> Result<Self, CheckpointError> {
        let bad = |reason: String| CheckpointError::BadUrl {
            url: address.to_owned(),
            reason,
        };
        if let Some(rest) = address.strip_prefix("s3://") {
            let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
            let prefix = Path::parse(prefix).map_err(|error| bad(error.to_string()))?;
            let store = AmazonS3Builder::from_env()
                .with_url(address)
                .build()
                .map_err(|error| bad(error.to_string()))?;
            return Ok(Self {
                objects: Arc::new(store),
                prefix,
                local: None,
            });
        }
        let path = address.strip_prefix("file://").unwrap_or(address);
        if path.contains("://") {
            return Err(bad("unknown scheme".to_owned()));
        }
        if path.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        Self::open_dir(path.as_ref())
    }

    /// Opens a directory, which is created when it is not there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] when it cannot be made.
    pub fn open_dir(path: &std::path::Path) -> Result<Self, CheckpointError> {
        let root = local::prepare(path)?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(CheckpointError::store(
            format!("opening {}", root.display()),
        ))?;
        Ok(Self {
            objects: Arc::new(store),
            prefix: Path::default(),
            local: Some(root),
        })
    }

    /// A store in memory that behaves like s3, for tests.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            prefix: Path::default(),
            local: None,
        }
    }

    /// Any object store with conditional writes, below `prefix`.
    pub fn with_object_store(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            objects,
            prefix,
            local: None,
        }
    }

    /// What should be served; `None` before the first version.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::CurrentCorrupt`] when `CURRENT.json` does not parse, or the store's failure.
    pub async fn current(&self) -> Result<Option<Current>, CheckpointError> {
        Ok(self.seen().await?.current().cloned())
    }

    pub(crate) async fn seen(&self) -> Result<Seen, CheckpointError> {
        let path = self.prefix.clone().join(CURRENT_FILE);
        let failed = || CheckpointError::store(format!("reading {CURRENT_FILE}"));
        let object = match self.objects.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Seen::Absent),
            object => object.map_err(failed())?,
        };
        let size = object.meta.size;
        if size > MAX_CURRENT {
            let file = CURRENT_FILE.to_owned();
            return Err(CheckpointError::TooLarge {
                file,
                size,
                limit: MAX_CURRENT,
            });
        }
        let condition = UpdateVersion {
            e_tag: object.meta.e_tag.clone(),
            version: object.meta.version.clone(),
        };
        let bytes = object.bytes().await.map_err(failed())?;
        let current = serde_json::from_slice(&bytes)
            .map_err(|error| CheckpointError::CurrentCorrupt(error.to_string()))?;
        Ok(Seen::Present(current, condition))
    }

    /// Writes `CURRENT.json` if it is still as `seen`; `false` when somebody else was faster.
    ///
    /// On a directory the caller holds the lock, so nobody can be.
    pub(crate) async fn commit(
        &self,
        seen: &Seen,
        next: &Current,
    ) -> Result<bool, CheckpointError> {
        let bytes = serde_json::to_vec_pretty(next).map_err(|error| {
            CheckpointError::Refused(format!("writing {CURRENT_FILE}: {error}"))
        })?;
        if let Some(root) = self.local.clone() {
            local::blocking(move || local::replace(&root, CURRENT_FILE, &bytes)).await?;
            return Ok(true);
        }
        let mode = match seen {
            Seen::Absent => PutMode::Create,
            Seen::Present(_, condition) => PutMode::Update(condition.clone()),
        };
        let path = self.prefix.clone().join(CURRENT_FILE);
        let put = self
            .objects
            .put_opts(&path, PutPayload::from(bytes), PutOptions::from(mode));
        match put.await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::Precondition { .. }
                | object_store::Error::AlreadyExists { .. },
            ) => {
                // A write whose reply was lost is sent again and then meets itself.
                Ok(self.seen().await?.current() == Some(next))
            }
            Err(error) => Err(CheckpointError::store(format!("writing {CURRENT_FILE}"))(
                error,
            )),
        }
    }

    /// All versions, ascending, and everything under `versions/` that is none.
    ///
    /// # Errors
    ///
    /// The store's failure; damaged versions are problems of the listing, not errors.
    pub async fn list(&self) -> Result<Listing, CheckpointError> {
        let mut listing = Listing::default();
        let mut numbers = Vec::new();
        for name in self.names().await? {
            match parse_version_name(&name) {
                Ok(number) => numbers.push((number, name)),
                Err(reason) => listing.problems.push(Problem { name, reason }),
            }
        }
        numbers.sort_unstable();
        let mut manifests = stream::iter(numbers)
            .map(|(number, name)| async move { (name, self.manifest(number).await) })
            .buffered(LISTING_READS);
        while let Some((name, manifest)) = manifests.next().await {
            match manifest {
                Ok((manifest, _)) => listing.versions.push(manifest),
                Err(error @ CheckpointError::Store { .. }) => return Err(error),
                Err(error) => listing.problems.push(Problem {
                    name,
                    reason: error.to_string(),
                }),
            }
        }
        Ok(listing)
    }

    /// Names under `versions/`, sorted, without those in the making.
    pub(crate) async fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let versions = self.prefix.clone().join(VERSIONS);
        let listed = self
            .objects
            .list_with_delimiter(Some(&versions))
            .await
            .map_err(CheckpointError::store("listing the versions"))?;
        let directories = listed.common_prefixes.iter();
        let files = listed.objects.iter().map(|object| &object.location);
        let mut names: Vec<String> = directories
            .chain(files)
            .filter_map(|path| path.filename().map(str::to_owned))
            .filter(|name| !name.starts_with(STAGED_PREFIX))
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}
