//! What a router remembers of a collection, and how it finds one.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwapOption;
use moerag_retrieve::KeyBlock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

use super::schema::{self, Names};
use super::{QdrantStore, stats};
use crate::error::StoreError;
use crate::spec::CollectionSpec;

/// One collection as this router knows it.
pub(super) struct Handle {
    pub(super) name: String,
    pub(super) names: Names,
    pub(super) spec: CollectionSpec,
    /// Locked by every write, so that the writes of one router follow each other.
    pub(super) stats: Mutex<stats::State>,
    /// Statistics as searches get them.
    pub(super) latest: ArcSwapOption<stats::Latest>,
    /// True while they are brought up to date.
    pub(super) refreshing: AtomicBool,
    /// Keys by point id, which stands for one revision of one passage: they never go stale.
    pub(super) keys: Cache<u128, Arc<KeyBlock>, KeyBytes>,
}

#[derive(Clone)]
pub(super) struct KeyBytes;

impl Weighter<u128, Arc<KeyBlock>> for KeyBytes {
    fn weight(&self, _: &u128, keys: &Arc<KeyBlock>) -> u64 {
        keys.bytes() as u64
    }
}

impl QdrantStore {
    /// The collection, looked up on the server the first time.
    pub(super) async fn handle(&self, name: &str) -> Result<Arc<Handle>, StoreError> {
        {
            let known = self.handles.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(handle) = known.get(name) {
                return Ok(handle.clone());
            }
        }
        let unknown = || StoreError::UnknownCollection {
            name: name.chars().take(80).collect(),
        };
        let names = self.aliased(name).await?.ok_or_else(unknown)?;
        let registered = self.registered(name).await?;
        let registered = registered.filter(|r| !r.dropping).ok_or_else(unknown)?;
        Ok(self.remember(name, names, registered.spec))
    }

    /// Remembers a collection, unless this very one is known already.
    pub(super) fn remember(&self, name: &str, names: Names, spec: CollectionSpec) -> Arc<Handle> {
        let bytes = self.options.key_cache_bytes;
        let handle = Arc::new(Handle {
            name: name.to_owned(),
            names,
            spec,
            stats: Mutex::default(),
            latest: ArcSwapOption::empty(),
            refreshing: AtomicBool::new(false),
            keys: Cache::with_weighter((bytes / 12_000) as usize, bytes, KeyBytes),
        });
        let mut known = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        match known.get(name) {
            Some(same) if same.names.points == handle.names.points => same.clone(),
            _ => {
                known.insert(name.to_owned(), Arc::clone(&handle));
                handle
            }
        }
    }

    /// Forgets a collection that turned out to be gone.
    pub(super) fn forget(&self, name: &str) -> StoreError {
        self.handles
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        StoreError::UnknownCollection {
            name: name.chars().take(80).collect(),
        }
    }

    /// What an alias stands for, if there is one.
    pub(super) async fn aliased(&self, name: &str) -> Result<Option<Names>, StoreError> {
        let alias = schema::alias(&self.options.prefix, name);
        let all = self
            .remote
            .call("list_aliases", || self.remote.client.list_aliases())
            .await?;
        let found = all
            .aliases
            .into_iter()
            .find(|entry| entry.alias_name == alias);
        Ok(found.map(|entry| Names::of(&self.options.prefix, name, entry.collection_name)))
    }

    /// Names of all collections that have an alias.
    pub(super) async fn names(&self) -> Result<Vec<String>, StoreError> {
        let all = self
            .remote
            .call("list_aliases", || self.remote.client.list_aliases())
            .await?;
        let start = schema::alias(&self.options.prefix, "");
        let mut names: Vec<String> = all
            .aliases
            .iter()
            .filter_map(|entry| entry.alias_name.strip_prefix(&start).map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}
