//! The `router-service` binary. Exit codes: 0 after a signal, 1 on failure, 64 on bad usage.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use moerag_runtime::{EXIT_USAGE, Shutdown, telemetry};
use router_service::args::Args;
use router_service::config::{self, RouterConfig};
use tracing::error;

/// Time for work on blocking threads to end once everything else has.
const LAST_GRACE: Duration = Duration::from_secs(5);
#[global_allocator] // A query makes some hundred vectors on five threads (docs/speed.md).
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(problem) => {
            let usage = problem.use_stderr();
            // Without a terminal there is nothing better to do than to exit.
            let _ = problem.print();
            return ExitCode::from(if usage { EXIT_USAGE } else { 0 });
        }
    };
    let config = match configure(&args) {
        Ok(config) => config,
        Err(problem) => {
            eprintln!("router-service: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn configure(args: &Args) -> anyhow::Result<RouterConfig> {
    let config = config::read(&args.sources())?;
    telemetry::init(&config.log)?;
    Ok(config)
}

fn serve(config: RouterConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        router_service::run(config, shutdown).await
    });
    runtime.shutdown_timeout(LAST_GRACE);
    result
}
