//! Sentence boundaries.

use std::ops::Range;

/// Shortest sentence, in Latin characters; shorter pieces join the sentence before them.
const MIN_CHARS: usize = 25;
/// An ideograph carries about as much as three Latin letters.
const IDEOGRAPH_CHARS: usize = 3;

/// Byte ranges of the sentences of `text`, in order, without the white space around them.
///
/// RECIPE.md's rule, Unicode aware: a sentence ends after `.`, `!` or `?` when white space and then an
/// upper-case letter, a digit or an opening quote or bracket follow; letters without case count as
/// upper case. It also ends after a full stop of a script that needs no white space, before a blank
/// line and before a list item. Pieces of fewer than 25 characters join the sentence before them.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for end in boundaries(text).chain([text.len()]) {
        let piece = &text[start..end];
        let trimmed = piece.trim_start();
        let from = start + piece.len() - trimmed.len();
        let to = from + trimmed.trim_end().len();
        start = end;
        if from >= to {
            continue;
        }
        match out.last_mut() {
            Some(last) if width(&text[from..to]) < MIN_CHARS => last.end = to,
            _ => out.push(from..to),
        }
    }
    out
}

fn width(piece: &str) -> usize {
    piece
        .chars()
        .map(|c| if is_ideograph(c) { IDEOGRAPH_CHARS } else { 1 })
        .sum()
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Byte positions at which a new sentence starts (white space before it belongs to neither).
fn boundaries(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.char_indices().filter_map(|(at, c)| {
        let after = at + c.len_utf8();
        let ends = match c {
            '.' | '!' | '?' | '\u{2026}' => opens_sentence(&text[after..]),
            // Full stops of Chinese and Japanese, Devanagari, Urdu, Arabic, Ethiopic.
            '\u{3002}' | '\u{ff01}' | '\u{ff1f}' | '\u{964}' | '\u{965}' | '\u{6d4}'
            | '\u{61f}' | '\u{1362}' => true,
            '\n' => breaks_line(&text[after..]),
            _ => false,
        };
        ends.then_some(after)
    })
}

/// Whether white space and then the start of a sentence follow.
fn opens_sentence(rest: &str) -> bool {
    let next = rest.trim_start();
    next.len() < rest.len()
        && next.chars().next().is_some_and(|c| {
            c.is_uppercase()
                || c.is_numeric()
                || (c.is_alphabetic() && !c.is_lowercase())
                || matches!(
                    c,
                    '"' | '('
                        | '\u{201c}'
                        | '\u{201e}'
                        | '\u{ab}'
                        | '\u{300c}'
                        | '\u{bf}'
                        | '\u{a1}'
                )
        })
}

/// Whether a blank line or a list item follows a line break.
fn breaks_line(rest: &str) -> bool {
    let line = rest.lines().next().unwrap_or("").trim();
    if line.is_empty() {
        return true;
    }
    let after_marker = match line.chars().next() {
        Some('-' | '*' | '+' | '\u{2022}') => line.chars().nth(1),
        Some(c) if c.is_ascii_digit() => {
            let tail = line.trim_start_matches(|c: char| c.is_ascii_digit());
            if tail.starts_with(['.', ')']) {
                tail.chars().nth(1)
            } else {
                None
            }
        }
        _ => None,
    };
    after_marker.is_some_and(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn splits_after_a_stop_before_an_upper_case_letter() {
        assert_eq!(
            split(
                " The first one is long enough to stand. The second one is 3.5 times as long! \"Is this the third sentence?\" he asked.  "
            ),
            [
                "The first one is long enough to stand.",
                "The second one is 3.5 times as long!",
                "\"Is this the third sentence?\" he asked.",
            ]
        );
    }

    #[test]
    fn short_pieces_join_the_sentence_before() {
        assert_eq!(
            split("Dr. Smith went to Washington yesterday. He liked it."),
            ["Dr.", "Smith went to Washington yesterday. He liked it."]
        );
        assert_eq!(split("Short."), ["Short."]);
        assert!(split(" \n\t ").is_empty());
        assert!(split("").is_empty());
    }

    #[test]
    fn blank_lines_and_list_items_end_a_sentence() {
        let text = "A heading without any full stop\n\nA paragraph that follows the heading\n- a list item that is long enough\n2. a numbered item, long enough as well\nand its second line";
        assert_eq!(split(text).len(), 4);
        assert!(split(text)[3].ends_with("and its second line"));
    }

    #[test]
    fn other_scripts_have_their_own_stops() {
        assert_eq!(
            split("東京は日本の首都であり最大の都市です。人口は約千四百万人にのぼります。").len(),
            2
        );
        assert_eq!(
            split("यह एक लंबा वाक्य है जो यहाँ समाप्त होता है। यह दूसरा लंबा वाक्य है जो बाद में आता है।").len(),
            2
        );
        assert_eq!(
            split("Первое предложение достаточно длинное. Второе предложение тоже длинное.").len(),
            2
        );
    }

    #[test]
    fn ranges_are_in_order_and_inside_the_text() {
        let text = "Ein Satz über Äpfel und Öl, der lang genug ist. Noch ein Satz über Übung und Maß! “Quoted” text.";
        let ranges = sentences(text);
        assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start));
        assert_eq!(ranges.last().unwrap().end, text.len());
    }
}
