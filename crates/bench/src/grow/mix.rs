//! Which sentences a synthetic passage is made of, and its text.

use std::ops::Range;

use moerag_store::Passage;
use rand::Rng;

/// A sentence: of which of the two passages, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    /// 0: of the base, 1: of its partner.
    pub(super) side: usize,
    /// Its number.
    pub(super) sentence: usize,
}

/// Takes sentences of both passages alternately, each in the order of its passage from a random one on
/// (around the end), until the length of the base is reached; at least one of each. `lengths` are the
/// sentences' lengths in bytes.
pub(super) fn choose(rng: &mut impl Rng, lengths: [&[usize]; 2]) -> Vec<Pick> {
    let target: usize = lengths[0].iter().sum();
    let starts = lengths.map(|all| rng.random_range(0..all.len().max(1)));
    let mut taken = [0, 0];
    let mut side = usize::from(rng.random_bool(0.5));
    let (mut picks, mut total) = (Vec::new(), 0);
    while taken[0] < lengths[0].len() || taken[1] < lengths[1].len() {
        if taken[side] == lengths[side].len() {
            side = 1 - side;
        }
        let all = lengths[side];
        let sentence = (starts[side] + taken[side]) % all.len();
        let next = total + all[sentence];
        let closer = target.abs_diff(next) < target.abs_diff(total);
        if !closer && taken[side] > 0 && total > 0 {
            break;
        }
        picks.push(Pick { side, sentence });
        taken[side] += 1;
        total = next;
        side = 1 - side;
    }
    picks
}

/// The text of the picked sentences and where they lie in it.
pub(super) fn text(of: [&Passage; 2], picks: &[Pick]) -> (String, Vec<Range<usize>>) {
    let mut text = String::new();
    let mut sentences = Vec::with_capacity(picks.len());
    for pick in picks {
        let passage = of[pick.side];
        let range = passage.sentences.get(pick.sentence).cloned();
        let sentence = range.and_then(|range| passage.text.get(range));
        if !text.is_empty() {
            text.push(' ');
        }
        let start = text.len();
        text.push_str(sentence.unwrap_or_default());
        sentences.push(start..text.len());
    }
    (text, sentences)
}

/// The base's share of the text.
pub(super) fn share(lengths: [&[usize]; 2], picks: &[Pick]) -> f32 {
    let bytes = |pick: &Pick| lengths[pick.side][pick.sentence];
    let all: usize = picks.iter().map(bytes).sum();
    let base: usize = picks.iter().filter(|p| p.side == 0).map(bytes).sum();
    base as f32 / all.max(1) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, HashSet};

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn passage(sentences: &[&str]) -> Passage {
        let text = sentences.join(" ");
        let mut start = 0;
        let ranges = sentences.iter().map(|sentence| {
            let range = start..start + sentence.len();
            start = range.end + 1;
            range
        });
        Passage {
            document_id: "d".into(),
            ordinal: 0,
            revision: "r".into(),
            title: String::new(),
            start: 0,
            end: text.len(),
            sentences: ranges.collect(),
            text,
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn both_passages_take_part_and_the_length_stays_that_of_the_base() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (a, b) = ([30, 40, 50, 60], [20, 80, 35, 45, 55]);
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let picks = choose(&mut rng, [&a, &b]);
            for side in [0, 1] {
                assert!(picks.iter().any(|p| p.side == side), "{picks:?}");
            }
            let distinct: HashSet<_> = picks.iter().map(|p| (p.side, p.sentence)).collect();
            assert_eq!(distinct.len(), picks.len(), "a sentence twice: {picks:?}");
            let total: usize = picks
                .iter()
                .map(|p| [&a[..], &b[..]][p.side][p.sentence])
                .sum();
            assert!(total.abs_diff(180) <= 40, "{total} {picks:?}");
            assert!(picks.windows(2).all(|w| w[0].side != w[1].side));
            seen.insert(
                picks
                    .iter()
                    .map(|p| (p.side, p.sentence))
                    .collect::<Vec<_>>(),
            );
        }
        assert!(seen.len() > 20, "{} different texts", seen.len());
    }

    #[test]
    fn single_sentences_are_joined_rather_than_repeated() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        assert_eq!(choose(&mut rng, [&[30], &[90]]).len(), 2);
        assert_eq!(choose(&mut rng, [&[30], &[]]).len(), 1);
        assert!(choose(&mut rng, [&[], &[]]).is_empty());
    }

    #[test]
    fn the_text_has_the_sentences_where_it_says() {
        let (a, b) = (
            passage(&["One is here.", "Two is not."]),
            passage(&["Drei ist da."]),
        );
        let picks = [
            Pick {
                side: 0,
                sentence: 1,
            },
            Pick {
                side: 1,
                sentence: 0,
            },
        ];
        let (text, ranges) = text([&a, &b], &picks);
        assert_eq!(text, "Two is not. Drei ist da.");
        assert_eq!(&text[ranges[0].clone()], "Two is not.");
        assert_eq!(&text[ranges[1].clone()], "Drei ist da.");
        let lengths = [&[12, 11][..], &[12][..]];
        assert!((share(lengths, &picks) - 11.0 / 23.0).abs() < 1e-6);
    }
}
