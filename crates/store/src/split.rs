//! Documents to passages: whole sentences, under one heading path, within the encoder's limit.
//!
//! A passage is a slice of the document's plain text ([`plain_text`](crate::plain_text)). A small
//! section is joined with what follows it at the same or a deeper level; one that is too long is cut
//! into about equal parts at sentence ends, at block ends where one is near.

mod cut;
mod pack;
#[cfg(test)]
mod tests;

use moerag_retrieve::sentences;

use crate::document::Document;
use crate::passage::Passage;
use crate::plain::plain_text;
use pack::{Piece, pieces};

/// Most wordpieces of a passage, its title included; the encoder reads 256 with its own marks.
pub const MAX_TOKENS: usize = 230;

/// Cuts a document into passages.
///
/// `token_count` gives the number of wordpieces of a text. A passage holds at most [`MAX_TOKENS`] of
/// them, counted over `encoded_text(title, text)`, except that of a [`Document::whole`] document,
/// which is one passage whatever its length. Together the passages cover all text that is not blank,
/// save a heading that a passage starts under: that one stands in its title.
///
/// `revision` is filled in by the caller, who knows the key spec ([`revision`](crate::revision)).
#[must_use]
pub fn split(document: &Document, token_count: &dyn Fn(&str) -> usize) -> Vec<Passage> {
    if document.whole {
        let whole = Piece {
            title: document.title.clone(),
            range: 0..document.text.len(),
            sentences: sentences(&document.text),
        };
        return vec![passage(document, 0, &document.text, whole)];
    }
    let plain = plain_text(document);
    let title = match document.title.trim() {
        "" => plain.title.as_deref().unwrap_or_default(),
        title => title,
    };
    pieces(&plain, title, token_count)
        .into_iter()
        .zip(0u32..)
        .map(|(piece, ordinal)| passage(document, ordinal, &plain.text, piece))
        .collect()
}

fn passage(document: &Document, ordinal: u32, text: &str, piece: Piece) -> Passage {
    let Piece {
        title,
        range,
        sentences,
    } = piece;
    Passage {
        document_id: document.id.clone(),
        ordinal,
        revision: String::new(),
        title,
        text: text[range.clone()].to_owned(),
        start: range.start,
        end: range.end,
        sentences: sentences
            .into_iter()
            .map(|sentence| sentence.start - range.start..sentence.end - range.start)
            .collect(),
        metadata: document.metadata.clone(),
    }
}
