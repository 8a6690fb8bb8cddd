//! What a router remembers of a collection, and how collections are made and dropped.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwapOption;
use moerag_retrieve::KeyBlock;
use qdrant_client::qdrant::{
    CreateAliasBuilder, CreateCollection, CreateFieldIndexCollection, Distance, FieldType,
    SparseVectorConfig, SparseVectorParams, VectorParamsBuilder, VectorParamsMap, VectorsConfig,
    vectors_config,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

use super::schema::{self, DENSE, GENERATION, LEXICAL, LIVE, Names, STATE};
use super::{QdrantStore, stats};
use crate::check;
use crate::error::StoreError;
use crate::spec::CollectionSpec;
use crate::tags::{DOCUMENT_FIELD, TAGS_FIELD};

/// Payload field with a collection's spec as JSON.
const SPEC: &str = "spec";
/// Payload field with a collection's name.
const NAME: &str = "name";

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
        let spec = self.stored_spec(name).await?.ok_or_else(unknown)?;
        Ok(self.remember(name, names, spec))
    }

    fn remember(&self, name: &str, names: Names, spec: CollectionSpec) -> Arc<Handle> {
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
        known.entry(name.to_owned()).or_insert(handle).clone()
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
    async fn aliased(&self, name: &str) -> Result<Option<Names>, StoreError> {
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

    async fn stored_spec(&self, name: &str) -> Result<Option<CollectionSpec>, StoreError> {
        let id = schema::named_id("spec", name);
        let found = self.remote.get(&self.meta, vec![id], &[SPEC]).await?;
        let Some(point) = found.first() else {
            return Ok(None);
        };
        let spec = schema::text(&point.payload, SPEC)?;
        serde_json::from_str(spec)
            .map(Some)
            .map_err(|error| StoreError::Corrupt {
                what: format!("spec of collection {name:?}"),
                reason: error.to_string(),
            })
    }

    /// Makes a collection. Every step may be repeated; the alias, which makes it exist, comes last.
    pub(super) async fn ensure(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError> {
        if let (Some(names), Some(stored)) =
            (self.aliased(name).await?, self.stored_spec(name).await?)
        {
            check::same_spec(name, &stored, spec)?;
            let handle = self.remember(name, names, stored);
            let mut state = handle.stats.lock().await;
            return self.finish_interrupted(&handle, &mut state).await;
        }
        let names = Names::new(&self.options.prefix, name, &spec.space);
        let meta = self.meta.clone();
        self.create(bare(&meta)).await?;
        self.create(bare(&names.documents)).await?;
        self.create(bare(&names.details)).await?;
        self.create(passages(&names.points, spec)).await?;
        for (field, kind) in [
            (DOCUMENT_FIELD, FieldType::Keyword),
            (TAGS_FIELD, FieldType::Keyword),
            (LIVE, FieldType::Bool),
            (GENERATION, FieldType::Integer),
        ] {
            self.index_field(&names.points, field, kind).await?;
        }
        for (field, kind) in [
            (DOCUMENT_FIELD, FieldType::Keyword),
            (GENERATION, FieldType::Integer),
        ] {
            self.index_field(&names.details, field, kind).await?;
        }
        self.index_field(&names.documents, STATE, FieldType::Keyword)
            .await?;
        let text = serde_json::to_string(spec).map_err(|error| StoreError::InvalidInput {
            field: "spec".into(),
            reason: error.to_string(),
        })?;
        let payload = HashMap::from([
            (SPEC.to_owned(), text.into()),
            (NAME.to_owned(), name.into()),
        ]);
        let point = schema::bare_point(schema::named_id("spec", name), payload);
        self.remote.upsert(&meta, &[point], None).await?;
        self.remote
            .call("create_alias", || {
                let alias = CreateAliasBuilder::new(names.points.clone(), names.alias.clone());
                self.remote.client.create_alias(alias)
            })
            .await?;
        self.remember(name, names, spec.clone());
        Ok(())
    }

    /// Makes a server collection unless it is there.
    async fn create(&self, request: CreateCollection) -> Result<(), StoreError> {
        let exists = || {
            self.remote
                .client
                .collection_exists(request.collection_name.clone())
        };
        if self.remote.call("collection_exists", exists).await? {
            return Ok(());
        }
        let create = || self.remote.client.create_collection(request.clone());
        match self.remote.call("create_collection", create).await {
            Ok(_) => Ok(()),
            // Another router was faster, or a first try went through unheard.
            Err(_) if self.remote.call("collection_exists", exists).await? => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn index_field(
        &self,
        collection: &str,
        field: &str,
        kind: FieldType,
    ) -> Result<(), StoreError> {
        self.remote
            .call("create_field_index", || {
                self.remote
                    .client
                    .create_field_index(CreateFieldIndexCollection {
                        collection_name: collection.to_owned(),
                        wait: Some(true),
                        field_name: field.to_owned(),
                        field_type: Some(kind.into()),
                        ..CreateFieldIndexCollection::default()
                    })
            })
            .await
            .map(drop)
    }

    /// Removes a collection; the alias goes first, and with it the collection for everybody.
    pub(super) async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let Some(names) = self.aliased(name).await? else {
            return Ok(false);
        };
        let client = &self.remote.client;
        let alias = names.alias.clone();
        self.remote
            .call("delete_alias", || client.delete_alias(alias.as_str()))
            .await?;
        self.forget(name);
        for collection in [&names.points, &names.details, &names.documents] {
            let drop = || client.delete_collection(collection.as_str());
            self.remote.call("delete_collection", drop).await?;
        }
        let ids = ["spec", "stats"].map(|kind| schema::named_id(kind, name));
        let meta = self.meta.clone();
        self.remote
            .delete(&meta, super::ops::by_ids(ids.to_vec()))
            .await?;
        Ok(true)
    }
}

/// A collection of points without vectors.
fn bare(name: &str) -> CreateCollection {
    CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap::default())),
        }),
        ..CreateCollection::default()
    }
}

/// The collection of passages. Its sparse vectors have no IDF modifier: the query carries the IDF.
fn passages(name: &str, spec: &CollectionSpec) -> CreateCollection {
    let dense = VectorParamsBuilder::new(u64::from(spec.dim), Distance::Cosine).build();
    let map = VectorParamsMap {
        map: HashMap::from([(DENSE.to_owned(), dense)]),
    };
    let lexical = HashMap::from([(LEXICAL.to_owned(), SparseVectorParams::default())]);
    CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(map)),
        }),
        sparse_vectors_config: Some(SparseVectorConfig { map: lexical }),
        ..CreateCollection::default()
    }
}
