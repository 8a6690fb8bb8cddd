//! What can go wrong with an encoder directory or with an encoding, and what to do about it.

use std::path::{Path, PathBuf};

use crate::device::DeviceError;

/// An encoder cannot be loaded or cannot encode.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file of the Hugging Face layout is not there.
    #[error(
        "encoder file {path} is missing: run `moerag model fetch`, or set MOERAG_ENCODER_DIR to a \
         directory with a BERT-family sentence encoder in Hugging Face layout"
    )]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
    },
    /// A file is there but cannot be read.
    #[error("encoder file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file is damaged or not of its format.
    #[error("encoder file {path} is damaged: {reason}; fetch it again with `moerag model fetch`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// The weights lack a tensor that config.json promises.
    #[error(
        "encoder file {path} has no tensor `{tensor}`: the weights do not belong to config.json \
         beside them; fetch both again with `moerag model fetch`"
    )]
    MissingTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
    },
    /// A tensor has another shape or number type than config.json promises.
    #[error(
        "encoder file {path}, tensor `{tensor}`: expected {expected}, found {found}; the weights \
         do not belong to config.json beside them, fetch both again with `moerag model fetch`"
    )]
    WrongTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// Shape and type wanted.
        expected: String,
        /// Shape and type found.
        found: String,
    },
    /// The directory holds an encoder of a kind that this crate does not compute.
    #[error(
        "encoder file {path}: {what} is not supported; use a BERT-family sentence encoder with \
         mean or CLS pooling"
    )]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// The unsupported property.
        what: String,
    },
    /// The weights give NaN or infinite values.
    #[error(
        "encoder weights {path} give values that are not finite; fetch them again with \
         `moerag model fetch`"
    )]
    NotFinite {
        /// The weights file.
        path: PathBuf,
    },
    /// `max_tokens` leaves no room for text.
    #[error("max_tokens is {0}: it must be 3 or more, as CLS and SEP take two")]
    MaxTokens(usize),
    /// There is no home directory to look for an encoder in.
    #[error("no cache directory: set MOERAG_ENCODER_DIR, XDG_CACHE_HOME or HOME")]
    NoDirectory,
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A computation failed; the request is lost, the encoder goes on.
    #[error("encoding failed: {0}")]
    Compute(String),
    /// The encoder was dropped with this request in its queue.
    #[error("the encoder is shutting down")]
    Closed,
}

impl EncoderError {
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        EncoderError::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        EncoderError::Unsupported {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    /// The error of reading `path`: absent and unreadable ask for different remedies.
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == std::io::ErrorKind::NotFound {
            EncoderError::MissingFile { path }
        } else {
            EncoderError::Unreadable { path, source }
        }
    }
}
