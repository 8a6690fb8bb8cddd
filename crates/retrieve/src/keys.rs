//! Compressed keys of a passage: what the token, phrase, window and sentence views read.
//!
//! Token states less their share of the passage's vector are rotated by a fixed random rotation; those that
//! resemble each other are pooled; what is left is stored as sign bits with a gain (49 bytes for 384 dimensions,
//! RECIPE.md "Storage of the token table") or, to measure what that costs, whole as `f16`.
//! Norms of smoothed states and of window means are stored beside them, because norms of sign-coded
//! states are biased: coding noise adds to them. Sentence vectors take two bits a dimension.

use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::codec::{SentenceCodes, TokenCodec, TokenCodes};
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

/// [`KeySpec::pooling`] of keys where every token has a code of its own.
pub const NOT_POOLED: u8 = 10;

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
    /// Bytes of one code of `dims` dimensions.
    pub fn bytes_per_code(self, dims: usize) -> usize {
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
    /// Tokens of a passage that share a code on average, in tenths; 10 gives every token its own.
    pub pooling: u8,
    /// Seed of the random rotation.
    pub rotation_seed: u64,
}

impl Default for KeySpec {
    fn default() -> Self {
        Self {
            version: 4,
            dims: 384,
            code: TokenCode::Sign1,
            pooling: 15,
            rotation_seed: 0,
        }
    }
}

impl KeySpec {
    /// The default for an encoder whose vectors have `dims` dimensions.
    pub fn of_dims(dims: usize) -> Self {
        Self {
            // The encoder refuses widths above 2^13.
            dims: u16::try_from(dims).unwrap_or(u16::MAX),
            ..Self::default()
        }
    }

    /// Short name, for example `k4-d384-sign1-p15-r0`.
    pub fn id(&self) -> String {
        let code = match self.code {
            TokenCode::Sign1 => "sign1",
            TokenCode::F16 => "f16",
        };
        format!(
            "k{}-d{}-{code}-p{}-r{}",
            self.version, self.dims, self.pooling, self.rotation_seed
        )
    }

    /// Bytes of one sentence vector.
    pub fn bytes_per_sentence(&self) -> usize {
        match self.code {
            TokenCode::Sign1 => usize::from(self.dims).div_ceil(4),
            TokenCode::F16 => usize::from(self.dims) * 2,
        }
    }

    /// Bytes of one code.
    pub fn bytes_per_code(&self) -> usize {
        self.code.bytes_per_code(usize::from(self.dims))
    }
}

/// Compressed keys of one passage. `seq` counts wordpieces without CLS and SEP.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct KeyBlock {
    /// Ids of its wordpieces, each once, ascending.
    #[serde(with = "crate::packed::ascending")]
    pub wordpieces: Vec<u32>,
    /// Token states.
    pub tokens: TokenCodes,
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
    /// Sentence vectors, encoded alone as `title: sentence`, at most [`crate::MAX_SENTENCES`] of them.
    pub sentences: SentenceCodes,
}

impl KeyBlock {
    /// Bytes that it takes in memory, about: what a cache weighs it by.
    pub fn bytes(&self) -> usize {
        let lists = self.wordpieces.len() + self.sentence_tokens.len();
        let tokens = self.tokens.codes.len() + self.tokens.gains.len() + self.tokens.slots.len();
        let norms = self.smooth_norms.len() + self.window_norms.len() * 2;
        size_of::<Self>() + lists * 4 + tokens + norms + self.sentences.codes.len()
    }

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
        let mut wordpieces = token_ids.to_vec();
        wordpieces.sort_unstable();
        wordpieces.dedup();
        Self {
            wordpieces,
            tokens: codec.encode(states, vector),
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
            sentences: codec.encode_sentences(sentence_vectors, vector),
        }
    }

    /// Checks the lengths of all fields against `spec`.
    ///
    /// # Errors
    /// [`RetrieveError::KeyBlockShape`] names the first field that does not fit.
    pub fn validate(&self, spec: &KeySpec) -> Result<(), RetrieveError> {
        let seq = self.seq();
        let TokenCodes { codes, gains, .. } = &self.tokens;
        let (slots, slot_count, code_count) = match self.tokens.slots.is_empty() {
            true => (0, 0, seq),
            false => {
                let (slots, codes) = self.tokens.slot_counts();
                (slots, seq, codes)
            }
        };
        let sentences = &self.sentences;
        let each = spec.bytes_per_sentence();
        let count = sentences.codes.len() / each.max(1);
        let (gain_count, sentence_count) = match spec.code {
            TokenCode::Sign1 => (code_count, count),
            TokenCode::F16 => (0, 0),
        };
        let sentence_bytes = count * each;
        let checks = [
            ("slots", slots, slot_count),
            ("codes", codes.len(), code_count * spec.bytes_per_code()),
            ("gains", gains.len(), gain_count),
            ("window_norms", self.window_norms.len(), window_count(seq)),
            ("sentence codes", sentences.codes.len(), sentence_bytes),
            ("sentence steps", sentences.steps.len(), sentence_count),
            ("sentence centres", sentences.centres.len(), sentence_count),
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

    /// Number of tokens.
    pub fn seq(&self) -> usize {
        self.smooth_norms.len()
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
