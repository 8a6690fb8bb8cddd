//! Everything the views need to know about one passage.

use std::ops::Range;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::codec::TokenCodec;
use crate::keys::KeyBlock;
use crate::lex::{LexBlock, lex_block};
use crate::text::{Analyzer, title_prefix_len};

/// Features of one passage, made once at ingest.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PassageFeatures {
    /// Unit pooled vector of `title. body`, `[d]`.
    pub vector: Vec<f32>,
    /// Terms of the whole text.
    pub lex: LexBlock,
    /// Compressed token and sentence states.
    pub keys: KeyBlock,
}

/// Features of one passage whose parts live in different places (serving gets vector and terms with
/// the candidates and the keys in a second step).
#[derive(Clone, Copy, Debug)]
pub struct FeaturesRef<'a> {
    /// Unit pooled vector, `[d]`.
    pub vector: &'a [f32],
    /// Terms of the whole text.
    pub lex: &'a LexBlock,
    /// Compressed token and sentence states.
    pub keys: &'a KeyBlock,
}

impl<'a> From<&'a PassageFeatures> for FeaturesRef<'a> {
    fn from(f: &'a PassageFeatures) -> Self {
        Self {
            vector: &f.vector,
            lex: &f.lex,
            keys: &f.keys,
        }
    }
}

/// What the encoder and the splitter say about one passage.
#[derive(Clone, Debug)]
pub struct PassageInput<'a> {
    /// Document title and heading path; may be empty.
    pub title: &'a str,
    /// Text of the passage.
    pub body: &'a str,
    /// Sentences of the passage, byte ranges in `body`.
    pub sentences: &'a [Range<usize>],
    /// Unit pooled vector of [`crate::encoded_text`], `[d]`.
    pub vector: &'a [f32],
    /// Unit token states of [`crate::encoded_text`] without CLS and SEP, `[seq, d]`.
    pub states: ArrayView2<'a, f32>,
    /// Wordpiece ids, `[seq]`.
    pub token_ids: &'a [u32],
    /// Byte range of each wordpiece in [`crate::encoded_text`], `[seq]`.
    pub offsets: &'a [(usize, usize)],
    /// Unit vectors of [`crate::sentence_text`] of the first [`crate::MAX_SENTENCES`] sentences, `[d]` each.
    pub sentence_vectors: &'a [Vec<f32>],
}

impl PassageFeatures {
    /// Compresses what the encoder said about a passage and analyses its text.
    pub fn build(codec: &TokenCodec, analyzer: &Analyzer, input: &PassageInput<'_>) -> Self {
        let tokens = sentence_tokens(input.title, input.sentences, input.offsets);
        Self {
            vector: input.vector.to_vec(),
            lex: lex_block(analyzer, input.title, input.body, input.sentences),
            keys: KeyBlock::build(
                codec,
                input.vector,
                input.states,
                input.token_ids,
                tokens,
                input.sentence_vectors,
            ),
        }
    }
}

/// Token range of each sentence; sentences beyond the encoder's limit get an empty range.
///
/// `sentences` are byte ranges in the body, `offsets` byte ranges in the encoded text.
pub fn sentence_tokens(
    title: &str,
    sentences: &[Range<usize>],
    offsets: &[(usize, usize)],
) -> Vec<(u16, u16)> {
    let shift = title_prefix_len(title);
    let token = |j: usize| u16::try_from(j).unwrap_or(u16::MAX);
    sentences
        .iter()
        .map(|s| {
            let first = offsets.partition_point(|o| o.0 < s.start + shift);
            let end = offsets.partition_point(|o| o.1 <= s.end + shift).max(first);
            (token(first), token(end))
        })
        .collect()
}
