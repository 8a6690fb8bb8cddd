//! The documents below the given paths, as messages of the ingest stream.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::{Document, DocumentFormat, IngestFinish};
use moerag_store::load::{LoadError, LoadOptions, PATH_KEY, walk};
use moerag_store::{Document as Loaded, Format};

use crate::failure::Usage;

/// Longest text that the router takes by default. A message that is longer than it reads would end the
/// stream, and with it the ingest of everything behind that document.
const TEXT_BYTES: usize = 4 << 20;
/// Longest rest of a document: both together fit into a message, and the router refuses by name what is
/// too long in it.
const REST_BYTES: usize = 1 << 20;
/// What a metadata entry takes beside key and value, at most.
const ENTRY_BYTES: usize = 32;
/// Longest id that a collection can have.
const ID_BYTES: usize = 1024;

/// A file or document that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Path of the file, or id of the document.
    pub(super) what: String,
    /// Why.
    pub(super) reason: String,
}

/// What came of reading all paths.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Files and records that could not be read.
    pub(super) refused: Vec<Refusal>,
    /// Files passed over because of their type, by extension.
    pub(super) skipped: BTreeMap<String, u64>,
    /// Why nothing was pruned although it was asked for.
    pub(super) not_pruned: Option<String>,
}

/// Refuses paths that cannot be read at all before anything is sent.
pub(super) fn check_roots(roots: &[PathBuf]) -> Result<()> {
    for root in roots {
        walk(root, LoadOptions::default()).map_err(|error| Usage(error.to_string()))?;
    }
    Ok(())
}

/// Number of documents below the paths, for the progress bar.
pub(super) fn count(roots: &[PathBuf]) -> u64 {
    let sent = |item: &Result<Loaded, LoadError>| {
        item.as_ref()
            .is_ok_and(|document| too_long(document).is_none())
    };
    let documents = |root: &PathBuf| {
        walk(root, LoadOptions::default()).map_or(0, |walk| walk.filter(sent).count() as u64)
    };
    roots.iter().map(documents).sum()
}

/// Hands every document to `send`, in order, until it says that nobody listens any more.
pub(super) fn read(roots: &[PathBuf], prune: bool, send: impl Fn(Message) -> bool) -> Read {
    let mut read = Read::default();
    // The place among the paths of the one that had the id first.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut keep = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        let mut documents = match walk(root, LoadOptions::default()) {
            Ok(documents) => documents,
            Err(error) => {
                read.refuse(root, &error, &mut keep);
                continue;
            }
        };
        for item in documents.by_ref() {
            match item {
                Ok(document) => {
                    if let Some(reason) = too_long(&document) {
                        read.refused.push(Refusal {
                            what: place(root, &document),
                            reason,
                        });
                        if document.id.len() <= ID_BYTES {
                            keep.push(document.id);
                        }
                        continue;
                    }
                    if let Some(first) = seen.get(&document.id) {
                        read.refused.push(Refusal {
                            what: document.id,
                            reason: same_id(root, *first == at),
                        });
                        continue;
                    }
                    seen.insert(document.id.clone(), at);
                    if !send(Message::Document(to_proto(document))) {
                        return read;
                    }
                }
                Err(error) => read.refuse(root, &error, &mut keep),
            }
        }
        for (extension, count) in documents.skipped() {
            *read.skipped.entry(extension.clone()).or_default() += count;
        }
    }
    if prune {
        send(Message::Finish(IngestFinish {
            prune: read.not_pruned.is_none(),
            keep_document_ids: keep,
        }));
    }
    read
}

impl Read {
    /// A file that cannot be read now is not a file that is gone: its document is kept. Where it is
    /// not known which documents are behind an error, nothing is pruned at all.
    fn refuse(&mut self, root: &Path, error: &LoadError, keep: &mut Vec<String>) {
        match document_id(root, error) {
            Some(id) => keep.push(id),
            None => {
                self.not_pruned.get_or_insert_with(|| {
                    format!(
                        "{} could not be read, so it is not known which documents are gone",
                        error.path.display()
                    )
                });
            }
        }
        let place = match error.line {
            Some(line) => format!("{}:{line}", error.path.display()),
            None => error.path.display().to_string(),
        };
        self.refused.push(Refusal {
            what: place,
            reason: format!("{}; {}", error.reason, error.remedy),
        });
    }
}

/// Why a document cannot be sent, with the remedy.
fn too_long(document: &Loaded) -> Option<String> {
    let text = document.text.len();
    if text > TEXT_BYTES {
        return Some(format!(
            "the text has {text} bytes, the router takes {TEXT_BYTES} of a document; split it"
        ));
    }
    let entries = document.metadata.iter();
    let entries = entries.map(|(key, value)| key.len() + value.len() + ENTRY_BYTES);
    let rest = document.id.len() + document.title.len() + entries.sum::<usize>();
    (rest > REST_BYTES).then(|| {
        format!(
            "id, title and metadata have {rest} bytes, the router takes {REST_BYTES} at most; shorten them"
        )
    })
}

/// The file of a document, or the path that its record lies below.
fn place(root: &Path, document: &Loaded) -> String {
    if document.metadata.get(PATH_KEY) != Some(&document.id) {
        let id: String = document.id.chars().take(64).collect();
        return format!("{}: record {id:?}", root.display());
    }
    let file = if root.is_file() {
        root.to_owned()
    } else {
        root.join(&document.id)
    };
    file.display().to_string()
}

/// Why a document whose id was there before is refused: within one path only records can share an id.
fn same_id(root: &Path, same_root: bool) -> String {
    if !same_root {
        return "another of the given paths has a document with this id; ingest their common parent"
            .into();
    }
    let path = root.display();
    let cause = if root.is_file() {
        format!("{path} has this id twice")
    } else {
        format!("two documents in {path} have this id")
    };
    format!("{cause}; give every record an id of its own")
}

/// Id of the document that a failed file would have become, where one file is one document.
fn document_id(root: &Path, error: &LoadError) -> Option<String> {
    let records = error.path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("jsonl") || extension.eq_ignore_ascii_case("ndjson")
    });
    if error.line.is_some() || records || error.path.is_dir() {
        return None;
    }
    let relative = error
        .path
        .strip_prefix(root)
        .ok()
        .filter(|path| !path.as_os_str().is_empty());
    let relative = relative.or(error.path.file_name().map(Path::new))?;
    Some(
        relative
            .iter()
            .map(|part| part.to_string_lossy())
            .collect::<Vec<_>>()
            .join("/"),
    )
}

fn to_proto(document: Loaded) -> Document {
    Document {
        id: document.id,
        title: document.title,
        text: document.text,
        format: match document.format {
            Format::Plain => DocumentFormat::Plain,
            Format::Markdown => DocumentFormat::Markdown,
            Format::Html => DocumentFormat::Html,
        } as i32,
        metadata: document.metadata.into_iter().collect(),
        whole: document.whole,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;

    use super::*;

    fn read_all(roots: &[PathBuf], prune: bool) -> (Vec<String>, Option<IngestFinish>, Read) {
        let ids = RefCell::new(Vec::new());
        let finish = RefCell::new(None);
        let read = read(roots, prune, |message| {
            match message {
                Message::Document(document) => ids.borrow_mut().push(document.id),
                Message::Finish(end) => *finish.borrow_mut() = Some(end),
                Message::Start(_) => {}
            }
            true
        });
        (ids.into_inner(), finish.into_inner(), read)
    }

    #[test]
    fn an_unreadable_file_is_reported_and_spared_from_pruning() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("a.md"), "# A\n\ntext").unwrap();
        fs_err::write(dir.path().join("b.txt"), [0xff, 0xfe, 0x00, 0xd8]).unwrap();
        fs_err::write(dir.path().join("c.bin"), "x").unwrap();
        let (ids, finish, read) = read_all(&[dir.path().to_path_buf()], true);
        assert_eq!(ids, ["a.md"]);
        assert_eq!(finish.unwrap().keep_document_ids, ["b.txt"]);
        assert_eq!(read.refused.len(), 1);
        assert!(read.refused[0].what.ends_with("b.txt"));
        assert_eq!(read.skipped["bin"], 1);
        assert_eq!(count(&[dir.path().to_path_buf()]), 1);
    }

    #[test]
    fn a_broken_record_forbids_pruning() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(
            dir.path().join("a.jsonl"),
            "{\"id\":\"1\",\"text\":\"x\"}\nno json\n",
        )
        .unwrap();
        let (ids, finish, read) = read_all(&[dir.path().to_path_buf()], true);
        assert_eq!(ids, ["1"]);
        assert!(!finish.unwrap().prune);
        assert!(read.not_pruned.unwrap().contains("a.jsonl"));
    }

    #[test]
    fn the_same_id_below_two_paths_is_refused_once() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs_err::write(one.path().join("a.md"), "one").unwrap();
        fs_err::write(two.path().join("a.md"), "two").unwrap();
        let (ids, finish, read) = read_all(&[one.path().into(), two.path().into()], false);
        assert_eq!(ids, ["a.md"]);
        assert!(finish.is_none());
        assert_eq!(read.refused[0].what, "a.md");
    }

    #[test]
    fn an_id_twice_in_one_file_is_not_blamed_on_another_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        let record = "{\"id\":\"1\",\"text\":\"x\"}\n";
        fs_err::write(&file, record.repeat(2)).unwrap();
        for (root, expected) in [
            (file.clone(), "a.jsonl has this id twice"),
            (dir.path().to_path_buf(), "two documents in"),
        ] {
            let (ids, _, read) = read_all(&[root], false);
            assert_eq!(ids, ["1"]);
            let reason = &read.refused[0].reason;
            assert!(reason.contains(expected), "{reason}");
            assert!(
                reason.ends_with("give every record an id of its own"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_document_that_would_end_the_stream_is_refused_and_spared_from_pruning() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(TEXT_BYTES + 1);
        fs_err::write(dir.path().join("a.txt"), &long).unwrap();
        fs_err::write(dir.path().join("b.txt"), &long[1..]).unwrap();
        let records = format!(
            "{{\"id\":\"text\",\"text\":\"{long}\"}}\n{{\"id\":\"title\",\"title\":\"{long}\",\"text\":\"x\"}}\n"
        );
        fs_err::write(dir.path().join("c.jsonl"), records).unwrap();
        let roots = [dir.path().to_path_buf()];
        let (ids, finish, read) = read_all(&roots, true);
        assert_eq!(ids, ["b.txt"]);
        assert_eq!(count(&roots), 1);
        let finish = finish.unwrap();
        assert!(finish.prune);
        assert_eq!(finish.keep_document_ids, ["a.txt", "text", "title"]);
        let [file, text, title] = &read.refused[..] else {
            panic!("{:?}", read.refused);
        };
        assert!(file.what.ends_with("a.txt"), "{file:?}");
        for part in ["4194305", "4194304", "split it"] {
            assert!(file.reason.contains(part), "{file:?}");
        }
        assert!(text.what.ends_with("record \"text\""), "{text:?}");
        assert!(title.reason.contains("title"), "{title:?}");
    }

    #[test]
    fn a_path_that_does_not_exist_is_bad_usage() {
        let error = check_roots(&[PathBuf::from("/nowhere/at/all")]).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
    }
}
