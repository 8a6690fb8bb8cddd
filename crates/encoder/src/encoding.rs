//! What goes into and comes out of an encoding.

use std::fmt;

/// The recipe's text length in tokens, CLS and SEP included (RECIPE.md, Ingest).
pub const RECIPE_MAX_TOKENS: usize = 256;

/// Windows that a passage is read in at most, 635 tokens at the recipe's length. There the
/// splitter's passages fit into one; an encoder that reads less at once has more of them.
pub const PASSAGE_WINDOWS: usize = 4;

/// What a text is, which decides its prefix: some encoders want queries and passages marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// A question or search text.
    Query,
    /// A passage or sentence of a document.
    Passage,
}

/// What to compute, and how much of each text to read.
#[derive(Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// Which prefix the encoder puts before the text.
    pub kind: TextKind,
    /// Tokens that are read at once, CLS, SEP and prefix included, at least 3. The encoder's own limit
    /// holds as well.
    pub max_tokens: usize,
    /// Windows of so many tokens that a longer text is read in, at least 1. Each after the first reads
    /// half a window anew, the other half is what stands before it. What lies beyond the last is cut.
    pub windows: usize,
    /// Return [`Encoding::states`].
    pub tokens: bool,
    /// Return [`Encoding::cls_layers`].
    pub cls_layers: bool,
    /// Called on the calling thread with the number of texts encoded so far.
    pub progress: Option<&'a (dyn Fn(usize) + Sync)>,
}

impl EncodeOptions<'_> {
    /// Pooled vector and token states of queries.
    pub fn query() -> Self {
        EncodeOptions {
            kind: TextKind::Query,
            max_tokens: RECIPE_MAX_TOKENS,
            windows: 1,
            tokens: true,
            cls_layers: false,
            progress: None,
        }
    }

    /// Pooled vector and token states of passages.
    pub fn passage() -> Self {
        EncodeOptions {
            kind: TextKind::Passage,
            windows: PASSAGE_WINDOWS,
            ..EncodeOptions::query()
        }
    }

    /// Pooled vectors alone, which are those of the first window.
    #[must_use]
    pub fn without_tokens(mut self) -> Self {
        self.tokens = false;
        self.windows = 1;
        self
    }
}

impl fmt::Debug for EncodeOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodeOptions")
            .field("kind", &self.kind)
            .field("max_tokens", &self.max_tokens)
            .field("windows", &self.windows)
            .field("tokens", &self.tokens)
            .field("cls_layers", &self.cls_layers)
            .finish_non_exhaustive()
    }
}

/// One encoded text. `seq` counts the text's own wordpieces that were read: neither CLS, SEP nor
/// prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoding {
    /// Pooled vector of the first window, unit length, `[d_model]`. (What the beginning of a long text says
    /// finds it better than all of it does: docs/research.md, "Long passages".)
    pub vector: Vec<f32>,
    /// Token states of the last layer, unit length each, `[seq, d_model]` row by row; empty unless
    /// asked for.
    pub states: Vec<f32>,
    /// Wordpiece ids, `[seq]`.
    pub token_ids: Vec<u32>,
    /// Byte range of each wordpiece in the given text, `[seq]`.
    pub offsets: Vec<(usize, usize)>,
    /// CLS state after each layer, `[layers][d_model]`, not normalised; empty unless asked for.
    pub cls_layers: Vec<Vec<f32>>,
    /// Wordpieces of the whole text, before it was cut.
    pub token_count: usize,
    /// Whether the text is longer than its first window, so that the vector does not know all of it.
    pub truncated: bool,
}

impl Encoding {
    /// Adds what a further window of the same text read.
    pub(crate) fn append(&mut self, further: Encoding) {
        self.states.extend(further.states);
        self.token_ids.extend(further.token_ids);
        self.offsets.extend(further.offsets);
    }
}
