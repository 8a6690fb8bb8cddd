//! A passage as people read it: wrapped, with its best sentence marked.

use std::ops::Range;

use console::style;

use super::plain;

/// What is shown of a long passage: the best sentence and about this many characters around it.
const EXCERPT_CHARS: usize = 420;

/// Splits a text into what comes before, in, and after its best sentence, cut to an excerpt.
/// Offsets that do not fit the text (they come from a server) give the text without a best part.
fn parts(text: &str, best: Option<Range<usize>>, full: bool) -> (String, String, String) {
    let best = best.filter(|range| text.get(range.clone()).is_some());
    let range = best.unwrap_or(0..0);
    let (before, inside, after) = (
        &text[..range.start],
        &text[range.clone()],
        &text[range.end..],
    );
    if full || text.chars().count() <= EXCERPT_CHARS {
        return (before.into(), inside.into(), after.into());
    }
    let spare = EXCERPT_CHARS.saturating_sub(inside.chars().count());
    let mut tail_room = spare - spare / 3;
    let head_len = before.chars().count();
    if head_len < spare / 3 {
        tail_room = spare - head_len;
    }
    let head_room = spare - tail_room;
    let before = match before.char_indices().rev().nth(head_room.saturating_sub(1)) {
        Some((start, _)) if start > 0 => {
            // Begin at a word; with no room at all nothing is left of it.
            let cut = before[start..]
                .find(char::is_whitespace)
                .map_or("", |at| &before[start + at..]);
            format!("…{}", if head_room == 0 { " " } else { cut })
        }
        _ => before.to_owned(),
    };
    let after = match after.char_indices().nth(tail_room) {
        Some((end, _)) => {
            let cut = after[..end]
                .rfind(char::is_whitespace)
                .map_or("", |at| &after[..at]);
            format!("{cut} …")
        }
        None => after.to_owned(),
    };
    (before, inside.to_owned(), after)
}

/// The lines of a passage, wrapped to `width`, the best sentence bold (or in » « without colours).
pub(crate) fn lines(
    text: &str,
    best: Option<Range<usize>>,
    full: bool,
    width: usize,
) -> Vec<String> {
    let colored = console::colors_enabled();
    let (before, inside, after) = parts(text, best, full);
    let mut words: Vec<(String, bool)> = Vec::new();
    for (part, marked) in [(before, false), (inside, true), (after, false)] {
        // Only now: the best sentence's offsets count the bytes of the text as it came.
        let mut part: Vec<(String, bool)> = plain(&part)
            .split_whitespace()
            .map(|w| (w.to_owned(), marked))
            .collect();
        if marked && !colored && !part.is_empty() {
            part[0].0.insert(0, '»');
            if let Some(last) = part.last_mut() {
                last.0.push('«');
            }
        }
        words.append(&mut part);
    }
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut used = 0;
    for (word, marked) in words {
        let len = console::measure_text_width(&word);
        if used > 0 && used + 1 + len > width {
            lines.push(std::mem::take(&mut current));
            used = 0;
        }
        if used > 0 {
            current.push(' ');
            used += 1;
        }
        current.push_str(&if marked {
            style(word).bold().yellow().to_string()
        } else {
            word
        });
        used += len;
    }
    if !current.is_empty() {
        lines.push(current);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str, best: Option<Range<usize>>, full: bool) -> String {
        lines(text, best, full, 60)
            .iter()
            .map(|line| console::strip_ansi_codes(line).into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_short_passage_is_shown_whole_with_its_best_sentence_marked() {
        let text = "One is here. Two is the best. Three ends.";
        let shown = plain(text, Some(13..29), false);
        assert!(shown.contains("Two is the best."), "{shown}");
        assert!(shown.starts_with("One is here."), "{shown}");
        assert!(shown.ends_with("Three ends."), "{shown}");
    }

    #[test]
    fn a_long_passage_is_cut_around_the_best_sentence() {
        let text = format!(
            "{} The best one. {}",
            "früh ".repeat(200),
            "late ".repeat(200)
        );
        let start = text.find("The best").unwrap_or(0);
        let shown = plain(&text, Some(start..start + 13), false);
        assert!(shown.contains("The best one."), "{shown}");
        assert!(shown.starts_with('…') && shown.ends_with('…'), "{shown}");
        assert!(shown.chars().count() < 480, "{}", shown.chars().count());
        assert!(plain(&text, None, true).len() > 1800);
    }

    #[test]
    fn offsets_that_do_not_fit_do_no_harm() {
        assert_eq!(plain("äöü", Some(1..2), false), "äöü");
        assert_eq!(plain("abc", Some(2..9), false), "abc");
        assert_eq!(plain("", None, false), "");
    }

    #[test]
    fn control_characters_are_not_shown_and_move_no_offset() {
        console::set_colors_enabled(false);
        // U+009B begins a sequence as ESC [ does, and takes two bytes.
        let text = "A\u{9b}2J\u{1b}]0;x\u{7} b. The best.";
        let start = text.find("The best").unwrap_or(0);
        let lines = lines(text, Some(start..text.len()), false, 60);
        assert_eq!(lines, ["A 2J ]0;x b. »The best.«"]);
    }

    #[test]
    fn no_line_is_longer_than_the_width() {
        let text = "word ".repeat(100);
        assert!(
            lines(&text, None, true, 33)
                .iter()
                .all(|l| console::measure_text_width(l) <= 33)
        );
    }
}
