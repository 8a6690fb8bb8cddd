//! The precision that the encoder computes in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device::DeviceKind;
use crate::error::EncoderError;

/// How the encoder's weights are held and multiplied.
///
/// Not part of the [`crate::EmbeddingSpaceId`]: vectors of both precisions are so close that
/// queries of one search passages of the other (figures: docs/speed.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The faster one of those that the device has: `int8` on `flex`, `f32` elsewhere.
    #[default]
    Auto,
    /// 32-bit floats, in burn.
    F32,
    /// 8-bit weights and activations in linear layers, the rest in f32; on the CPU.
    Int8,
}

impl Precision {
    /// What it stands for on a device, where [`Precision::Auto`] is one of the others.
    #[must_use]
    pub fn on(self, device: DeviceKind) -> Self {
        match (self, device) {
            (Precision::Auto, DeviceKind::Flex) => Precision::Int8,
            (Precision::Auto, _) => Precision::F32,
            (named, _) => named,
        }
    }

    /// What to compute in on a device; `true` is `int8`.
    pub(crate) fn is_int8_on(self, device: DeviceKind) -> Result<bool, EncoderError> {
        match (self.on(device), device) {
            (Precision::Int8, DeviceKind::Flex) => Ok(true),
            (Precision::Int8, device) => Err(EncoderError::Precision(device)),
            _ => Ok(false),
        }
    }

    /// The name used in flags and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no precision.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown precision `{0}`: use auto, f32 or int8")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Precision::Auto, Precision::F32, Precision::Int8]
            .into_iter()
            .find(|precision| precision.as_str() == name)
            .ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn int8_is_the_default_of_the_cpu_and_refused_elsewhere() {
        use DeviceKind::{Flex, Ndarray, Wgpu};
        assert!(Precision::Auto.is_int8_on(Flex).unwrap());
        assert!(!Precision::Auto.is_int8_on(Wgpu).unwrap());
        assert!(!Precision::F32.is_int8_on(Flex).unwrap());
        let error = Precision::Int8.is_int8_on(Ndarray).unwrap_err().to_string();
        assert!(
            error.contains("ndarray") && error.contains("f32"),
            "{error}"
        );
        let error = "int4".parse::<Precision>().unwrap_err().to_string();
        assert!(error.contains("int8"), "{error}");
        for name in ["auto", "f32", "int8"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
    }
}
