//! Calls to the server: retried while it cannot be reached, their errors made ours.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use qdrant_client::{Qdrant, QdrantError};
use tonic::Code;

use super::QdrantOptions;
use crate::error::StoreError;

/// A server that may be away.
pub(super) struct Remote {
    pub(super) client: Qdrant,
    pub(super) address: String,
    retries: usize,
}

impl Remote {
    /// Sets the client up without a connection; the first call makes one.
    pub(super) fn new(
        url: &str,
        api_key: Option<&str>,
        options: &QdrantOptions,
    ) -> Result<Self, StoreError> {
        let mut config = Qdrant::from_url(url)
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout)
            .keep_alive_while_idle()
            .skip_compatibility_check();
        if let Some(key) = api_key {
            config.set_api_key(key);
        }
        config.set_pool_size(options.connections);
        let client = config.build().map_err(|error| StoreError::InvalidInput {
            field: "qdrant url".into(),
            reason: format!("{error}; give one like http://127.0.0.1:6334 (the gRPC port)"),
        })?;
        Ok(Self {
            client,
            address: url.to_owned(),
            retries: options.retries,
        })
    }

    /// Makes a call. Every call this crate makes may be repeated: writes carry ids and filters that make
    /// a second run change nothing.
    pub(super) async fn call<T, F, R>(&self, name: &'static str, call: F) -> Result<T, StoreError>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .with_max_times(self.retries);
        call.retry(backoff)
            .when(is_transient)
            .await
            .map_err(|error| self.error(name, &error))
    }

    /// The same, `None` where what is named in the call does not exist.
    pub(super) async fn find<T, F, R>(
        &self,
        name: &'static str,
        call: F,
    ) -> Result<Option<T>, StoreError>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        let absent = |error: &QdrantError| code(error) == Some(Code::NotFound);
        let call = || async {
            match call().await {
                Ok(value) => Ok(Some(value)),
                Err(error) if absent(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.call(name, call).await
    }

    /// The same for a server collection that has to be there.
    pub(super) async fn known<T, F, R>(
        &self,
        collection: &str,
        name: &'static str,
        call: F,
    ) -> Result<T, StoreError>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        let unknown = || StoreError::UnknownCollection {
            name: collection.to_owned(),
        };
        self.find(name, call).await?.ok_or_else(unknown)
    }

    fn error(&self, call: &'static str, error: &QdrantError) -> StoreError {
        let reason = match error {
            QdrantError::ResponseError { status }
            | QdrantError::ResourceExhaustedError { status, .. } => status.message().to_owned(),
            other => other.to_string(),
        };
        let address = self.address.clone();
        if is_transient(error) {
            StoreError::Unavailable { address, reason }
        } else {
            StoreError::Server {
                address,
                call,
                reason,
            }
        }
    }
}

fn code(error: &QdrantError) -> Option<Code> {
    match error {
        QdrantError::ResponseError { status }
        | QdrantError::ResourceExhaustedError { status, .. } => Some(status.code()),
        _ => None,
    }
}

/// Whether the same call may go through a little later.
fn is_transient(error: &QdrantError) -> bool {
    match (error, code(error)) {
        (_, Some(Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)) => true,
        (_, Some(Code::Cancelled)) => true,
        // The client reports a refused or broken connection this way.
        (QdrantError::ResponseError { status }, Some(Code::Internal | Code::Unknown)) => {
            let message = status.message();
            [
                "Failed to connect",
                "transport error",
                "h2 protocol error",
                "connection",
            ]
            .iter()
            .any(|sign| message.contains(sign))
        }
        (QdrantError::Io(_), _) => true,
        _ => false,
    }
}
