//! What can go wrong with an encoder directory or with an encoding, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::device::{DeviceError, DeviceKind};

/// Which network a file belongs to: the name and the remedy of an error depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The sentence encoder, which `moerag model fetch` puts in place.
    #[default]
    Encoder,
    /// A cross-encoder, which the user brings.
    CrossEncoder,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Encoder => "encoder",
            Role::CrossEncoder => "cross-encoder",
        })
    }
}

impl Role {
    fn get(self) -> &'static str {
        match self {
            Role::Encoder => {
                "run `moerag model fetch`, or set MOERAG_ENCODER_DIR to a directory with a \
                 BERT-family sentence encoder in Hugging Face layout"
            }
            Role::CrossEncoder => {
                "give a directory with config.json, tokenizer.json and model.safetensors of a BERT \
                 cross-encoder (BertForSequenceClassification with one label)"
            }
        }
    }

    fn get_again(self) -> &'static str {
        match self {
            Role::Encoder => "again with `moerag model fetch`",
            Role::CrossEncoder => "again from where it was published",
        }
    }

    fn alternative(self) -> &'static str {
        match self {
            Role::Encoder => "a BERT-family sentence encoder with mean or CLS pooling",
            Role::CrossEncoder => {
                "a BERT cross-encoder (BertForSequenceClassification) with one label"
            }
        }
    }
}

/// An encoder cannot be loaded or cannot encode.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file of the Hugging Face layout is not there.
    #[error("{role} file {path} is missing: {}", role.get())]
    MissingFile {
        /// Whose file.
        role: Role,
        /// The file looked for.
        path: PathBuf,
    },
    /// A file is there but cannot be read.
    #[error("{role} file {path} cannot be read: {source}")]
    Unreadable {
        /// Whose file.
        role: Role,
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file is damaged or not of its format.
    #[error("{role} file {path} is damaged: {reason}; fetch it {}", role.get_again())]
    Damaged {
        /// Whose file.
        role: Role,
        /// The file.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// The weights lack a tensor that config.json promises.
    #[error(
        "{role} file {path} has no tensor `{tensor}`: the weights do not belong to config.json \
         beside them; fetch both {}",
        role.get_again()
    )]
    MissingTensor {
        /// Whose file.
        role: Role,
        /// The weights file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
    },
    /// A tensor has another shape or number type than config.json promises.
    #[error(
        "{role} file {path}, tensor `{tensor}`: expected {expected}, found {found}; the weights \
         do not belong to config.json beside them, fetch both {}",
        role.get_again()
    )]
    WrongTensor {
        /// Whose file.
        role: Role,
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
    #[error("{role} file {path}: {what} is not supported; use {}", role.alternative())]
    Unsupported {
        /// Whose file.
        role: Role,
        /// The file that says so.
        path: PathBuf,
        /// The unsupported property.
        what: String,
    },
    /// The weights give NaN or infinite values.
    #[error(
        "{role} weights {path} give values that are not finite; fetch them {}",
        role.get_again()
    )]
    NotFinite {
        /// Whose file.
        role: Role,
        /// The weights file.
        path: PathBuf,
    },
    /// `max_tokens` leaves no room for text.
    #[error("max_tokens is {0}: it must be 3 or more, as CLS and SEP take two")]
    MaxTokens(usize),
    /// The device does not compute in that precision.
    #[error("precision int8 needs device flex: use f32 or auto with {0}")]
    Precision(DeviceKind),
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
            role: Role::default(),
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        EncoderError::Unsupported {
            role: Role::default(),
            path: path.to_owned(),
            what: what.into(),
        }
    }

    /// The error of reading `path`: absent and unreadable ask for different remedies.
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            EncoderError::missing(path)
        } else {
            EncoderError::Unreadable {
                role: Role::default(),
                path: path.to_owned(),
                source,
            }
        }
    }

    pub(crate) fn missing(path: &Path) -> Self {
        EncoderError::MissingFile {
            role: Role::default(),
            path: path.to_owned(),
        }
    }

    /// The same error about a cross-encoder's file: both are read by the same code.
    pub(crate) fn of_cross_encoder(mut self) -> Self {
        match &mut self {
            EncoderError::MissingFile { role, .. }
            | EncoderError::Unreadable { role, .. }
            | EncoderError::Damaged { role, .. }
            | EncoderError::MissingTensor { role, .. }
            | EncoderError::WrongTensor { role, .. }
            | EncoderError::Unsupported { role, .. }
            | EncoderError::NotFinite { role, .. } => *role = Role::CrossEncoder,
            EncoderError::MaxTokens(_)
            | EncoderError::Precision(_)
            | EncoderError::NoDirectory
            | EncoderError::Device(_)
            | EncoderError::Compute(_)
            | EncoderError::Closed => {}
        }
        self
    }
}
