//! gRPC in and out. The only place that knows proto types.

mod convert;
mod router;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

use moerag_proto::v1::trainer_service_server::TrainerServiceServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

pub use router::RouterSource;
pub use service::Trainer;

/// Serves on `listener` until `shutdown`, then lets open calls finish.
///
/// # Errors
/// The server cannot be built or the listener fails.
pub async fn serve(
    listener: TcpListener,
    trainer: Trainer,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address: SocketAddr = listener.local_addr()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    set_serving(&health).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(moerag_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("moerag.v1.TrainerService")
        .with_service_name("grpc.health.v1.Health")
        .build_v1()?;
    tracing::info!(%address, "trainer listening");
    let draining = async move {
        shutdown.cancelled().await;
        // Balancers must stop sending before the socket closes.
        health
            .set_not_serving::<TrainerServiceServer<Trainer>>()
            .await;
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
    };
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(TrainerServiceServer::new(trainer))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), draining)
        .await?;
    Ok(())
}

/// The worker can always take a job: an unreachable router fails the job, not the service.
async fn set_serving(health: &HealthReporter) {
    health.set_serving::<TrainerServiceServer<Trainer>>().await;
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
}
