//! Flags of the binary.

use clap::Parser;
use moerag_runtime::{ServiceFlags, Sources};

use crate::config;

/// Serves routed attention over passages
///
/// Every setting can also be given in a TOML file or as a variable: `store.url` is
/// MOERAG_STORE__URL. Flags win over variables, variables over the file.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "router-service", version, max_term_width = 100)]
pub struct Args {
    /// Address to listen on; port 0 chooses a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Those of every service.
    #[command(flatten)]
    pub service: ServiceFlags,
}

impl Args {
    /// The layers of configuration that these flags and the environment give.
    pub fn sources(&self) -> Sources {
        let layers = self.service.layers(config::sources());
        layers.flag("listen", self.listen.as_ref())
    }
}
