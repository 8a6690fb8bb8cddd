//! Configuration of the worker (DESIGN.md section 6: flags > environment > TOML > defaults).
//!
//! Names that the router has too mean the same here, so that one file or environment serves both;
//! what is the trainer's alone goes into the section `trainer`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use moerag_checkpoint::CheckpointConfig;
use moerag_encoder::{DeviceKind, Precision};
use moerag_runtime::{
    ConfigError, Loaded, ServiceFlags, Sources, TelemetryConfig, config, data_dir,
};
use moerag_store::StoreConfig;
use serde::{Deserialize, Serialize};

use crate::train::TrainConfig;
use crate::worker::RetrainConfig;

/// Section of this process in files and variables.
const SECTION: &str = "trainer";
/// Top-level names of other processes.
pub const ELSEWHERE: [&str; 11] = [
    "router",
    "cli",
    "eval",
    "test",
    "trainer_url",
    "limits",
    "permits",
    "ingest",
    "health_interval_millis",
    "cache",
    "pin_threads",
];

/// Learns heads and gate from documents alone and publishes them
///
/// Every setting can also be given in a TOML file or as a variable: `retrain.enabled` is
/// MOERAG_TRAINER__RETRAIN__ENABLED. Flags win over variables, variables over the file.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "trainer-worker", version, max_term_width = 100)]
pub struct Args {
    /// Address to listen on; port 0 chooses a free one [default: 127.0.0.1:50052]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of the router whose passages are learned from [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL")]
    pub router_url: Option<String>,
    /// Seed of trainings that bring none [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Those of every service.
    #[command(flatten)]
    pub service: ServiceFlags,
}

impl Args {
    /// The layers of configuration that these flags and the environment give.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let layers = self.service.layers(sources());
        layers
            .flag("listen", self.listen.as_ref())
            .flag("router_url", self.router_url.as_ref())
            .flag("train.seed", self.seed)
    }
}

/// Settings of the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Address to listen on; port 0 chooses a free one.
    pub listen: SocketAddr,
    /// File to which the actual address is written once the trainer listens.
    pub address_file: Option<PathBuf>,
    /// Address of the router.
    pub router_url: String,
    /// Directory of the data of a deployment on one machine. By default `$XDG_DATA_HOME/moerag`.
    pub data_dir: Option<PathBuf>,
    /// Directory of the encoder's files; by default where `moerag model fetch` puts them.
    pub encoder_dir: Option<PathBuf>,
    /// Device to encode and train on.
    pub device: DeviceKind,
    /// Precision of the encoder.
    pub precision: Precision,
    /// Where passages come from.
    pub store: StoreConfig,
    /// Where versions go.
    pub checkpoints: CheckpointConfig,
    /// Threads for training; 0: as many as cores.
    pub threads: usize,
    /// Versions kept after a publish; 0: all.
    pub keep_versions: usize,
    /// Bytes of encoded synthetic queries kept for the next training, which makes most of them again; 0
    /// keeps none. A collection has some 40 MB of them.
    pub encodings_bytes: u64,
    /// Milliseconds that open calls have to end after a signal.
    pub drain_millis: u64,
    /// How to train.
    pub train: TrainConfig,
    /// When to train unasked.
    pub retrain: RetrainConfig,
    /// Logs.
    pub log: TelemetryConfig,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50052)),
            address_file: None,
            router_url: "http://127.0.0.1:50051".to_owned(),
            data_dir: None,
            encoder_dir: None,
            device: DeviceKind::default(),
            precision: Precision::default(),
            store: StoreConfig::default(),
            checkpoints: CheckpointConfig::default(),
            threads: 0,
            keep_versions: 20,
            encodings_bytes: 64 << 20,
            drain_millis: 10_000,
            train: TrainConfig::default(),
            retrain: RetrainConfig::default(),
            log: TelemetryConfig::default(),
        }
    }
}

impl WorkerConfig {
    /// The directory of all data; empty, where a checked configuration has no use for it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.data_dir.as_deref())
    }
}

/// Sources with this process's section; flags are added by the caller.
fn sources() -> Sources {
    Sources::new(SECTION, &ELSEWHERE)
}

/// Reads and checks the configuration.
///
/// # Errors
/// The first setting that is unknown, of the wrong type or out of range, with where it was set.
pub fn read(sources: &Sources) -> Result<WorkerConfig, ConfigError> {
    let loaded: Loaded<WorkerConfig> = config::load(sources)?;
    check(&loaded)?;
    let mut config = loaded.value;
    config.train.device = config.device;
    Ok(config)
}

fn check(loaded: &Loaded<WorkerConfig>) -> Result<(), ConfigError> {
    let c = &loaded.value;
    if let Err(crate::TrainError::Config { field, reason }) = c.train.validate() {
        return Err(loaded.invalid(field, reason));
    }
    if !(c.retrain.changed_share > 0.0 && c.retrain.changed_share.is_finite()) {
        return Err(loaded.invalid("retrain.changed_share", "use a share above 0, such as 0.2"));
    }
    if c.retrain.poll_secs == 0 {
        return Err(loaded.invalid("retrain.poll_secs", "must be at least 1"));
    }
    if c.threads > 1024 {
        return Err(loaded.invalid("threads", "use at most 1024, or 0 for all cores"));
    }
    if c.checkpoints.url.is_none() {
        loaded.need_data_dir(&c.data_dir())?;
    }
    let wrong_url = c.store.wrong_url();
    wrong_url.map_or(Ok(()), |reason| Err(loaded.invalid("store.url", reason)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn error(env: &[(&str, &str)]) -> String {
        read(&sources().env(env.iter().copied()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn defaults_are_good() {
        let config = read(&sources()).unwrap();
        assert_eq!(config.train, TrainConfig::default());
        assert_eq!(config.retrain, RetrainConfig::default());
        assert_eq!(config.listen.to_string(), "127.0.0.1:50052");
        assert!(config.data_dir().ends_with("moerag"));
    }

    #[test]
    fn shared_settings_are_read_and_the_routers_are_left_alone() {
        let env = [
            ("MOERAG_DEVICE", "ndarray"),
            ("MOERAG_TRAINER__TRAIN__SYNTHETIC_QUERIES", "600"),
            ("MOERAG_TRAINER__TRAIN__OPTIM__EPOCHS", "3"),
            ("MOERAG_ROUTER__LISTEN", "x"),
            ("MOERAG_LIMITS__BATCH", "7"),
            ("MOERAG_CHECKPOINTS__POLL_INTERVAL_MILLIS", "50"),
            ("MOERAG_DATA_DIR", "/data"),
        ];
        let config = read(&sources().env(env).flag("train.seed", Some(5))).unwrap();
        assert_eq!(
            (config.train.device, config.train.seed),
            (DeviceKind::Ndarray, 5)
        );
        assert_eq!(
            (config.train.synthetic_queries, config.train.optim.epochs),
            (600, 3)
        );
        assert_eq!(config.data_dir(), PathBuf::from("/data"));
        assert_eq!(config.checkpoints.poll_interval_millis, 50);
    }

    #[test]
    fn teachers_are_off_until_they_are_named() {
        let off = read(&sources()).unwrap().train.teachers;
        assert_eq!((off.llm.url, off.cross_encoder.dir), (None, None));
        let env = [
            (
                "MOERAG_TRAINER__TRAIN__TEACHERS__LLM__URL",
                "https://host/v1",
            ),
            ("MOERAG_TRAINER__TRAIN__TEACHERS__LLM__MODEL", "m"),
            ("MOERAG_TRAINER__TRAIN__TEACHERS__LLM__CACHE_DIR", "/cache"),
            ("MOERAG_TRAINER__TRAIN__TEACHERS__LLM__MAX_TOKENS", "5000"),
            ("MOERAG_TRAINER__TRAIN__TEACHERS__CROSS_ENCODER__DIR", "/x"),
        ];
        let on = read(&sources().env(env)).unwrap().train.teachers;
        assert_eq!(on.llm.url.as_deref(), Some("https://host/v1"));
        assert_eq!(on.llm.max_tokens, 5000);
        assert_eq!(on.cross_encoder.dir, Some(PathBuf::from("/x")));
        let unnamed = error(&env[..1]);
        assert!(unnamed.contains("train.teachers.llm.model"), "{unnamed}");
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        for (name, value, part) in [
            ("MOERAG_TRAINER__TRAIN__HELD_OUT_SHARE", "1.5", "below 0.9"),
            ("MOERAG_TRAINER__RETRAIN__POLL_SECS", "0", "at least 1"),
            ("MOERAG_DEVICE", "abacus", "`device`"),
            ("MOERAG_STORE__KIND", "qdrant", "`store.url`: must be set"),
            ("MOERAG_TRAINER__TRAIN__EPOCH", "3", "unknown setting"),
        ] {
            let message = error(&[(name, value)]);
            assert!(
                message.contains(name) || message.contains("default"),
                "{message}"
            );
            assert!(message.contains(part), "{message}");
        }
    }
}
