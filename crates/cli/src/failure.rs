//! What ends a command: the message for people and the exit code for scripts.

use std::process::ExitCode;

use tonic::Code;
use tonic_types::{FieldViolation, StatusExt};

/// Bad usage or configuration (`EX_USAGE`).
pub(crate) const EXIT_USAGE: u8 = 64;
/// Anything else that went wrong.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// Marks an error as the caller's: the process exits with [`EXIT_USAGE`].
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit code that belongs to an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.chain().any(|cause| cause.is::<Usage>());
    ExitCode::from(if usage { EXIT_USAGE } else { EXIT_FAILURE })
}

/// Turns a refusal of a service into one message with the details it carried.
pub(crate) fn rpc(what: &str, status: &tonic::Status) -> anyhow::Error {
    let details = status.get_error_details();
    let mut message = format!("{what}: {}", status.message());
    if status.message().is_empty() {
        message = format!("{what}: {}", status.code());
    }
    if let Some(bad) = details.bad_request() {
        // A single one is often the whole message already.
        let new = |v: &&FieldViolation| !status.message().contains(&v.description);
        for violation in bad.field_violations.iter().filter(new) {
            message.push_str(&format!(
                "\n  {}: {}",
                violation.field, violation.description
            ));
        }
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        message.push_str(&format!("\n  try again in {:.1} s", delay.as_secs_f64()));
    }
    match status.code() {
        Code::InvalidArgument | Code::NotFound => Usage(message).into(),
        Code::Unimplemented => {
            anyhow::anyhow!("{message}; is this the address of the right service?")
        }
        Code::Unavailable if details.retry_info().is_none() => {
            anyhow::anyhow!(
                "{message}; look at the service's log, `moerag status` shows what answers"
            )
        }
        _ => anyhow::anyhow!(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_field_is_named_and_counts_as_usage() {
        let mut details = tonic_types::ErrorDetails::new();
        details.add_bad_request_violation("query", "must not be empty");
        let status =
            tonic::Status::with_error_details(Code::InvalidArgument, "1 field is wrong", details);
        let error = rpc("cannot attend", &status);
        assert_eq!(
            format!("{error}"),
            "cannot attend: 1 field is wrong\n  query: must not be empty"
        );
        assert_eq!(
            format!("{:?}", exit_code(&error)),
            format!("{:?}", ExitCode::from(EXIT_USAGE))
        );
        assert_eq!(
            format!("{:?}", exit_code(&error.context("outer"))),
            format!("{:?}", ExitCode::from(EXIT_USAGE))
        );
    }

    #[test]
    fn what_the_message_says_already_is_not_said_twice() {
        let mut details = tonic_types::ErrorDetails::new();
        details.add_bad_request_violation("top_k", "is 0, must be 1 to 1000");
        let status = tonic::Status::with_error_details(
            Code::InvalidArgument,
            "top_k: is 0, must be 1 to 1000",
            details,
        );
        let error = rpc("cannot attend", &status);
        assert_eq!(
            format!("{error}"),
            "cannot attend: top_k: is 0, must be 1 to 1000"
        );
    }

    #[test]
    fn a_failure_of_the_service_is_not_usage() {
        let error = rpc(
            "cannot attend",
            &tonic::Status::internal("request 7 failed"),
        );
        assert_eq!(
            format!("{:?}", exit_code(&error)),
            format!("{:?}", ExitCode::from(EXIT_FAILURE))
        );
    }
}
