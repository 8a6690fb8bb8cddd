//! Flags of the binary.

use std::path::PathBuf;

use clap::Parser;
use moerag_runtime::Sources;

use crate::config;

/// Serves routed attention over passages
///
/// Every setting can also be given in a TOML file or as a variable: `store.url` is
/// MOERAG_STORE__URL. Flags win over variables, variables over the file.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "router-service", version, max_term_width = 100)]
pub struct Args {
    /// TOML file with settings
    #[arg(long, env = "MOERAG_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; port 0 chooses a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// File to which the actual address is written once the router listens
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
    /// Where passages are kept: embedded or qdrant [default: embedded]
    #[arg(long, value_name = "KIND")]
    pub store_kind: Option<String>,
    /// Address of a Qdrant server's gRPC port
    #[arg(long, value_name = "URL")]
    pub store_url: Option<String>,
    /// Checkpoint store: file:///..., s3://... or a directory [default: checkpoints in the data directory]
    #[arg(long, value_name = "URL")]
    pub checkpoints_url: Option<String>,
}

impl Args {
    /// The layers of configuration that these flags and the environment give.
    pub fn sources(&self) -> Sources {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        config::sources()
            .file(self.config.clone())
            .process_env()
            .flag("listen", self.listen.as_ref())
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
