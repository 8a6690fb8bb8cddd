//! Sentence vectors: two bits a dimension of what is left without their share of the passage's vector.
//!
//! As with tokens, the sentences of a passage resemble it, and what is left is shorter and so is its
//! error. One bit loses too much here, because a sentence is looked at alone and not among a hundred
//! tokens (docs/research.md, "Bits of a sentence").

use serde::{Deserialize, Serialize};

use super::TokenCodec;
use super::half_precision::{decode_f16, encode_f16};
use super::tokens::{gain, gain_code};
use crate::keys::TokenCode;
use crate::linalg::dot;

/// Step of the uniform quantiser with four levels that loses least of a normal distribution, in standard
/// deviations (Max, "Quantizing for Minimum Distortion", 1960).
const STEP: f32 = 0.9957;
/// What a code of two bits is off the level that it stands for, in steps.
const MIDDLE: f32 = 1.5;

/// The coded sentence vectors of a passage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct SentenceCodes {
    /// Rotated vectors, `[sentences, bytes_per_sentence]`. Two bits a dimension of the residual: the first
    /// quarter of the dimensions in the lowest bits. For `f16` the whole vector.
    #[serde(with = "crate::packed")]
    pub codes: Vec<u8>,
    /// Value of one step times `sqrt(d)`, in units of `1.6 / 255`, `[sentences]`; empty for `f16`.
    #[serde(with = "crate::packed")]
    pub steps: Vec<u8>,
    /// Cosine with the passage's vector plus 1, in units of `1 / 32767`, `[sentences]`; empty for `f16`.
    #[serde(with = "crate::packed")]
    pub centres: Vec<u16>,
}

/// A query for products with coded sentences.
#[derive(Clone, Debug)]
pub(crate) struct SentenceQuery {
    /// The query rotated, with zeros up to a multiple of four.
    rotated: Vec<f32>,
    sum: f32,
}

impl TokenCodec {
    /// Codes of unit sentence vectors, `[d]` each, of a passage with the unit vector `passage`, `[d]`.
    pub fn encode_sentences(
        &self,
        vectors: &[impl AsRef<[f32]>],
        passage: &[f32],
    ) -> SentenceCodes {
        let mut made = SentenceCodes::default();
        let centre = self.rotation.apply(passage);
        for vector in vectors {
            let mut rest = self.rotation.apply(vector.as_ref());
            match self.spec.code {
                TokenCode::F16 => encode_f16(&rest, &mut made.codes),
                TokenCode::Sign1 => {
                    let cosine = dot(&rest, &centre).clamp(-1.0, 1.0);
                    let coded = ((cosine + 1.0) * 32767.0).round();
                    made.centres.push(coded as u16);
                    rest.iter_mut()
                        .zip(&centre)
                        .for_each(|(x, c)| *x -= cosine * c);
                    self.push_two_bits(&rest, &mut made);
                }
            }
        }
        made
    }

    fn push_two_bits(&self, rest: &[f32], made: &mut SentenceCodes) {
        let root = (rest.len().max(1) as f32).sqrt();
        let square = dot(rest, rest);
        let inverse = root / (square.sqrt() * STEP + f32::MIN_POSITIVE);
        let code = |x: &f32| (x * inverse + 2.0).clamp(0.0, 3.0) as u8;
        let bytes = self.spec.bytes_per_sentence();
        let start = made.codes.len();
        made.codes.resize(start + bytes, 0);
        let mut along = 0.0;
        for (k, quarter) in rest.chunks(bytes.max(1)).enumerate() {
            for (byte, x) in made.codes[start..].iter_mut().zip(quarter) {
                let code = code(x);
                *byte |= code << (2 * k);
                along += x * (f32::from(code) - MIDDLE);
            }
        }
        // Exact for a query in the direction of the residual, as a token's gain is.
        let step = square / (along + f32::MIN_POSITIVE);
        made.steps.push(gain_code(step * root));
    }

    /// Prepares a query vector, `[d]`.
    pub(crate) fn sentence_query(&self, vector: &[f32]) -> SentenceQuery {
        let mut rotated = self.rotation.apply(vector);
        let sum = rotated.iter().sum();
        rotated.resize(rotated.len().next_multiple_of(4), 0.0);
        SentenceQuery { rotated, sum }
    }

    /// Cosine of each sentence with a query whose cosine with the passage is `dense`.
    pub(crate) fn sentence_cosines(
        &self,
        sentences: &SentenceCodes,
        query: &SentenceQuery,
        dense: f32,
    ) -> impl Iterator<Item = f32> {
        let codes = sentences
            .codes
            .chunks_exact(self.spec.bytes_per_sentence().max(1));
        let root = (self.dims().max(1) as f32).sqrt();
        codes
            .enumerate()
            .map(move |(s, codes)| match self.spec.code {
                TokenCode::F16 => {
                    let mut row = vec![0.0; codes.len() / 2];
                    decode_f16(codes, &mut row);
                    dot(&row, &query.rotated[..row.len()])
                }
                TokenCode::Sign1 => {
                    let product = pulp::Arch::new().dispatch(TwoBits {
                        codes,
                        query: &query.rotated,
                    });
                    let step = sentences.steps.get(s).map_or(0.0, |step| gain(*step)) / root;
                    let centre = sentences.centres.get(s);
                    let cosine = centre.map_or(0.0, |c| f32::from(*c) / 32767.0 - 1.0);
                    cosine * dense + step * (product - MIDDLE * query.sum)
                }
            })
    }
}

/// Product of codes with the four quarters of a query, compiled for the widest registers of this
/// processor.
struct TwoBits<'a> {
    codes: &'a [u8],
    query: &'a [f32],
}

impl pulp::NullaryFnOnce for TwoBits<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let (first, second) = self.query.split_at(self.query.len() / 2);
        let ((q0, q1), (q2, q3)) = (
            first.split_at(first.len() / 2),
            second.split_at(second.len() / 2),
        );
        let low = q0.as_chunks::<16>().0.iter().zip(q1.as_chunks::<16>().0);
        let high = q2.as_chunks::<16>().0.iter().zip(q3.as_chunks::<16>().0);
        let codes = self.codes.as_chunks::<16>().0;
        let mut sums = [0.0f32; 16];
        for ((codes, (q0, q1)), (q2, q3)) in codes.iter().zip(low).zip(high) {
            for i in 0..16 {
                let value = |shift: u8| f32::from(codes[i] >> shift & 3);
                sums[i] +=
                    (value(0) * q0[i] + value(2) * q1[i]) + (value(4) * q2[i] + value(6) * q3[i]);
            }
        }
        let done = 16 * codes.len();
        let rest = |quarter: &[f32], shift: u8| -> f32 {
            let codes = self.codes.iter().zip(quarter).skip(done);
            codes.map(|(c, q)| f32::from(c >> shift & 3) * q).sum()
        };
        let rest = rest(q0, 0) + rest(q1, 2) + rest(q2, 4) + rest(q3, 6);
        sums.iter().sum::<f32>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeySpec;
    use crate::linalg::normalise;

    #[test]
    fn coded_sentences_keep_their_cosines() {
        for (dims, code) in [1, 2, 31, 32, 33, 384]
            .into_iter()
            .flat_map(|dims| [(dims, TokenCode::Sign1), (dims, TokenCode::F16)])
        {
            let codec = TokenCodec::new(&KeySpec {
                dims: dims as u16,
                code,
                ..KeySpec::default()
            });
            let wave = |phase: f32| {
                let mut v: Vec<f32> = (0..dims).map(|i| (i as f32 * 0.7 + phase).sin()).collect();
                normalise(&mut v);
                v
            };
            let (query, passage) = (wave(0.3), wave(0.6));
            let sentences = [wave(0.9), wave(2.5), passage.clone(), vec![0.0; dims]];
            let made = codec.encode_sentences(&sentences, &passage);
            assert_eq!(made.codes.len(), 4 * codec.spec().bytes_per_sentence());
            let prepared = codec.sentence_query(&query);
            let dense = dot(&query, &passage);
            let found: Vec<f32> = codec.sentence_cosines(&made, &prepared, dense).collect();
            assert_eq!(found.len(), 4);
            for (found, sentence) in found.iter().zip(&sentences) {
                let exact = dot(sentence, &query);
                let limit = match code {
                    TokenCode::Sign1 => 0.9 / (dims as f32).sqrt(),
                    TokenCode::F16 => 2e-3,
                };
                assert!((found - exact).abs() < limit, "{dims}: {found} {exact}");
            }
        }
    }
}
