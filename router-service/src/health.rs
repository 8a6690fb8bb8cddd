//! Truthful gRPC health: NOT_SERVING until the model is warm and the store answers, and again
//! whenever the store stops answering or the process drains.

use std::time::Duration;

use moerag_runtime::Shutdown;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};
use tracing::{info, warn};

use crate::service::EngineSlot;

/// Everything that can be asked about; "" is the server as a whole.
const SERVICES: [&str; 4] = [
    "",
    "moerag.v1.RouterService",
    "moerag.v1.CorpusService",
    "moerag.v1.ModelService",
];
/// Checks that must fail in a row before a serving router says that it does not serve.
const FAILURES_TO_FLIP: u32 = 2;
/// Pause between checks until the router serves for the first time.
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// Longest that one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The health service, with everything NOT_SERVING.
pub(crate) async fn service() -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, server) = health_reporter();
    // tonic-health begins with "" as SERVING.
    report(&reporter, ServingStatus::NotServing).await;
    (reporter, server)
}

/// Checks the engine's store every `every` and reports, until the shutdown begins.
pub(crate) async fn monitor(
    slot: EngineSlot,
    reporter: HealthReporter,
    every: Duration,
    shutdown: Shutdown,
) {
    let check = || {
        let slot = slot.clone();
        async move { check(&slot).await }
    };
    follow(reporter, every, shutdown, check).await;
}

/// Reports what `check` says. Until the first success it is asked more often; after that only
/// several failures in a row count.
async fn follow<C: Future<Output = Result<(), String>>>(
    reporter: HealthReporter,
    every: Duration,
    shutdown: Shutdown,
    check: impl Fn() -> C,
) {
    let mut pause = every.min(STARTING_PAUSE);
    let mut serving = false;
    let mut failures = 0;
    while !shutdown.has_begun() {
        match check().await {
            Ok(()) => {
                pause = every;
                failures = 0;
                if !serving {
                    serving = true;
                    info!("serving");
                    report(&reporter, ServingStatus::Serving).await;
                }
            }
            Err(reason) => {
                failures += 1;
                if serving && failures >= FAILURES_TO_FLIP {
                    serving = false;
                    warn!(reason, "not serving");
                    report(&reporter, ServingStatus::NotServing).await;
                }
            }
        }
        tokio::select! {
            () = shutdown.begun() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
}

async fn check(slot: &EngineSlot) -> Result<(), String> {
    let engine = slot.get().map_err(|error| error.to_string())?;
    match tokio::time::timeout(CHECK_TIMEOUT, engine.health()).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the store did not answer within {CHECK_TIMEOUT:?}")),
    }
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Wire;
    use tonic_health::server::HealthService;

    use super::*;

    async fn status(health: &HealthService, service: &str) -> Wire {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let reply = health.check(Request::new(request)).await.unwrap();
        reply.into_inner().status()
    }

    async fn wait_for(health: &HealthService, wanted: Wire) {
        let waiting = async {
            for service in SERVICES {
                while status(health, service).await != wanted {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn health_follows_the_store_there_and_back_and_ends_with_the_drain() {
        let (reporter, _server) = service().await;
        let health = HealthService::from_health_reporter(reporter.clone());
        let shutdown = Shutdown::new();
        // The number of checks that fail from now on.
        let failing = Arc::new(AtomicU32::new(3));
        let (left, stop) = (Arc::clone(&failing), shutdown.clone());
        let monitor = tokio::spawn(async move {
            let check = || {
                let n = left.load(Ordering::SeqCst);
                left.store(n.saturating_sub(1), Ordering::SeqCst);
                std::future::ready(if n == 0 {
                    Ok(())
                } else {
                    Err("no store".to_owned())
                })
            };
            follow(reporter, Duration::from_millis(2), stop, check).await;
        });
        assert_eq!(status(&health, "").await, Wire::NotServing);
        wait_for(&health, Wire::Serving).await;
        failing.store(u32::MAX, Ordering::SeqCst);
        wait_for(&health, Wire::NotServing).await;
        failing.store(0, Ordering::SeqCst);
        wait_for(&health, Wire::Serving).await;
        // One failure alone is not worth telling.
        failing.store(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(failing.load(Ordering::SeqCst), 0);
        assert_eq!(status(&health, "").await, Wire::Serving);
        shutdown.begin();
        monitor.await.unwrap();
        wait_for(&health, Wire::NotServing).await;
    }
}
