//! Configuration of the router (DESIGN.md section 6: flags > environment > TOML > defaults).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use moerag_checkpoint::CheckpointConfig;
use moerag_encoder::{DeviceKind, Precision};
use moerag_runtime::config::load;
use moerag_runtime::{ConfigError, Loaded, Sources, TelemetryConfig, data_dir};
use moerag_store::{StoreConfig, StoreKind};
use serde::{Deserialize, Serialize};

use crate::domain::Limits;
use crate::service::{CacheConfig, IngestConfig, Permits};

/// Section of this process in files and variables.
const SECTION: &str = "router";
/// Top-level names of other processes.
const ELSEWHERE: [&str; 6] = [
    "trainer",
    "cli",
    "eval",
    "test",
    "router_url",
    "trainer_url",
];

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// Address to listen on; port 0 chooses a free one.
    pub listen: SocketAddr,
    /// File to which the actual address is written once the router listens.
    pub address_file: Option<PathBuf>,
    /// Directory of the embedded store and, unless `checkpoints.url` is set, of the checkpoints.
    /// By default `$XDG_DATA_HOME/moerag`.
    pub data_dir: Option<PathBuf>,
    /// Directory of the encoder's files; by default where `moerag model fetch` puts them.
    pub encoder_dir: Option<PathBuf>,
    /// Device of encoder and model.
    pub device: DeviceKind,
    /// Precision of the encoder.
    pub precision: Precision,
    /// Where passages are kept.
    pub store: StoreConfig,
    /// Where models come from.
    pub checkpoints: CheckpointConfig,
    /// Sizes of the queues.
    pub permits: Permits,
    /// Bounds of requests.
    pub limits: Limits,
    /// How documents are gathered.
    pub ingest: IngestConfig,
    /// What is kept for queries that come again.
    pub cache: CacheConfig,
    /// Whether each thread of queries stays on a core of its own, where there is one for each. Faster after
    /// a pause; worse if other programs keep single cores busy.
    pub pin_threads: bool,
    /// Milliseconds between two checks of the store for the health service.
    pub health_interval_millis: u64,
    /// Milliseconds that requests have to end after a signal.
    pub drain_millis: u64,
    /// Logs.
    pub log: TelemetryConfig,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            address_file: None,
            data_dir: None,
            encoder_dir: None,
            device: DeviceKind::Flex,
            precision: Precision::Auto,
            store: StoreConfig::default(),
            checkpoints: CheckpointConfig::default(),
            permits: Permits::default(),
            limits: Limits::default(),
            ingest: IngestConfig::default(),
            cache: CacheConfig::default(),
            pin_threads: true,
            health_interval_millis: 1000,
            drain_millis: 10_000,
            log: TelemetryConfig::default(),
        }
    }
}

impl RouterConfig {
    /// The directory of all data; empty, where a checked configuration has no use for it.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.data_dir.as_deref())
    }

    /// Time between two looks at the checkpoint store.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoints.poll_interval_millis)
    }

    /// Time between two checks of the store.
    pub fn health_interval(&self) -> Duration {
        Duration::from_millis(self.health_interval_millis)
    }

    /// Time that requests have to end after a signal.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_millis)
    }
}

/// Sources with this process's section; flags are added by the caller.
pub fn sources() -> Sources {
    Sources::new(SECTION, &ELSEWHERE)
}

/// Reads and checks the configuration.
///
/// # Errors
/// The first setting that is unknown, of the wrong type or out of range.
pub fn read(sources: &Sources) -> Result<RouterConfig, ConfigError> {
    let loaded: Loaded<RouterConfig> = load(sources)?;
    check(&loaded)?;
    Ok(loaded.value)
}

fn check(loaded: &Loaded<RouterConfig>) -> Result<(), ConfigError> {
    let c = &loaded.value;
    let at_least_one = [
        ("permits.queued_queries", c.permits.queued_queries),
        ("permits.ingest_streams", c.permits.ingest_streams),
        ("permits.passage_streams", c.permits.passage_streams),
        ("limits.query_bytes", c.limits.query_bytes),
        ("limits.batch", c.limits.batch),
        ("limits.collections", c.limits.collections),
        ("limits.document_bytes", c.limits.document_bytes),
        ("ingest.batch_documents", c.ingest.batch_documents),
        ("ingest.batch_bytes", c.ingest.batch_bytes),
        (
            "checkpoints.poll_interval_millis",
            usize_of(c.checkpoints.poll_interval_millis),
        ),
        ("health_interval_millis", usize_of(c.health_interval_millis)),
    ];
    for (key, value) in at_least_one {
        if value == 0 {
            return Err(loaded.invalid(key, "must be at least 1"));
        }
    }
    if c.permits.queued_queries < c.limits.batch {
        let reason = format!("must be at least limits.batch, which is {}", c.limits.batch);
        return Err(loaded.invalid("permits.queued_queries", reason));
    }
    if c.limits.message_bytes < c.limits.document_bytes {
        let reason = format!(
            "must be at least limits.document_bytes, which is {}",
            c.limits.document_bytes
        );
        return Err(loaded.invalid("limits.message_bytes", reason));
    }
    if c.store.kind == StoreKind::Embedded || c.checkpoints.url.is_none() {
        loaded.need_data_dir(&c.data_dir())?;
    }
    let wrong_url = c.store.wrong_url();
    wrong_url.map_or(Ok(()), |reason| Err(loaded.invalid("store.url", reason)))
}

fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
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
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.store.kind, StoreKind::Embedded);
    }

    #[test]
    fn settings_of_other_processes_are_left_alone() {
        let env = [
            ("MOERAG_TRAINER__EPOCHS", "3"),
            ("MOERAG_TRAINER_URL", "http://x"),
            ("MOERAG_ROUTER__LISTEN", "0.0.0.0:1"),
            ("MOERAG_STORE__KIND", "qdrant"),
            ("MOERAG_STORE__URL", "http://q:6334"),
            ("MOERAG_DEVICE", "ndarray"),
        ];
        let config = read(&sources().env(env)).unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:1");
        assert_eq!(config.device, DeviceKind::Ndarray);
        assert_eq!(config.store.url.as_deref(), Some("http://q:6334"));
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        for (name, value, part) in [
            (
                "MOERAG_LIMITS__BATCH",
                "0",
                "`limits.batch`: must be at least 1",
            ),
            (
                "MOERAG_PERMITS__QUEUED_QUERIES",
                "3",
                "must be at least limits.batch",
            ),
            ("MOERAG_STORE__KIND", "qdrant", "`store.url`: must be set"),
            ("MOERAG_LISTEN", "nowhere", "`listen`"),
            ("MOERAG_DEVICE", "abacus", "`device`"),
            ("MOERAG_LISTNE", "127.0.0.1:1", "did you mean `listen`?"),
        ] {
            let message = error(&[(name, value)]);
            assert!(message.contains(part), "{message}");
        }
    }
}
