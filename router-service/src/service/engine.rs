//! The engine: everything a request needs, shared by all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use moerag_encoder::{Encoder, EncoderHandle};
use moerag_retrieve::{Analyzer, CorpusStats, KeySpec, Language, TokenCodec};
use moerag_runtime::CpuPool;
use moerag_store::{CollectionSpec, PassageStore};

use super::admission::{Admission, Permits};
use super::ingest::IngestConfig;
use crate::domain::{Limits, RouterError};
use crate::model_slot::ModelSlot;

/// How long the specification of a collection is believed without asking the store again.
const SPEC_TTL: Duration = Duration::from_secs(5);
/// Niceness of the threads that ingest and load models, so that queries go first.
const BACKGROUND_NICE: i32 = 10;

/// Settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Bounds of requests.
    pub limits: Limits,
    /// Sizes of the queues.
    pub permits: Permits,
    /// How documents are taken in.
    pub ingest: IngestConfig,
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
    /// Queries.
    pub(super) pool: CpuPool,
    /// Everything that can wait.
    pub(super) background: CpuPool,
    specs: Mutex<HashMap<String, (Instant, Arc<KnownCollection>)>>,
    digests: Mutex<HashMap<Arc<str>, KnownDigest>>,
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
        let pool = CpuPool::new("query", None)?;
        let background = CpuPool::new("background", None)?;
        background.broadcast(|| {
            // Without the right to be nice we are merely less fair.
            let _ = rustix::process::nice(BACKGROUND_NICE);
        });
        Ok(Self {
            inner: Arc::new(Inner {
                admission: Admission::new(&config.permits, pool.threads()),
                codec: TokenCodec::new(&config.key_spec),
                config,
                store,
                encoder: EncoderHandle::new(encoder),
                models,
                pool,
                background,
                specs: Mutex::default(),
                digests: Mutex::default(),
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
        let cached = self.lock_specs().get(name).cloned();
        if let Some((at, known)) = cached
            && at.elapsed() < SPEC_TTL
        {
            return Ok(known);
        }
        let info = match self.store.collection(name).await {
            Ok(info) => info,
            Err(error) => {
                self.lock_specs().remove(name);
                return Err(error.into());
            }
        };
        self.check_spec(name, &info.spec)?;
        let analyzer = Analyzer::new(info.spec.language);
        let known = Arc::new(KnownCollection {
            spec: info.spec,
            analyzer,
        });
        self.lock_specs()
            .insert(name.to_owned(), (Instant::now(), Arc::clone(&known)));
        Ok(known)
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
        let lock = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, digest)) = lock().get(collection)
            && std::ptr::eq(known.as_ptr(), Arc::as_ptr(stats))
        {
            return Arc::clone(digest);
        }
        let digest: Arc<str> = stats.digest().into();
        // The weak reference keeps the address from being used again for other statistics.
        lock().insert(
            Arc::clone(collection),
            (Arc::downgrade(stats), Arc::clone(&digest)),
        );
        digest
    }

    fn lock_specs(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Arc<KnownCollection>)>> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
