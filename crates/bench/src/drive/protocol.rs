//! The commands of the protocol.

use std::path::PathBuf;

use serde::Deserialize;

/// One line of standard input. Fields that only other systems need are passed over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub(super) enum Command {
    /// Makes the collection searchable.
    Open {
        /// JSON lines `{"id", "title", "text"}`.
        passages: PathBuf,
    },
    /// Times the ingest of a sample that is not kept.
    Ingest {
        /// As for `open`.
        passages: PathBuf,
    },
    /// One query after the other.
    Latency {
        queries: Vec<String>,
        #[serde(default = "ten")]
        top_k: u32,
    },
    /// Several clients at once.
    Throughput {
        queries: Vec<String>,
        clients: usize,
        #[serde(default = "ten")]
        top_k: u32,
    },
    /// The encoder alone, in this process.
    Encode {
        texts: Vec<String>,
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        engine: Engine,
    },
    /// Trains and waits until the result serves.
    Train,
    /// Queries while versions are swapped.
    Swap {
        queries: Vec<String>,
        #[serde(default = "ten_seconds")]
        seconds: f64,
    },
    /// CPU time and memory of the services.
    Resources,
    /// The end.
    Close,
}

/// What a text is to the encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    #[default]
    Query,
    Passage,
}

/// How the encoder computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Engine {
    /// As the services do: 8 bits.
    #[default]
    Int8,
    /// In burn on flex with our kernels for GELU and softmax.
    F32,
    /// In burn on flex alone.
    PlainBurn,
}

fn ten() -> u32 {
    10
}

fn ten_seconds() -> f64 {
    10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn commands_of_the_protocol_are_understood() {
        let read = |line: &str| serde_json::from_str::<Command>(line).unwrap();
        let open = read(r#"{"cmd":"open","passages":"p.jsonl","work":"dir"}"#);
        assert_eq!(
            open,
            Command::Open {
                passages: "p.jsonl".into()
            }
        );
        let latency = read(r#"{"cmd":"latency","queries":["a"]}"#);
        assert!(matches!(latency, Command::Latency { top_k: 10, .. }));
        let encode = read(r#"{"cmd":"encode","texts":[],"kind":"passage"}"#);
        assert!(matches!(
            encode,
            Command::Encode {
                kind: Kind::Passage,
                engine: Engine::Int8,
                ..
            }
        ));
        assert_eq!(read(r#"{"cmd":"train"}"#), Command::Train);
        assert!(serde_json::from_str::<Command>(r#"{"cmd":"dance"}"#).is_err());
    }
}
