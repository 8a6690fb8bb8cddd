//! The codes of a passage's tokens, owned and borrowed.

/// The coded tokens of a passage, with the passage's vector that sign codes need.
#[derive(Clone, Copy, Debug)]
pub struct CodedTokens<'a> {
    /// `[seq * bytes_per_token]`.
    pub codes: &'a [u8],
    /// See [`crate::KeyBlock::gains`], `[seq]`; empty for `f16`.
    pub gains: &'a [u8],
    /// See [`crate::KeyBlock::centre`].
    pub centre: f32,
    /// Unit pooled vector of the passage, `[d]`.
    pub vector: &'a [f32],
}

/// What [`crate::TokenCodec::encode`] makes of the tokens of a passage: see [`CodedTokens`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenCodes {
    /// `[seq * bytes_per_token]`.
    pub codes: Vec<u8>,
    /// `[seq]`; empty for `f16`.
    pub gains: Vec<u8>,
    /// Multiple of the passage's vector that was taken off every state.
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
