//! Layered configuration: flags > environment > TOML file > defaults (DESIGN.md section 6).
//!
//! A process has a *section*. A setting is looked up in its section first and at the top level
//! then, so that one file and one environment can serve several processes: `MOERAG_DATA_DIR` is
//! read by all of them, `MOERAG_ROUTER__LISTEN` only by the one whose section is `router`.
//! `__` separates levels in variable names. A setting that nobody knows is an error, because a
//! misspelt one would otherwise be ignored in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Source, Value, ValueKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Prefix of all variables.
pub const ENV_PREFIX: &str = "MOERAG_";

/// Variables with the prefix that are not settings: the path of the file itself.
const NOT_SETTINGS: [&str; 1] = ["config"];

/// Why a configuration was refused. Every message names where the setting comes from.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read or is not TOML.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable is not UTF-8.
    #[error("environment variable {name}: the value is not valid utf-8")]
    NotUtf8 {
        /// The variable.
        name: String,
    },
    /// A setting that does not exist.
    #[error("{origin}: unknown setting `{key}`{hint}")]
    Unknown {
        /// Where it was set.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// The nearest known name, as a remedy.
        hint: String,
    },
    /// A setting with a value of the wrong type or outside its range.
    #[error("{origin}: setting `{key}`: {reason}")]
    Invalid {
        /// Where it was set.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
}

/// Where a setting was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "configuration file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The layers a configuration is read from.
#[derive(Clone, Debug)]
pub struct Sources {
    section: &'static str,
    elsewhere: &'static [&'static str],
    file: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    flags: Vec<(String, String)>,
}

impl Sources {
    /// Sources without any layer. `elsewhere` are the top-level names that belong to other
    /// processes and are skipped without a look.
    pub fn new(section: &'static str, elsewhere: &'static [&'static str]) -> Self {
        Self {
            section,
            elsewhere,
            file: None,
            env: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Adds a TOML file. It must exist if it is given.
    #[must_use]
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// Adds the environment of this process.
    #[must_use]
    pub fn process_env(self) -> Self {
        self.env(std::env::vars_os())
    }

    /// Adds an environment; tests pass their own.
    #[must_use]
    pub fn env<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env
            .extend(vars.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Adds the setting with the dotted name `key` if the flag was given.
    #[must_use]
    pub fn flag(mut self, key: &str, value: Option<impl fmt::Display>) -> Self {
        if let Some(value) = value {
            self.flags.push((key.to_owned(), value.to_string()));
        }
        self
    }
}

/// A configuration that remembers where its settings come from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    origins: BTreeMap<String, Origin>,
}

impl<T> Loaded<T> {
    /// Where the setting with the dotted name `key` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The error for a value that parsed but makes no sense.
    pub fn invalid(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            origin: self.origin(key),
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

/// One setting of one layer.
struct Setting {
    key: String,
    value: Value,
    origin: Origin,
}

/// Reads a configuration. `T::default()` holds the defaults and tells which settings exist, so
/// nested sections of `T` must not be optional.
///
/// # Errors
/// An unreadable file, an unknown setting, or a value of the wrong type.
pub fn load<T>(sources: &Sources) -> Result<Loaded<T>, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let broken_defaults = |error: config::ConfigError| ConfigError::Invalid {
        origin: Origin::Default,
        key: sources.section.to_owned(),
        reason: error.to_string(),
    };
    let defaults = Config::try_from(&T::default()).map_err(broken_defaults)?;
    let known: BTreeSet<String> = leaves(defaults.collect().map_err(broken_defaults)?)
        .into_iter()
        .map(|(key, _)| key)
        .collect();

    let mut settings = Vec::new();
    if let Some(path) = &sources.file {
        settings.extend(in_scope(sources, file_settings(path)?));
    }
    settings.extend(in_scope(sources, env_settings(&sources.env)?));
    settings.extend(sources.flags.iter().map(|(key, value)| Setting {
        key: key.clone(),
        value: Value::new(None, ValueKind::String(value.clone())),
        origin: Origin::Flag(format!("--{}", key.replace(['.', '_'], "-"))),
    }));

    let mut builder = Config::builder().add_source(defaults);
    let mut origins = BTreeMap::new();
    for setting in settings {
        if !known.contains(&setting.key) {
            return Err(ConfigError::Unknown {
                hint: hint(&setting.key, &known),
                origin: setting.origin,
                key: setting.key,
            });
        }
        builder = builder
            .set_override(&setting.key, setting.value)
            .map_err(|error| ConfigError::Invalid {
                origin: setting.origin.clone(),
                key: setting.key.clone(),
                reason: error.to_string(),
            })?;
        origins.insert(setting.key, setting.origin);
    }
    let value = builder
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| locate(error, &origins))?;
    Ok(Loaded { value, origins })
}

/// Drops what belongs to other processes; settings of the own section come after, and so win
/// over, those of the top level.
fn in_scope(sources: &Sources, settings: Vec<Setting>) -> Vec<Setting> {
    let own = format!("{}.", sources.section);
    let (mut scoped, mut common) = (Vec::new(), Vec::new());
    for mut setting in settings {
        if let Some(key) = setting.key.strip_prefix(&own) {
            setting.key = key.to_owned();
            scoped.push(setting);
            continue;
        }
        let top = setting.key.split('.').next().unwrap_or_default();
        if !sources.elsewhere.contains(&top) {
            common.push(setting);
        }
    }
    common.extend(scoped);
    common
}

fn file_settings(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let refuse = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let table = File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| refuse(error.to_string()))?;
    Ok(leaves(table)
        .into_iter()
        .map(|(key, value)| Setting {
            key,
            value,
            origin: Origin::File(path.to_owned()),
        })
        .collect())
}

fn env_settings(env: &[(OsString, OsString)]) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        if NOT_SETTINGS.contains(&key.as_str()) {
            continue;
        }
        let value = value.to_str().ok_or_else(|| ConfigError::NotUtf8 {
            name: name.clone().into_owned(),
        })?;
        settings.push(Setting {
            key,
            value: Value::new(None, ValueKind::String(value.to_owned())),
            origin: Origin::Env(name.into_owned()),
        });
    }
    // The environment has no order of its own; errors should not depend on it.
    settings.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(settings)
}

/// Dotted names and values of all settings below a table.
fn leaves(table: config::Map<String, Value>) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value.kind {
            ValueKind::Table(inner) => out.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(key, value)| (format!("{name}.{key}"), value)),
            ),
            _ => out.push((name, value)),
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// Names the layer that brought the value which serde refused.
fn locate(error: config::ConfigError, origins: &BTreeMap<String, Origin>) -> ConfigError {
    let (key, reason) = match error {
        config::ConfigError::Type {
            unexpected,
            expected,
            key,
            ..
        } => (key, format!("expected {expected}, found {unexpected}")),
        config::ConfigError::At { error, key, .. } => (key, error.to_string()),
        other => (None, other.to_string()),
    };
    let key = key.unwrap_or_default();
    ConfigError::Invalid {
        origin: origins.get(&key).cloned().unwrap_or(Origin::Default),
        key,
        reason,
    }
}

/// The known setting with the most similar name, if one is similar at all.
fn hint(key: &str, known: &BTreeSet<String>) -> String {
    let distance = |other: &str| edit_distance(key.as_bytes(), other.as_bytes());
    known
        .iter()
        .map(|name| (distance(name), name))
        .min()
        .filter(|(distance, _)| *distance <= 3.max(key.len() / 4))
        .map(|(_, name)| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        data_dir: Option<PathBuf>,
        limits: Limits,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1".into(),
                data_dir: None,
                limits: Limits::default(),
            }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        top_k: u32,
        ratio: f64,
        mode: Mode,
    }

    impl Default for Limits {
        fn default() -> Self {
            Self {
                top_k: 10,
                ratio: 0.5,
                mode: Mode::Soft,
            }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Soft,
        Hard,
    }

    fn sources(env: &[(&str, &str)]) -> Sources {
        Sources::new("router", &["trainer"]).env(env.iter().copied())
    }

    fn error(env: &[(&str, &str)]) -> String {
        load::<Sample>(&sources(env)).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_means_defaults() {
        assert_eq!(
            load::<Sample>(&sources(&[("HOME", "/x")])).unwrap().value,
            Sample::default()
        );
    }

    #[test]
    fn flags_win_over_env_over_file_over_defaults() {
        let dir = std::env::temp_dir().join(format!("moerag-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.toml");
        std::fs::write(
            &path,
            "listen = 'file'\ndata_dir = '/file'\n[limits]\ntop_k = 3\nratio = 0.25\n[trainer]\nx = 1\n[router.limits]\nratio = 0.75\n",
        )
        .unwrap();
        let sources = sources(&[
            ("MOERAG_DATA_DIR", "/env"),
            ("MOERAG_LIMITS__TOP_K", "4"),
            ("MOERAG_TRAINER__ANYTHING", "1"),
            ("MOERAG_CONFIG", "a.toml"),
        ])
        .file(Some(path.clone()))
        .flag("limits.top_k", Some(5))
        .flag("listen", None::<String>);
        let loaded = load::<Sample>(&sources).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(loaded.value.listen, "file");
        assert_eq!(loaded.value.data_dir, Some(PathBuf::from("/env")));
        assert_eq!(loaded.value.limits.top_k, 5);
        assert_eq!(loaded.value.limits.ratio, 0.75);
        assert_eq!(loaded.origin("listen"), Origin::File(path));
        assert_eq!(
            loaded.invalid("limits.top_k", "too large").to_string(),
            "flag --limits-top-k: setting `limits.top_k`: too large"
        );
    }

    #[test]
    fn the_own_section_wins_over_the_top_level() {
        let env = [("MOERAG_ROUTER__LISTEN", "own"), ("MOERAG_LISTEN", "all")];
        assert_eq!(load::<Sample>(&sources(&env)).unwrap().value.listen, "own");
    }

    #[test]
    fn errors_name_the_variable_and_the_field() {
        assert_eq!(
            error(&[("MOERAG_LIMITS__TOPK", "4")]),
            "environment variable MOERAG_LIMITS__TOPK: unknown setting `limits.topk`; did you mean `limits.top_k`?"
        );
        assert_eq!(
            error(&[("MOERAG_LIMITS__TOP_K", "many")]),
            "environment variable MOERAG_LIMITS__TOP_K: setting `limits.top_k`: expected an integer, found string \"many\""
        );
        let mode = error(&[("MOERAG_LIMITS__MODE", "sideways")]);
        assert!(
            mode.starts_with("environment variable MOERAG_LIMITS__MODE: setting `limits.mode`: ")
                && mode.contains("sideways"),
            "{mode}"
        );
    }

    #[test]
    fn errors_name_the_file() {
        let missing = Sources::new("router", &[]).file(Some("/nowhere/x.toml".into()));
        let message = load::<Sample>(&missing).unwrap_err().to_string();
        assert!(
            message.starts_with("configuration file /nowhere/x.toml: "),
            "{message}"
        );
    }
}
