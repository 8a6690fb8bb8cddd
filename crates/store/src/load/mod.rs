//! Documents from files: a directory walk that reports what it could not read and goes on.
//!
//! Markdown, HTML, plain text and JSONL are told apart by their extension. `.gitignore` and `.ignore`
//! files are honoured, hidden files and symbolic links are left alone. A document's id is its path
//! relative to the root, with `/` between the parts.

mod jsonl;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use serde::Serialize;

use crate::document::{Document, Format};
use crate::plain::plain_text;
use jsonl::Records;

/// Metadata key under which a document from a file carries its path relative to the root.
pub const PATH_KEY: &str = "path";

/// Limits and choices of a [`walk`].
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Largest text, Markdown or HTML file in bytes. Default: 16 MiB.
    pub max_file_bytes: u64,
    /// Longest line of a JSONL file in bytes; the file itself may be of any size. Default: 16 MiB.
    pub max_record_bytes: usize,
    /// Keep every JSONL record as one passage ([`Document::whole`]). Default: false.
    pub whole_records: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let limit = 16 * 1024 * 1024;
        Self {
            max_file_bytes: limit as u64,
            max_record_bytes: limit,
            whole_records: false,
        }
    }
}

/// Why one file or record was not loaded; the walk goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Line in it, from 1, where one record is at fault.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// What would help.
    pub remedy: &'static str,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for LoadError {}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text(Format),
    Jsonl,
}

fn kind_of(path: &Path) -> Option<Kind> {
    let Some(extension) = path.extension().and_then(|e| e.to_str()) else {
        // README, LICENSE, CHANGELOG: prose by custom, when not hidden.
        return path
            .extension()
            .is_none()
            .then_some(Kind::Text(Format::Plain));
    };
    match extension.to_ascii_lowercase().as_str() {
        "md" | "markdown" | "mdown" | "mkd" | "mdx" => Some(Kind::Text(Format::Markdown)),
        "html" | "htm" | "xhtml" => Some(Kind::Text(Format::Html)),
        "txt" | "text" | "rst" | "adoc" | "asciidoc" | "org" => Some(Kind::Text(Format::Plain)),
        "jsonl" | "ndjson" => Some(Kind::Jsonl),
        _ => None,
    }
}

/// Documents of a file or of all files below a directory, in the order of their paths.
///
/// # Errors
/// A root that does not exist, or a single file of a type that is not read.
pub fn walk(root: &Path, options: LoadOptions) -> Result<Walk, LoadError> {
    let metadata = fs_err::metadata(root).map_err(|error| LoadError {
        path: root.to_owned(),
        line: None,
        reason: error.kind().to_string(),
        remedy: "give an existing file or directory that this user may read",
    })?;
    if !metadata.is_dir() && kind_of(root).is_none() {
        return Err(LoadError {
            path: root.to_owned(),
            line: None,
            reason: "not a known document type".into(),
            remedy: "give a .md, .html, .txt, .rst or .jsonl file, or a directory",
        });
    }
    let mut builder = WalkBuilder::new(root);
    // A .gitignore counts whether or not the directory is a repository.
    builder
        .require_git(false)
        .follow_links(false)
        .sort_by_file_path(Path::cmp);
    Ok(Walk {
        root: root.to_owned(),
        options,
        entries: builder.build(),
        records: None,
        skipped: BTreeMap::new(),
    })
}

/// Iterator over the documents below a root; see [`walk`].
pub struct Walk {
    root: PathBuf,
    options: LoadOptions,
    entries: ignore::Walk,
    /// The JSONL file being read.
    records: Option<Records>,
    skipped: BTreeMap<String, u64>,
}

impl Walk {
    /// Files passed over so far because of their extension, by extension (lower case).
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }

    fn relative(&self, path: &Path) -> String {
        let relative = path
            .strip_prefix(&self.root)
            .ok()
            .filter(|p| !p.as_os_str().is_empty());
        let relative = relative.or(path.file_name().map(Path::new)).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    /// What one directory entry gives, if anything.
    fn entry(&mut self, entry: &ignore::DirEntry) -> Option<Result<Document, LoadError>> {
        let path = entry.path();
        // A link could lead out of the root, and opening a pipe would block for ever.
        let file = match entry.depth() {
            // The root was asked for by name: it may be a link to a file.
            0 => path.is_file(),
            _ => entry.file_type().is_some_and(|kind| kind.is_file()),
        };
        if !file {
            return None;
        }
        match kind_of(path) {
            None => {
                let extension = path.extension().unwrap_or_default().to_string_lossy();
                *self.skipped.entry(extension.to_lowercase()).or_default() += 1;
                None
            }
            Some(Kind::Text(format)) => Some(self.document(path, format)),
            Some(Kind::Jsonl) => match Records::open(path, &self.options) {
                Ok(records) => {
                    self.records = Some(records);
                    None
                }
                Err(error) => Some(Err(error)),
            },
        }
    }

    fn document(&self, path: &Path, format: Format) -> Result<Document, LoadError> {
        let source = text::read(path, self.options.max_file_bytes)?;
        let id = self.relative(path);
        let metadata = [(PATH_KEY.to_owned(), id.clone())].into();
        let mut document = Document {
            id,
            title: String::new(),
            text: source,
            format,
            metadata,
            whole: false,
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        document.title = plain_text(&document)
            .title
            .unwrap_or_else(|| stem.into_owned());
        Ok(document)
    }
}

impl Iterator for Walk {
    type Item = Result<Document, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(records) = &mut self.records {
                match records.next() {
                    Some(item) => return Some(item),
                    None => self.records = None,
                }
            }
            let item = match self.entries.next()? {
                Ok(entry) => self.entry(&entry),
                Err(error) => Some(Err(walk_error(&self.root, &error))),
            };
            if item.is_some() {
                return item;
            }
        }
    }
}

/// A directory that could not be listed, or an ignore file that does not parse.
fn walk_error(root: &Path, error: &ignore::Error) -> LoadError {
    fn path_of(error: &ignore::Error) -> Option<&Path> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                path_of(err)
            }
            _ => None,
        }
    }
    LoadError {
        path: path_of(error).unwrap_or(root).to_owned(),
        line: None,
        reason: error
            .io_error()
            .map_or_else(|| error.to_string(), |io| io.kind().to_string()),
        remedy: "make it readable for this user or leave it out",
    }
}

#[cfg(test)]
mod tests;
