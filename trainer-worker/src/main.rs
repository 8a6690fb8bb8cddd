//! The `trainer-worker` binary. Exit codes: 0 after a signal, 1 on failure, 64 on bad usage.

use std::process::ExitCode;

use clap::Parser;
use moerag_runtime::{EXIT_USAGE, Shutdown, telemetry};
use trainer_worker::config::{self, Args};
#[global_allocator] // Gives back what a training took once it has ended (docs/speed.md).
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done when even the message cannot be written.
            let _ = error.print();
            // `--help` and `--version` come this way too, with success.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    let config = match config::read(&args.sources()) {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    if let Err(error) = telemetry::init(&config.log) {
        return usage(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the async runtime did not start");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        trainer_worker::start(config, shutdown).await?.join().await
    });
    // Blocking work of a cancelled job may still be on its way out.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &dyn std::error::Error) -> ExitCode {
    use std::io::Write;
    // Logging is not set up yet; nothing can be done when standard error is closed.
    let _ = writeln!(std::io::stderr(), "trainer-worker: {error}");
    ExitCode::from(EXIT_USAGE)
}
