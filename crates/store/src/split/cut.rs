//! Cutting text that no sentence end divides.

use std::ops::Range;

/// Most bytes of one part. A tokenizer may count a word of any length as one unknown token, so tokens
/// alone bound nothing; and no part needs counting beyond this many bytes.
const WINDOW: usize = 2_048;

/// Cuts `range` of `text` into parts of at most `limit` tokens and [`WINDOW`] bytes: at white space,
/// inside a word only where one word is too much by itself. Parts do not start or end with white space.
pub(super) fn cut(
    text: &str,
    range: Range<usize>,
    limit: usize,
    token_count: &dyn Fn(&str) -> usize,
) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    loop {
        let rest = &text[start..range.end];
        start += rest.len() - rest.trim_start().len();
        let rest = text[start..range.end].trim_end();
        if rest.is_empty() {
            return parts;
        }
        let fits = |end: usize| token_count(&rest[..end]) <= limit;
        let end = if rest.len() <= WINDOW && fits(rest.len()) {
            rest.len()
        } else {
            let window = rest.floor_char_boundary(WINDOW);
            let words = word_ends(&rest[..window], window == rest.len());
            last_fitting(&words, fits).unwrap_or_else(|| {
                let first = words.first().copied().unwrap_or(window);
                let chars: Vec<_> = rest[..first]
                    .char_indices()
                    .map(|(at, c)| at + c.len_utf8())
                    .collect();
                // One character is taken whatever it costs, so that the loop ends.
                last_fitting(&chars, fits)
                    .or(chars.first().copied())
                    .unwrap_or(first)
            })
        };
        parts.push(start..start + end);
        start += end;
    }
}

/// Ends of the words that lie wholly in `window`; the last one counts if the text ends there.
fn word_ends(window: &str, at_text_end: bool) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut in_word = false;
    for (at, c) in window.char_indices() {
        if in_word && c.is_whitespace() {
            ends.push(at);
        }
        in_word = !c.is_whitespace();
    }
    if in_word && at_text_end {
        ends.push(window.len());
    }
    ends
}

/// The largest of ascending `ends` that fits.
fn last_fitting(ends: &[usize], fits: impl Fn(usize) -> bool) -> Option<usize> {
    let mut count = ends.partition_point(|&end| fits(end));
    // Counts need not grow with the text; then step back to one that holds.
    while count > 0 && !fits(ends[count - 1]) {
        count -= 1;
    }
    count.checked_sub(1).map(|last| ends[last])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(text: &'a str, limit: usize, count: &dyn Fn(&str) -> usize) -> Vec<&'a str> {
        cut(text, 0..text.len(), limit, count)
            .into_iter()
            .map(|range| &text[range])
            .collect()
    }

    #[test]
    fn cuts_at_words_first() {
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!(parts(" a b  c d e ", 2, &words), ["a b", "c d", "e"]);
        assert_eq!(parts(" \n ", 2, &words), Vec::<&str>::new());
    }

    #[test]
    fn cuts_inside_a_word_only_when_it_is_too_much() {
        let chars = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        assert_eq!(parts("ab ééééé cd", 3, &chars), ["ab", "ééé", "éé", "cd"]);
        assert_eq!(parts("語語", 0, &chars), ["語", "語"]);
    }

    #[test]
    fn a_word_without_end_is_bounded_in_bytes() {
        let one = |_: &str| 1;
        let blob = "é".repeat(5_000);
        let parts = parts(&blob, 10, &one);
        assert!(parts.iter().all(|part| part.len() <= WINDOW));
        assert_eq!(parts.concat(), blob);
    }
}
