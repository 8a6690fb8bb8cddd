//! Sentences that fill passages up.

use moerag_retrieve::sentences;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::source::Source;

/// Bytes of a sentence that is used: longer than a heading, shorter than a table.
const BYTES: std::ops::RangeInclusive<usize> = 30..=400;
/// Sentences that are enough to choose from.
const ENOUGH: usize = 50;
/// Choices until one that is not refused has to be found.
const CHOICES: usize = 50;

/// Sentences of a corpus, with the position of their passage.
pub(super) struct Fillers<'a> {
    sentences: Vec<(usize, &'a str)>,
}

impl<'a> Fillers<'a> {
    /// The sentences of passages that are gold, or related to gold, of no query, so that no passage
    /// becomes an answer by accident; those of all passages where the others are too few.
    pub(super) fn new(source: &'a Source) -> Fillers<'a> {
        let mut asked = vec![false; source.set.corpus.len()];
        for query in &source.set.queries {
            let ids = query.gold.iter().chain(&query.skipped);
            ids.filter_map(|id| source.at.get(id))
                .for_each(|at| asked[*at] = true);
        }
        let of = |wanted: &dyn Fn(usize) -> bool| {
            let entries = source.set.corpus.iter().enumerate();
            entries
                .filter(|(at, _)| wanted(*at))
                .flat_map(|(at, entry)| {
                    let ranges = sentences(&entry.text).into_iter();
                    ranges.map(move |range| (at, entry.text[range].trim()))
                })
                .filter(|(_, sentence)| BYTES.contains(&sentence.len()))
                .collect::<Vec<_>>()
        };
        let unasked = of(&|at| !asked[at]);
        let sentences = if unasked.len() >= ENOUGH {
            unasked
        } else {
            of(&|_| true)
        };
        Fillers { sentences }
    }

    /// A sentence that is not refused; none if chance finds only refused ones.
    pub(super) fn choose(
        &self,
        rng: &mut ChaCha8Rng,
        refused: impl Fn(usize, &str) -> bool,
    ) -> Option<&'a str> {
        (0..CHOICES)
            .filter_map(|_| self.sentences.choose(rng))
            .find(|(at, sentence)| !refused(*at, sentence))
            .map(|(_, sentence)| *sentence)
    }
}
