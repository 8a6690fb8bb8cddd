//! Compressed keys of a passage: what the token, phrase, window and sentence views read.
//!
//! Token states less their share of the passage's vector are rotated by a fixed random rotation and stored
//! as sign bits with a gain each (49 bytes a token for 384 dimensions, RECIPE.md "Storage of the token
//! table") or, to measure what that costs, whole as `f16`.
//! Norms of smoothed states and of window means are stored beside them, because norms of sign-coded
//! states are biased: coding noise adds to them. Sentence vectors take half a byte a dimension.

use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::codec::{CodedTokens, TokenCodec, TokenCodes};
use crate::error::RetrieveError;
use crate::linalg::norm;

/// Tokens of one window of the `sctx` view.
pub const WINDOW: usize = 32;
/// Distance between the starts of two windows.
pub const WINDOW_STRIDE: usize = 16;
/// Weight of a neighbour in the smoothed states of the `ph3` view.
pub const NEIGHBOUR_WEIGHT: f32 = 0.7;
/// Largest norm of a smoothed state: `1 + 2 * NEIGHBOUR_WEIGHT`.
const SMOOTH_NORM_MAX: f32 = 1.0 + 2.0 * NEIGHBOUR_WEIGHT;

/// How one token state is stored.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum TokenCode {
    /// One sign bit per rotated dimension of the residual, and its gain.
    #[default]
    Sign1,
    /// Rotated state as little-endian `f16`.
    F16,
}

impl TokenCode {
    /// Bytes of one token state of `dims` dimensions.
    pub fn bytes_per_token(self, dims: usize) -> usize {
        match self {
            Self::Sign1 => dims.div_ceil(8),
            Self::F16 => dims * 2,
        }
    }
}

/// How the keys of a collection are made. Stands in the collection's metadata and in the manifest;
/// keys of different specifications cannot be compared.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySpec {
    /// Version of the layout of [`KeyBlock`].
    pub version: u16,
    /// Dimensions of a token state.
    pub dims: u16,
    /// Storage of one token state.
    pub code: TokenCode,
    /// Seed of the random rotation.
    pub rotation_seed: u64,
}

impl Default for KeySpec {
    fn default() -> Self {
        Self {
            version: 3,
            dims: 384,
            code: TokenCode::Sign1,
            rotation_seed: 0,
        }
    }
}

impl KeySpec {
    /// Short name, for example `k3-d384-sign1-r0`.
    pub fn id(&self) -> String {
        let code = match self.code {
            TokenCode::Sign1 => "sign1",
            TokenCode::F16 => "f16",
        };
        format!(
            "k{}-d{}-{code}-r{}",
            self.version, self.dims, self.rotation_seed
        )
    }

    /// Bytes of one token state.
    pub fn bytes_per_token(&self) -> usize {
        self.code.bytes_per_token(usize::from(self.dims))
    }
}

/// Compressed keys of one passage. `seq` counts wordpieces without CLS and SEP.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct KeyBlock {
    /// Wordpiece ids, `[seq]`.
    pub token_ids: Vec<u32>,
    /// Rotated token states, `[seq * bytes_per_token]`.
    #[serde(with = "crate::packed")]
    pub codes: Vec<u8>,
    /// What a sign of each token stands for, about the length of its residual, in units of `1.6 / 255`,
    /// `[seq]`; empty for `f16`.
    #[serde(with = "crate::packed")]
    pub gains: Vec<u8>,
    /// Multiple of the passage's vector that was taken off its token states; 0 for `f16`.
    pub centre: f32,
    /// Norm of `t_j + .7 t_(j-1) + .7 t_(j+1)` in units of `2.4 / 255`, `[seq]`. A step is a tenth of
    /// the error that sign codes give a product.
    #[serde(with = "crate::packed")]
    pub smooth_norms: Vec<u8>,
    /// Norm of the mean state of each window in units of `1 / 65535`, `[n_windows(seq)]`.
    #[serde(with = "crate::packed")]
    pub window_norms: Vec<u16>,
    /// Norm of the mean of all token states; 0 without tokens.
    pub mean_norm: f32,
    /// Token range of each sentence; a sentence that the encoder did not see has an empty one.
    pub sentence_tokens: Vec<(u16, u16)>,
    /// Unit sentence vectors, encoded alone as `title: sentence`, `[n_sentences, ceil(d / 2)]`, at most
    /// [`crate::MAX_SENTENCES`] of them. Half a byte a dimension, value plus 8: the first
    /// half of the dimensions in the lower bits, the second in the upper ones.
    #[serde(with = "crate::packed")]
    pub sentence_codes: Vec<u8>,
    /// Value of one step of `sentence_codes`, `[n_sentences]`.
    pub sentence_scales: Vec<f32>,
}

impl KeyBlock {
    /// Compresses one passage.
    ///
    /// `vector` is the passage's unit pooled vector, `[d]`, `states` the unit token states `[seq, d]`,
    /// unrotated; `sentence_vectors` the unit vectors of the first sentences, `[d]` each.
    pub fn build(
        codec: &TokenCodec,
        vector: &[f32],
        states: ArrayView2<'_, f32>,
        token_ids: &[u32],
        sentence_tokens: Vec<(u16, u16)>,
        sentence_vectors: &[impl AsRef<[f32]>],
    ) -> Self {
        let (sentence_codes, sentence_scales) = quantise(sentence_vectors);
        let TokenCodes {
            codes,
            gains,
            centre,
        } = codec.encode(states, vector);
        Self {
            token_ids: token_ids.to_vec(),
            codes,
            gains,
            centre,
            smooth_norms: smooth_norms(states)
                .map(|n| (n / SMOOTH_NORM_MAX * 255.0).round() as u8)
                .collect(),
            window_norms: window_norms(states)
                .map(|n| (n * 65535.0).round() as u16)
                .collect(),
            mean_norm: states
                .mean_axis(Axis(0))
                .map_or(0.0, |mean| norm(mean.as_slice().unwrap_or_default())),
            sentence_tokens,
            sentence_codes,
            sentence_scales,
        }
    }

    /// Checks the lengths of all fields against `spec`.
    ///
    /// # Errors
    /// [`RetrieveError::KeyBlockShape`] names the first field that does not fit.
    pub fn validate(&self, spec: &KeySpec) -> Result<(), RetrieveError> {
        let seq = self.token_ids.len();
        let gains = match spec.code {
            TokenCode::Sign1 => seq,
            TokenCode::F16 => 0,
        };
        let checks = [
            ("codes", self.codes.len(), seq * spec.bytes_per_token()),
            ("gains", self.gains.len(), gains),
            ("smooth_norms", self.smooth_norms.len(), seq),
            ("window_norms", self.window_norms.len(), window_count(seq)),
            (
                "sentence_codes",
                self.sentence_codes.len(),
                self.sentence_scales.len() * sentence_bytes(usize::from(spec.dims)),
            ),
        ];
        match checks
            .into_iter()
            .find(|(_, found, expected)| found != expected)
        {
            None => Ok(()),
            Some((field, found, expected)) => Err(RetrieveError::KeyBlockShape {
                spec: spec.id(),
                field,
                found,
                expected,
            }),
        }
    }

    /// The tokens of a passage with the unit pooled vector `vector`, `[d]`.
    pub fn tokens<'a>(&'a self, vector: &'a [f32]) -> CodedTokens<'a> {
        CodedTokens {
            codes: &self.codes,
            gains: &self.gains,
            centre: self.centre,
            vector,
        }
    }

    /// Norm of the smoothed state of token `j`.
    pub(crate) fn smooth_norm(&self, j: usize) -> f32 {
        f32::from(self.smooth_norms[j]) * (SMOOTH_NORM_MAX / 255.0)
    }

    /// Norm of the mean state of window `w`.
    pub(crate) fn window_norm(&self, w: usize) -> f32 {
        f32::from(self.window_norms[w]) / 65535.0
    }
}

/// Number of windows of a passage with `seq` tokens: starts `0, 16, 32, …` below `seq - 16`, at
/// least one when there are tokens.
pub fn window_count(seq: usize) -> usize {
    match seq {
        0 => 0,
        _ => seq
            .saturating_sub(WINDOW - WINDOW_STRIDE)
            .div_ceil(WINDOW_STRIDE)
            .max(1),
    }
}

/// Tokens of window `w`.
pub fn window_range(w: usize, seq: usize) -> std::ops::Range<usize> {
    let start = (w * WINDOW_STRIDE).min(seq);
    start..(start + WINDOW).min(seq)
}

/// Norms of `t_j + .7 t_(j-1) + .7 t_(j+1)` of unit states `[seq, d]`.
pub(crate) fn smooth_norms(states: ArrayView2<'_, f32>) -> impl Iterator<Item = f32> + '_ {
    let seq = states.nrows();
    let mut row = vec![0.0f32; states.ncols()];
    (0..seq).map(move |j| {
        row.iter_mut().zip(states.row(j)).for_each(|(r, x)| *r = *x);
        let neighbours = [j.checked_sub(1), (j + 1 < seq).then_some(j + 1)];
        for k in neighbours.into_iter().flatten() {
            row.iter_mut()
                .zip(states.row(k))
                .for_each(|(r, x)| *r += NEIGHBOUR_WEIGHT * x);
        }
        norm(&row)
    })
}

fn window_norms(states: ArrayView2<'_, f32>) -> impl Iterator<Item = f32> + '_ {
    let seq = states.nrows();
    (0..window_count(seq)).map(move |w| {
        let window = states.slice_axis(Axis(0), window_range(w, seq).into());
        let mean = window.mean_axis(Axis(0)).unwrap_or_default();
        norm(mean.as_slice().unwrap_or_default())
    })
}

/// Largest magnitude of a sentence code.
const SENTENCE_CODE_MAX: f32 = 7.0;
/// What is added to a sentence code to make it half a byte.
const SENTENCE_CODE_ZERO: f32 = 8.0;

/// Bytes of a coded sentence vector of `dims` dimensions.
pub fn sentence_bytes(dims: usize) -> usize {
    dims.div_ceil(2)
}

/// Codes of half a byte with one scale per vector: `x = (code - 8) * scale`.
fn quantise(vectors: &[impl AsRef<[f32]>]) -> (Vec<u8>, Vec<f32>) {
    let mut codes = Vec::new();
    let mut scales = Vec::with_capacity(vectors.len());
    for vector in vectors {
        let vector = vector.as_ref();
        let max = vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let scale = max / SENTENCE_CODE_MAX;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let code = |x: &f32| (x * inverse + SENTENCE_CODE_ZERO).round() as u8;
        let (low, high) = vector.split_at(sentence_bytes(vector.len()));
        let high = high.iter().map(code).chain([SENTENCE_CODE_ZERO as u8]);
        codes.extend(low.iter().zip(high).map(|(l, h)| code(l) | h << 4));
        scales.push(scale);
    }
    (codes, scales)
}

/// Cosine of `query`, `[d]`, with a coded sentence vector.
pub(crate) fn sentence_cosine(codes: &[u8], scale: f32, query: &[f32]) -> f32 {
    let (low, high) = query.split_at(codes.len().min(query.len()));
    pulp::Arch::new().dispatch(SentenceProduct { codes, low, high }) * scale
}

/// Product of codes with the two halves of a query, compiled for the widest registers of this
/// processor.
struct SentenceProduct<'a> {
    codes: &'a [u8],
    low: &'a [f32],
    high: &'a [f32],
}

impl pulp::NullaryFnOnce for SentenceProduct<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let value = |half: u8| f32::from(half) - SENTENCE_CODE_ZERO;
        let codes = self.codes.as_chunks::<16>().0;
        let (low, high) = (self.low.as_chunks::<16>().0, self.high.as_chunks::<16>().0);
        let mut sums = [0.0f32; 16];
        for ((codes, low), high) in codes.iter().zip(low).zip(high) {
            for i in 0..16 {
                sums[i] += value(codes[i] & 15) * low[i] + value(codes[i] >> 4) * high[i];
            }
        }
        // Where the second half is a dimension shorter, its last chunk is among the rest.
        let done = 16 * high.len().min(low.len());
        let rest = |half: &[f32], shift: u8| -> f32 {
            let codes = self.codes.iter().skip(done);
            codes
                .zip(half.iter().skip(done))
                .map(|(c, q)| value(c >> shift & 15) * q)
                .sum()
        };
        sums.iter().sum::<f32>() + rest(self.low, 0) + rest(self.high, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coded_sentences_keep_their_cosines() {
        for dims in [1, 2, 31, 32, 33, 384] {
            let wave = |phase: f32| {
                let mut v: Vec<f32> = (0..dims).map(|i| (i as f32 * 0.7 + phase).sin()).collect();
                crate::linalg::normalise(&mut v);
                v
            };
            let (query, sentences) = (wave(0.3), [wave(0.9), wave(2.5), vec![0.0; dims]]);
            let (codes, scales) = quantise(&sentences);
            let bytes = sentence_bytes(dims);
            assert_eq!((codes.len(), scales.len()), (3 * bytes, 3));
            for ((codes, scale), exact) in codes.chunks_exact(bytes).zip(&scales).zip(&sentences) {
                let found = sentence_cosine(codes, *scale, &query);
                let exact: f32 = exact.iter().zip(&query).map(|(x, q)| x * q).sum();
                assert!(
                    (found - exact).abs() < 0.1 / (dims as f32).sqrt() + 1e-6,
                    "{dims}: {found} {exact}"
                );
            }
        }
    }
}
