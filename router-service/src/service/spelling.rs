//! What a query meant to write: misspelt words are found by what the encoder and the documents know.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use futures::future::join_all;
use moerag_retrieve::{CorpusStats, Guess, Vocabulary, guesses, plain_words, rewritten};
use moerag_store::{Candidate, CandidateQuery, Filter, PassageRef};

use super::engine::{KnownCollection, RouterEngine};
use crate::domain::RouterError;

/// Longest query, in words, whose spelling is looked at. Who sends a page means every word of it, or none.
const MOST_WORDS: usize = 256;
/// Words of a query that nobody knows and that guesses are made for. Bounds the time.
const MOST_UNKNOWN: usize = 8;
/// Guesses for a word that are looked for in passages.
const MOST_GUESSES: usize = 6;
/// Collections that a guess is looked for in, of those that may have it.
const MOST_COLLECTIONS: usize = 4;
/// Looks of a query into the store for all its guesses. A server takes a round trip or two for each.
const MOST_LOOKS: usize = 24;
/// Passages of each that a guess is looked for in.
const MOST_PASSAGES: usize = 16;

/// A collection that the query is asked of.
struct Searched {
    name: Arc<str>,
    known: Arc<KnownCollection>,
    stats: Arc<CorpusStats>,
}

impl Searched {
    /// Whether all terms of a guess are known; two stop words have none.
    fn may_have(&self, guess: &str) -> bool {
        let terms = self.known.analyzer.terms(guess);
        !terms.is_empty() && terms.iter().all(|term| self.stats.df(term.id) > 0)
    }
}

fn by_language(collections: &[Searched]) -> Vec<Vocabulary<'_>> {
    let mut found: BTreeMap<&str, Vocabulary<'_>> = BTreeMap::new();
    for Searched { known, stats, .. } in collections {
        let one = found
            .entry(known.spec.language.code())
            .or_insert_with(|| Vocabulary {
                analyzer: &known.analyzer,
                stats: Vec::new(),
            });
        one.stats.push(stats);
    }
    found.into_values().collect()
}

/// Words of `text` that none of the collections knows, each with what may have been meant.
fn guessed(
    text: &str,
    words: Vec<Range<usize>>,
    collections: &[Searched],
    is_word: impl Fn(&str) -> bool + Copy,
) -> Vec<(Range<usize>, Vec<Guess>)> {
    let vocabularies = by_language(collections);
    let unknown = words.into_iter().filter(|range| {
        let word = &text[range.clone()];
        !vocabularies.iter().any(|known| known.knows(word))
    });
    let with_guesses = |range: Range<usize>| {
        let mut found = guesses(&text[range.clone()], &vocabularies, is_word);
        found.truncate(MOST_GUESSES);
        (range, found)
    };
    unknown.take(MOST_UNKNOWN).map(with_guesses).collect()
}

impl RouterEngine {
    /// `text` with its misspelt words as the documents of the collections `names` write them; `None` where there
    /// is nothing to mend. A word that one of the collections knows is right for all of them. Of a word that
    /// the encoder does not know nothing is said that passages beyond `filter` alone have.
    pub(super) async fn respelled(
        &self,
        text: &str,
        names: &[Arc<str>],
        filter: &Filter,
    ) -> Option<String> {
        let tokenizer = self.encoder().tokenizer();
        let mut words = plain_words(text);
        if words.len() > MOST_WORDS {
            return None;
        }
        words.retain(|range| !tokenizer.is_word(&text[range.clone()].to_lowercase()));
        if words.is_empty() {
            return None;
        }
        let collections = join_all(names.iter().map(|name| self.searched(name))).await;
        let collections: Arc<[Searched]> = collections.into_iter().flatten().collect();
        let guessed = {
            let (inner, text) = (Arc::clone(&self.inner), text.to_owned());
            let collections = Arc::clone(&collections);
            self.inner.pool.run(move || {
                let tokenizer = inner.encoder.encoder().tokenizer();
                guessed(&text, words, &collections, |word| tokenizer.is_word(word))
            })
        };
        let mut mended: HashMap<&str, Option<String>> = HashMap::new();
        let mut changes = Vec::new();
        let mut looks = MOST_LOOKS;
        for (range, guesses) in guessed.await.ok()? {
            let word = &text[range.clone()];
            if !mended.contains_key(word) {
                let meant = self.meant(guesses, &collections, filter, &mut looks);
                // Should the store fail, the search will say so.
                mended.insert(word, meant.await.ok()?);
            }
            if let Some(Some(meant)) = mended.get(word) {
                changes.push((range, meant.clone()));
            }
        }
        (!changes.is_empty()).then(|| rewritten(text, &changes))
    }

    /// A collection; `None` for one that cannot be searched, which is said where it is.
    async fn searched(&self, name: &Arc<str>) -> Option<Searched> {
        Some(Searched {
            name: Arc::clone(name),
            known: self.inner.known(name).await.ok()?,
            stats: self.inner.store.stats(name).await.ok()?,
        })
    }

    /// The first guess that the encoder knows as a word, or that stands in a passage in this very form. A stem
    /// alone proves nothing: "rulee" has that of "rule".
    async fn meant(
        &self,
        guesses: Vec<Guess>,
        collections: &[Searched],
        filter: &Filter,
        looks: &mut usize,
    ) -> Result<Option<String>, RouterError> {
        let tokenizer = self.encoder().tokenizer();
        for Guess { word, .. } in guesses {
            if tokenizer.is_word(&word) {
                return Ok(Some(word));
            }
            let may_have_it = collections
                .iter()
                .filter(|searched| searched.may_have(&word));
            for searched in may_have_it.take(MOST_COLLECTIONS) {
                if *looks == 0 {
                    return Ok(None);
                }
                *looks -= 1;
                if self.is_written(searched, &word, filter).await? {
                    return Ok(Some(word));
                }
            }
        }
        Ok(None)
    }

    /// Whether a guess stands in one of the first passages of its terms.
    async fn is_written(
        &self,
        searched: &Searched,
        guess: &str,
        filter: &Filter,
    ) -> Result<bool, RouterError> {
        let Searched { name, known, stats } = searched;
        let terms = known.analyzer.terms(guess).into_iter().map(|term| term.id);
        let sparse: BTreeMap<u32, f32> = terms
            .filter_map(|term| Some((term, stats.idf(term)?)))
            .collect();
        // The store has no list of terms alone. Any direction will do for the other list.
        let mut vector = vec![0.0; known.spec.dim as usize];
        vector[..1].fill(1.0);
        let query = CandidateQuery {
            vector,
            sparse: sparse.clone().into_iter().collect(),
            n: MOST_PASSAGES,
            filter: filter.clone(),
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
        let (known, guess) = (Arc::clone(known), guess.to_owned());
        let found = self.inner.pool.run(move || {
            let has = |text: &str| known.analyzer.has_phrase(text, &guess);
            let mut passages = passages.into_iter().flatten();
            passages.any(|passage| has(&passage.text) || has(&passage.title))
        });
        found
            .await
            .map_err(|error| RouterError::internal("looking for a word in passages", error))
    }
}
