//! How collections are made and dropped on a server without transactions.
//!
//! A collection is *registered* in `<prefix>~~meta` before anything else of it is made, under a name on the
//! server that no collection had before: of several routers that make it at once the first to register decides,
//! and the others go on with what it registered. The alias, which makes the collection exist, comes last.
//! A drop marks the registration first and takes it away last. So whoever makes a collection finds what an
//! interrupted drop left, and a slow drop can never reach what was made after it.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    Condition, CreateAliasBuilder, CreateCollection, CreateFieldIndexCollection, Distance,
    FieldType, Filter, SparseVectorConfig, SparseVectorParams, VectorParamsBuilder,
    VectorParamsMap, VectorsConfig, vectors_config,
};

use super::schema::{self, DENSE, GENERATION, LEXICAL, LIVE, Names, STATE};
use super::{QdrantStore, ops};
use crate::check;
use crate::error::StoreError;
use crate::spec::CollectionSpec;
use crate::tags::{DOCUMENT_FIELD, TAGS_FIELD};

/// Payload field with a collection's spec as JSON.
const SPEC: &str = "spec";
/// Payload field with a collection's name.
const NAME: &str = "name";
/// Payload field with the name of its passages' collection on the server.
const POINTS: &str = "points";
/// Payload field, true once the collection is being dropped.
const DROPPING: &str = "dropping";

/// What is registered of a collection.
pub(super) struct Registered {
    pub(super) spec: CollectionSpec,
    points: String,
    pub(super) dropping: bool,
}

impl QdrantStore {
    /// What is registered under a name, with or without an alias.
    pub(super) async fn registered(&self, name: &str) -> Result<Option<Registered>, StoreError> {
        let id = schema::named_id("spec", name);
        let fields = &[SPEC, POINTS, DROPPING];
        let found = self.remote.get(&self.meta, vec![id], fields).await?;
        let Some(point) = found.first() else {
            return Ok(None);
        };
        let spec: CollectionSpec = serde_json::from_str(schema::text(&point.payload, SPEC)?)
            .map_err(|error| StoreError::Corrupt {
                what: format!("spec of collection {name:?}"),
                reason: error.to_string(),
            })?;
        let points = match point.payload.contains_key(POINTS) {
            true => schema::text(&point.payload, POINTS)?.to_owned(),
            // Registered before registrations had it.
            false => Names::by_space(&self.options.prefix, name, &spec.space).points,
        };
        Ok(Some(Registered {
            spec,
            points,
            dropping: point.payload.contains_key(DROPPING),
        }))
    }

    /// Makes a collection, or takes up what another router or an earlier try made of it. Every step may be
    /// repeated.
    pub(super) async fn ensure(&self, name: &str, spec: &CollectionSpec) -> Result<(), StoreError> {
        let aliased = self.aliased(name).await?;
        let mut registered = self.registered(name).await?;
        if let Some(gone) = registered.take_if(|r| r.dropping) {
            tracing::info!(collection = name, "an interrupted drop is finished");
            self.take_away(name, &gone.points).await?;
        } else if let (Some(names), Some(stored)) = (aliased, &registered) {
            check::same_spec(name, &stored.spec, spec)?;
            let handle = self.remember(name, names, stored.spec.clone());
            let mut state = handle.stats.lock().await;
            return self.finish_interrupted(&handle, &mut state).await;
        }
        let registered = match registered {
            Some(registered) => registered,
            None => self.register(name, spec).await?,
        };
        check::same_spec(name, &registered.spec, spec)?;
        let names = Names::of(&self.options.prefix, name, registered.points);
        self.make(&names, spec).await?;
        self.remember(name, names, registered.spec);
        Ok(())
    }

    /// Registers a collection under a fresh name unless it is registered; returns what is.
    async fn register(&self, name: &str, spec: &CollectionSpec) -> Result<Registered, StoreError> {
        self.create(bare(&self.meta)).await?;
        let text = serde_json::to_string(spec).map_err(|error| StoreError::InvalidInput {
            field: "spec".into(),
            reason: error.to_string(),
        })?;
        let names = Names::fresh(&self.options.prefix, name);
        let payload = HashMap::from([
            (SPEC.to_owned(), text.into()),
            (NAME.to_owned(), name.into()),
            (POINTS.to_owned(), names.points.into()),
        ]);
        let point = schema::bare_point(schema::named_id("spec", name), payload);
        // No point has an empty name there: one that is there is never replaced.
        let never = Filter::must([Condition::matches(POINTS, String::new())]);
        self.remote
            .upsert(&self.meta, &[point], Some(&never))
            .await?;
        let unknown = || StoreError::UnknownCollection { name: name.into() };
        self.registered(name).await?.ok_or_else(unknown)
    }

    /// Makes what a collection consists of on the server, the alias last.
    async fn make(&self, names: &Names, spec: &CollectionSpec) -> Result<(), StoreError> {
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
        self.remote
            .call("create_alias", || {
                let alias = CreateAliasBuilder::new(names.points.clone(), names.alias.clone());
                self.remote.client.create_alias(alias)
            })
            .await
            .map(drop)
    }

    /// Drops a collection; true also where it finishes a drop that was interrupted.
    pub(super) async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let points = match (self.aliased(name).await?, self.registered(name).await?) {
            (Some(names), _) => names.points,
            // Its drop was interrupted, or its making.
            (None, Some(registered)) => registered.points,
            (None, None) => {
                self.forget(name);
                return Ok(false);
            }
        };
        let dropping = HashMap::from([
            (DROPPING.to_owned(), true.into()),
            (POINTS.to_owned(), points.as_str().into()),
        ]);
        let registration = ops::by_filter(registration(name, &points));
        self.remote
            .set_payload(&self.meta, registration, dropping)
            .await?;
        let gone = self.take_away(name, &points).await;
        self.forget(name);
        gone.map(|()| true)
    }

    /// The steps of a drop after its mark, for everybody who finds the mark.
    async fn take_away(&self, name: &str, points: &str) -> Result<(), StoreError> {
        let client = &self.remote.client;
        let names = Names::of(&self.options.prefix, name, points.to_owned());
        // The alias goes with what it stands for. By itself it may stand for something newer by now.
        for collection in [&names.points, &names.details, &names.documents] {
            let drop = || client.delete_collection(collection.as_str());
            self.remote.call("delete_collection", drop).await?;
        }
        let stats = schema::named_id("stats", name);
        self.remote
            .delete(&self.meta, ops::by_ids(vec![stats]))
            .await?;
        let registration = ops::by_filter(registration(name, points));
        self.remote.delete(&self.meta, registration).await
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
}

/// A collection's registration, if it is the one of these points.
fn registration(name: &str, points: &str) -> Filter {
    Filter {
        must: vec![Condition::has_id([schema::named_id("spec", name)])],
        should: vec![
            Condition::matches(POINTS, points.to_owned()),
            // Registered before registrations had it.
            Condition::is_empty(POINTS),
        ],
        ..Filter::default()
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
