//! Markdown to plain text.

use pulldown_cmark::{Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::{BlockKind, Builder, PlainText, html};

/// Converts Markdown (CommonMark, tables, footnotes, front matter).
pub(super) fn convert(source: &str) -> PlainText {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut walk = Walk::default();
    for event in Parser::new_ext(source, options) {
        walk.event(event);
    }
    walk.out.finish()
}

#[derive(Default)]
struct Walk {
    out: Builder,
    /// Open lists; the next number of an ordered one.
    lists: Vec<Option<u64>>,
    /// Source of the open HTML block.
    html: String,
    in_code: bool,
    in_front_matter: bool,
    links: usize,
    images: usize,
}

impl Walk {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.in_front_matter => self.front_matter(&text),
            Event::Text(text) if self.in_code => self.out.raw(&text),
            // The picture in a link is a badge: its text ("Crates.io", "build") says nothing.
            Event::Text(_) if self.images > 0 && self.links > 0 => {}
            Event::Text(text) | Event::Code(text) => self.out.flow(&text),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.out.flow(&text),
            Event::Html(source) => self.html.push_str(&source),
            Event::InlineHtml(tag) if tag.starts_with("<br") => self.out.line_break(),
            Event::InlineHtml(_) | Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
            Event::SoftBreak => self.out.flow(" "),
            Event::HardBreak => self.out.line_break(),
            Event::Rule => self.out.end(BlockKind::Body),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::FootnoteDefinition(_) => self.out.end(BlockKind::Body),
            Tag::CodeBlock(_) => {
                self.out.end(BlockKind::Body);
                self.in_code = true;
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.out.end(BlockKind::Body);
                }
                self.lists.push(*first);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => {
                self.out.end(BlockKind::Body);
            }
            Tag::TableCell if !self.out.at_gap() => self.out.raw(" | "),
            Tag::Link { .. } => self.links += 1,
            Tag::Image { .. } => self.images += 1,
            Tag::MetadataBlock(MetadataBlockKind::YamlStyle | MetadataBlockKind::PlusesStyle) => {
                self.in_front_matter = true;
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.out.end(BlockKind::Heading(level as u8)),
            TagEnd::Paragraph if self.lists.is_empty() => self.out.end(BlockKind::Body),
            TagEnd::Paragraph => self.out.line_break(),
            TagEnd::CodeBlock => {
                self.in_code = false;
                self.out.end(BlockKind::Body);
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.out.end(BlockKind::Body);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => self.out.line_break(),
            TagEnd::Table => {
                self.out.end(BlockKind::Body);
            }
            TagEnd::BlockQuote(_) | TagEnd::FootnoteDefinition => self.out.end(BlockKind::Body),
            TagEnd::HtmlBlock => self.html_block(),
            TagEnd::Link => self.links = self.links.saturating_sub(1),
            TagEnd::Image => self.images = self.images.saturating_sub(1),
            TagEnd::MetadataBlock(_) => self.in_front_matter = false,
            _ => {}
        }
    }

    fn item(&mut self) {
        self.out.line_break();
        match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{number}. ");
                *number += 1;
                self.out.raw(&marker);
            }
            _ => self.out.raw("- "),
        }
    }

    /// Only a title is taken from front matter, which comes in several pieces where lines end as on Windows.
    fn front_matter(&mut self, text: &str) {
        let title = text.lines().find_map(|line| {
            let rest = line.strip_prefix("title")?.trim_start();
            let rest = rest.strip_prefix([':', '='])?.trim();
            Some(rest.trim_matches(['"', '\'']).trim().to_owned())
        });
        if let Some(title) = title.filter(|title| !title.is_empty()) {
            self.out.title.get_or_insert(title);
        }
    }

    /// HTML between blocks becomes text as an HTML document's body would.
    fn html_block(&mut self) {
        let source = std::mem::take(&mut self.html);
        html::append(&source, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_structure_and_drops_markup() {
        let windows = convert("---\r\ntitle: The guide\r\nauthor: A\r\n---\r\n# Install\r\n");
        assert_eq!(windows.title.as_deref(), Some("The guide"));
        let plain = convert(concat!(
            "---\ntitle: \"The guide\"\n---\n",
            "# Install *it*\n\nRun `make` [now](http://x).\nThen wait.\n\n",
            "[![Crates.io](https://i)](https://l) ![a picture](p.png)\n\n",
            "1. one\n2. two\n   - nested\n\n```sh\nmake  all\n\nrun\n```\n\n",
            "| a | b |\n|---|---|\n| c | d |\n\n<p align=center>Hi <b>there</b></p>\n\n## Next\n",
        ));
        assert_eq!(
            plain.text,
            "Install it\n\nRun make now. Then wait.\n\na picture\n\n1. one\n2. two\n- nested\n\n\
             make  all\n\nrun\n\na | b\nc | d\n\nHi there\n\nNext"
        );
        assert_eq!(plain.title.as_deref(), Some("The guide"));
        let headings: Vec<_> = plain
            .blocks
            .iter()
            .filter(|block| block.kind != BlockKind::Body)
            .map(|block| (block.kind, &plain.text[block.range.clone()]))
            .collect();
        assert_eq!(
            headings,
            [
                (BlockKind::Heading(1), "Install it"),
                (BlockKind::Heading(2), "Next")
            ]
        );
        assert!(
            plain
                .blocks
                .windows(2)
                .all(|pair| pair[0].range.end < pair[1].range.start)
        );
    }

    #[test]
    fn odd_markdown_is_still_text() {
        for source in [
            "",
            "\u{0}",
            "<div>",
            "[a](",
            "> - > 1. x",
            "```",
            "| |\n|-|",
            "---\n",
        ] {
            let plain = convert(source);
            for block in &plain.blocks {
                assert!(!plain.text[block.range.clone()].trim().is_empty());
            }
        }
    }
}
