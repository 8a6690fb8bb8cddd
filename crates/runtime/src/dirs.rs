//! Where a process keeps its data.

use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Loaded};

/// `$XDG_DATA_HOME/moerag`, or `~/.local/share/moerag`; none if neither variable is set.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(base.join("moerag"))
}

/// The directory that was chosen, or else the default one; empty if there is none, which
/// [`Loaded::need_data_dir`] refuses.
#[must_use]
pub fn data_dir(chosen: Option<&Path>) -> PathBuf {
    let chosen = chosen.map(Path::to_owned);
    chosen.or_else(default_data_dir).unwrap_or_default()
}

impl<T> Loaded<T> {
    /// Refuses a configuration that needs a data directory and has none.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if `dir` is empty.
    pub fn need_data_dir(&self, dir: &Path) -> Result<(), ConfigError> {
        if dir.as_os_str().is_empty() {
            let reason = "must be set (--data-dir or MOERAG_DATA_DIR), since HOME is not";
            return Err(self.invalid("data_dir", reason));
        }
        Ok(())
    }
}
