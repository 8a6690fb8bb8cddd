//! Words of a sentence as the rules see them: surface form, byte range, stem, weight.
//!
//! The rules need more than the analyzer's terms: stop words ("to", "than", "because") are cues, and
//! the surface form goes into the query. Both come from one scan, so that a word of a query and a
//! term of the lexical index never disagree.

use std::ops::Range;

use moerag_retrieve::{Analyzer, CorpusStats};
use unicode_segmentation::UnicodeSegmentation;

/// Function words that carry no topic. Larger than the lexical index' own stop list, because a query
/// built from "there", "between" and "such" alone asks nothing.
const FUNCTION_WORDS: &str = "a an the of in on at to for from by with and or but is are was were be \
been being it its this that these those as which who whom whose what when where why how not no into \
than then also has have had do does did can could will would may might should their his her they he \
she we you i our your such there here about over under between after before during while both each \
other some any all most more many much very own same so if";

/// One word of a text.
#[derive(Debug, Clone)]
pub(crate) struct Word<'t> {
    /// As written.
    pub(crate) text: &'t str,
    /// Lower case, for cues.
    pub(crate) lower: String,
    /// Byte range in the scanned text.
    pub(crate) range: Range<usize>,
    /// Stem hash of a content word, `None` for function words.
    pub(crate) term: Option<u32>,
}

impl Word<'_> {
    /// Starts with an upper-case letter.
    pub(crate) fn is_capitalised(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }

    /// Exactly four digits: read as a year.
    pub(crate) fn is_year(&self) -> bool {
        self.text.len() == 4 && self.text.bytes().all(|b| b.is_ascii_digit())
    }

    /// Digits, with separators: "12", "3.5", "1,000".
    pub(crate) fn is_number(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit())
            && self
                .text
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b','))
    }
}

/// The analyzer and the statistics that weigh its terms.
pub(crate) struct Lexicon<'a> {
    pub(crate) analyzer: &'a Analyzer,
    pub(crate) stats: &'a CorpusStats,
    function_words: std::collections::HashSet<&'static str>,
}

impl<'a> Lexicon<'a> {
    pub(crate) fn new(analyzer: &'a Analyzer, stats: &'a CorpusStats) -> Self {
        Self {
            analyzer,
            stats,
            function_words: FUNCTION_WORDS.split_whitespace().collect(),
        }
    }

    /// Stem of one content word, `None` for a function word or a single letter.
    pub(crate) fn term(&self, word: &str) -> Option<u32> {
        self.terms(word).first().copied()
    }

    /// All terms of one content word: its stem, and those of its parts.
    pub(crate) fn terms(&self, word: &str) -> Vec<u32> {
        if self.function_words.contains(word.to_lowercase().as_str()) {
            return Vec::new();
        }
        let terms = self.analyzer.terms(word);
        terms.into_iter().map(|term| term.id).collect()
    }

    /// All words of `text` in order, cut where the lexical index cuts them.
    pub(crate) fn words<'t>(&self, text: &'t str) -> Vec<Word<'t>> {
        text.unicode_word_indices()
            .map(|(start, word)| Word {
                text: word,
                lower: word.to_lowercase(),
                range: start..start + word.len(),
                term: self.term(word),
            })
            .collect()
    }

    /// Weight of a term in 0..=1: idf / largest idf, `unknown` for a term outside the corpus.
    pub(crate) fn rarity(&self, term: u32, unknown: f32) -> f32 {
        let most = self.stats.oov_idf();
        match self.stats.idf(term) {
            Some(idf) if most > 0.0 => idf / most,
            _ => unknown,
        }
    }
}

/// Names in the words of a sentence: runs of capitalised words, small joining words allowed inside.
/// Index ranges into `words`.
pub(crate) fn entities(text: &str, words: &[Word<'_>]) -> Vec<Range<usize>> {
    let adjacent = |a: usize, b: usize| {
        text[words[a].range.end..words[b].range.start]
            .chars()
            .all(char::is_whitespace)
    };
    let mut found = Vec::new();
    let mut start = 0;
    while start < words.len() {
        if !words[start].is_capitalised() || words[start].text.chars().count() < 2 {
            start += 1;
            continue;
        }
        let mut end = start + 1;
        loop {
            if end < words.len() && adjacent(end - 1, end) {
                if words[end].is_capitalised() {
                    end += 1;
                    continue;
                }
                let joins = matches!(
                    words[end].lower.as_str(),
                    "of" | "the" | "de" | "and" | "for"
                );
                if joins
                    && end + 1 < words.len()
                    && adjacent(end, end + 1)
                    && words[end + 1].is_capitalised()
                {
                    end += 2;
                    continue;
                }
            }
            break;
        }
        // A lone capitalised function word is only the start of a sentence.
        if end - start > 1 || words[start].term.is_some() {
            found.push(start..end);
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerag_retrieve::Language;

    #[test]
    fn words_keep_their_place_and_function_words_have_no_term() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let text = "The Treaty of Arden, signed in 1488, cost 1,200.50 crowns.";
        let words = lexicon.words(text);
        assert!(words.iter().all(|w| &text[w.range.clone()] == w.text));
        let of = |word: &str| words.iter().find(|w| w.text == word).cloned();
        assert!(of("The").is_some_and(|w| w.term.is_none()));
        assert!(of("signed").is_some_and(|w| w.term == Some(analyzer.term_id("sign"))));
        assert!(of("1488").is_some_and(|w| w.is_year() && w.is_number()));
        assert!(of("1,200.50").is_some_and(|w| !w.is_year() && w.is_number()));
        assert!(
            lexicon
                .words("北京 is 1 city")
                .iter()
                .any(|w| w.text == "北")
        );
        assert!(lexicon.words("").is_empty());
    }

    #[test]
    fn names_are_runs_of_capitalised_words() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let text = "The Treaty of Arden pleased Queen Maud, Paris and nobody else.";
        let words = lexicon.words(text);
        let names: Vec<String> = entities(text, &words)
            .into_iter()
            .map(|r| {
                words[r]
                    .iter()
                    .map(|w| w.text)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        assert_eq!(names, ["The Treaty of Arden", "Queen Maud", "Paris"]);
        let words = lexicon.words("It was There.");
        assert!(entities("It was There.", &words).is_empty());
    }
}
