//! Where the encoder's files lie (DESIGN.md section 6).

use std::env;
use std::path::PathBuf;

use crate::error::EncoderError;

/// The environment variable that names the encoder's directory.
pub const ENCODER_DIR_ENV: &str = "MOERAG_ENCODER_DIR";

/// The name of the default encoder, and of its directory in the cache.
pub const DEFAULT_ENCODER: &str = "all-MiniLM-L6-v2";

/// The encoder's directory: `MOERAG_ENCODER_DIR`, else
/// `$XDG_CACHE_HOME/moerag/encoder/all-MiniLM-L6-v2`, else the same under `~/.cache`.
///
/// Empty variables count as unset. Nothing is checked: [`crate::Encoder::load`] does that.
///
/// # Errors
///
/// [`EncoderError::NoDirectory`] when none of the variables is set.
pub fn default_dir() -> Result<PathBuf, EncoderError> {
    resolve(|name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
    .ok_or(EncoderError::NoDirectory)
}

fn resolve(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(dir) = var(ENCODER_DIR_ENV) {
        return Some(dir);
    }
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
    Some(cache.join("moerag").join("encoder").join(DEFAULT_ENCODER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_rank_as_documented() {
        let at = |vars: &[(&str, &str)]| {
            resolve(|name| {
                vars.iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| PathBuf::from(v))
            })
        };
        let all = [
            (ENCODER_DIR_ENV, "/e"),
            ("XDG_CACHE_HOME", "/c"),
            ("HOME", "/h"),
        ];
        assert_eq!(at(&all), Some(PathBuf::from("/e")));
        assert_eq!(
            at(&all[1..]),
            Some(PathBuf::from("/c/moerag/encoder/all-MiniLM-L6-v2"))
        );
        assert_eq!(
            at(&all[2..]),
            Some(PathBuf::from("/h/.cache/moerag/encoder/all-MiniLM-L6-v2"))
        );
        assert_eq!(at(&[]), None);
    }
}
