//! Flags that router and trainer both have, and that mean the same for both.

use std::path::PathBuf;

use clap::Args;

use crate::config::Sources;

/// Flags of a service. What only one of them has, and `listen`, whose default differs, are its own.
#[derive(Args, Clone, Debug, Default)]
pub struct ServiceFlags {
    /// TOML file with settings
    #[arg(long, env = "MOERAG_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File to which the actual address is written once the service listens
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// Directory of embedded store and checkpoints [default: $XDG_DATA_HOME/moerag]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory of the encoder's files [default: where `moerag model fetch` puts them]
    #[arg(long, value_name = "DIR")]
    pub encoder_dir: Option<PathBuf>,
    /// Device of encoder and model: flex, ndarray or wgpu [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Precision of the encoder: auto, f32 or int8 [default: auto, int8 on flex]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<String>,
    /// Where passages are kept: embedded (in the router) or qdrant [default: embedded]
    #[arg(long, value_name = "KIND")]
    pub store_kind: Option<String>,
    /// Address of a Qdrant server's gRPC port
    #[arg(long, value_name = "URL")]
    pub store_url: Option<String>,
    /// Checkpoint store: file:///..., s3://... or a directory [default: checkpoints in the data directory]
    #[arg(long, value_name = "URL")]
    pub checkpoints_url: Option<String>,
}

impl ServiceFlags {
    /// Adds file, environment and these flags to the sources of a process.
    #[must_use]
    pub fn layers(&self, sources: Sources) -> Sources {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        sources
            .file(self.config.clone())
            .process_env()
            .flag("address_file", path(&self.address_file))
            .flag("data_dir", path(&self.data_dir))
            .flag("encoder_dir", path(&self.encoder_dir))
            .flag("device", self.device.as_ref())
            .flag("precision", self.precision.as_ref())
            .flag("store.kind", self.store_kind.as_ref())
            .flag("store.url", self.store_url.as_ref())
            .flag("checkpoints.url", self.checkpoints_url.as_ref())
    }
}
