//! The six overlap levels: how far a query's words are from its passage's words.
//!
//! Queries that copy their passage teach a head to trust the lexical views, which real queries punish
//! (RECIPE.md, "View profile"). The levels vary the overlap on purpose, and the last three also hide
//! part of the passage from the gold's views.

use moerag_model::LEVELS;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::neighbours::Neighbours;
use super::typed::{Draft, gist_opener, sample_in_order, ty};
use super::words::Lexicon;

/// How a query's words relate to its passage's words (RECIPE.md, "Synthetic queries").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The passage's own words.
    Lexical,
    /// Content words dropped, rare ones first.
    Abstraction,
    /// Content words replaced by neighbours.
    Paraphrase,
    /// The source sentence is cut from the gold passage.
    InverseCloze,
    /// Half of the query's stems are hidden in the gold passage.
    Mismatch,
    /// Salient words of the whole passage, some hidden, some replaced.
    Gist,
}

impl Level {
    /// All levels; a query's level is its index modulo six.
    pub const ALL: [Self; 6] = [
        Self::Lexical,
        Self::Abstraction,
        Self::Paraphrase,
        Self::InverseCloze,
        Self::Mismatch,
        Self::Gist,
    ];

    /// Position in [`Level::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name in reports, as in [`LEVELS`].
    #[must_use]
    pub fn name(self) -> &'static str {
        LEVELS[self.index()]
    }
}

/// Drops content words with probability `p * (.5 + rarity)`; the words come back whole when fewer than
/// two content words would be left.
pub(crate) fn thin(
    words: Vec<String>,
    p: f64,
    lexicon: &Lexicon<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<String> {
    let mut content = 0;
    let kept: Vec<String> = words
        .iter()
        .filter(|word| match lexicon.term(word) {
            None => true,
            Some(term) => {
                let chance = p * (0.5 + f64::from(lexicon.rarity(term, 0.3)));
                let stays = rng.random::<f64>() > chance;
                content += usize::from(stays);
                stays
            }
        })
        .cloned()
        .collect();
    if content >= 2 { kept } else { words }
}

/// Replaces each content word by a neighbour with probability one half.
pub(crate) fn paraphrase(
    words: Vec<String>,
    neighbours: &Neighbours<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<String> {
    words
        .into_iter()
        .map(|word| {
            if neighbours.lexicon.term(&word).is_some() && rng.random_bool(0.5) {
                neighbours.replace(&word, rng).unwrap_or(word)
            } else {
                word
            }
        })
        .collect()
}

/// The first 24 words of the source sentence, thinned: the long form of the inverse cloze.
pub(crate) fn cloze_statement(
    sentence: &str,
    lexicon: &Lexicon<'_>,
    rng: &mut ChaCha8Rng,
) -> Draft {
    let words = lexicon
        .words(sentence)
        .iter()
        .take(24)
        .map(|w| w.text.to_owned())
        .collect();
    let body = thin(words, 0.25, lexicon, rng);
    Draft {
        opener: "",
        body,
        query_type: ty::DESCRIPTIVE,
        rule: "thinned sentence",
    }
}

/// The distinct stems of a query's body that are to be hidden in the gold, each with probability `p`
/// and with all the parts that its words have. Sorted.
pub(crate) fn hidden_terms(
    body: &[String],
    p: f64,
    lexicon: &Lexicon<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<u32> {
    let words = body.iter().map(|word| lexicon.terms(word));
    let mut words: Vec<Vec<u32>> = words.filter(|terms| !terms.is_empty()).collect();
    words.sort_unstable();
    let stems = words.chunk_by(|a, b| a[0] == b[0]);
    let hidden = stems.filter(|_| rng.random_bool(p));
    let mut terms: Vec<u32> = hidden.flatten().flatten().copied().collect();
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// A content word of a passage with its nearness to the passage vector.
pub(crate) struct SalientWord {
    pub(crate) text: String,
    /// Mean state cosine with the passage vector, times (.5 + rarity).
    pub(crate) score: f32,
    /// Byte position of its first occurrence.
    pub(crate) position: usize,
}

/// Three to seven of the twelve most salient words, one in five replaced by a neighbour.
pub(crate) fn gist(
    mut salient: Vec<SalientWord>,
    english: bool,
    neighbours: &Neighbours<'_>,
    rng: &mut ChaCha8Rng,
) -> Option<Draft> {
    for word in &mut salient {
        word.score += 0.1 * rng.random::<f32>();
    }
    salient.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(a.position.cmp(&b.position))
    });
    salient.truncate(12);
    salient.sort_by_key(|word| word.position);
    let count = rng.random_range(3..=7);
    let body: Vec<String> = sample_in_order(salient, count, rng)
        .into_iter()
        .map(|word| {
            if rng.random_bool(0.2) {
                neighbours.replace(&word.text, rng).unwrap_or(word.text)
            } else {
                word.text
            }
        })
        .collect();
    let (opener, query_type) = gist_opener(english, rng);
    let draft = Draft {
        opener,
        body,
        query_type,
        rule: "salient words",
    };
    (draft.body.len() >= 2 && draft.len() >= 3).then_some(draft)
}

/// A sentence to ask about: index into the passage's sentences. Sentences of 30 bytes or less are
/// headings and fragments, used only when there is nothing else.
pub(crate) fn pick_sentence(
    text: &str,
    sentences: &[std::ops::Range<usize>],
    rng: &mut ChaCha8Rng,
) -> Option<usize> {
    let long: Vec<usize> = (0..sentences.len())
        .filter(|i| text[sentences[*i].clone()].trim().len() > 30)
        .collect();
    let any: Vec<usize> = (0..sentences.len()).collect();
    let eligible = if long.is_empty() { &any } else { &long };
    eligible.choose(rng).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerag_retrieve::{Analyzer, CorpusStats, Language};
    use rand::SeedableRng;

    #[test]
    fn thinning_keeps_two_content_words_and_all_function_words() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let words: Vec<String> = "the copper roof of the old town turned green"
            .split(' ')
            .map(str::to_owned)
            .collect();
        let mut dropped = 0;
        for _ in 0..200 {
            let kept = thin(words.clone(), 0.9, &lexicon, &mut rng);
            let content = kept.iter().filter(|w| lexicon.term(w).is_some()).count();
            assert!(content >= 2);
            assert_eq!(kept.iter().filter(|w| *w == "the").count(), 2);
            dropped += words.len() - kept.len();
        }
        assert!(dropped > 200);
    }

    #[test]
    fn a_hidden_word_takes_its_parts_along() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let body = ["the", "HashMap", "hashmap", "max_tokens", "limit"].map(str::to_owned);
        let mut expected: Vec<u32> = ["hashmap", "hash", "map", "max", "tokens", "limit"]
            .iter()
            .map(|word| analyzer.term_id(word))
            .collect();
        expected.sort_unstable();
        assert_eq!(hidden_terms(&body, 1.0, &lexicon, &mut rng), expected);
        for _ in 0..50 {
            let hidden = hidden_terms(&body, 0.5, &lexicon, &mut rng);
            for word in &body {
                let terms = lexicon.terms(word);
                let found = terms.iter().filter(|t| hidden.contains(t)).count();
                assert!(found == 0 || found == terms.len(), "{word}");
            }
        }
    }

    #[test]
    fn short_sentences_are_a_last_resort() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let text = "Short one. A sentence that is clearly longer than thirty bytes.";
        let sentences = [0..10, 11..text.len()];
        for _ in 0..20 {
            assert_eq!(pick_sentence(text, &sentences, &mut rng), Some(1));
        }
        assert_eq!(pick_sentence(text, &sentences[..1], &mut rng), Some(0));
        assert_eq!(pick_sentence(text, &[], &mut rng), None);
    }

    #[test]
    fn level_names_are_the_models() {
        for (index, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!((level.index(), level.name()), (index, LEVELS[index]));
        }
    }
}
