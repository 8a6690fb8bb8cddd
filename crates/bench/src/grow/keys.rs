//! The keys of a synthetic passage, put together from those of the two that it was made of.

use std::ops::Range;

use moerag_encoder::RECIPE_MAX_TOKENS;
use moerag_retrieve::keys::{sentence_bytes, window_count, window_range};
use moerag_retrieve::linalg::norm;
use moerag_retrieve::{KeyBlock, KeySpec, MAX_SENTENCES, TokenCodec};
use ndarray::{Array2, Axis};

use super::mix::Pick;

/// Tokens of a passage at most, as the encoder would have cut it: without CLS and SEP.
const MAX_TOKENS: usize = RECIPE_MAX_TOKENS - 2;

/// Number of sentences that can be picked: those with a vector of their own.
pub(super) fn pickable(keys: &KeyBlock) -> usize {
    keys.sentence_scales.len().min(keys.sentence_tokens.len())
}

/// Tokens, codes and sentence vectors of the picked sentences, under the base's title.
///
/// Codes, gains and sentence vectors are those of real text, around the vector of the new passage.
/// Norms of smoothed states are taken over too, which is inexact at the seams; those of window
/// means are computed from the codes.
pub(super) fn assemble(
    codec: &TokenCodec,
    vector: &[f32],
    of: [&KeyBlock; 2],
    picks: &[Pick],
) -> KeyBlock {
    let mut block = KeyBlock {
        centre: of[0].centre,
        ..KeyBlock::default()
    };
    let title = of[0]
        .sentence_tokens
        .first()
        .map_or(0, |s| usize::from(s.0));
    append(&mut block, of[0], 0..title, codec.spec());
    for (at, pick) in picks.iter().enumerate() {
        let keys = of[pick.side];
        let tokens = keys.sentence_tokens.get(pick.sentence);
        let (start, end) = tokens.map_or((0, 0), |(s, e)| (usize::from(*s), usize::from(*e)));
        let added = append(&mut block, keys, start..end, codec.spec());
        block.sentence_tokens.push(added);
        let bytes = sentence_bytes(codec.dims());
        let vector = keys
            .sentence_codes
            .get(pick.sentence * bytes..(pick.sentence + 1) * bytes);
        if let (Some(vector), Some(scale)) = (vector, keys.sentence_scales.get(pick.sentence))
            && at < MAX_SENTENCES
        {
            block.sentence_codes.extend_from_slice(vector);
            block.sentence_scales.push(*scale);
        }
    }
    let mut states = Array2::zeros((0, 0));
    codec.decode_into(block.tokens(vector), &mut states);
    let seq = block.token_ids.len();
    let mean_norm = |tokens: Range<usize>| mean_norm(codec, &block.gains, &states, tokens);
    let window_norms = (0..window_count(seq))
        .map(|w| (mean_norm(window_range(w, seq)) * 65535.0).round() as u16)
        .collect();
    KeyBlock {
        mean_norm: mean_norm(0..seq),
        window_norms,
        ..block
    }
}

/// Appends tokens as far as there is room; returns where they lie now.
fn append(to: &mut KeyBlock, from: &KeyBlock, tokens: Range<usize>, spec: &KeySpec) -> (u16, u16) {
    let start = to.token_ids.len();
    let last = tokens.end.min(from.token_ids.len());
    let first = tokens.start.min(last);
    let last = last.min(first + MAX_TOKENS.saturating_sub(start));
    let bytes = spec.bytes_per_token();
    to.token_ids.extend_from_slice(&from.token_ids[first..last]);
    to.codes
        .extend_from_slice(&from.codes[first * bytes..last * bytes]);
    if !from.gains.is_empty() {
        to.gains.extend_from_slice(&from.gains[first..last]);
    }
    to.smooth_norms
        .extend_from_slice(&from.smooth_norms[first..last]);
    let place = |token: usize| u16::try_from(token).unwrap_or(u16::MAX);
    (place(start), place(to.token_ids.len()))
}

/// Norm of the mean of some states, less what coding adds to it: each decoded state has an error of
/// its own, and a mean of `n` has an `n`-th of their mean square.
fn mean_norm(codec: &TokenCodec, gains: &[u8], states: &Array2<f32>, tokens: Range<usize>) -> f32 {
    let count = tokens.len().max(1) as f32;
    let noise: f32 = tokens.clone().map(|j| codec.coding_noise(gains, j)).sum();
    let mean = states.slice_axis(Axis(0), tokens.into()).mean_axis(Axis(0));
    let length = mean.map_or(0.0, |mean| norm(mean.as_slice().unwrap_or_default()));
    let square = length * length;
    (square - noise / (count * count))
        .max(0.25 * square)
        .sqrt()
        .min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
        assert_eq!(again.token_ids, whole.token_ids);
        assert_eq!(again.codes, whole.codes);
        assert_eq!(again.gains, whole.gains);
        assert_eq!(again.centre, whole.centre);
        assert_eq!(again.smooth_norms, whole.smooth_norms);
        assert_eq!(again.sentence_tokens, whole.sentence_tokens);
        assert_eq!(again.sentence_codes, whole.sentence_codes);
        assert_eq!(again.sentence_scales, whole.sentence_scales);
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
        assert_eq!(mixed.token_ids.len(), MAX_TOKENS);
        assert_eq!(mixed.sentence_tokens[0], (2, 82));
        assert_eq!(mixed.sentence_tokens[1], (82, 162));
        assert_eq!(mixed.token_ids[82], b.token_ids[2]);
        assert_eq!(mixed.sentence_tokens[3], (242, 254));
        assert_eq!(mixed.sentence_tokens[5], (254, 254));
        assert_eq!(mixed.sentence_scales.len(), 6);
        assert_eq!(mixed.sentence_codes[192..384], b.sentence_codes[..192]);
    }
}
