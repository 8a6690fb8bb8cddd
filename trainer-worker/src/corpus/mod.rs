//! The documents that a training run learns from.
//!
//! A corpus is a snapshot in memory: texts for the rules, features (vectors, terms, keys) for the
//! views. The features are the ones that serving uses; nothing is encoded again. One passage takes
//! about 13 KB at 150 tokens (48 bytes a token for the keys, 1.7 KB of sentence codes, 1.5 KB vector),
//! so the default bound of 20,000 passages is below 300 MB. Larger collections are sampled by hash:
//! the statistics still count every passage, the sample serves as sources and negatives. So neither
//! time nor memory of training grow with a collection beyond it.

mod sampler;
mod source;

use std::ops::Range;

use moerag_retrieve::{CorpusStats, KeySpec, Language, PassageFeatures};
use sha2::{Digest, Sha256};

pub(crate) use sampler::Sampler;
pub use source::{CollectionSummary, CorpusSource, MemorySource, StoreSource};

/// A passage with its features, as a source hands it over.
#[derive(Debug, Clone)]
pub struct TrainingPassage {
    /// Document it belongs to.
    pub document_id: String,
    /// Position in its document.
    pub ordinal: u32,
    /// Revision of the document.
    pub revision: String,
    /// Title and heading path; may be empty.
    pub title: String,
    /// Text.
    pub text: String,
    /// Sentences, byte ranges in `text`.
    pub sentences: Vec<Range<usize>>,
    /// Vector, terms and keys.
    pub features: PassageFeatures,
}

/// The readable part of a [`TrainingPassage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageText {
    /// Document it belongs to.
    pub document_id: String,
    /// Position in its document.
    pub ordinal: u32,
    /// Revision of the document.
    pub revision: String,
    /// Title and heading path; may be empty.
    pub title: String,
    /// Text.
    pub text: String,
    /// Sentences, byte ranges in `text`.
    pub sentences: Vec<Range<usize>>,
}

/// What the features of a corpus were made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusSpec {
    /// Name of the collection.
    pub collection: String,
    /// Embedding space id of the vectors.
    pub space: String,
    /// How token states were compressed.
    pub key_spec: KeySpec,
    /// Language of stems and stop words.
    pub language: Language,
}

/// Passages of one collection, sorted by `(document_id, ordinal)`.
#[derive(Debug, Clone)]
pub struct TrainingCorpus {
    /// Name of the collection.
    pub collection: String,
    /// Embedding space id of the vectors.
    pub space: String,
    /// How token states were compressed.
    pub key_spec: KeySpec,
    /// Language of stems and stop words.
    pub language: Language,
    /// Texts.
    pub texts: Vec<PassageText>,
    /// Features, in the order of `texts`.
    pub features: Vec<PassageFeatures>,
    /// Statistics of the whole collection, also when `texts` is a sample.
    pub stats: CorpusStats,
    /// Digest over the sorted `(document_id, revision)` pairs of the collection, hex.
    pub corpus_digest: String,
    /// Passages in the collection, at least `texts.len()`.
    pub total_passages: usize,
}

impl TrainingCorpus {
    /// A corpus of passages in memory. Sorts them; fits the statistics when `stats` is `None`.
    #[must_use]
    pub fn new(
        spec: CorpusSpec,
        mut passages: Vec<TrainingPassage>,
        stats: Option<CorpusStats>,
    ) -> Self {
        passages.sort_by(|a, b| {
            (a.document_id.as_str(), a.ordinal).cmp(&(b.document_id.as_str(), b.ordinal))
        });
        let corpus_digest = digest(passages.iter().map(|p| (&*p.document_id, &*p.revision)));
        let total_passages = passages.len();
        let mut texts = Vec::with_capacity(passages.len());
        let mut features = Vec::with_capacity(passages.len());
        for passage in passages {
            let sentences = sane_ranges(&passage.text, passage.sentences);
            texts.push(PassageText {
                document_id: passage.document_id,
                ordinal: passage.ordinal,
                revision: passage.revision,
                title: passage.title,
                text: passage.text,
                sentences,
            });
            features.push(passage.features);
        }
        let stats = stats.unwrap_or_else(|| CorpusStats::fit(features.iter()));
        Self {
            collection: spec.collection,
            space: spec.space,
            key_spec: spec.key_spec,
            language: spec.language,
            texts,
            features,
            stats,
            corpus_digest,
            total_passages,
        }
    }

    /// Number of passages in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is nothing to learn from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Digest over distinct `(document_id, revision)` pairs; the pairs must come sorted.
fn digest<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = Sha256::new();
    let mut last = None;
    for pair in pairs {
        if last == Some(pair) {
            continue;
        }
        last = Some(pair);
        for part in [pair.0, pair.1] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// Sentences come over a wire: a range that does not fit the text must not become a panic later.
fn sane_ranges(text: &str, ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let kept: Vec<Range<usize>> = ranges
        .iter()
        .filter(|r| text.get((*r).clone()).is_some())
        .cloned()
        .collect();
    // Indices must stay aligned with the keys' sentence table, so all or nothing.
    if kept.len() == ranges.len() {
        kept
    } else {
        Vec::new()
    }
}
