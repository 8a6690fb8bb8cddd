//! One module per sub-command.

pub(crate) mod ask;
pub(crate) mod delete;
pub(crate) mod eval;
pub(crate) mod eval_set;
pub(crate) mod health;
pub(crate) mod ingest;
pub(crate) mod model;
pub(crate) mod models;
pub(crate) mod status;
pub(crate) mod train;
pub(crate) mod up;

use std::collections::HashMap;

use moerag_proto::v1::{ModelSource, ServedModel};
use serde_json::{Value, json};

use crate::ui;

/// The word for where weights come from.
pub(crate) fn source_word(source: i32) -> &'static str {
    match ModelSource::try_from(source) {
        Ok(ModelSource::Trained) => "trained",
        Ok(ModelSource::FallbackPrior) => "fallback_prior",
        Ok(ModelSource::Prior) => "prior",
        Ok(ModelSource::Unspecified) | Err(_) => "unknown",
    }
}

/// What the word means, for people.
pub(crate) fn source_reason(source: &str) -> &'static str {
    match source {
        "trained" => "learned from the documents",
        "fallback_prior" => "training did not beat the prior on held-out synthetic queries",
        "prior" => "untrained; `moerag train --watch` learns from the documents",
        _ => "the service did not say",
    }
}

/// First characters of a digest for people, enough to tell two apart.
pub(crate) fn short(digest: &str) -> String {
    ui::plain(digest.get(..12).unwrap_or(digest))
}

/// The model as JSON.
pub(crate) fn model_json(model: Option<&ServedModel>) -> Value {
    model.map_or(Value::Null, |model| {
        json!({
            "version": model.version,
            "source": source_word(model.source),
            "weights_digest": model.weights_digest,
            "embedding_space_id": model.embedding_space_id,
            "key_spec": model.key_spec,
        })
    })
}

/// Sources by collection as JSON, sorted by name.
pub(crate) fn sources_json(sources: &HashMap<String, i32>) -> Value {
    let sorted: std::collections::BTreeMap<&String, &str> = sources
        .iter()
        .map(|(name, source)| (name, source_word(*source)))
        .collect();
    json!(sorted)
}

/// Sources by collection for people, sorted by name: `docs trained, web prior`.
pub(crate) fn sources_text(sources: &HashMap<String, i32>) -> String {
    let mut parts: Vec<String> = sources
        .iter()
        .map(|(name, source)| format!("{} {}", ui::plain(name), source_word(*source)))
        .collect();
    parts.sort();
    parts.join(", ")
}

/// A protobuf time as `2026-01-31T12:00:00Z`; empty if it is unset or lies before 1970.
pub(crate) fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| u64::try_from(time.seconds).ok())
        // humantime panics beyond the year 9999; the number comes from a server.
        .filter(|seconds| *seconds < 253_402_300_800)
        .map_or_else(String::new, |seconds| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            humantime::format_rfc3339_seconds(time).to_string()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_dates_and_odd_ones_are_no_panic() {
        let text = |seconds| time_text(Some(&prost_types::Timestamp { seconds, nanos: 0 }));
        assert_eq!(text(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(text(-1), "");
        assert_eq!(text(i64::MAX), "");
        assert_eq!(time_text(None), "");
    }

    #[test]
    fn sources_are_sorted_and_an_unknown_number_is_no_panic() {
        let sources = HashMap::from([("b".to_owned(), 3), ("a".to_owned(), 99)]);
        assert_eq!(sources_text(&sources), "a unknown, b trained");
    }
}
