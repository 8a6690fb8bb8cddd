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

/// Codes of a passage that a byte can tell apart. Only passages of far more tokens than the splitter makes
/// have more.
pub(crate) const BYTE_CODES: usize = 256;

/// What [`crate::TokenCodec::encode`] makes of the tokens of a passage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct TokenCodes {
    /// The code of each token, `[seq]`, in two bytes each, little-endian, where there are more than 256
    /// codes; empty where every token has its own.
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
        match self.wide_slots() {
            Some(slots) => slots.get(j).map_or(j, |slot| wide(*slot)),
            None => self.slots.get(j).map_or(j, |slot| usize::from(*slot)),
        }
    }

    /// The number of slots, and the number of codes that they stand for.
    pub(crate) fn slot_counts(&self) -> (usize, usize) {
        match self.wide_slots() {
            Some(slots) => {
                let last = slots.iter().map(|slot| wide(*slot)).max();
                (slots.len(), last.map_or(0, |last| last + 1))
            }
            // A fold over bytes becomes vector instructions, `Iterator::max` does not.
            None => {
                let last = self.slots.iter().fold(0, |most, slot| most.max(*slot));
                (self.slots.len(), usize::from(last) + 1)
            }
        }
    }

    /// Puts the code of each token down; there are gains already, one a code.
    pub(super) fn set_slots(&mut self, slots: &[u16]) {
        self.slots = match self.gains.len() > BYTE_CODES {
            true => slots.iter().flat_map(|slot| slot.to_le_bytes()).collect(),
            false => slots.iter().map(|slot| *slot as u8).collect(),
        };
    }

    /// The slots where a byte does not do.
    #[inline(always)]
    fn wide_slots(&self) -> Option<&[[u8; 2]]> {
        (self.gains.len() > BYTE_CODES).then(|| self.slots.as_chunks().0)
    }

    /// The gain of code `at`, about the length of its residual; 1 where there are none.
    pub(super) fn gain(&self, at: usize) -> f32 {
        self.gains.get(at).map_or(1.0, |code| gain(*code))
    }
}

/// A slot of two bytes.
#[inline(always)]
fn wide(slot: [u8; 2]) -> usize {
    usize::from(u16::from_le_bytes(slot))
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
