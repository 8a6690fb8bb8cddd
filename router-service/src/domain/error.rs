//! What can go wrong, as the caller sees it.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Kinds of failure a caller can act on.
///
/// It is a small subset of gRPC's codes on purpose: a new variant has to ask for a reaction of
/// the caller that no present one asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong and will stay wrong.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// The state of the system must change first.
    FailedPrecondition,
    /// Something the service needs does not answer; try again.
    Unavailable,
    /// The service is full; try again later.
    ResourceExhausted,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// A bug or broken data.
    Internal,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `filter.must[1].key`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

/// Kinds of things that requests name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A collection.
    Collection,
    /// A model version.
    Version,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Collection => "collection",
            Self::Version => "version",
        })
    }
}

/// Error of every call of the service.
#[derive(Debug, Error)]
pub enum RouterError {
    /// All that is wrong with the request.
    #[error("{}", list(.0))]
    Invalid(Vec<Violation>),
    /// Something named does not exist.
    #[error("{resource} {name:?} does not exist{remedy}")]
    NotFound {
        /// Kind of the thing.
        resource: Resource,
        /// Its name.
        name: String,
        /// What to do about it, with its own separator; may be empty.
        remedy: &'static str,
    },
    /// The state of `subject` does not allow the request.
    #[error("{subject}: {reason}")]
    Precondition {
        /// What is in the wrong state.
        subject: String,
        /// What is wrong with it and how to change it.
        reason: String,
    },
    /// Something the service needs does not answer.
    #[error("{what} is unavailable: {reason}")]
    Unavailable {
        /// What does not answer.
        what: String,
        /// What happened.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// No room for this request now.
    #[error("{what}")]
    Full {
        /// What is full and how large it is.
        what: String,
        /// When to try again; `None` if waiting does not help.
        retry_after: Option<Duration>,
    },
    /// The deadline passed.
    #[error("deadline exceeded in stage {stage:?}")]
    Deadline {
        /// The stage that was running.
        stage: &'static str,
    },
    /// A bug, or data that does not read back. The caller learns nothing but the request id.
    #[error("{context}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RouterError {
    /// The kind of this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidArgument,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Precondition { .. } => ErrorCode::FailedPrecondition,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Full { .. } => ErrorCode::ResourceExhausted,
            Self::Deadline { .. } => ErrorCode::DeadlineExceeded,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// A request with a single fault.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// A bug with its cause.
    pub fn internal(
        context: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal {
            context,
            source: source.into(),
        }
    }

    /// A collection that does not exist.
    pub fn unknown_collection(name: impl Into<String>) -> Self {
        Self::NotFound {
            resource: Resource::Collection,
            name: name.into(),
            remedy: "; ListCollections (`moerag status`) has those that do, ingesting makes one",
        }
    }
}

fn list(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations.iter().map(Violation::to_string).collect();
    parts.join("; ")
}
