//! What every handler does around its work: request id, span, deadline, errors.

use std::future::Future;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use tracing::{Instrument, Span, info_span};
use uuid::Uuid;

use super::status::to_status;
use crate::domain::{RouterError, Stages};

/// Metadata key by which a client may name its request.
const REQUEST_ID: &str = "x-request-id";

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) id: String,
    pub(super) stages: Stages,
    deadline: Option<tokio::time::Instant>,
    span: Span,
}

impl Context {
    /// Reads id and deadline from the metadata.
    pub(super) fn new(rpc: &'static str, metadata: &MetadataMap) -> Self {
        let id = metadata
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| is_plain(id))
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let deadline = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(parse_timeout)
            .map(|timeout| tokio::time::Instant::now() + timeout - margin(timeout));
        let span = info_span!("request", rpc, id);
        Self {
            id,
            stages: Stages::new(),
            deadline,
            span,
        }
    }

    /// Runs `work` in the request's span until its deadline.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, RouterError>>,
    ) -> Result<Response<T>, Status> {
        let work = work.instrument(self.span.clone());
        let result = match self.deadline {
            None => work.await,
            Some(deadline) => tokio::time::timeout_at(deadline, work)
                .await
                .unwrap_or_else(|_| {
                    Err(RouterError::Deadline {
                        stage: self.stages.current().name(),
                    })
                }),
        };
        result
            .map(Response::new)
            .map_err(|error| self.status(&error))
    }

    /// The status for an error of this request.
    pub(super) fn status(&self, error: &RouterError) -> Status {
        self.span.in_scope(|| to_status(error, &self.id))
    }

    /// The request's span, for tasks that outlive the handler.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }
}

/// tonic answers CANCELLED, without a word on what was slow, when the deadline has passed; so we
/// stop a little earlier.
fn margin(timeout: Duration) -> Duration {
    (timeout / 20).min(Duration::from_millis(5))
}

/// A `grpc-timeout` header: at most 8 digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Only such ids go to the log as they are.
fn is_plain(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tonic::Code;

    use super::*;
    use crate::domain::Stage;

    #[test]
    fn timeouts_parse_like_the_specification() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse_timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "m", "1", "100000000S", "-1S", "1x", "1é", "+1S"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_id_is_taken_over_only_if_plain() {
        let mut metadata = MetadataMap::new();
        metadata.insert(REQUEST_ID, "abc-1".parse().unwrap());
        assert_eq!(Context::new("Attend", &metadata).id, "abc-1");
        metadata.insert(REQUEST_ID, "a b".parse().unwrap());
        assert_ne!(Context::new("Attend", &metadata).id, "a b");
    }

    #[tokio::test]
    async fn a_passed_deadline_names_the_stage() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "20m".parse().unwrap());
        let context = Context::new("Attend", &metadata);
        let guard = context.stages.enter(Stage::Features);
        let status = context
            .run(std::future::pending::<Result<(), RouterError>>())
            .await
            .unwrap_err();
        drop(guard);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "deadline exceeded in stage \"features\"");
    }
}
