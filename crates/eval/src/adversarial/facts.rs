//! Numbers and names in a text, and others of the same kind from elsewhere in the corpus.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use unicode_segmentation::UnicodeSegmentation;

use crate::dataset::Entry;

/// Words of a name that make a difference to what may stand in its place.
const NAME_WORDS: usize = 3;
/// Choices until a fact that fits has to be found.
const CHOICES: usize = 30;

/// What may take the place of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A year of this century, 10 to 20 standing for 1000 to 2099.
    Year(u32),
    /// Another number: its digits, and whether a point or a comma is among them.
    Number(usize, bool, bool),
    /// A name of so many words, and whether it is in capitals altogether.
    Name(usize, bool),
}

/// A number or a name in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    /// Where it stands.
    pub(super) range: Range<usize>,
    /// What it is.
    pub(super) kind: Kind,
}

/// All facts of a corpus.
pub(super) struct Facts {
    /// Words that the corpus has in lower case too; capitals do not make these a name.
    common: HashSet<String>,
    /// Sorted, so that a choice does not depend on the order of a hash map.
    pool: HashMap<Kind, Vec<String>>,
}

impl Facts {
    /// Collects the facts of the texts.
    pub(super) fn new(corpus: &[Entry]) -> Facts {
        let words = corpus.iter().flat_map(|entry| entry.text.unicode_words());
        let common = words
            .filter(|word| word.starts_with(char::is_lowercase))
            .map(str::to_owned)
            .collect();
        let mut facts = Facts {
            common,
            pool: HashMap::new(),
        };
        let mut pool: HashMap<Kind, BTreeSet<&str>> = HashMap::new();
        for entry in corpus {
            for fact in facts.of(&entry.text) {
                pool.entry(fact.kind)
                    .or_default()
                    .insert(&entry.text[fact.range]);
            }
        }
        facts.pool = pool
            .into_iter()
            .map(|(kind, texts)| (kind, texts.into_iter().map(str::to_owned).collect()))
            .collect();
        facts
    }

    /// The facts of a text, in order.
    pub(super) fn of(&self, text: &str) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut run: Option<Run> = None;
        for (start, word) in text.unicode_word_indices() {
            let word = word
                .strip_suffix("'s")
                .or(word.strip_suffix("’s"))
                .unwrap_or(word);
            let end = start + word.len();
            let capital = word.starts_with(char::is_uppercase) && word.chars().count() > 1;
            let common = self.common.contains(&word.to_lowercase());
            // The first word of a sentence has a capital anyway.
            if capital && !(common && opens(&text[..start])) {
                let next = match run.take() {
                    Some(run) if &text[run.range.end..start] == " " => run,
                    before => {
                        facts.extend(before.and_then(|run| run.fact(text)));
                        Run {
                            range: start..end,
                            words: 0,
                            names: 0,
                        }
                    }
                };
                run = Some(Run {
                    range: next.range.start..end,
                    words: next.words + 1,
                    names: next.names + usize::from(!common),
                });
            } else {
                facts.extend(run.take().and_then(|run| run.fact(text)));
                facts.extend(number(start, word));
            }
        }
        facts.extend(run.and_then(|run| run.fact(text)));
        facts
    }

    /// Another fact of this kind that `fits`; none if chance finds no such.
    pub(super) fn other(
        &self,
        kind: Kind,
        rng: &mut ChaCha8Rng,
        fits: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        let pool = self.pool.get(&kind)?;
        let mut choices = (0..CHOICES).filter_map(|_| pool.choose(rng));
        choices.find(|text| fits(text)).map(String::as_str)
    }
}

/// Words with a capital in a row.
struct Run {
    range: Range<usize>,
    words: usize,
    /// Those that are no common words.
    names: usize,
}

impl Run {
    fn fact(self, text: &str) -> Option<Fact> {
        let capitals = !text[self.range.clone()].contains(char::is_lowercase);
        (self.names > 0).then_some(Fact {
            range: self.range,
            kind: Kind::Name(self.words.min(NAME_WORDS), capitals),
        })
    }
}

/// Whether a sentence opens after this text.
fn opens(before: &str) -> bool {
    let before = before.trim_end();
    before.is_empty() || before.ends_with(['.', '!', '?', ':', '"', '\u{201c}', '\u{201d}'])
}

/// The digits that a word begins with: `77,434`, `8.5`, the `1970` of `1970s`.
fn number(start: usize, word: &str) -> Option<Fact> {
    let part = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    let length = word.find(|c| !part(c)).unwrap_or(word.len());
    let digits = word[..length].trim_end_matches([',', '.']);
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let kind = match digits.parse::<u32>() {
        Ok(year @ 1000..=2099) if count == 4 => Kind::Year(year / 100),
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => {
            Kind::Number(count, digits.contains('.'), digits.contains(','))
        }
        _ => return None,
    };
    Some(Fact {
        range: start..start + digits.len(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(texts: &[&str]) -> Vec<Entry> {
        let entry = |(i, text): (usize, &&str)| Entry {
            id: i.to_string(),
            title: String::new(),
            text: (*text).to_owned(),
        };
        texts.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn numbers_and_names_are_found_and_common_words_are_not() {
        let text = "The Arab Oil Embargo of 1973 cost 77,434 barrels. Prices fell in the 1980s by 8.5 percent. \
                    Later Ann met Bob's NATO.";
        let corpus = corpus(&[text, "prices of the oil fell later; an embargo"]);
        let facts = Facts::new(&corpus);
        let found: Vec<(&str, Kind)> = facts
            .of(text)
            .into_iter()
            .map(|fact| (&text[fact.range], fact.kind))
            .collect();
        let expected = [
            ("Arab Oil Embargo", Kind::Name(3, false)),
            ("1973", Kind::Year(19)),
            ("77,434", Kind::Number(5, false, true)),
            ("1980", Kind::Year(19)),
            ("8.5", Kind::Number(2, true, false)),
            ("Ann", Kind::Name(1, false)),
            ("Bob", Kind::Name(1, false)),
            ("NATO", Kind::Name(1, true)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_number_without_a_fellow_has_no_other() {
        let facts = Facts::new(&corpus(&["In 1901 and in 1902 they had 7 cats"]));
        let mut rng = super::super::rng(0, "x");
        assert_eq!(
            facts.other(Kind::Year(19), &mut rng, |text| text != "1901"),
            Some("1902")
        );
        assert_eq!(
            facts.other(Kind::Number(1, false, false), &mut rng, |text| text != "7"),
            None
        );
        assert_eq!(facts.other(Kind::Name(2, false), &mut rng, |_| true), None);
    }
}
