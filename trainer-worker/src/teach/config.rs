//! Settings of the teachers, section `train.teachers`.

use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// Variables with this prefix are settings of the processes, so none of them can hold a key.
const SETTINGS_PREFIX: &str = "MOERAG_";

/// Optional teachers of a training.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherConfig {
    /// A language model that writes queries.
    pub llm: LlmConfig,
    /// A cross-encoder that corrects labels.
    pub cross_encoder: CrossEncoderConfig,
}

/// A language model behind an OpenAI-compatible endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LlmConfig {
    /// Base of the endpoint, such as `http://127.0.0.1:8000/v1`; absent: no language model.
    pub url: Option<String>,
    /// Name of the model at the endpoint.
    pub model: String,
    /// Name of the environment variable that holds the key; absent: no key is sent.
    pub api_key_env: Option<String>,
    /// Synthetic queries that it writes instead of the rules, spread over the eight types.
    pub queries: usize,
    /// Requests per training, repeated ones included; 0: only answers that are in the cache.
    pub max_requests: usize,
    /// Tokens per training, of prompts and answers, as the endpoint counts them. No request is
    /// started beyond it; those under way may end a little above.
    pub max_tokens: u64,
    /// Directory that keeps the answers, so that none is paid for twice.
    pub cache_dir: Option<PathBuf>,
    /// Seconds that a request may take.
    pub timeout_secs: u64,
    /// Requests at a time.
    pub concurrency: usize,
}

impl Default for LlmConfig {
    fn default() -> Self {
        Self {
            url: None,
            model: String::new(),
            api_key_env: None,
            queries: 400,
            max_requests: 1000,
            max_tokens: 1_000_000,
            cache_dir: None,
            timeout_secs: 60,
            concurrency: 4,
        }
    }
}

/// A cross-encoder that gives pseudo-labels for training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEncoderConfig {
    /// Directory of a BERT cross-encoder in Hugging Face layout; absent: no cross-encoder.
    pub dir: Option<PathBuf>,
    /// Pairs of query and passage scored per training, nine for a query.
    pub max_pairs: usize,
    /// Pairs in a forward pass; a cancel is heard between two of them.
    pub batch: usize,
}

impl Default for CrossEncoderConfig {
    fn default() -> Self {
        Self {
            dir: None,
            max_pairs: 20_000,
            batch: 8,
        }
    }
}

impl TeacherConfig {
    /// Checks the ranges, and that nothing is missing for a teacher that is asked for. Reads neither
    /// files nor variables.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the first field that cannot work.
    pub fn validate(&self) -> Result<(), TrainError> {
        let checks = [
            (
                "train.teachers.cross_encoder.batch",
                (1..=64).contains(&self.cross_encoder.batch),
                "use 1 to 64",
            ),
            (
                "train.teachers.llm.concurrency",
                (1..=64).contains(&self.llm.concurrency),
                "use 1 to 64",
            ),
            (
                "train.teachers.llm.timeout_secs",
                (1..=3600).contains(&self.llm.timeout_secs),
                "use 1 to 3600",
            ),
            (
                "train.teachers.llm.model",
                self.llm.url.is_none() || !self.llm.model.trim().is_empty(),
                "must be set with train.teachers.llm.url",
            ),
            (
                "train.teachers.llm.cache_dir",
                self.llm.url.is_none() || self.llm.cache_dir.is_some(),
                "must be set with train.teachers.llm.url: answers are kept there, so that none is \
                 paid for twice",
            ),
            (
                "train.teachers.llm.api_key_env",
                self.llm
                    .api_key_env
                    .as_ref()
                    .is_none_or(|name| !name.is_empty() && !name.starts_with(SETTINGS_PREFIX)),
                "name an environment variable that does not begin with MOERAG_, which are settings",
            ),
        ];
        if let Some((field, _, remedy)) = checks.into_iter().find(|(_, fine, _)| !fine) {
            let reason = remedy.to_owned();
            return Err(TrainError::Config { field, reason });
        }
        self.llm
            .url
            .as_deref()
            .map_or(Ok(()), |url| completions(url).map(drop))
    }
}

/// Where chat completions are asked for below the base `url`.
pub(super) fn completions(url: &str) -> Result<Url, TrainError> {
    let refuse = |reason: &str| TrainError::Config {
        field: "train.teachers.llm.url",
        reason: format!("{reason}; give a base such as http://127.0.0.1:8000/v1"),
    };
    let base = Url::parse(url).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(refuse("must be an http or https address"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        // The settings are published with the version.
        return Err(refuse("must not hold a name or password"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(refuse("must not hold a query or fragment"));
    }
    let path = format!("{}/chat/completions", base.path().trim_end_matches('/'));
    let mut url = base;
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with_llm(change: impl FnOnce(&mut LlmConfig)) -> TeacherConfig {
        let mut config = TeacherConfig::default();
        config.llm.url = Some("http://127.0.0.1:8000/v1".to_owned());
        config.llm.model = "m".to_owned();
        config.llm.cache_dir = Some(PathBuf::from("cache"));
        change(&mut config.llm);
        config
    }

    #[test]
    fn without_a_teacher_nothing_needs_to_be_set() {
        TeacherConfig::default().validate().unwrap();
        with_llm(|_| ()).validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_named() {
        let set_url = |url: &'static str| move |c: &mut LlmConfig| c.url = Some(url.to_owned());
        let cases = [
            (with_llm(|c| c.model.clear()), "llm.model"),
            (with_llm(|c| c.cache_dir = None), "llm.cache_dir"),
            (with_llm(|c| c.concurrency = 0), "llm.concurrency"),
            (with_llm(|c| c.timeout_secs = 0), "llm.timeout_secs"),
            (
                with_llm(|c| c.api_key_env = Some("MOERAG_KEY".into())),
                "llm.api_key_env",
            ),
            (with_llm(set_url("localhost:8000/v1")), "llm.url"),
            (with_llm(set_url("file:///v1")), "llm.url"),
            (with_llm(set_url("http://me:secret@host/v1")), "llm.url"),
            (with_llm(set_url("http://host/v1?key=1")), "llm.url"),
            (with_llm(set_url("")), "llm.url"),
        ];
        for (config, field) in cases {
            let error = config.validate().unwrap_err().to_string();
            let named = format!("train.teachers.{field}:");
            assert!(error.starts_with(&named), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_path_is_appended_to_the_base() {
        for base in ["http://h:1/v1", "http://h:1/v1/"] {
            assert_eq!(
                completions(base).unwrap().as_str(),
                "http://h:1/v1/chat/completions"
            );
        }
        let root = completions("https://h").unwrap();
        assert_eq!(root.as_str(), "https://h/chat/completions");
    }
}
