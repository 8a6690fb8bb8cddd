//! Replacement words for the paraphrase and gist levels.
//!
//! Seven draws of ten ask the encoder's own input embeddings (near-synonyms: centred, cosine above
//! .35, another stem, best four), the rest and every miss ask the corpus (`ppmi`, best three).

use std::collections::HashMap;
use std::sync::OnceLock;

use moerag_encoder::{Encoder, EncoderError};
use ndarray::{Array1, Array2, Axis};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::ppmi::Ppmi;
use super::words::Lexicon;

const STATIC_SHARE: f64 = 0.7;
const STATIC_COSINE: f32 = 0.35;
const STATIC_BEST: usize = 4;
/// Looked at before the stem filter thins them.
const STATIC_POOL: usize = 12;

/// Words of the encoder's vocabulary with their centred unit embeddings.
pub(crate) struct StaticWords {
    words: Vec<String>,
    index: HashMap<String, usize>,
    /// `[words, d]`
    vectors: Array2<f32>,
    found: Vec<OnceLock<Vec<usize>>>,
}

impl StaticWords {
    /// Whole lower-case words of three letters or more, function words out.
    pub(crate) fn from_encoder(
        encoder: &Encoder,
        lexicon: &Lexicon<'_>,
    ) -> Result<Self, EncoderError> {
        let (vocabulary, flat) = encoder.word_embeddings()?;
        let dim = if vocabulary.is_empty() {
            0
        } else {
            flat.len() / vocabulary.len()
        };
        let chosen: Vec<usize> = (0..vocabulary.len())
            .filter(|i| {
                let word = &vocabulary[*i];
                word.chars().count() >= 3
                    && word.chars().all(|c| c.is_alphabetic() && !c.is_uppercase())
                    && lexicon.term(word).is_some()
            })
            .collect();
        let mut vectors = Array2::zeros((chosen.len(), dim));
        for (mut row, i) in vectors.rows_mut().into_iter().zip(&chosen) {
            row.assign(&ndarray::aview1(&flat[i * dim..(i + 1) * dim]));
        }
        let words = chosen.into_iter().map(|i| vocabulary[i].clone()).collect();
        Ok(Self::new(words, vectors))
    }

    fn new(words: Vec<String>, mut vectors: Array2<f32>) -> Self {
        if let Some(mean) = vectors.mean_axis(Axis(0)) {
            vectors -= &mean;
        }
        for mut row in vectors.rows_mut() {
            let norm = row.dot(&row).sqrt() + 1e-9;
            row.mapv_inplace(|v| v / norm);
        }
        let index = words
            .iter()
            .enumerate()
            .map(|(i, w)| (w.clone(), i))
            .collect();
        let found = words.iter().map(|_| OnceLock::new()).collect();
        Self {
            words,
            index,
            vectors,
            found,
        }
    }

    fn nearest(&self, word: &str, lexicon: &Lexicon<'_>) -> Vec<&str> {
        let Some(&row) = self.index.get(word) else {
            return Vec::new();
        };
        let found = self.found[row].get_or_init(|| {
            let cosines: Array1<f32> = self.vectors.dot(&self.vectors.row(row));
            let mut near: Vec<usize> = (0..self.words.len())
                .filter(|i| cosines[*i] > STATIC_COSINE)
                .collect();
            near.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b)));
            let own = lexicon.term(word);
            near.into_iter()
                .take(STATIC_POOL)
                .filter(|i| lexicon.term(&self.words[*i]) != own)
                .take(STATIC_BEST)
                .collect()
        });
        found.iter().map(|i| self.words[*i].as_str()).collect()
    }
}

/// Both sources of replacement words.
pub(crate) struct Neighbours<'a> {
    pub(crate) lexicon: &'a Lexicon<'a>,
    pub(crate) static_words: StaticWords,
    pub(crate) corpus: Option<Ppmi>,
    /// A written form of each stem.
    pub(crate) surface: HashMap<u32, String>,
}

impl Neighbours<'_> {
    /// A replacement for `word`, `None` when neither source knows one.
    pub(crate) fn replace(&self, word: &str, rng: &mut ChaCha8Rng) -> Option<String> {
        let lower = word.to_lowercase();
        if rng.random_bool(STATIC_SHARE)
            && let Some(near) = self.static_words.nearest(&lower, self.lexicon).choose(rng)
        {
            return Some((*near).to_owned());
        }
        let near: Vec<u32> = self
            .corpus
            .as_ref()?
            .nearest(self.lexicon.term(&lower)?)
            .collect();
        near.choose(rng)
            .and_then(|term| self.surface.get(term))
            .cloned()
    }
}
