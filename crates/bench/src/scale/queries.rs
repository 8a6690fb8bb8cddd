//! Queries from a file.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A line of BEIR's queries.jsonl, or of the samples that `scripts/benchmark` makes.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "query")]
    text: String,
}

/// The first `count` distinct queries of a file of JSON lines.
pub(super) fn read(path: &Path, count: usize) -> Result<Vec<String>> {
    let file = std::io::BufReader::new(fs_err::File::open(path)?);
    let (mut seen, mut queries) = (HashSet::new(), Vec::new());
    for (number, line) in file.lines().enumerate() {
        if queries.len() == count {
            break;
        }
        let line = line.with_context(|| format!("reading {}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let Line { text } = serde_json::from_str(&line)
            .with_context(|| format!("{}:{}", path.display(), number + 1))?;
        if !text.trim().is_empty() && seen.insert(text.clone()) {
            queries.push(text);
        }
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn queries_are_distinct_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let lines = [
            r#"{"_id": "1", "text": "one", "metadata": {}}"#,
            r#"{"query": "two"}"#,
            "",
            r#"{"text": "one"}"#,
            r#"{"text": " "}"#,
            r#"{"text": "three"}"#,
        ];
        fs_err::write(&path, lines.join("\n")).unwrap();
        assert_eq!(read(&path, 9).unwrap(), ["one", "two", "three"]);
        assert_eq!(read(&path, 2).unwrap(), ["one", "two"]);
        fs_err::write(&path, "{\"text\": \"a\"}\n{}").unwrap();
        let error = format!("{:#}", read(&path, 9).unwrap_err());
        assert!(error.contains("q.jsonl:2"), "{error}");
    }
}
