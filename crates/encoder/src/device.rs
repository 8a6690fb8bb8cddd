//! Compute devices, chosen at run time (DESIGN.md section 4).
//!
//! One binary carries all three backends. `flex` is the CPU default; `ndarray` is a second,
//! independent CPU implementation that keeps the numbers honest; `wgpu` is a GPU, or Mesa's
//! software Vulkan where there is none.
//!
//! `ndarray` multiplies through the `matrixmultiply` crate, whose worker threads spin between
//! products: with `MATMUL_NUM_THREADS=1` in the environment a query costs 8 ms of CPU, without it
//! 21 (FEASIBILITY.md). That crate reads the variable once, and a process cannot set its own
//! environment safely, so whoever starts the process sets it.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// A backend to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// burn-flex: SIMD kernels on the CPU.
    #[default]
    Flex,
    /// burn-ndarray: plain CPU kernels.
    Ndarray,
    /// burn-wgpu: a GPU through Vulkan, Metal or DX12, or a software Vulkan driver.
    Wgpu,
}

/// Why a device cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of the three.
    #[error("unknown device `{0}`: use flex, ndarray or wgpu")]
    Unknown(String),
    /// The device exists in this build, but not on this machine.
    #[error(
        "device `{device}` is not available on this machine: {reason}; use flex, or install a \
         Vulkan driver (on Debian, `mesa-vulkan-drivers libvulkan1` is a software one)"
    )]
    Unavailable {
        /// The device asked for.
        device: DeviceKind,
        /// What its runtime said.
        reason: String,
    },
}

impl DeviceKind {
    /// All devices, the default first.
    pub const ALL: [DeviceKind; 3] = [DeviceKind::Flex, DeviceKind::Ndarray, DeviceKind::Wgpu];

    /// The name used in flags, configuration and manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Flex => "flex",
            DeviceKind::Ndarray => "ndarray",
            DeviceKind::Wgpu => "wgpu",
        }
    }

    /// The burn device, without autodiff.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Unavailable`] when `wgpu` finds no adapter.
    pub fn device(self) -> Result<Device, DeviceError> {
        match self {
            DeviceKind::Flex => Ok(Device::flex()),
            #[expect(
                deprecated,
                reason = "burn-ndarray is one of the three devices until burn drops it"
            )]
            DeviceKind::Ndarray => Ok(Device::ndarray()),
            DeviceKind::Wgpu => wgpu_device(),
        }
    }
}

/// The process's one wgpu device.
///
/// `Device::wgpu` initialises lazily and panics at the first tensor when there is no adapter;
/// the options path reports the same as an error, but only once per process, hence the cell.
fn wgpu_device() -> Result<Device, DeviceError> {
    static DEVICE: Mutex<Option<Device>> = Mutex::new(None);
    let mut device = DEVICE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(device) = device.as_ref() {
        return Ok(device.clone());
    }
    let initialised = Device::wgpu_options()
        .init()
        .map_err(|error| DeviceError::Unavailable {
            device: DeviceKind::Wgpu,
            reason: error.to_string(),
        })?;
    Ok(device.insert(initialised).clone())
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeviceKind {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        DeviceKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| DeviceError::Unknown(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.as_str().parse::<DeviceKind>().unwrap(), kind);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<DeviceKind>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_choices() {
        let error = "cuda".parse::<DeviceKind>().unwrap_err().to_string();
        assert!(
            error.contains("`cuda`") && error.contains("flex, ndarray or wgpu"),
            "{error}"
        );
    }

    #[test]
    fn cpu_devices_are_always_there() {
        assert!(DeviceKind::Flex.device().is_ok());
        assert!(DeviceKind::Ndarray.device().is_ok());
    }

    #[test]
    fn wgpu_gives_the_same_answer_twice_and_never_panics() {
        let first = DeviceKind::Wgpu.device();
        let second = DeviceKind::Wgpu.device();
        assert_eq!(first.is_ok(), second.is_ok());
        if let Err(error) = first {
            assert!(error.to_string().contains("use flex"), "{error}");
        }
    }
}
