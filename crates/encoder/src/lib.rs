//! The frozen text encoder: tokenizer, BERT layers in burn (and in 8 bits on the CPU), pooling,
//! batching by token budget.
//!
//! The one crate that reads the encoder's weights (DESIGN.md sections 5 and 6). Everything else
//! in the workspace sees plain `f32` vectors and byte offsets.
//!
//! ```no_run
//! use moerag_encoder::{DeviceKind, EncodeOptions, Encoder, default_dir};
//!
//! let encoder = Encoder::load(&default_dir()?, DeviceKind::Flex)?;
//! let encodings = encoder.encode(&["what is attention?"], &EncodeOptions::query())?;
//! assert_eq!(encodings[0].vector.len(), encoder.dim());
//! # Ok::<(), moerag_encoder::EncoderError>(())
//! ```

mod batch;
mod bert;
mod config;
mod cross;
mod device;
mod encoder;
mod encoding;
mod error;
pub mod fetch;
mod gather;
mod handle;
mod host;
mod kernels;
mod locate;
mod network;
mod precision;
mod space;
mod together;
mod tokenize;
mod weights;
mod workers;

pub use cross::CrossEncoder;
pub use device::{DeviceError, DeviceKind};
pub use encoder::{Encoder, LoadOptions};
pub use encoding::{EncodeOptions, Encoding, PASSAGE_WINDOWS, RECIPE_MAX_TOKENS, TextKind};
pub use error::{EncoderError, Role};
pub use handle::EncoderHandle;
pub use locate::{DEFAULT_ENCODER, ENCODER_DIR_ENV, default_dir};
pub use precision::{Precision, UnknownPrecision};
pub use space::EmbeddingSpaceId;
pub use tokenize::{TextTokenizer, TokenSpan};
