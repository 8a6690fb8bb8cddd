//! Connections to the services.

use std::time::Duration;

use anyhow::Result;
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::trainer_service_client::TrainerServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::failure::Usage;

/// Replies carry passages and sentences; tonic's 4 MiB default is too small for large `top_k`.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses of the two services.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// Of the router, with scheme.
    pub(crate) router: String,
    /// Of the trainer, with scheme.
    pub(crate) trainer: String,
}

impl Addresses {
    async fn router_channel(&self) -> Result<Channel> {
        connect("router", &self.router, "--router or MOERAG_ROUTER_URL").await
    }

    /// Client of the queries.
    pub(crate) async fn router(&self) -> Result<RouterServiceClient<Channel>> {
        Ok(RouterServiceClient::new(self.router_channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Client of the documents.
    pub(crate) async fn corpus(&self) -> Result<CorpusServiceClient<Channel>> {
        Ok(CorpusServiceClient::new(self.router_channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Client of the models.
    pub(crate) async fn models(&self) -> Result<ModelServiceClient<Channel>> {
        Ok(ModelServiceClient::new(self.router_channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Client of the training jobs.
    pub(crate) async fn trainer(&self) -> Result<TrainerServiceClient<Channel>> {
        Ok(TrainerServiceClient::new(
            connect("trainer", &self.trainer, "--trainer or MOERAG_TRAINER_URL").await?,
        ))
    }
}

async fn connect(service: &str, url: &str, how_to_name: &str) -> Result<Channel> {
    let endpoint = endpoint(url)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| {
        anyhow::anyhow!(
            "cannot reach the {service} at {url}: {}; start it with `moerag up`, or name another one with {how_to_name}",
            innermost(&error)
        )
    })
}

fn endpoint(url: &str) -> Result<Endpoint, Usage> {
    Endpoint::from_shared(with_scheme(url)).map_err(|_| {
        Usage(format!(
            "{url:?} is not an address; expected for example http://127.0.0.1:50051"
        ))
    })
}

/// `host:port` is taken as http.
fn with_scheme(url: &str) -> String {
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    }
}

/// tonic says "transport error"; the cause that helps lies at the end of the chain.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Health of a service as `grpc.health.v1` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Answers requests.
    Serving,
    /// Runs, but cannot answer yet or any more.
    NotServing,
    /// Nothing answers at the address.
    Unreachable,
}

impl Health {
    /// The word shown to people and machines.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Health::Serving => "serving",
            Health::NotServing => "not serving",
            Health::Unreachable => "unreachable",
        }
    }
}

/// Asks once.
///
/// # Errors
/// `url` is not an address.
pub(crate) async fn health(url: &str, service: &str) -> Result<Health, Usage> {
    let endpoint = endpoint(url)?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5));
    let Ok(channel) = endpoint.connect().await else {
        return Ok(Health::Unreachable);
    };
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    Ok(match HealthClient::new(channel).check(request).await {
        Ok(reply) if reply.get_ref().status() == ServingStatus::Serving => Health::Serving,
        Ok(_) | Err(_) => Health::NotServing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_service_is_named_with_the_remedy() {
        let addresses = Addresses {
            router: "127.0.0.1:9".into(),
            trainer: "127.0.0.1:9".into(),
        };
        let error = addresses
            .router()
            .await
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            error.contains("router at 127.0.0.1:9") && error.contains("moerag up"),
            "{error}"
        );
        let health = health("127.0.0.1:9", "").await;
        assert!(matches!(health, Ok(Health::Unreachable)), "{health:?}");
    }
}
