//! The engine: everything a request needs, shared by all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use moerag_encoder::{Encoder, EncoderHandle};
use moerag_retrieve::{Analyzer, CorpusStats, KeySpec, Language, TokenCodec};
use moerag_runtime::CpuPool;
use moerag_store::{CollectionSpec, PassageStore};
use tracing::debug;

use super::admission::{Admission, Permits};
use super::cache::{CacheConfig, ReplyCache};
use super::ingest::IngestConfig;
use crate::domain::{Limits, RouterError};
use crate::model_slot::ModelSlot;
use crate::threads;

/// How long the specification of a collection is believed without asking the store again.
const SPEC_TTL: Duration = Duration::from_secs(5);
/// The same for the list of all collections, which other routers may add to.
const NAMES_TTL: Duration = Duration::from_secs(1);

/// Settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Bounds of requests.
    pub limits: Limits,
    /// Sizes of the queues.
    pub permits: Permits,
    /// How documents are taken in.
    pub ingest: IngestConfig,
    /// What is kept for queries that come again.
    pub cache: CacheConfig,
    /// Whether each thread of queries stays on a core of its own.
    pub pin_threads: bool,
    /// How the keys of new collections are made.
    pub key_spec: KeySpec,
}

/// Routed attention over the passages of a store. Clones share everything.
#[derive(Clone)]
pub struct RouterEngine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: EngineConfig,
    pub(super) store: Arc<dyn PassageStore>,
    pub(super) encoder: EncoderHandle,
    pub(super) models: Arc<ModelSlot>,
    pub(super) codec: TokenCodec,
    pub(super) admission: Admission,
    pub(super) replies: ReplyCache,
    /// Queries.
    pub(super) pool: CpuPool,
    /// Everything that can wait.
    pub(super) background: CpuPool,
    specs: Mutex<HashMap<String, (Instant, Arc<KnownCollection>)>>,
    digests: Mutex<HashMap<Arc<str>, KnownDigest>>,
    servable: Mutex<Option<(Instant, Vec<Arc<str>>)>>,
}

/// Statistics of a collection and their digest.
type KnownDigest = (Weak<CorpusStats>, Arc<str>);

/// What a query needs to know of a collection.
pub(super) struct KnownCollection {
    pub(super) spec: CollectionSpec,
    pub(super) analyzer: Analyzer,
}

impl RouterEngine {
    /// Puts an engine together.
    ///
    /// # Errors
    /// The operating system refuses threads.
    pub fn new(
        config: EngineConfig,
        store: Arc<dyn PassageStore>,
        encoder: Arc<Encoder>,
        models: Arc<ModelSlot>,
    ) -> Result<Self, RouterError> {
        let pool = threads::queries(config.pin_threads)?;
        let background = threads::background("background", None)?;
        Ok(Self {
            inner: Arc::new(Inner {
                admission: Admission::new(&config.permits, pool.threads()),
                replies: ReplyCache::new(&config.cache),
                codec: TokenCodec::new(&config.key_spec),
                config,
                store,
                encoder: EncoderHandle::new(encoder),
                models,
                pool,
                background,
                specs: Mutex::default(),
                digests: Mutex::default(),
                servable: Mutex::default(),
            }),
        })
    }

    /// The bounds of requests.
    pub fn limits(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// The model slot.
    pub fn models(&self) -> &Arc<ModelSlot> {
        &self.inner.models
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn PassageStore> {
        &self.inner.store
    }

    /// The encoder.
    pub fn encoder(&self) -> &Arc<Encoder> {
        self.inner.encoder.encoder()
    }

    /// Runs CPU work that can wait.
    ///
    /// # Errors
    /// What the work says.
    pub async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RouterError> + Send + 'static,
    ) -> Result<T, RouterError> {
        self.inner.background.run(work).await?
    }

    /// Ok if the store answers now.
    ///
    /// # Errors
    /// What the store says.
    pub async fn health(&self) -> Result<(), RouterError> {
        Ok(self.inner.store.health().await?)
    }
}

impl Inner {
    /// Embedding space of the encoder.
    pub(super) fn space(&self) -> &str {
        self.encoder.encoder().space().as_str()
    }

    /// The specification that a new collection gets.
    pub(super) fn new_spec(&self, language: Language) -> CollectionSpec {
        CollectionSpec {
            space: self.space().to_owned(),
            dim: u32::try_from(self.encoder.encoder().dim()).unwrap_or(u32::MAX),
            key_spec: self.config.key_spec.clone(),
            language,
        }
    }

    /// What is known of a collection, provided that this router can serve it.
    pub(super) async fn known(&self, name: &str) -> Result<Arc<KnownCollection>, RouterError> {
        let cached = lock(&self.specs).get(name).cloned();
        if let Some((at, known)) = cached
            && at.elapsed() < SPEC_TTL
        {
            return Ok(known);
        }
        let spec = match self.store.spec(name).await {
            Ok(spec) => spec,
            Err(error) => {
                lock(&self.specs).remove(name);
                return Err(error.into());
            }
        };
        self.check_spec(name, &spec)?;
        let analyzer = Analyzer::new(spec.language);
        let known = Arc::new(KnownCollection { spec, analyzer });
        lock(&self.specs).insert(name.to_owned(), (Instant::now(), Arc::clone(&known)));
        Ok(known)
    }

    /// Names of all collections that this router can serve.
    pub(super) async fn servable(&self) -> Result<Vec<Arc<str>>, RouterError> {
        let cached = lock(&self.servable).clone();
        if let Some((at, names)) = cached
            && at.elapsed() < NAMES_TTL
        {
            return Ok(names);
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        for (name, spec) in self.store.specs().await? {
            match self.check_spec(&name, &spec) {
                Ok(()) => names.push(name.into()),
                Err(reason) => debug!(collection = name, %reason, "collection left out"),
            }
        }
        names.sort();
        *lock(&self.servable) = Some((Instant::now(), names.clone()));
        Ok(names)
    }

    /// Forgets the list of collections, because this router may have made one.
    pub(super) fn forget_servable(&self) {
        *lock(&self.servable) = None;
    }

    /// Forgets what is known of a collection that was deleted.
    pub(super) fn forget(&self, name: &str) {
        lock(&self.specs).remove(name);
        lock(&self.digests).remove(name);
        self.forget_servable();
    }

    /// Refuses collections of another embedding space or with other keys.
    pub(super) fn check_spec(&self, name: &str, spec: &CollectionSpec) -> Result<(), RouterError> {
        let pairs = [
            (
                "embedding space",
                spec.space.clone(),
                self.space().to_owned(),
            ),
            ("key spec", spec.key_spec.id(), self.config.key_spec.id()),
        ];
        match pairs.into_iter().find(|(_, theirs, ours)| theirs != ours) {
            None => Ok(()),
            Some((what, theirs, ours)) => Err(RouterError::Precondition {
                subject: format!("collection {name:?}"),
                reason: format!(
                    "it was ingested with {what} {theirs:?}, this router has {ours:?}; start the \
                     router with that encoder or ingest the documents into another collection"
                ),
            }),
        }
    }

    /// Digest of `stats`, computed once for as long as the store gives out the same ones: it reads
    /// every term of the collection.
    pub(super) fn stats_digest(&self, collection: &Arc<str>, stats: &Arc<CorpusStats>) -> Arc<str> {
        if let Some((known, digest)) = lock(&self.digests).get(collection)
            && std::ptr::eq(known.as_ptr(), Arc::as_ptr(stats))
        {
            return Arc::clone(digest);
        }
        let digest: Arc<str> = stats.digest().into();
        // The weak reference keeps the address from being used again for other statistics.
        lock(&self.digests).insert(
            Arc::clone(collection),
            (Arc::downgrade(stats), Arc::clone(&digest)),
        );
        digest
    }
}

/// Nothing panics while one of these locks is held, and what they guard is only remembered.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
