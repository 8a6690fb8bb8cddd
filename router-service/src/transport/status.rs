//! The one conversion of errors to gRPC (DESIGN.md section 6, "Errors").

use std::collections::HashMap;

use moerag_runtime::chain;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};
use tracing::{error, warn};

use crate::domain::{ErrorCode, RouterError};

/// Domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "moerag";

/// Turns an error into a status with `google.rpc` details. Errors that are not the caller's are
/// logged here, and only here.
pub(super) fn to_status(error: &RouterError, request_id: &str) -> Status {
    let code = error.code();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason(code), DOMAIN, HashMap::<String, String>::new());
    details.set_request_info(request_id, "");
    let message = match error {
        RouterError::Internal { context, source } => {
            error!(request_id, context, cause = %chain(&**source), "internal error");
            format!("internal error; the server's log has it under request id {request_id}")
        }
        other => other.to_string(),
    };
    match error {
        RouterError::Invalid(violations) => {
            let violations: Vec<FieldViolation> = violations
                .iter()
                .map(|v| FieldViolation::new(&v.field, &v.description))
                .collect();
            details.set_bad_request(violations);
        }
        RouterError::NotFound { resource, name, .. } => {
            details.set_resource_info(resource.to_string(), name, "", &message);
        }
        RouterError::Precondition { subject, reason } => {
            details.set_precondition_failure(vec![PreconditionViolation::new(
                "STATE", subject, reason,
            )]);
        }
        RouterError::Unavailable { retry_after, .. } => {
            warn!(request_id, cause = %error, "unavailable");
            details.set_retry_info(Some(*retry_after));
        }
        RouterError::Full {
            retry_after: Some(retry_after),
            ..
        } => {
            details.set_retry_info(Some(*retry_after));
        }
        RouterError::Full { .. } | RouterError::Deadline { .. } | RouterError::Internal { .. } => {}
    }
    Status::with_error_details(grpc_code(code), message, details)
}

fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Internal => Code::Internal,
    }
}

/// Reason of `google.rpc.ErrorInfo`.
fn reason(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidArgument => "INVALID_ARGUMENT",
        ErrorCode::NotFound => "NOT_FOUND",
        ErrorCode::FailedPrecondition => "FAILED_PRECONDITION",
        ErrorCode::Unavailable => "UNAVAILABLE",
        ErrorCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
        ErrorCode::Internal => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::domain::{Resource, Violation};

    fn violation(field: &str) -> Violation {
        Violation {
            field: field.to_owned(),
            description: "is wrong".to_owned(),
        }
    }

    #[test]
    fn table_of_errors() {
        let second = Duration::from_secs(1);
        let table: Vec<(RouterError, Code, &str)> = vec![
            (
                RouterError::Invalid(vec![violation("query"), violation("top_k")]),
                Code::InvalidArgument,
                "query: is wrong; top_k: is wrong",
            ),
            (
                RouterError::unknown_collection("docs"),
                Code::NotFound,
                "collection \"docs\" does not exist; ListCollections (`moerag status`) has those that do, ingesting makes one",
            ),
            (
                RouterError::NotFound {
                    resource: Resource::Version,
                    name: "7".into(),
                    remedy: "",
                },
                Code::NotFound,
                "version \"7\" does not exist",
            ),
            (
                RouterError::Precondition {
                    subject: "docs".into(),
                    reason: "other space".into(),
                },
                Code::FailedPrecondition,
                "docs: other space",
            ),
            (
                RouterError::Unavailable {
                    what: "store".into(),
                    reason: "refused".into(),
                    retry_after: second,
                },
                Code::Unavailable,
                "store is unavailable: refused",
            ),
            (
                RouterError::Full {
                    what: "queue full".into(),
                    retry_after: Some(second),
                },
                Code::ResourceExhausted,
                "queue full",
            ),
            (
                RouterError::Full {
                    what: "disk full".into(),
                    retry_after: None,
                },
                Code::ResourceExhausted,
                "disk full",
            ),
            (
                RouterError::Deadline { stage: "views" },
                Code::DeadlineExceeded,
                "deadline exceeded in stage \"views\"",
            ),
            (
                RouterError::internal("reading keys", "secret path"),
                Code::Internal,
                "internal error; the server's log has it under request id r-1",
            ),
        ];
        for (error, code, message) in table {
            let status = to_status(&error, "r-1");
            assert_eq!(status.code(), code);
            assert_eq!(status.message(), message);
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().domain, "moerag");
            assert_eq!(details.request_info().unwrap().request_id, "r-1");
            let retry = matches!(
                error,
                RouterError::Unavailable { .. }
                    | RouterError::Full {
                        retry_after: Some(_),
                        ..
                    }
            );
            assert_eq!(
                details.retry_info().and_then(|r| r.retry_delay),
                retry.then_some(second)
            );
        }
    }

    #[test]
    fn every_violation_is_in_the_details() {
        let error = RouterError::Invalid(vec![violation("query"), violation("top_k")]);
        let details = to_status(&error, "r").get_error_details();
        let fields: Vec<&str> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, ["query", "top_k"]);
    }
}
