//! What every process of the project needs and that has nothing to do with its domain:
//! configuration, telemetry, shutdown, errors in words and a pool for CPU work.

pub mod config;
pub mod cpu_pool;
pub mod dirs;
pub mod error;
pub mod flags;
pub mod shutdown;
pub mod telemetry;

pub use config::{ConfigError, Loaded, Sources};
pub use cpu_pool::{Ahead, CpuPool, CpuPoolError};
pub use dirs::{data_dir, default_data_dir};
pub use error::chain;
pub use flags::ServiceFlags;
pub use shutdown::Shutdown;
pub use telemetry::{LogFormat, TelemetryConfig, TelemetryError};

/// Exit status of a process with a bad command line or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
