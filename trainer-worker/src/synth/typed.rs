//! Rule queries of the eight types from one sentence, without any language model.
//!
//! A cue in the sentence ("because", "than", a year, a number, "X is a …") allows a type; a draw
//! decides among the types allowed, so that one sentence can ask different things. Port of the
//! prototype's `synth.py` (RECIPE.md, "Synthetic queries") with more openers per type.

use moerag_retrieve::Language;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::words::{Lexicon, Word, entities};

/// Index into `moerag_model::QUERY_TYPES`.
pub(crate) mod ty {
    pub(crate) const FACTUAL: usize = 0;
    pub(crate) const DEFINITIONAL: usize = 1;
    pub(crate) const PROCEDURAL: usize = 2;
    pub(crate) const CAUSAL: usize = 3;
    pub(crate) const COMPARATIVE: usize = 4;
    pub(crate) const TEMPORAL: usize = 5;
    pub(crate) const QUANTITATIVE: usize = 6;
    pub(crate) const DESCRIPTIVE: usize = 7;
}

const WHY: &[&str] = &[
    "why",
    "why",
    "what causes",
    "what causes",
    "why does",
    "why is",
    "what is the reason for",
];
const COMPARE: &[&str] = &[
    "difference between",
    "compare",
    "which is",
    "what is the difference between",
];
const HOW: &[&str] = &[
    "how to",
    "how to",
    "how to",
    "how",
    "how",
    "how do i",
    "how can i",
];
const WHEN: &[&str] = &[
    "when did",
    "when did",
    "what year",
    "what year",
    "when was",
    "in what year",
];
const COUNT: &[&str] = &[
    "how many",
    "how many",
    "how much",
    "how much",
    "what percentage",
    "what is the number of",
];
const DEFINE: &[&str] = &[
    "what is",
    "what is",
    "what is",
    "who is",
    "who is",
    "what are",
    "what is the meaning of",
];
const FACT: &[&str] = &[
    "who",
    "which",
    "where",
    "what",
    "what",
    "in which",
    "what type of",
];
const DESCRIBE: &[&str] = &["", "", "", "tell me about", "describe", "explain"];
/// Openers of the gist level with the type each one asks for.
const GIST: &[(&str, usize)] = &[
    ("", ty::DESCRIPTIVE),
    ("", ty::DESCRIPTIVE),
    ("what is", ty::DEFINITIONAL),
    ("how does", ty::PROCEDURAL),
    ("why", ty::CAUSAL),
    ("what are", ty::DEFINITIONAL),
    ("how to", ty::PROCEDURAL),
    ("tell me about", ty::DESCRIPTIVE),
    ("is it possible to", ty::PROCEDURAL),
];

/// A query before its overlap level is applied.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Question words in front; empty where the type has none or the corpus is not English.
    pub(crate) opener: &'static str,
    pub(crate) body: Vec<String>,
    pub(crate) query_type: usize,
    pub(crate) rule: &'static str,
}

impl Draft {
    /// Number of words with the opener.
    pub(crate) fn len(&self) -> usize {
        self.opener.split_whitespace().count() + self.body.len()
    }
}

/// Whether question openers make sense: they are English words.
pub(crate) fn asks_in_english(language: Language) -> bool {
    language == Language::English
}

/// An opener of the gist level and the type it stands for.
pub(crate) fn gist_opener(english: bool, rng: &mut ChaCha8Rng) -> (&'static str, usize) {
    let (opener, query_type) = GIST.choose(rng).copied().unwrap_or(("", ty::DESCRIPTIVE));
    if english {
        (opener, query_type)
    } else {
        ("", ty::DESCRIPTIVE)
    }
}

/// One typed query from `sentence`; `None` when it holds too few words.
pub(crate) fn typed_query(
    lexicon: &Lexicon<'_>,
    english: bool,
    title: &str,
    sentence: &str,
    rng: &mut ChaCha8Rng,
) -> Option<Draft> {
    let words = lexicon.words(sentence);
    if words.is_empty() {
        return None;
    }
    let draw: f64 = rng.random();
    // Long heading paths would drown the sentence; their last words are the most specific ones.
    let title_words: Vec<String> = if rng.random_bool(0.5) {
        let all = lexicon.words(title);
        all[all.len().saturating_sub(8)..]
            .iter()
            .map(|w| w.text.to_owned())
            .collect()
    } else {
        Vec::new()
    };
    let cues = Cues::read(&words);
    let names = entities(sentence, &words);
    let mut maker = Maker {
        lexicon,
        english,
        words: &words,
        title: title_words,
        rng,
    };

    let draft = if cues.causal && draw < 0.6 {
        let keys = maker.keywords(4..=7, |_| true);
        let keys = maker.thin(keys, 0.15);
        maker.draft(WHY, true, keys, ty::CAUSAL, "cause cue")
    } else if cues.comparative && draw < 0.6 {
        let keys = maker.keywords(4..=8, |_| true);
        maker.draft(COMPARE, false, keys, ty::COMPARATIVE, "comparison cue")
    } else if cues.procedural && draw < 0.3 {
        let clause = maker.clause(5..=12);
        let clause = maker.thin(clause, 0.2);
        maker.draft(HOW, false, clause, ty::PROCEDURAL, "procedure cue")
    } else if cues.year && draw < 0.5 {
        let keys = maker.keywords(3..=6, |i| !words[i].is_year());
        maker.draft(WHEN, true, keys, ty::TEMPORAL, "year left out")
    } else if cues.number && draw < 0.5 {
        let keys = maker.keywords(3..=6, |i| !words[i].is_number());
        maker.draft(COUNT, true, keys, ty::QUANTITATIVE, "number left out")
    } else if cues.definition && draw < 0.6 {
        let keys = maker.keywords(2..=5, |_| true);
        maker.draft(DEFINE, false, keys, ty::DEFINITIONAL, "definition sentence")
    } else if !names.is_empty() && draw < 0.8 {
        let name = names.choose(maker.rng).cloned().unwrap_or(0..0);
        let keys = maker.keywords(3..=7, |i| !name.contains(&i));
        let keys = maker.thin(keys, 0.1);
        maker.draft(FACT, true, keys, ty::FACTUAL, "name left out")
    } else {
        let clause = maker.clause(6..=14);
        maker.draft(DESCRIBE, false, clause, ty::DESCRIPTIVE, "clause")
    };
    (!draft.body.is_empty() && draft.len() >= 3).then_some(draft)
}

/// What a sentence allows to be asked.
struct Cues {
    causal: bool,
    comparative: bool,
    procedural: bool,
    year: bool,
    number: bool,
    definition: bool,
}

impl Cues {
    fn read(words: &[Word<'_>]) -> Self {
        let at = |i: usize| words.get(i).map_or("", |w| w.lower.as_str());
        let pair = |i: usize, a: &[&str], b: &str| a.contains(&at(i)) && at(i + 1) == b;
        let mut cues = Self {
            causal: false,
            comparative: false,
            procedural: false,
            year: words.iter().any(Word::is_year),
            number: words.iter().any(Word::is_number),
            definition: is_definition(words),
        };
        for (i, word) in words.iter().enumerate() {
            let next_is_word = at(i + 1).chars().next().is_some_and(char::is_alphabetic);
            cues.causal |= matches!(
                word.lower.as_str(),
                "because" | "cause" | "causes" | "caused" | "therefore" | "thus"
            ) || pair(i, &["due", "lead", "leads", "led"], "to")
                || pair(i, &["result", "results"], "in")
                || pair(i, &["as"], "a") && at(i + 2) == "result"
                || pair(i, &["associated"], "with");
            cues.comparative |= matches!(
                word.lower.as_str(),
                "than"
                    | "compared"
                    | "whereas"
                    | "unlike"
                    | "difference"
                    | "both"
                    | "similar"
                    | "versus"
            );
            cues.procedural |= matches!(
                word.lower.as_str(),
                "using" | "step" | "method" | "procedure" | "first" | "then" | "must" | "should"
            ) || word.lower == "to" && next_is_word
                || word.lower == "by" && at(i + 1).len() > 4 && at(i + 1).ends_with("ing");
        }
        cues
    }
}

/// "Some Name (is|are|was|were) (a|an|the) …", the name being one to six words from the start.
fn is_definition(words: &[Word<'_>]) -> bool {
    words.first().is_some_and(Word::is_capitalised)
        && words
            .windows(2)
            .take(7)
            .skip(1)
            .enumerate()
            .any(|(i, pair)| {
                matches!(pair[0].lower.as_str(), "is" | "are" | "was" | "were")
                    && matches!(pair[1].lower.as_str(), "a" | "an" | "the")
                    && words[..=i].iter().all(Word::is_capitalised)
            })
}

struct Maker<'m, 'w> {
    lexicon: &'m Lexicon<'m>,
    english: bool,
    words: &'m [Word<'w>],
    title: Vec<String>,
    rng: &'m mut ChaCha8Rng,
}

impl Maker<'_, '_> {
    /// The `count` rarest content words that `allowed` admits, in their order, with some noise in
    /// the ranking so that the same sentence gives different queries.
    fn keywords(
        &mut self,
        count: std::ops::RangeInclusive<usize>,
        allowed: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let wanted = self.rng.random_range(count);
        let mut scored: Vec<(f32, u32)> = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            if let Some(term) = word.term.filter(|_| allowed(i))
                && scored.iter().all(|(_, seen)| *seen != term)
            {
                let idf = self
                    .lexicon
                    .stats
                    .idf(term)
                    .unwrap_or(self.lexicon.stats.oov_idf());
                scored.push((idf - 2.0 * self.rng.random::<f32>(), term));
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let keep: Vec<u32> = scored
            .into_iter()
            .take(wanted)
            .map(|(_, term)| term)
            .collect();
        self.words
            .iter()
            .enumerate()
            .filter(|(i, word)| allowed(*i) && word.term.is_some_and(|term| keep.contains(&term)))
            .map(|(_, word)| word.text.to_owned())
            .collect()
    }

    /// Some words in a row.
    fn clause(&mut self, length: std::ops::RangeInclusive<usize>) -> Vec<String> {
        let length = self.rng.random_range(length).min(self.words.len());
        let start = self.rng.random_range(0..=self.words.len() - length);
        self.words[start..start + length]
            .iter()
            .map(|w| w.text.to_owned())
            .collect()
    }

    /// Drops each word with probability `p`, but never all.
    fn thin(&mut self, words: Vec<String>, p: f64) -> Vec<String> {
        let kept: Vec<String> = words
            .iter()
            .filter(|_| !self.rng.random_bool(p))
            .cloned()
            .collect();
        if kept.is_empty() { words } else { kept }
    }

    fn draft(
        &mut self,
        openers: &'static [&'static str],
        with_title: bool,
        words: Vec<String>,
        query_type: usize,
        rule: &'static str,
    ) -> Draft {
        let opener = match openers.choose(self.rng) {
            Some(opener) if self.english => *opener,
            _ => "",
        };
        let mut body = if with_title && !words.is_empty() {
            std::mem::take(&mut self.title)
        } else {
            Vec::new()
        };
        body.extend(words);
        Draft {
            opener,
            body,
            query_type,
            rule,
        }
    }
}

/// A random subset of `items` of size `count`, in their original order.
pub(crate) fn sample_in_order<T>(items: Vec<T>, count: usize, rng: &mut ChaCha8Rng) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.shuffle(rng);
    order.truncate(count);
    order.sort_unstable();
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| slots[i].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerag_retrieve::{Analyzer, CorpusStats};
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    /// Types that 300 draws make of a sentence, with one query of each.
    fn types(sentence: &str, english: bool) -> BTreeSet<usize> {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..300)
            .filter_map(|_| typed_query(&lexicon, english, "A title", sentence, &mut rng))
            .inspect(|draft| assert!(draft.len() >= 3 && (english || draft.opener.is_empty())))
            .map(|draft| draft.query_type)
            .collect()
    }

    #[test]
    fn cues_allow_types() {
        let plain = "the wheels ripen under wax and taste of caramel";
        assert_eq!(types(plain, true), BTreeSet::from([ty::DESCRIPTIVE]));
        for (sentence, expected) in [
            (
                "the harvest failed because late frost killed the blossom",
                ty::CAUSAL,
            ),
            (
                "the tower is taller than the older beacon beside it",
                ty::COMPARATIVE,
            ),
            (
                "dairies warm milk using copper pans and wooden spoons",
                ty::PROCEDURAL,
            ),
            (
                "records show frost killed the blossom during 1923 everywhere",
                ty::TEMPORAL,
            ),
            (
                "adults reach 40 centimetres and feed mainly on frogs",
                ty::QUANTITATIVE,
            ),
            (
                "Orvanite is a green mineral found in copper mines",
                ty::DEFINITIONAL,
            ),
            (
                "a long draft was written by Queen Maud in eleven days",
                ty::FACTUAL,
            ),
        ] {
            assert!(types(sentence, true).contains(&expected), "{sentence}");
            assert!(types(sentence, false).contains(&expected), "{sentence}");
        }
    }

    #[test]
    fn what_is_asked_for_is_left_out() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let sentence = "records show frost killed 40 orchards during 1923 in Arden";
        for _ in 0..300 {
            let Some(draft) = typed_query(&lexicon, true, "", sentence, &mut rng) else {
                continue;
            };
            let has = |word: &str| draft.body.iter().any(|w| w == word);
            match draft.query_type {
                ty::TEMPORAL => assert!(!has("1923")),
                ty::QUANTITATIVE => assert!(!has("40") && !has("1923")),
                ty::FACTUAL => assert!(!has("Arden")),
                _ => {}
            }
        }
        assert!(typed_query(&lexicon, true, "", "", &mut rng).is_none());
        assert!(typed_query(&lexicon, true, "", "?!", &mut rng).is_none());
    }

    #[test]
    fn a_definition_starts_with_its_name() {
        let (analyzer, stats) = (Analyzer::new(Language::English), CorpusStats::default());
        let lexicon = Lexicon::new(&analyzer, &stats);
        let read = |text: &str| is_definition(&lexicon.words(text));
        assert!(read("Paris is the capital"));
        assert!(read("Old Tern Island Mail Packet Lighthouse was a tower"));
        assert!(!read("the tower is a ruin"));
        assert!(!read("Paris has been the capital"));
        assert!(!read("Is"));
    }

    #[test]
    fn samples_keep_their_order() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let picked = sample_in_order((0..20).collect(), 7, &mut rng);
        assert_eq!(picked.len(), 7);
        assert!(picked.is_sorted());
        assert_eq!(sample_in_order(vec![1, 2], 9, &mut rng), [1, 2]);
    }
}
