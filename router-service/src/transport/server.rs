//! Server assembly on a listener that is passed in, so that tests can bind port 0.

use std::future::Future;
use std::time::Duration;

use moerag_proto::v1::corpus_service_server::CorpusServiceServer;
use moerag_proto::v1::model_service_server::ModelServiceServer;
use moerag_proto::v1::router_service_server::RouterServiceServer;
use moerag_runtime::Shutdown;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::domain::{Limits, RouterError};
use crate::service::{EngineSlot, RouterEngine};

/// Between two looks whether a client is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The services of the router.
#[derive(Clone)]
pub(crate) struct Services {
    slot: EngineSlot,
    shutdown: Shutdown,
}

impl Services {
    /// Services over the engine in `slot`.
    pub(crate) fn new(slot: EngineSlot, shutdown: Shutdown) -> Self {
        Self { slot, shutdown }
    }

    pub(super) fn engine(&self) -> Result<RouterEngine, RouterError> {
        self.slot.get().cloned()
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

/// Why the server ended.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The reflection service refused the descriptors.
    #[error("building the reflection service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("serving gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until the shutdown begins and all requests have ended. The caller bounds that time.
///
/// # Errors
/// The transport failed.
pub(crate) fn serve<H: Health>(
    listener: TcpListener,
    services: Services,
    health: HealthServer<H>,
    limits: &Limits,
) -> Result<impl Future<Output = Result<(), ServeError>> + use<H>, ServeError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(moerag_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
        // The descriptors also hold the trainer's service, which is not served here.
        .with_service_name(<HealthServer<H> as NamedService>::NAME)
        .with_service_name(<RouterServiceServer<Services> as NamedService>::NAME)
        .with_service_name(<CorpusServiceServer<Services> as NamedService>::NAME)
        .with_service_name(<ModelServiceServer<Services> as NamedService>::NAME)
        .build_v1()?;
    let shutdown = services.shutdown.clone();
    let (read, sent) = (limits.message_bytes, limits.reply_bytes);
    let router = RouterServiceServer::new(services.clone())
        .max_decoding_message_size(read)
        .max_encoding_message_size(sent);
    let corpus = CorpusServiceServer::new(services.clone())
        .max_decoding_message_size(read)
        .max_encoding_message_size(sent);
    let model = ModelServiceServer::new(services)
        .max_decoding_message_size(read)
        .max_encoding_message_size(sent);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        // Nothing else tells that the machine of a client with an open stream is gone.
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(health)
        .add_service(reflection)
        .add_service(router)
        .add_service(corpus)
        .add_service(model);
    Ok(async move {
        let begun = async move { shutdown.begun().await };
        Ok(server.serve_with_incoming_shutdown(incoming, begun).await?)
    })
}
