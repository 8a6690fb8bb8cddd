//! Where data lie that nobody has chosen a place for.

use std::path::PathBuf;

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
