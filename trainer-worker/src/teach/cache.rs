//! Answers of a language model on disk: one JSON object a line, appended and never rewritten.
//!
//! A training that is cut off, or repeated, takes up where the file ends. A line that is torn (the
//! process died in the middle of it) is passed over.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file below the cache directory.
const FILE: &str = "llm.jsonl";

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    answer: std::borrow::Cow<'a, str>,
}

/// The file, open for appending.
#[derive(Debug)]
pub(super) struct Cache {
    file: File,
}

impl Cache {
    /// Opens the file below `dir`, made with its directories where it is missing.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs_err::create_dir_all(dir)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(dir.join(FILE))?;
        // A torn last line must not swallow the next one.
        if file.seek(SeekFrom::End(0))? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file })
    }

    /// The answers to those keys that are in the file; the last one where there are several.
    pub(super) fn read(&mut self, wanted: &HashSet<&str>) -> io::Result<HashMap<String, String>> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut found = HashMap::new();
        for line in BufReader::new(&mut self.file).split(b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line<'_>>(&line?)
                && wanted.contains(&*line.key)
            {
                found.insert(line.key.into_owned(), line.answer.into_owned());
            }
        }
        Ok(found)
    }

    /// Adds an answer, in one write.
    pub(super) fn append(&mut self, key: &str, answer: &str) -> io::Result<()> {
        let (key, answer) = (key.into(), answer.into());
        let mut line = serde_json::to_vec(&Line { key, answer })?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

/// Digest of what an answer depends on, hex.
pub(super) fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // A separator that no text can imitate: lengths.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(dir: &Path, keys: &[&str]) -> HashMap<String, String> {
        let wanted = keys.iter().copied().collect();
        Cache::open(dir).unwrap().read(&wanted).unwrap()
    }

    #[test]
    fn answers_come_back_whatever_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("not/there/yet");
        let mut cache = Cache::open(&below).unwrap();
        cache
            .append("a", "one\ntwo \"quoted\" \u{2028} 北京")
            .unwrap();
        cache.append("b", "").unwrap();
        cache.append("b", "later").unwrap();
        let found = read(&below, &["a", "b", "c"]);
        assert_eq!(found["a"], "one\ntwo \"quoted\" \u{2028} 北京");
        assert_eq!((found["b"].as_str(), found.len()), ("later", 2));
        assert_eq!(read(&below, &["b"]).len(), 1);
    }

    #[test]
    fn a_torn_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        Cache::open(dir.path())
            .unwrap()
            .append("a", "first")
            .unwrap();
        let mut bytes = fs_err::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"key\":\"b\",\"ans\xc3");
        fs_err::write(&path, bytes).unwrap();
        Cache::open(dir.path())
            .unwrap()
            .append("c", "third")
            .unwrap();
        let found = read(dir.path(), &["a", "b", "c"]);
        assert_eq!(
            (found["a"].as_str(), found["c"].as_str()),
            ("first", "third")
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }
}
