//! The `moerag-bench` command: what `scripts/bench` needs of our side of a comparison.
//!
//! Exit codes: 0 ok, 64 bad usage, 1 failure.

mod args;
mod connect;
mod drive;
mod grow;
mod output;
mod proc;
mod quantile;
mod scale;

use std::process::ExitCode;

use clap::Parser;
use moerag_runtime::{EXIT_USAGE, TelemetryConfig, telemetry};

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too and are no mistake.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moerag-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&TelemetryConfig::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Command::Drive(args) => drive::run(&runtime, args),
        Command::Scale(args) => runtime.block_on(scale::run(args)),
        Command::Grow(args) => runtime.block_on(grow::run(args)),
    }
}
