//! HTML to plain text.

use scraper::{Html, Node};

use super::{BlockKind, Builder, PlainText};

/// Elements whose content no reader sees.
const HIDDEN: [&str; 9] = [
    "script", "style", "noscript", "template", "svg", "head", "iframe", "object", "math",
];

/// Elements that start and end a block.
const BLOCKS: [&str; 25] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figure",
    "figcaption",
    "footer",
    "form",
    "header",
    "hr",
    "main",
    "nav",
    "p",
    "section",
    "summary",
    "table",
    "html",
];

/// Converts an HTML document.
pub(super) fn convert(source: &str) -> PlainText {
    let mut out = Builder::default();
    let document = Html::parse_document(source);
    // The only part of the head that a reader sees.
    out.title = document.tree.nodes().find_map(|node| {
        let element = node.value().as_element()?;
        (element.name() == "title").then(|| {
            let text: String = node
                .children()
                .filter_map(|child| Some(&**child.value().as_text()?))
                .collect();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        })
    });
    out.title = out.title.filter(|title| !title.is_empty());
    walk(&document, &mut out);
    out.finish()
}

/// Appends the text of an HTML fragment to `out`.
pub(super) fn append(source: &str, out: &mut Builder) {
    out.end(BlockKind::Body);
    walk(&Html::parse_fragment(source), out);
    out.end(BlockKind::Body);
}

/// Visits the tree without recursion: nesting is as deep as the author of the page likes.
fn walk(document: &Html, out: &mut Builder) {
    let root = document.tree.root();
    let mut preformatted = 0usize;
    let mut node = root;
    loop {
        let entered = enter(node.value(), out, &mut preformatted);
        if entered && let Some(child) = node.first_child() {
            node = child;
            continue;
        }
        if entered {
            leave(node.value(), out, &mut preformatted);
        }
        loop {
            if node == root {
                return;
            }
            if let Some(next) = node.next_sibling() {
                node = next;
                break;
            }
            let Some(parent) = node.parent() else { return };
            node = parent;
            leave(node.value(), out, &mut preformatted);
        }
    }
}

/// True if the children are to be visited.
fn enter(node: &Node, out: &mut Builder, preformatted: &mut usize) -> bool {
    match node {
        Node::Text(text) if *preformatted > 0 => out.raw(text),
        Node::Text(text) => out.flow(text),
        Node::Element(element) => match element.name() {
            name if HIDDEN.contains(&name) => return false,
            "br" => out.line_break(),
            "pre" => {
                out.end(BlockKind::Body);
                *preformatted += 1;
            }
            "li" => {
                out.line_break();
                out.raw("- ");
            }
            "ul" | "ol" | "tr" => out.line_break(),
            "td" | "th" if !out.at_gap() => out.raw(" | "),
            name if is_block(name) => out.end(BlockKind::Body),
            _ => {}
        },
        _ => {}
    }
    true
}

fn leave(node: &Node, out: &mut Builder, preformatted: &mut usize) {
    let Node::Element(element) = node else { return };
    match element.name() {
        "pre" => {
            *preformatted = preformatted.saturating_sub(1);
            out.end(BlockKind::Body);
        }
        "ul" | "ol" | "tr" | "li" => out.line_break(),
        name => match heading_level(name) {
            Some(level) => out.end(BlockKind::Heading(level)),
            None if is_block(name) => out.end(BlockKind::Body),
            None => {}
        },
    }
}

fn is_block(name: &str) -> bool {
    BLOCKS.contains(&name) || heading_level(name).is_some()
}

fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_reader_sees() {
        let plain = convert(concat!(
            "<html><head><title> The\n page </title><style>p{}</style></head><body>",
            "<h1>Top</h1><p>One &amp; <b>two</b>.</p><script>alert(1)</script>",
            "<ul><li>a</li><li>b</li></ul><pre>x  y\nz</pre>",
            "<table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>2</td></tr></table>",
            "<h2>End</h2>tail</body></html>",
        ));
        assert_eq!(
            plain.text,
            "Top\n\nOne & two.\n\n- a\n- b\n\nx  y\nz\n\nk | v\n1 | 2\n\nEnd\n\ntail"
        );
        assert_eq!(plain.title.as_deref(), Some("The page"));
        assert_eq!(plain.blocks[0].kind, BlockKind::Heading(1));
    }

    #[test]
    fn deep_nesting_neither_recurses_nor_fails() {
        let source = format!("{}deep{}", "<div>".repeat(20_000), "</div>".repeat(20_000));
        assert_eq!(convert(&source).text, "deep");
    }
}
