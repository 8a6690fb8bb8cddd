//! The frozen text encoder: tokenizer, BERT layers in burn, pooling, batching by token budget.
//!
//! The one crate that reads the encoder's weights (DESIGN.md sections 5 and 6). Everything else
//! in the workspace sees plain `f32` vectors and byte offsets.

mod device;

pub use device::{DeviceError, DeviceKind};
