//! JSON lines: one document a line, read as a stream.
//!
//! A record is `{"_id" or "id", "title"?, "text", "metadata"?}`, as in BEIR. Metadata values that are
//! no strings are kept as their JSON text.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::text::utf8;
use super::{LoadError, LoadOptions};
use crate::document::{Document, Format};

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "_id", alias = "id")]
    id: Value,
    #[serde(default)]
    title: Option<String>,
    text: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
}

/// The documents of one JSONL file.
pub(super) struct Records {
    path: PathBuf,
    reader: BufReader<fs_err::File>,
    line: u64,
    max_bytes: usize,
    whole: bool,
    failed: bool,
}

impl Records {
    pub(super) fn open(path: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        let file = fs_err::File::open(path).map_err(|error| LoadError {
            path: path.to_owned(),
            line: None,
            reason: format!("cannot be read: {}", error.kind()),
            remedy: "make it readable for this user or leave it out",
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            line: 0,
            max_bytes: options.max_record_bytes,
            whole: options.whole_records,
            failed: false,
        })
    }

    fn fail(&self, reason: String, remedy: &'static str) -> LoadError {
        LoadError {
            path: self.path.clone(),
            line: Some(self.line),
            reason,
            remedy,
        }
    }

    /// The next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, LoadError> {
        let mut line = Vec::new();
        self.line += 1;
        let limit = self.max_bytes as u64 + 1;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line);
        let read = read.and_then(|count| {
            if count as u64 == limit && line.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
            }
            Ok(count)
        });
        match read {
            Ok(0) => Ok(None),
            Ok(count) if count as u64 == limit && line.last() != Some(&b'\n') => Err(self.fail(
                format!("the record is longer than {} bytes", self.max_bytes),
                "split it or raise the record size limit",
            )),
            Ok(_) => Ok(Some(line)),
            Err(error) => {
                // Reading would fail in the same place for ever.
                self.failed = true;
                Err(self.fail(
                    format!("cannot be read: {}", error.kind()),
                    "make it readable for this user or leave it out",
                ))
            }
        }
    }

    fn parse(&self, line: Vec<u8>) -> Result<Document, LoadError> {
        let line = utf8(line)
            .map_err(|reason| self.fail(reason, "convert it to UTF-8 (for example with iconv)"))?;
        let record: Record = serde_json::from_str(&line).map_err(|error| {
            self.fail(
                format!("is not a record: {error}"),
                "give an object with \"_id\" or \"id\", \"text\" and optional \"title\", \"metadata\"",
            )
        })?;
        let id = match record.id {
            Value::String(id) if !id.is_empty() => id,
            Value::Number(id) => id.to_string(),
            _ => {
                return Err(self.fail(
                    "the id is neither a number nor a string with characters".into(),
                    "give every record an \"_id\" or \"id\" of its own",
                ));
            }
        };
        let plain = |value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Document {
            id,
            title: record.title.unwrap_or_default(),
            text: record.text,
            format: Format::Plain,
            metadata: record
                .metadata
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, plain(value)))
                .collect(),
            whole: self.whole,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Document, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.next_line() {
                Ok(None) => return None,
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Some(line)) => return Some(self.parse(line)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}
