//! Words, stop words and stems.

use std::collections::{BTreeSet, HashSet, VecDeque};

use rust_stemmers::Stemmer;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;
use xxhash_rust::xxh3::xxh3_64;

use super::language::Language;

/// Raise it when [`Analyzer::terms`] would give the same text other terms: part of every document's
/// revision.
pub const ANALYZER_VERSION: u32 = 3;

/// Longest word, in bytes, that is stemmed. No word of any language is as long, and the stemmers' time
/// can grow with the square of the length.
const LONGEST_STEMMED: usize = 256;

/// Characters that Unicode's word rules leave inside a word (`example.com`, `don't`, `max_tokens`,
/// `3:15`) and that separate terms here: a query for `example` has to find `example.com`.
const INNER_PUNCTUATION: &[char] = &[
    '_', '.', ':', ',', ';', '\'', '\u{2018}', '\u{2019}', '\u{2024}', '\u{2027}', '\u{b7}',
    '\u{387}', '\u{55f}', '\u{5f4}', '\u{37e}', '\u{589}', '\u{60c}', '\u{60d}', '\u{66c}',
    '\u{7f8}', '\u{2044}', '\u{fe10}', '\u{fe13}', '\u{fe14}', '\u{fe50}', '\u{fe52}', '\u{fe54}',
    '\u{fe55}', '\u{ff07}', '\u{ff0c}', '\u{ff0e}', '\u{ff1a}', '\u{ff1b}',
];

/// One term of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Hash of the stem.
    pub id: u32,
    /// First byte of the word in the text.
    pub start: usize,
    /// Byte after the word.
    pub end: usize,
}

/// Splits text into terms: Unicode words, folded, stop words out, Snowball stems. The one tokenizer of
/// all lexical views.
pub struct Analyzer {
    language: Language,
    stemmer: Option<Stemmer>,
    stop_words: HashSet<&'static str>,
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer")
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

impl Default for Analyzer {
    fn default() -> Self {
        Self::new(Language::English)
    }
}

impl Analyzer {
    /// Analyzer of one language.
    pub fn new(language: Language) -> Self {
        Self {
            language,
            stemmer: language.stemmer().map(Stemmer::create),
            stop_words: language.stop_words().iter().copied().collect(),
        }
    }

    /// Terms of `text` in order, with their byte ranges; stop words are left out. A word that capitals
    /// divide gives its parts after itself: `HashMap` is found by "hash map" and by "hashmap".
    pub fn terms(&self, text: &str) -> Vec<Term> {
        let mut terms = Vec::new();
        for (start, end) in words(text) {
            terms.extend(self.term(text, start, end));
            let parts = humps(&text[start..end]);
            terms.extend(parts.filter_map(|(from, to)| self.term(text, start + from, start + to)));
        }
        terms
    }

    /// Terms of a title: whole words alone. Who names a title writes it as one is used to, and that is
    /// not in parts.
    pub fn title_terms(&self, title: &str) -> Vec<Term> {
        words(title)
            .filter_map(|(start, end)| self.term(title, start, end))
            .collect()
    }

    /// The term at a byte range; `None` for a stop word.
    fn term(&self, text: &str, start: usize, end: usize) -> Option<Term> {
        let word = folded(&text[start..end]);
        (!self.stop_words.contains(word.as_str())).then(|| Term {
            id: self.id_of_folded(&word),
            start,
            end,
        })
    }

    /// Byte ranges of all words of `text`, stop words included.
    pub fn words(&self, text: &str) -> Vec<(usize, usize)> {
        words(text).collect()
    }

    /// Whether a word, in lower case, is left out of the terms.
    pub(crate) fn is_stop_word(&self, word: &str) -> bool {
        self.stop_words.contains(word)
    }

    /// Letters that a misspelt `word` may lack: those of the language's stop words, if it is written in them,
    /// and the Latin ones of a word that has one.
    pub(crate) fn letters_beside(&self, word: &str) -> BTreeSet<char> {
        let stop_words = self.stop_words.iter().flat_map(|word| word.chars());
        let mut letters: BTreeSet<char> = stop_words.filter(|c| c.is_alphabetic()).collect();
        if !word.chars().any(|c| letters.contains(&c)) {
            letters.clear();
        }
        if word.chars().any(|c| c.is_ascii_alphabetic()) {
            letters.extend('a'..='z');
        }
        letters
    }

    /// Whether `text` has the words of `phrase`, given in lower case, in this very form and order.
    pub fn has_phrase(&self, text: &str, phrase: &str) -> bool {
        fn folded_words(text: &str) -> impl Iterator<Item = String> + '_ {
            words(text).map(|(from, to)| folded(&text[from..to]))
        }
        let phrase: VecDeque<String> = folded_words(phrase).collect();
        let mut latest = VecDeque::with_capacity(phrase.len() + 1);
        !phrase.is_empty()
            && folded_words(text).any(|word| {
                latest.push_back(word);
                if latest.len() > phrase.len() {
                    latest.pop_front();
                }
                latest == phrase
            })
    }

    /// Term id of one word, whether it is a stop word or not.
    pub fn term_id(&self, word: &str) -> u32 {
        self.id_of_folded(&folded(word))
    }

    fn id_of_folded(&self, word: &str) -> u32 {
        // The lower half of a 64-bit hash: among 100 000 stems about one pair shares an id.
        match &self.stemmer {
            Some(stemmer) if word.len() <= LONGEST_STEMMED => {
                xxh3_64(stemmer.stem(word).as_bytes()) as u32
            }
            _ => xxh3_64(word.as_bytes()) as u32,
        }
    }
}

/// A word in lower case, and in the one form (NFKC) that Unicode has for texts that look alike: an
/// accent may be a character of its own, a PDF has ligatures.
fn folded(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    word.nfkc().flat_map(char::to_lowercase).collect()
}

/// Byte ranges of the words of a text, whatever its language.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    text.unicode_word_indices().flat_map(move |(at, word)| {
        let mut start = at;
        word.split(INNER_PUNCTUATION).filter_map(move |part| {
            let range = (start, start + part.len());
            let separator = text[range.1..].chars().next().map_or(0, char::len_utf8);
            start = range.1 + separator;
            is_term(part).then_some(range)
        })
    })
}

/// Byte ranges of the parts of a word that capitals divide: `Oom`, `Observer`; `HTTP`, `Server`;
/// `Sha256`, `Digest`. None where they do not.
fn humps(word: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let begins = |at: usize| {
        let mut before = word[..at].chars().rev();
        let mut from = word[at..].chars();
        let (last, first, next) = (before.next(), from.next(), from.next());
        first.is_some_and(char::is_uppercase)
            && (last.is_some_and(char::is_lowercase)
                || last.is_some_and(|c| c.is_uppercase() || c.is_numeric())
                    && next.is_some_and(char::is_lowercase))
    };
    let mut cuts = word
        .char_indices()
        .map(|(at, _)| at)
        .filter(move |at| begins(*at))
        .peekable();
    let last = cuts.peek().map(|_| word.len());
    let mut start = 0;
    cuts.chain(last).filter_map(move |end| {
        let part = (start, end);
        start = end;
        is_term(&word[part.0..part.1]).then_some(part)
    })
}

/// Single letters and digits say nothing; a single ideograph is a word.
fn is_term(part: &str) -> bool {
    let mut chars = part.chars();
    match (chars.next(), chars.next()) {
        (None, _) => false,
        (Some(c), None) => c.is_alphabetic() && !c.is_lowercase() && !c.is_uppercase(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(analyzer: &Analyzer, text: &'a str) -> Vec<&'a str> {
        analyzer
            .terms(text)
            .into_iter()
            .map(|t| &text[t.start..t.end])
            .collect()
    }

    #[test]
    fn stop_words_and_single_letters_are_out() {
        let en = Analyzer::default();
        assert_eq!(
            texts(&en, "The U.S. and I don't use a C compiler."),
            ["don", "use", "compiler"]
        );
        assert_eq!(
            texts(&en, "see example.com: 3.14, 1990-1995"),
            ["see", "example", "com", "14", "1990", "1995"]
        );
    }

    #[test]
    fn identifiers_are_found_by_their_parts() {
        let en = Analyzer::default();
        assert_eq!(
            texts(
                &en,
                "set max_tokens in __init__, see parseHTTPHeaders and iPhones"
            ),
            [
                "set",
                "max",
                "tokens",
                "init",
                "see",
                "parseHTTPHeaders",
                "parse",
                "HTTP",
                "Headers",
                "iPhones",
                "Phones"
            ]
        );
        let id = |text: &str| en.terms(text)[0].id;
        assert_eq!(id("hashmap"), id("HashMap"));
        assert_eq!(en.terms("HashMap")[1].id, id("hash"));
        assert_eq!(
            texts(&en, "ÜberGroße NASA USA's CoV2 Sha256Digest 10GB"),
            [
                "ÜberGroße",
                "Über",
                "Große",
                "NASA",
                "USA",
                "CoV2",
                "Co",
                "V2",
                "Sha256Digest",
                "Sha256",
                "Digest",
                "10GB"
            ]
        );
        let title: Vec<u32> = en
            .title_terms("The GitHub API")
            .iter()
            .map(|t| t.id)
            .collect();
        assert_eq!(title, [id("github"), id("api")]);
    }

    #[test]
    fn stems_share_an_id_and_case_does_not_matter() {
        let en = Analyzer::default();
        let ids: Vec<u32> = en
            .terms("Running runs RUN")
            .into_iter()
            .map(|t| t.id)
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(en.term_id("Runs"), ids[0]);
        assert_ne!(en.term_id("walk"), ids[0]);
    }

    #[test]
    fn texts_that_look_alike_have_the_same_terms() {
        let fr = Analyzer::new(Language::French);
        let id = |text: &str| fr.terms(text)[0].id;
        assert_eq!(id("Cafe\u{301}s"), id("cafés"));
        assert_eq!(id("\u{fb01}nancier"), id("financier"));
        assert_eq!(id("ＡＰＩ"), id("api"));
        assert!(fr.terms("e\u{301}te\u{301}").is_empty(), "a stop word");
    }

    #[test]
    fn a_word_of_a_megabyte_takes_no_longer_than_many() {
        // A stemmer that rewrites the word for each `y` would take half a minute.
        let word = "ay".repeat(1 << 19);
        let words = "ay ".repeat(1 << 19);
        let time = |text: &str| {
            let start = std::time::Instant::now();
            let found = Analyzer::default().terms(text).len();
            (found, start.elapsed())
        };
        let ((one, alone), (many, apart)) = (time(&word), time(&words));
        assert_eq!((one, many), (1, 1 << 19));
        assert!(alone < apart, "{alone:?} and {apart:?}");
    }

    #[test]
    fn offsets_are_bytes_of_the_original_text() {
        let fr = Analyzer::new(Language::French);
        let text = "L’eau est très salée à Étretat";
        assert_eq!(texts(&fr, text), ["eau", "salée", "Étretat"]);
        let none = Analyzer::new(Language::None);
        assert_eq!(
            texts(&none, "東京タワー is high"),
            ["東", "京", "タワー", "is", "high"]
        );
    }

    #[test]
    fn every_language_round_trips_and_unknown_ones_are_named() {
        for language in Language::ALL {
            assert_eq!(language.code().parse::<Language>().unwrap(), *language);
            assert!(!Analyzer::new(*language).terms("alpha beta").is_empty());
        }
        assert!(
            "xx".parse::<Language>()
                .unwrap_err()
                .to_string()
                .contains("`xx`")
        );
    }
}
