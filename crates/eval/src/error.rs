//! What can go wrong in an evaluation.

use std::path::PathBuf;

/// An evaluation that cannot be run or written.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file of the data set cannot be read.
    #[error("cannot read {}: {source}; a set in BEIR layout has corpus.jsonl, queries.jsonl and qrels/test.tsv", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line of the data set does not hold what BEIR layout asks for.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A set without a passage or without a judged query.
    #[error("{}: {reason}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// Two sets would have the same name in the report.
    #[error("two data sets are named {name}; rename one of the directories")]
    SameName {
        /// The name.
        name: String,
    },
    /// A name that is not a method.
    #[error(
        "{name:?} is not a method; choose from {}",
        crate::methods::Method::names()
    )]
    UnknownMethod {
        /// The name given.
        name: String,
    },
    /// An option that cannot work; the text names it and what would.
    #[error("{0}")]
    Options(String),
    /// The directory for the results cannot be made, or no file in it.
    #[error("cannot write to the directory {}: {source}; choose another one", path.display())]
    Out {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A result file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A directory to write a set into has something in it.
    #[error("{} is not empty; choose a directory that is, or a new one", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A plot cannot be drawn.
    #[error("cannot draw {}: {source}", path.display())]
    Plot {
        /// The file it was meant for.
        path: PathBuf,
        /// What is wrong with the numbers, or what the drawing reported.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stage of one set failed.
    #[error("{set}: {stage} failed: {source}")]
    Stage {
        /// The name of the set.
        set: String,
        /// The stage.
        stage: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EvalError {
    /// Wraps what a stage of a set reported.
    pub(crate) fn stage(
        set: &str,
        stage: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> EvalError {
        let set = set.to_owned();
        move |source| EvalError::Stage { set, stage, source }
    }
}
