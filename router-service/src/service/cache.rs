//! Replies to queries that were asked before, word for word.
//!
//! A reply is kept under everything that it depends on: the query with all its options, the weights,
//! and what the store says about the content of each collection. When a document or a version comes,
//! keys change and old replies fall out by age; nothing is ever invalidated.

use std::sync::Arc;

use moerag_model::Routing;
use moerag_store::{ContentState, Filter, PassageStore};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::domain::{AttendQuery, Attended, AttendedPassage};
use crate::model_slot::LoadedModel;

/// What a reply takes beside texts and views, roughly.
const REPLY_BYTES: usize = 2_048;

/// Sizes of caches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of replies kept for queries that come again; 0 keeps none. One of ten passages takes some
    /// 20 KB.
    pub reply_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            reply_bytes: 16 << 20,
        }
    }
}

/// Everything that a reply depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReplyKey {
    text: String,
    collections: Vec<(Arc<str>, ContentState)>,
    top_k: u32,
    routing: Routing,
    filter: Filter,
    context_budget_tokens: Option<u32>,
    truncate: bool,
    /// Bits of the number.
    min_attn_weight: Option<u64>,
    as_written: bool,
    version: u64,
    weights_digest: String,
}

impl ReplyKey {
    pub(super) fn new(
        query: &AttendQuery,
        collections: Vec<(Arc<str>, ContentState)>,
        model: &LoadedModel,
    ) -> Self {
        Self {
            text: query.text.clone(),
            collections,
            top_k: query.top_k,
            routing: query.routing,
            filter: query.filter.clone(),
            context_budget_tokens: query.context_budget_tokens,
            truncate: query.truncate,
            min_attn_weight: query.min_attn_weight.map(f64::to_bits),
            as_written: query.as_written,
            version: model.version(),
            weights_digest: model.weights_digest().to_owned(),
        }
    }

    /// Whether the collections have the content still that the key names.
    pub(super) fn is_current(&self, store: &dyn PassageStore) -> bool {
        let mut states = self.collections.iter();
        states.all(|(name, state)| store.content_state(name) == Some(*state))
    }
}

#[derive(Clone)]
struct ReplyBytes;

impl Weighter<ReplyKey, Arc<Attended>> for ReplyBytes {
    fn weight(&self, key: &ReplyKey, reply: &Arc<Attended>) -> u64 {
        let passages: usize = reply.passages.iter().map(passage_bytes).sum();
        (REPLY_BYTES + key.text.len() + passages) as u64
    }
}

fn passage_bytes(passage: &AttendedPassage) -> usize {
    let metadata = passage.passage.metadata.iter();
    let metadata: usize = metadata.map(|(k, v)| k.len() + v.len() + 64).sum();
    let shares = passage.heads.len() * 8 + passage.views.len() * 12;
    let sentences = (passage.sentences.len() + passage.passage.sentences.len()) * 24;
    passage.passage.text.len() + passage.passage.title.len() + metadata + shares + sentences + 512
}

/// The replies kept.
pub(super) struct ReplyCache(Option<Cache<ReplyKey, Arc<Attended>, ReplyBytes>>);

impl ReplyCache {
    pub(super) fn new(config: &CacheConfig) -> Self {
        let bytes = config.reply_bytes;
        Self(
            (bytes > 0).then(|| Cache::with_weighter((bytes / 20_000) as usize, bytes, ReplyBytes)),
        )
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn get(&self, key: &ReplyKey) -> Option<Arc<Attended>> {
        self.0.as_ref()?.get(key)
    }

    pub(super) fn put(&self, key: ReplyKey, reply: Arc<Attended>) {
        if let Some(cache) = &self.0 {
            cache.insert(key, reply);
        }
    }
}
