//! Words of a query that nobody knows, and the words of the documents that are one slip away from them.
//!
//! A slip is one letter too many, too few, another, or two swapped (F. J. Damerau, "A technique for computer
//! detection and correction of spelling errors", 1964: four of five misspellings), or a space left out. All
//! strings one slip away are looked up among the terms of the documents, so no list of words has to be kept:
//! these are some 50 look-ups a letter.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::analyzer::{Analyzer, words};
use crate::stats::CorpusStats;

/// Shortest word, in letters, that is looked at: of four letters nearly every string is a word.
const SHORTEST: usize = 5;
/// Longest one; bounds the look-ups.
const LONGEST: usize = 24;
/// Words of the shortest length have neighbours by chance ("infer", "inner"; "loess", "less"): only one that a
/// passage of so many has is taken for what was meant.
const COMMON: u64 = 50;

/// What collections of one language know of words.
#[derive(Clone, Debug)]
pub struct Vocabulary<'a> {
    /// Makes terms of words.
    pub analyzer: &'a Analyzer,
    /// Count the passages of each term.
    pub stats: Vec<&'a CorpusStats>,
}

impl Vocabulary<'_> {
    /// Whether a word is in a passage in any of its forms.
    pub fn knows(&self, word: &str) -> bool {
        self.df(&word.to_lowercase()) > 0
    }

    fn passages(&self) -> u64 {
        self.stats.iter().map(|stats| stats.n()).sum()
    }

    /// Passages with a word in any of its forms. Stop words are in all of them.
    fn df(&self, word: &str) -> u64 {
        if self.analyzer.is_stop_word(word) {
            return self.passages();
        }
        let term = self.analyzer.term_id(word);
        let df = self.stats.iter().map(|stats| u64::from(stats.df(term)));
        df.sum()
    }
}

/// What names are joined with.
const JOINTS: [char; 10] = ['.', '_', '/', '\\', '@', ':', '#', '$', '=', '&'];

/// What quotations begin and end with.
const QUOTES: [char; 7] = ['"', '“', '”', '„', '«', '»', '＂'];

/// Splits of a word in two that are worth looking for.
const SPLITS: usize = 2;

/// A word that may have been meant, or two with a space between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// In lower case.
    pub word: String,
    /// Passages with one of its forms, over all vocabularies; of two words the lesser number. It may be in
    /// none as it is.
    pub df: u64,
}

/// Byte ranges of the words of a query whose spelling may be looked at: letters alone, and nothing that is
/// written as it is for a reason (`"quoted"`, `HashMap`, an `IUPAC` among other words, `host.name`,
/// `snake_case`, `/usr/share`, `user@host`).
pub fn plain_words(text: &str) -> Vec<Range<usize>> {
    let shouted = !text.chars().any(char::is_lowercase) && words(text).nth(1).is_some();
    let quotes: Vec<usize> = text.match_indices(QUOTES).map(|q| q.0).collect();
    let quoted = |at: usize| {
        let before = quotes.partition_point(|quote| *quote < at);
        before % 2 == 1 && before < quotes.len()
    };
    let plain = |range: &Range<usize>| {
        let word = &text[range.clone()];
        let length = word.chars().count();
        (SHORTEST..=LONGEST).contains(&length)
            && word.chars().all(char::is_alphabetic)
            && (shouted || !word.chars().skip(1).any(char::is_uppercase))
            && !text[..range.start].ends_with(JOINTS)
            && !joined(&text[range.end..])
            && !quoted(range.start)
    };
    words(text)
        .map(|(from, to)| from..to)
        .filter(plain)
        .collect()
}

/// Whether what follows a word makes it a part of a name: a character that names are joined with, and then no
/// space. Before a word the character is enough: `$variable`.
fn joined(after: &str) -> bool {
    let rest = after.strip_prefix(JOINTS);
    rest.is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace()))
}

/// What is one slip away from `word` and known to the documents, the likeliest first: two words (which have to
/// stand side by side in a passage, and then are hardly ever there by chance), those that the encoder knows as
/// words, those of most passages. None for a word that the documents know themselves.
///
/// The first letter is taken to be right, as it nearly always is (J. J. Pollock and A. Zamora, "Automatic
/// spelling correction in scientific and scholarly text", 1984).
pub fn guesses(
    word: &str,
    vocabularies: &[Vocabulary<'_>],
    is_common: impl Fn(&str) -> bool,
) -> Vec<Guess> {
    // "Forman" is nobody's "for man".
    let name = word.chars().next().is_some_and(char::is_uppercase)
        && word.chars().nth(1).is_some_and(char::is_lowercase);
    let word: String = word.chars().flat_map(char::to_lowercase).collect();
    let df = |word: &str| -> u64 { vocabularies.iter().map(|known| known.df(word)).sum() };
    // "doesnt": the analyzer has "doesn" of "doesn't".
    let negation = |rest: &str| rest.ends_with('n') && df(rest) > 0;
    if df(&word) > 0 || word.strip_suffix('t').is_some_and(negation) {
        return Vec::new();
    }
    let least = match word.chars().count() {
        ..=SHORTEST => vocabularies.iter().map(Vocabulary::passages).sum::<u64>() / COMMON,
        _ => 0,
    };
    let mut letters: BTreeSet<char> = word.chars().collect();
    for known in vocabularies {
        letters.extend(known.analyzer.letters_beside(&word));
    }
    let mut known = BTreeMap::new();
    each_slip(&word, &letters, |slip| {
        let df = df(slip);
        if df > 0 && df >= least {
            known.insert(slip.to_owned(), df);
        }
    });
    let mut found: Vec<(bool, Guess)> = known
        .into_iter()
        .map(|(word, df)| (is_common(&word), Guess { word, df }))
        .collect();
    // Of forms of one word, which have one count, that of the same letters and then the shortest:
    // "distributino" is "distribution" and not "distributing", "bornd" is "born" and not "borne".
    let letters = sorted(&word);
    found.sort_by_cached_key(|(common, guess)| {
        let Guess { word, df } = guess;
        let swapped = sorted(word) == letters;
        (Reverse((*common, *df, swapped)), word.len(), word.clone())
    });
    let mut splits = splits(&word, df);
    splits.retain(|guess| !name && guess.df >= least);
    splits.extend(found.into_iter().map(|(_, guess)| guess));
    splits
}

/// The words that a space makes of `word`, those first whose rarer one is the commonest.
fn splits(word: &str, df: impl Fn(&str) -> u64) -> Vec<Guess> {
    let parts = word.char_indices().skip(2).filter_map(|(at, _)| {
        let (left, right) = word.split_at(at);
        let df = df(left).min(df(right));
        let long = right.chars().nth(1).is_some();
        (long && df > 0).then(|| Guess {
            word: format!("{left} {right}"),
            df,
        })
    });
    let mut parts: Vec<Guess> = parts.collect();
    parts.sort_by_key(|guess| Reverse(guess.df));
    parts.truncate(SPLITS);
    parts
}

fn sorted(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    letters
}

/// Visits all strings one slip away from `word` that begin with the same letter, some of them twice, and
/// `word` itself.
fn each_slip(word: &str, letters: &BTreeSet<char>, mut visit: impl FnMut(&str)) {
    let word: Vec<char> = word.chars().collect();
    let mut slip = String::new();
    let mut add = |before: &[char], new: &[char], after: &[char]| {
        slip.clear();
        slip.extend(before.iter().chain(new).chain(after));
        visit(&slip);
    };
    for at in 1..=word.len() {
        let (before, after) = word.split_at(at);
        for letter in letters {
            add(before, &[*letter], after);
        }
        let Some((first, rest)) = after.split_first() else {
            continue;
        };
        add(before, &[], rest);
        for letter in letters {
            add(before, &[*letter], rest);
        }
        if let Some((second, rest)) = rest.split_first() {
            add(before, &[*second, *first], rest);
        }
    }
}

/// `text` with words replaced, in order: `(range, word in lower case)`. Capitals stay where they were.
pub fn rewritten(text: &str, words: &[(Range<usize>, String)]) -> String {
    let mut out = String::with_capacity(text.len() + words.len());
    let mut done = 0;
    for (range, word) in words {
        out.push_str(&text[done..range.start]);
        out.push_str(&like(&text[range.clone()], word));
        done = range.end;
    }
    out.push_str(&text[done..]);
    out
}

/// `word` with the capitals of `model`: none, the first, or all.
fn like(model: &str, word: &str) -> String {
    let mut capitals = model.chars().map(char::is_uppercase);
    match (capitals.next(), capitals.next()) {
        (Some(true), Some(true)) => word.to_uppercase(),
        (Some(true), _) => {
            let mut letters = word.chars();
            let first = letters.next().into_iter().flat_map(char::to_uppercase);
            first.collect::<String>() + letters.as_str()
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::lex_block;
    use crate::passage::PassageFeatures;
    use crate::text::Language;

    fn stats(analyzer: &Analyzer, texts: &[&str]) -> CorpusStats {
        let mut stats = CorpusStats::default();
        for text in texts {
            let lex = lex_block(analyzer, "", text, &[]);
            stats.add(&PassageFeatures {
                lex,
                ..PassageFeatures::default()
            });
        }
        stats
    }

    fn best(language: Language, texts: &[&str], word: &str) -> Option<String> {
        let analyzer = Analyzer::new(language);
        let stats = stats(&analyzer, texts);
        let vocabulary = Vocabulary {
            analyzer: &analyzer,
            stats: vec![&stats],
        };
        let common = |word: &str| ["dictionary", "born", "less"].contains(&word);
        let found = guesses(word, &[vocabulary], common);
        found.into_iter().next().map(|guess| guess.word)
    }

    #[test]
    fn each_kind_of_slip_is_found_in_any_form_of_a_word() {
        let texts = ["The dictionaries of carrageenan", "He was born in Bristol"];
        let en = |word| best(Language::English, &texts, word);
        for slip in ["dictionaary", "dictionry", "dictionery", "dictoinary"] {
            assert_eq!(en(slip).as_deref(), Some("dictionary"), "{slip}");
        }
        assert_eq!(en("Carageenan").as_deref(), Some("carrageenan"));
        assert_eq!(en("bornd").as_deref(), Some("born"));
        assert_eq!(en("dictionaires").as_deref(), Some("dictionaries"));
        assert_eq!(en("dictionary"), None, "known in another form");
        assert_eq!(en("fictionary"), None, "the first letter is right");
        assert_eq!(en("dctionry"), None, "two slips");
    }

    #[test]
    fn the_commoner_word_wins_and_the_encoder_s_before_it() {
        let none = |texts: &[&str], word| best(Language::None, texts, word);
        let texts = ["a cabin", "a cabin", "a cable"];
        assert_eq!(none(&texts, "cabln").as_deref(), Some("cabin"));
        let texts = ["a lasso", "a lasso", "more or less"];
        assert_eq!(none(&texts, "lasss").as_deref(), Some("lasso"));
        assert_eq!(none(&texts, "lesss").as_deref(), Some("less"));
    }

    #[test]
    fn a_word_of_five_letters_is_not_taken_for_a_rare_one() {
        let mut texts = vec!["inner ear"; 2];
        texts.resize(150, "outer");
        assert_eq!(best(Language::English, &texts, "infer"), None);
        texts.push("inner");
        assert_eq!(
            best(Language::English, &texts, "infer").as_deref(),
            Some("inner")
        );
        texts.push("a clarinet");
        assert_eq!(
            best(Language::English, &texts, "clarnet").as_deref(),
            Some("clarinet")
        );
    }

    #[test]
    fn a_space_may_be_missing() {
        let en = |word| best(Language::English, &["the text editor was started"], word);
        assert_eq!(en("texteditor").as_deref(), Some("text editor"));
        assert_eq!(en("wasstarted").as_deref(), Some("was started"));
        assert_eq!(en("Wasstarted"), None, "a name");
        assert_eq!(en("textwindow"), None);
        assert_eq!(
            en("editorx"),
            Some("editor".to_owned()),
            "a letter is no word"
        );
    }

    #[test]
    fn stop_words_and_negations_are_known() {
        let en = |word| {
            best(
                Language::English,
                &["why doesn't this do", "the thief"],
                word,
            )
        };
        assert_eq!(en("doesnt"), None);
        assert_eq!(en("thier").as_deref(), Some("their"));
    }

    #[test]
    fn other_alphabets_have_their_own_letters() {
        let fr = best(Language::French, &["la façade de la maison"], "facade");
        assert_eq!(fr.as_deref(), Some("façade"));
        let ru = best(Language::Russian, &["река и дорога"], "дорогга");
        assert_eq!(ru.as_deref(), Some("дорога"));
        let letters = |language, word| Analyzer::new(language).letters_beside(word);
        assert_eq!(
            letters(Language::Russian, "road"),
            ('a'..='z').collect(),
            "another alphabet's are not tried"
        );
        assert!(letters(Language::French, "дорога").is_empty());
    }

    #[test]
    fn names_and_quotations_are_left_alone() {
        let plain = |text: &str| -> Vec<String> {
            let found = plain_words(text);
            found.into_iter().map(|r| text[r].to_owned()).collect()
        };
        assert_eq!(
            plain("Does Reserach use air-powered pumps, valves/tubes?"),
            ["Reserach", "powered", "pumps"]
        );
        assert_eq!(
            plain(
                "host.names snake_cased HashMap IUPAC2 IUPACS /usr/share user@hosts \"qouted words\" said"
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            plain("$variabel #topcs @users .ignored «citée» „zitiert“ of \\section"),
            Vec::<String>::new()
        );
        assert_eq!(plain("„Zitat eins“ words „Zitat“"), ["words"]);
        assert_eq!(plain("ARTIFICAL GRAMMAR"), ["ARTIFICAL", "GRAMMAR"]);
        assert_eq!(plain("IUPACS"), Vec::<String>::new());
        assert_eq!(plain("5\" pipes are here. There"), ["pipes", "There"]);
    }

    #[test]
    fn capitals_stay() {
        let words = [(0..5, "their".to_owned()), (6..10, "words".to_owned())];
        assert_eq!(rewritten("Thier wrds!", &words), "Their words!");
        assert_eq!(rewritten("THIER WRDS!", &words), "THEIR WORDS!");
        assert_eq!(rewritten("thier wrds!", &[]), "thier wrds!");
    }
}
