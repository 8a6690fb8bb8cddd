//! What a query meant to write: misspelt words are found by what the encoder and the documents know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use moerag_retrieve::{CorpusStats, Guess, Vocabulary, guesses, plain_words, rewritten};
use moerag_store::{Candidate, CandidateQuery, Filter, PassageRef, StoreError};

use super::engine::{KnownCollection, RouterEngine};

/// Longest query, in words, whose spelling is looked at. Who sends a page means every word of it, or none.
const MOST_WORDS: usize = 256;
/// Words of a query that the encoder does not know and that are looked up. Bounds the time.
const MOST_UNKNOWN: usize = 8;
/// Guesses for a word that are looked for in passages.
const MOST_GUESSES: usize = 6;
/// Passages that a guess is looked for in.
const MOST_PASSAGES: usize = 16;

/// A collection that the query is asked of.
struct Searched {
    name: Arc<str>,
    known: Arc<KnownCollection>,
    stats: Arc<CorpusStats>,
}

impl RouterEngine {
    /// `text` with its misspelt words as the documents of the collections `names` write them; `None` where there
    /// is nothing to mend. A word that one of the collections knows is right for all of them.
    pub(super) async fn respelled(&self, text: &str, names: &[Arc<str>]) -> Option<String> {
        let tokenizer = self.encoder().tokenizer();
        let words = plain_words(text);
        if words.len() > MOST_WORDS {
            return None;
        }
        let unknown: Vec<_> = words
            .into_iter()
            .filter(|range| !tokenizer.is_word(&text[range.clone()].to_lowercase()))
            .take(MOST_UNKNOWN)
            .collect();
        if unknown.is_empty() {
            return None;
        }
        let mut collections = Vec::with_capacity(names.len());
        for name in names {
            // What is wrong with a collection is said where it is searched.
            if let (Ok(known), Ok(stats)) = (
                self.inner.known(name).await,
                self.inner.store.stats(name).await,
            ) {
                let name = Arc::clone(name);
                collections.push(Searched { name, known, stats });
            }
        }
        let mut mended: HashMap<&str, Option<String>> = HashMap::new();
        let mut changes = Vec::new();
        for range in unknown {
            let word = &text[range.clone()];
            if !mended.contains_key(word) {
                mended.insert(word, self.meant(word, &collections).await);
            }
            if let Some(Some(meant)) = mended.get(word) {
                changes.push((range, meant.clone()));
            }
        }
        (!changes.is_empty()).then(|| rewritten(text, &changes))
    }

    /// The word that was meant by one that may be misspelt: one that the encoder knows, or one that stands
    /// in a passage in this very form. A stem alone proves nothing: "rulee" has that of "rule".
    async fn meant(&self, word: &str, collections: &[Searched]) -> Option<String> {
        let tokenizer = self.encoder().tokenizer();
        let vocabularies: Vec<Vocabulary<'_>> = collections
            .iter()
            .map(|searched| Vocabulary {
                analyzer: &searched.known.analyzer,
                stats: &searched.stats,
            })
            .collect();
        let found = guesses(word, &vocabularies, |word| tokenizer.is_word(word));
        for Guess { word, .. } in found.into_iter().take(MOST_GUESSES) {
            if tokenizer.is_word(&word) {
                return Some(word);
            }
            for searched in collections {
                // Should the store fail, the search will say so.
                if let Ok(true) = self.is_written(searched, &word).await {
                    return Some(word);
                }
            }
        }
        None
    }

    /// Whether a guess stands in one of the first passages of its terms.
    async fn is_written(&self, searched: &Searched, guess: &str) -> Result<bool, StoreError> {
        let Searched { name, known, stats } = searched;
        let terms = known.analyzer.terms(guess).into_iter().map(|term| term.id);
        let sparse: BTreeMap<u32, f32> = terms
            .filter_map(|term| Some((term, stats.idf(term)?)))
            .collect();
        if sparse.is_empty() {
            return Ok(false);
        }
        // The store has no list of terms alone. Any direction will do for the other list.
        let mut vector = vec![0.0; known.spec.dim as usize];
        vector[..1].fill(1.0);
        let query = CandidateQuery {
            vector,
            sparse: sparse.clone().into_iter().collect(),
            n: MOST_PASSAGES,
            filter: Filter::default(),
        };
        let store = &self.inner.store;
        let refs: Vec<PassageRef> = store
            .candidates(name, &query)
            .await?
            .into_iter()
            .filter(|candidate: &Candidate| {
                let mut terms = candidate.lex.terms.iter();
                terms.any(|term| sparse.contains_key(term))
            })
            .map(|candidate| candidate.at)
            .collect();
        let passages = store.passages(name, &refs).await?;
        let has = |text: &str| known.analyzer.has_phrase(text, guess);
        let mut found = passages.into_iter().flatten();
        Ok(found.any(|passage| has(&passage.text) || has(&passage.title)))
    }
}
