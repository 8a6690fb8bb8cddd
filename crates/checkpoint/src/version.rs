//! Version numbers and the directory names that carry them.

use object_store::path::Path;

/// Directory of all versions inside the store.
pub(crate) const VERSIONS: &str = "versions";

/// Prefix of a directory in the making, and of one on its way out; never a version.
pub(crate) const STAGED_PREFIX: &str = ".staged-";

/// Digits of a version's directory name.
const WIDTH: usize = 8;

/// The directory name of a version: `00000042`.
pub fn version_name(version: u64) -> String {
    format!("{version:0WIDTH$}")
}

/// The version that a directory name stands for.
///
/// # Errors
///
/// The reason, in words for a person, when it is not exactly what [`version_name`] writes. Such
/// names are reported, never skipped in silence: `v0.1` and `42` look like versions to whoever put
/// them there.
pub fn parse_version_name(name: &str) -> Result<u64, String> {
    let number = if name.bytes().all(|byte| byte.is_ascii_digit()) {
        name.parse::<u64>().ok()
    } else {
        None
    };
    match number {
        Some(number) if number > 0 && version_name(number) == name => Ok(number),
        Some(number) if number > 0 => Err(format!(
            "not a version: did you mean `{}`?",
            version_name(number)
        )),
        _ => Err(format!(
            "not a version: a version is {WIDTH} digits, for example `00000042`"
        )),
    }
}

/// `versions/<number>/<file>` under `prefix`.
pub(crate) fn file_path(prefix: &Path, version: u64, file: &str) -> Path {
    version_path(prefix, version).join(file)
}

/// `versions/<number>` under `prefix`.
pub(crate) fn version_path(prefix: &Path, version: u64) -> Path {
    prefix
        .clone()
        .join(VERSIONS)
        .join(version_name(version).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for version in [1, 42, 99_999_999, 100_000_000] {
            assert_eq!(parse_version_name(&version_name(version)), Ok(version));
        }
    }

    #[test]
    fn odd_names_are_refused_with_a_reason() {
        for name in [
            "v0.1",
            "42",
            "00000000",
            "+0000042",
            "000000042",
            "",
            "latest",
            "00000042 ",
        ] {
            assert!(parse_version_name(name).is_err(), "{name}");
        }
        assert!(parse_version_name("42").is_err_and(|why| why.contains("00000042")));
    }
}
