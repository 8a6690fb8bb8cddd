//! Documents as plain text with blocks: what passages are cut from and what offsets refer to.
//!
//! Markup goes away, structure stays: headings, paragraphs, list items, code and table rows become
//! blocks of one text. Every byte offset that leaves this crate is an offset into that text.

mod html;
mod markdown;

use std::ops::Range;

use crate::document::{Document, Format};

/// What a block of plain text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Heading of level 1 to 6.
    Heading(u8),
    /// Paragraph, list item, code block or table.
    Body,
}

/// A run of plain text that belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Bytes in [`PlainText::text`]; never blank, ascending, not overlapping.
    pub range: Range<usize>,
}

/// A document without its markup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlainText {
    /// The text.
    pub text: String,
    /// Its blocks in order; what lies between them is white space.
    pub blocks: Vec<Block>,
    /// Title that the markup names (front matter, `<title>`), or the first heading of level 1.
    pub title: Option<String>,
}

/// Plain text of a document.
#[must_use]
pub fn plain_text(document: &Document) -> PlainText {
    match document.format {
        Format::Plain => from_plain(&document.text),
        Format::Markdown => markdown::convert(&document.text),
        Format::Html => html::convert(&document.text),
    }
}

/// The text as it is; a block ends at a blank line.
fn from_plain(text: &str) -> PlainText {
    let mut blocks = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim();
        if body.is_empty() {
            blocks.extend(open.take());
        } else {
            let start = at + (line.len() - line.trim_start().len());
            let end = start + body.len();
            open = Some(open.map_or(start..end, |range| range.start..end));
        }
        at += line.len();
    }
    blocks.extend(open);
    PlainText {
        text: text.to_owned(),
        blocks: blocks
            .into_iter()
            .map(|range| Block {
                kind: BlockKind::Body,
                range,
            })
            .collect(),
        title: None,
    }
}

/// Collects blocks of converted markup.
#[derive(Default)]
struct Builder {
    text: String,
    blocks: Vec<Block>,
    title: Option<String>,
    /// Start of the open block in `text`.
    start: usize,
}

impl Builder {
    /// Adds running text to the open block, white space collapsed to single blanks.
    fn flow(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.text.push(c);
            } else if !self.at_gap() {
                self.text.push(' ');
            }
        }
    }

    /// Adds text as it is.
    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Starts a new line within the open block.
    fn line_break(&mut self) {
        let kept = self.text.trim_end_matches(' ').len().max(self.start);
        self.text.truncate(kept);
        if self.text.len() > self.start && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// True at the start of the block or after white space.
    fn at_gap(&self) -> bool {
        self.text.len() == self.start || self.text.ends_with(char::is_whitespace)
    }

    /// Ends the open block; a blank one leaves no trace.
    fn end(&mut self, kind: BlockKind) {
        let body = &self.text[self.start..];
        let lead = body.len() - body.trim_start().len();
        let kept = body.trim().len();
        if kept == 0 {
            self.text.truncate(self.start);
            return;
        }
        let range = self.start + lead..self.start + lead + kept;
        if kind == BlockKind::Heading(1) && self.title.is_none() {
            self.title = Some(self.text[range.clone()].to_owned());
        }
        self.text.truncate(range.end);
        self.text.push_str("\n\n");
        self.blocks.push(Block { kind, range });
        self.start = self.text.len();
    }

    fn finish(mut self) -> PlainText {
        self.end(BlockKind::Body);
        self.text.truncate(self.text.trim_end().len());
        PlainText {
            text: self.text,
            blocks: self.blocks,
            title: self.title,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_blocks_end_at_blank_lines() {
        let text = "  One\ntwo. \n \t\n\u{a0}Three.\n";
        let plain = from_plain(text);
        let blocks: Vec<_> = plain
            .blocks
            .iter()
            .map(|b| &text[b.range.clone()])
            .collect();
        assert_eq!(blocks, ["One\ntwo.", "Three."]);
        assert_eq!(from_plain(" \n\n").blocks, []);
    }

    #[test]
    fn builder_collapses_flow_and_drops_blank_blocks() {
        let mut builder = Builder::default();
        builder.flow("  a \n\t b ");
        builder.flow(" c ");
        builder.end(BlockKind::Body);
        builder.flow("   ");
        builder.end(BlockKind::Heading(1));
        builder.flow("x ");
        builder.line_break();
        builder.flow(" y");
        let plain = builder.finish();
        assert_eq!(plain.text, "a b c\n\nx\ny");
        assert_eq!(plain.blocks.len(), 2);
        assert_eq!(plain.title, None);
    }
}
