//! Text analysis: terms, sentences, and the exact strings that are encoded.

mod analyzer;
mod language;
mod sentences;
mod spelling;

pub use analyzer::{ANALYZER_VERSION, Analyzer, Term};
pub use language::Language;
pub use sentences::sentences;
pub use spelling::{Guess, Vocabulary, guesses, plain_words, rewritten};

/// Sentences of a passage that get a vector of their own.
pub const MAX_SENTENCES: usize = 24;

/// What the encoder and the lexical index read: `title. body`, or the body alone.
pub fn encoded_text(title: &str, body: &str) -> String {
    match title {
        "" => body.to_owned(),
        _ => format!("{title}. {body}"),
    }
}

/// What the encoder reads for one sentence: `title: sentence`, or the sentence alone.
pub fn sentence_text(title: &str, sentence: &str) -> String {
    match title {
        "" => sentence.to_owned(),
        _ => format!("{title}: {sentence}"),
    }
}

/// Bytes of [`encoded_text`] before the body.
pub fn title_prefix_len(title: &str) -> usize {
    if title.is_empty() {
        0
    } else {
        title.len() + ". ".len()
    }
}
