//! The encoder of synthetic queries, with a memory: when a collection has grown a little, most of its
//! queries are those of the training before.

use std::sync::Arc;

use moerag_encoder::{EncodeOptions, Encoder, EncoderError, Encoding};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// A text, and whether its token states were asked for.
type Key = (Box<str>, bool);

/// Encodes synthetic queries. Clones share the memory.
#[derive(Clone)]
pub struct QueryEncoder {
    encoder: Arc<Encoder>,
    known: Option<Arc<Cache<Key, Encoding, Bytes>>>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Encoding> for Bytes {
    fn weight(&self, (text, _): &Key, encoding: &Encoding) -> u64 {
        let numbers = encoding.vector.len() + encoding.states.len() + encoding.token_ids.len();
        (size_of::<(Key, Encoding)>() + text.len() + 4 * numbers) as u64
    }
}

impl QueryEncoder {
    /// An encoder that remembers encodings up to so many bytes, the ones used last; 0: none. A query of
    /// ten words takes 16 KB.
    ///
    /// Nothing is remembered where an encoding depends on the batch that it was computed in: a training
    /// must not depend on those before it.
    #[must_use]
    pub fn new(encoder: Arc<Encoder>, bytes: u64) -> Self {
        let known = (bytes > 0 && encoder.is_exact()).then(|| {
            let most = usize::try_from(bytes / 8_192).unwrap_or(usize::MAX);
            Arc::new(Cache::with_weighter(most, bytes, Bytes))
        });
        Self { encoder, known }
    }

    /// The encoder itself.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Encodes `texts` in their order; also how many of them were known.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub(crate) fn encode(
        &self,
        texts: &[&str],
        options: &EncodeOptions<'_>,
    ) -> Result<(Vec<Encoding>, usize), EncoderError> {
        let Some(known) = &self.known else {
            return Ok((self.encoder.encode(texts, options)?, 0));
        };
        let key = |text: &str| (Box::from(text), options.tokens);
        let found: Vec<Option<Encoding>> = texts.iter().map(|text| known.get(&key(text))).collect();
        let new: Vec<&str> = texts
            .iter()
            .zip(&found)
            .filter_map(|(text, found)| found.is_none().then_some(*text))
            .collect();
        let encoded = self.encoder.encode(&new, options)?;
        for (text, encoding) in new.iter().zip(&encoded) {
            known.insert(key(text), encoding.clone());
        }
        let (hits, mut encoded) = (texts.len() - new.len(), encoded.into_iter());
        let all = found
            .into_iter()
            .map(|found| found.or_else(|| encoded.next()));
        Ok((all.flatten().collect(), hits))
    }
}
