//! The codes of a passage's tokens, owned and borrowed.

use serde::{Deserialize, Serialize};

/// Token codes of a passage, with the passage's vector that sign codes need.
#[derive(Clone, Copy, Debug)]
pub struct CodedTokens<'a> {
    /// See [`TokenCodes::codes`].
    pub codes: &'a [u8],
    /// See [`TokenCodes::gains`].
    pub gains: &'a [u8],
    /// See [`TokenCodes::centre`].
    pub centre: f32,
    /// Unit pooled vector of the passage, `[d]`.
    pub vector: &'a [f32],
}

/// What [`crate::TokenCodec::encode`] makes of the tokens of a passage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct TokenCodes {
    /// The code of each token, `[seq]`; empty where every token has its own.
    #[serde(with = "crate::packed")]
    pub slots: Vec<u8>,
    /// Rotated states, `[codes * bytes_per_code]`.
    #[serde(with = "crate::packed")]
    pub codes: Vec<u8>,
    /// What a sign of each code stands for, about the length of its residual, in units of `1.6 / 255`,
    /// `[codes]`; empty for `f16`.
    #[serde(with = "crate::packed")]
    pub gains: Vec<u8>,
    /// Multiple of the passage's vector that was taken off its token states; 0 for `f16`.
    pub centre: f32,
}

impl TokenCodes {
    /// With the vector that the tokens were encoded with.
    pub fn of<'a>(&'a self, vector: &'a [f32]) -> CodedTokens<'a> {
        CodedTokens {
            codes: &self.codes,
            gains: &self.gains,
            centre: self.centre,
            vector,
        }
    }

    /// The code of token `j`.
    #[inline(always)]
    pub fn slot(&self, j: usize) -> usize {
        self.slots.get(j).map_or(j, |slot| usize::from(*slot))
    }

    /// The gain of code `at`, about the length of its residual; 1 where there are none.
    pub(super) fn gain(&self, at: usize) -> f32 {
        self.gains.get(at).map_or(1.0, |code| gain(*code))
    }
}

/// Largest gain of a token: the residual of a unit state is shorter than 1.3 as a rule.
const GAIN_MAX: f32 = 1.6;

/// The gain that a code stands for.
pub(super) fn gain(code: u8) -> f32 {
    f32::from(code) * (GAIN_MAX / 255.0)
}

/// The code nearest to a gain.
pub(super) fn gain_code(gain: f32) -> u8 {
    (gain / GAIN_MAX * 255.0).round() as u8
}
