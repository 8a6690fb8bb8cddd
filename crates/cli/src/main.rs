//! The `moerag` command line (DESIGN.md section 6): a client of router and trainer, their starter
//! on one machine, and the evaluation.
//!
//! Exit codes: 0 ok, 64 bad usage or configuration, 1 failure.

mod args;
mod client;
mod commands;
mod failure;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::client::Addresses;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too and are no mistake.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(failure::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    ui::set_colors();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            ui::note(&format!("moerag: cannot start: {error}"));
            return ExitCode::from(failure::EXIT_FAILURE);
        }
    };
    let result = runtime.block_on(run(cli));
    // A blocked read of a file must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            ui::note(&format!("moerag: {error:#}"));
            failure::exit_code(&error)
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let addresses = Addresses {
        router: cli.global.router,
        trainer: cli.global.trainer,
    };
    let json = cli.global.json;
    match cli.command {
        Command::Up(args) => commands::up::run(args, json).await,
        Command::Ingest(args) => commands::ingest::run(&addresses, args, json).await,
        Command::Train(args) => commands::train::run(&addresses, args, json).await,
        Command::Ask(args) => commands::ask::run(&addresses, args, json).await,
        Command::Status => commands::status::run(&addresses, json).await,
        Command::Models(command) => commands::models::run(&addresses, command, json).await,
        Command::Delete(args) => commands::delete::run(&addresses, args, json).await,
        Command::Eval(args) => commands::eval::run(args, json).await,
        Command::EvalSet(args) => commands::eval_set::run(args, json).await,
        Command::Model(command) => commands::model::run(command, json).await,
        Command::Health(args) => commands::health::run(&addresses, args, json).await,
    }
}
