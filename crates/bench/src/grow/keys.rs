//! The keys of a synthetic passage, put together from those of the two that it was made of.

use std::collections::HashMap;
use std::ops::Range;

use moerag_encoder::RECIPE_MAX_TOKENS;
use moerag_retrieve::keys::{window_count, window_range};
use moerag_retrieve::linalg::norm;
use moerag_retrieve::{KeyBlock, MAX_SENTENCES, TokenCodec, TokenCodes};
use ndarray::Array2;

use super::mix::Pick;

/// Tokens of a passage at most, as the encoder would have cut it: without CLS and SEP.
const MAX_TOKENS: usize = RECIPE_MAX_TOKENS - 2;

/// Number of sentences that can be picked: those with a vector of their own, in sign codes, which are what
/// collections have.
pub(super) fn pickable(keys: &KeyBlock) -> usize {
    keys.sentences.steps.len().min(keys.sentence_tokens.len())
}

/// Tokens, codes and sentence vectors of the picked sentences, under the base's title.
///
/// Codes, gains and sentence vectors are those of real text, around the vector of the new passage.
/// Norms of smoothed states are taken over too, which is inexact at the seams; those of window
/// means are computed from the codes. Keys do not tell which tokens a wordpiece stands for: each side
/// gives as large a part of its wordpieces as of its tokens.
pub(super) fn assemble(
    codec: &TokenCodec,
    vector: &[f32],
    of: [&KeyBlock; 2],
    picks: &[Pick],
) -> KeyBlock {
    let mut assembly = Assembly {
        of,
        code_bytes: codec.spec().bytes_per_code(),
        block: KeyBlock {
            tokens: TokenCodes {
                centre: of[0].tokens.centre,
                ..TokenCodes::default()
            },
            ..KeyBlock::default()
        },
        slots: HashMap::new(),
        taken: [0; 2],
    };
    let title = of[0]
        .sentence_tokens
        .first()
        .map_or(0, |s| usize::from(s.0));
    assembly.append(0, 0..title);
    for (at, pick) in picks.iter().enumerate() {
        let keys = of[pick.side];
        let tokens = keys.sentence_tokens.get(pick.sentence);
        let (start, end) = tokens.map_or((0, 0), |(s, e)| (usize::from(*s), usize::from(*e)));
        let added = assembly.append(pick.side, start..end);
        let block = &mut assembly.block;
        block.sentence_tokens.push(added);
        let (from, to) = (&keys.sentences, &mut block.sentences);
        let bytes = codec.spec().bytes_per_sentence();
        let codes = (from.codes).get(pick.sentence * bytes..(pick.sentence + 1) * bytes);
        if let Some(codes) = codes
            && at < MAX_SENTENCES
        {
            to.codes.extend_from_slice(codes);
            to.steps.extend(from.steps.get(pick.sentence));
            to.centres.extend(from.centres.get(pick.sentence));
        }
    }
    let block = assembly.finish();
    let mut states = Array2::zeros((0, 0));
    codec.decode_into(block.tokens.of(vector), &mut states);
    let seq = block.seq();
    let mean_norm = |tokens: Range<usize>| mean_norm(codec, &block.tokens, &states, tokens);
    let window_norms = (0..window_count(seq))
        .map(|w| (mean_norm(window_range(w, seq)) * 65535.0).round() as u16)
        .collect();
    KeyBlock {
        mean_norm: mean_norm(0..seq),
        window_norms,
        ..block
    }
}

/// A key block in the making.
struct Assembly<'a> {
    of: [&'a KeyBlock; 2],
    code_bytes: usize,
    block: KeyBlock,
    /// Where the code of a side lies now, by side and slot.
    slots: HashMap<(usize, usize), u8>,
    /// Tokens taken of each side.
    taken: [usize; 2],
}

impl Assembly<'_> {
    /// Appends tokens as far as there is room; returns where they lie now.
    fn append(&mut self, side: usize, tokens: Range<usize>) -> (u16, u16) {
        let (from, to) = (self.of[side], &mut self.block);
        let start = to.seq();
        let last = tokens.end.min(from.seq());
        let first = tokens.start.min(last);
        let last = last.min(first + MAX_TOKENS.saturating_sub(start));
        for j in first..last {
            let slot = from.tokens.slot(j);
            let next = u8::try_from(self.slots.len()).unwrap_or(u8::MAX);
            let place = *self.slots.entry((side, slot)).or_insert_with(|| {
                let code = slot * self.code_bytes..(slot + 1) * self.code_bytes;
                to.tokens.codes.extend_from_slice(&from.tokens.codes[code]);
                to.tokens.gains.extend(from.tokens.gains.get(slot));
                next
            });
            to.tokens.slots.push(place);
        }
        self.taken[side] += last - first;
        to.smooth_norms
            .extend_from_slice(&from.smooth_norms[first..last]);
        let place = |token: usize| u16::try_from(token).unwrap_or(u16::MAX);
        (place(start), place(to.seq()))
    }

    fn finish(mut self) -> KeyBlock {
        let wordpieces = &mut self.block.wordpieces;
        for (from, taken) in self.of.into_iter().zip(self.taken) {
            let part = from.wordpieces.len() * taken / from.seq().max(1);
            wordpieces.extend_from_slice(&from.wordpieces[..part.min(from.wordpieces.len())]);
        }
        wordpieces.sort_unstable();
        wordpieces.dedup();
        self.block
    }
}

/// Norm of the mean of some states, less what coding adds to it: each code has an error of its own,
/// which counts by the square of its share.
fn mean_norm(
    codec: &TokenCodec,
    codes: &TokenCodes,
    states: &Array2<f32>,
    tokens: Range<usize>,
) -> f32 {
    let share = 1.0 / tokens.len().max(1) as f32;
    let mut shares = vec![0.0f32; states.nrows()];
    tokens.for_each(|j| shares[codes.slot(j)] += share);
    let noise: f32 = (shares.iter().enumerate())
        .map(|(at, share)| share * share * codec.coding_noise(codes, at))
        .sum();
    let mean = states.t().dot(&ndarray::aview1(&shares));
    let length = norm(mean.as_slice().unwrap_or_default());
    let square = length * length;
    (square - noise).max(0.25 * square).sqrt().min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use moerag_retrieve::KeySpec;
    use moerag_retrieve::linalg::normalise;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Vector and keys of a passage whose states resemble each other as those of real text do.
    fn block(codec: &TokenCodec, seed: u64, seq: usize, sentences: usize) -> (Vec<f32>, KeyBlock) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut unit = |like: Option<&[f32]>| {
            let mut row: Vec<f32> = (0..384)
                .map(|k| rng.random::<f32>() - 0.5 + like.map_or(0.0, |l| l[k] * 5.0))
                .collect();
            normalise(&mut row);
            row
        };
        let centre = unit(None);
        let states: Vec<f32> = (0..seq).flat_map(|_| unit(Some(&centre))).collect();
        let vectors: Vec<Vec<f32>> = (0..sentences).map(|_| unit(Some(&centre))).collect();
        // Two tokens of title, then sentences of equal length.
        let each = (seq - 2) / sentences;
        let tokens = (0..sentences)
            .map(|s| ((2 + s * each) as u16, (2 + (s + 1) * each) as u16))
            .collect();
        let ids: Vec<u32> = (0..seq as u32).map(|t| t + 1000 * seed as u32).collect();
        let states = Array2::from_shape_vec((seq, 384), states).unwrap();
        let keys = KeyBlock::build(codec, &centre, states.view(), &ids, tokens, &vectors);
        (centre, keys)
    }

    fn all(sentences: usize) -> Vec<Pick> {
        (0..sentences)
            .map(|sentence| Pick { side: 0, sentence })
            .collect()
    }

    #[test]
    fn a_passage_put_together_from_itself_is_the_same() {
        let codec = TokenCodec::new(&KeySpec::default());
        let (vector, whole) = block(&codec, 1, 98, 4);
        let again = assemble(&codec, &vector, [&whole, &whole], &all(4));
        again.validate(codec.spec()).unwrap();
        assert_eq!(again.wordpieces, whole.wordpieces);
        assert_eq!(again.tokens, whole.tokens);
        assert_eq!(again.smooth_norms, whole.smooth_norms);
        assert_eq!(again.sentence_tokens, whole.sentence_tokens);
        assert_eq!(again.sentences, whole.sentences);
        let close = |a: f32, b: f32| (a / b - 1.0).abs() < 0.04;
        assert!(close(again.mean_norm, whole.mean_norm));
        for (a, b) in again.window_norms.iter().zip(&whole.window_norms) {
            assert!(close(f32::from(*a), f32::from(*b)), "{a} {b}");
        }
    }

    #[test]
    fn sentences_of_two_passages_stay_within_the_encoders_limit() {
        let codec = TokenCodec::new(&KeySpec::default());
        let (vector, a) = block(&codec, 1, 242, 3);
        let (_, b) = block(&codec, 2, 242, 3);
        let picks: Vec<Pick> = (0..3)
            .flat_map(|sentence| [0, 1].map(|side| Pick { side, sentence }))
            .collect();
        let mixed = assemble(&codec, &vector, [&a, &b], &picks);
        mixed.validate(codec.spec()).unwrap();
        assert_eq!(mixed.seq(), MAX_TOKENS);
        assert_eq!(mixed.sentence_tokens[0], (2, 82));
        assert_eq!(mixed.sentence_tokens[1], (82, 162));
        assert_eq!(mixed.smooth_norms[82], b.smooth_norms[2]);
        let code = |block: &KeyBlock, j: usize| {
            let (slot, bytes) = (block.tokens.slot(j), codec.spec().bytes_per_code());
            block.tokens.codes[slot * bytes..][..bytes].to_vec()
        };
        assert_eq!(code(&mixed, 82), code(&b, 2));
        assert_eq!(mixed.sentence_tokens[3], (242, 254));
        assert_eq!(mixed.sentence_tokens[5], (254, 254));
        assert_eq!(mixed.sentences.steps.len(), 6);
        assert_eq!(mixed.sentences.codes[96..192], b.sentences.codes[..96]);
    }
}
