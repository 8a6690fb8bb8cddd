//! The ingested unit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a document's text was before it became plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Plain text: headings are not looked for.
    #[default]
    Plain,
    /// Markdown source.
    Markdown,
    /// HTML source.
    Html,
}

/// One ingested unit, as a loader or a client hands it over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    /// Identifier, unique within a collection; for files the path relative to the walked root.
    pub id: String,
    /// Title; may be empty.
    pub title: String,
    /// The source in `format`. Passages and their byte offsets refer to the *plain text* that
    /// [`plain_text`](crate::plain_text) makes of it; for [`Format::Plain`] that is this very text.
    pub text: String,
    /// How to read `text`.
    pub format: Format,
    /// Free key-value pairs; filters match on them.
    pub metadata: BTreeMap<String, String>,
    /// True: the document is one passage as it is, never split (evaluation corpora).
    pub whole: bool,
}
