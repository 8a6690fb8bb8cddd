//! Logs to standard error, for people or for machines.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// What is logged and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Levels per target in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// Form of a log line.
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log.filter {filter:?}: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else set a subscriber before.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sets up logging for the whole process.
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let filter = parse_filter(&config.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for terminals, not for log files.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|_| TelemetryError::AlreadySet)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        assert!(parse_filter("info,h2=warn").is_ok());
        let message = parse_filter("router=loud").unwrap_err().to_string();
        assert!(
            message.starts_with("log.filter \"router=loud\": "),
            "{message}"
        );
    }
}
