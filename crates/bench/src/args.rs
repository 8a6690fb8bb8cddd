//! Flags and sub-commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Load generator, grown stores and scale figures for scripts/bench
#[derive(Debug, Parser)]
#[command(name = "moerag-bench", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What is asked for.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put load on running services: one JSON command a line in, one JSON reply a line out
    Drive(Drive),
    /// Make a larger embedded store out of a real one, without encoding anything
    Grow(Grow),
    /// Measure the router on stores of several sizes
    Scale(Scale),
}

/// `moerag-bench drive`
#[derive(Debug, Args)]
pub(crate) struct Drive {
    /// Address of the router
    #[arg(long, value_name = "URL")]
    pub(crate) router: String,
    /// Address of the trainer; only `train` needs it
    #[arg(long, value_name = "URL")]
    pub(crate) trainer: Option<String>,
    /// Process id of the router, or of the `moerag up` that started it
    #[arg(long, value_name = "PID")]
    pub(crate) router_pid: Option<u32>,
    /// Process id of the trainer, or of the `moerag up` that started it
    #[arg(long, value_name = "PID")]
    pub(crate) trainer_pid: Option<u32>,
    /// Directory of the encoder's files [default: where `moerag model fetch` puts them]
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder_dir: Option<PathBuf>,
    /// Collection to work on
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub(crate) collection: String,
    /// The services' checkpoint store; only `swap` needs it, and only while it holds one version
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoints: Option<String>,
}

/// `moerag-bench grow`
#[derive(Debug, Args)]
pub(crate) struct Grow {
    /// Directory of the real store; it is opened, so no router may have it
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Collection to grow
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: String,
    /// Directory of the grown store; what an interrupted run left there is gone on with
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Passages of the grown collection, the real ones among them
    #[arg(long, value_name = "N")]
    pub(crate) passages: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
}

/// `moerag-bench scale`
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Directories of stores with one collection of that name each; opened, so no router may have them
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub(crate) stores: Vec<PathBuf>,
    /// Collection to ask
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: String,
    /// JSON lines with a `text` or `query` each
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
    /// Queries that are measured, after 20 that warm up
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub(crate) count: usize,
    /// Directory of the encoder's files
    #[arg(long, env = "MOERAG_ENCODER_DIR", value_name = "DIR")]
    pub(crate) encoder_dir: PathBuf,
    /// Checkpoint store for the router [default: none, the built-in prior answers]
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoints: Option<String>,
    /// Directory for scale.json and scale.png
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
