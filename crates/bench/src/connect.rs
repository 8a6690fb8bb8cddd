//! Connections to the services.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// Replies carry passages and sentences; tonic's 4 MiB default is too small for large `top_k`.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a service; `host:port` is taken as http.
pub(crate) async fn connect(url: &str) -> Result<Channel> {
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let endpoint = Endpoint::from_shared(full)
        .with_context(|| format!("{url:?} is not an address; expected http://HOST:PORT"))?;
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .with_context(|| format!("cannot reach {url}; does the service run?"))
}

/// A refusal in one line, with the fields that it names.
pub(crate) fn refusal(what: &str, status: &tonic::Status) -> anyhow::Error {
    let mut text = format!("{what}: {:?}: {}", status.code(), status.message());
    let details = status.get_details_bad_request();
    for violation in details.map(|bad| bad.field_violations).unwrap_or_default() {
        // A single one is often the whole message already.
        if status.message().contains(&violation.description) {
            continue;
        }
        text.push_str(&format!("; {}: {}", violation.field, violation.description));
    }
    anyhow::anyhow!(text)
}
