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
    let mut serving = false;
    let mut failures = 0;
    loop {
        match check(&slot).await {
            Ok(()) => {
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
        let pause = if serving || slot.get().is_ok() {
            every
        } else {
            STARTING_PAUSE
        };
        tokio::select! {
            () = shutdown.begun() => break,
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
