//! What a language model is asked, and which of its answers are taken.

use moerag_model::QUERY_TYPES;
use unicode_segmentation::UnicodeSegmentation;

use crate::corpus::PassageText;

/// Part of every cache key: a change of the wording below asks again.
pub(super) const VERSION: &str = "1";

/// Bytes of a passage that are sent; passages of the splitter are well below.
const MAX_PASSAGE_BYTES: usize = 8000;
/// Words of a query that is taken.
const MAX_WORDS: usize = 40;
/// Bytes of a query that is taken.
const MAX_BYTES: usize = 600;
/// Words in a row that make a copy.
const COPIED_WORDS: usize = 4;
/// What the model says when a passage does not answer such a question.
const NOTHING: &str = "NONE";

const SYSTEM: &str = "You write the questions that people type into the search box of a document \
collection. You get a passage and a kind of question. Reply with a single question of that kind, on \
one line, without numbering, quotation marks or comments. The passage must answer the question. \
Whoever asks has never seen the passage, so do not speak of a passage, a text or an author. Ask in \
the language that the passage is written in. Use other words than the passage does, apart from names \
and technical terms. Stay below twenty words. When the passage answers no question of that kind, \
reply NONE.";

/// What a question of each type asks for, in the order of [`QUERY_TYPES`].
const KINDS: [&str; QUERY_TYPES.len()] = [
    "a single fact: a person, place, organisation, object or property",
    "the meaning of a term or the nature of a thing that the passage explains",
    "how to do something: steps, a method, instructions",
    "why something is so or happens, or what it leads to",
    "how two or more things differ, or which of them has more of something",
    "when something happened, how long it took, or what came before or after it",
    "a number: an amount, size, share, price or count",
    "an overview of something: what it is like, how it works as a whole",
];

/// The two messages of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) system: &'static str,
    pub(super) user: String,
}

/// Asks for a question of `query_type` (index into [`QUERY_TYPES`]) that `passage` answers.
pub(super) fn prompt(passage: &PassageText, query_type: usize) -> Prompt {
    let kind = KINDS.get(query_type).copied().unwrap_or_default();
    let title = match passage.title.as_str() {
        "" => String::new(),
        title => format!("Title: {}\n", cut(title)),
    };
    Prompt {
        system: SYSTEM,
        user: format!(
            "Kind of question: {kind}.\n\n{title}Passage:\n{}",
            cut(&passage.text)
        ),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_PASSAGE_BYTES)]
}

/// The query in an answer; `None` when there is none that could be trained on: nothing, too long,
/// or a copy of `text`.
pub(super) fn accept(answer: &str, text: &str) -> Option<String> {
    let query = clean(answer);
    let words = words(&query);
    let fits = (2..=MAX_WORDS).contains(&words.len()) && query.len() <= MAX_BYTES;
    // Thoughts that were cut off before the answer began.
    let is_answer = !query.starts_with('<') && !query.eq_ignore_ascii_case(NOTHING);
    (fits && is_answer && !is_copy(&words, text)).then_some(query)
}

/// The first line of an answer without what models put around it.
fn clean(answer: &str) -> String {
    let said = answer.rsplit("</think>").next().unwrap_or_default();
    let line = said
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = unlabelled(unnumbered(line));
    let quotes = |c: char| {
        matches!(c, '"' | '\'' | '`' | '*' | '“' | '”' | '„' | '«' | '»') || c.is_whitespace()
    };
    line.trim_matches(quotes)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without `1.`, `2)`, `-` or `*` in front.
fn unnumbered(line: &str) -> &str {
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = digits.len() < line.len();
    match digits.strip_prefix(['.', ')']) {
        // "3.5 million what?" begins with a number, not with a numbering.
        Some(rest) if numbered && rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line.trim_start_matches(['-', '*', '•', ' ']),
    }
}

/// Without `Question:` in front.
fn unlabelled(line: &str) -> &str {
    match line.split_once(':') {
        Some((label, rest))
            if ["question", "query", "q"].contains(&label.to_lowercase().as_str()) =>
        {
            rest
        }
        _ => line,
    }
}

fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

/// Whether the query stands in the text word by word, or holds one of its sentences.
fn is_copy(query: &[String], text: &str) -> bool {
    let holds = |all: &[String], part: &[String]| {
        part.len() >= COPIED_WORDS && all.windows(part.len()).any(|window| window == part)
    };
    holds(&words(text), query)
        || text
            .unicode_sentences()
            .any(|sentence| holds(query, &words(sentence)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TEXT: &str = "Copper roofs turn green over the years. Rain and air change the metal.";

    #[test]
    fn what_models_put_around_a_question_goes() {
        for answer in [
            "Why do old roofs change colour?",
            "  \"Why do old roofs change colour?\"\n",
            "1. Why do old roofs change colour?\n2. What is rain?",
            "2) Why do old roofs change colour?",
            "- **Why do old roofs change colour?**",
            "Question: Why do old roofs change colour?",
            "“Why do  old roofs change colour?”",
            "<think>Hmm, NONE?\nNo.</think>\n\nWhy do old roofs change colour?",
        ] {
            let query = accept(answer, TEXT);
            assert_eq!(
                query.as_deref(),
                Some("Why do old roofs change colour?"),
                "{answer}"
            );
        }
        let number = "3.5 million of what are there?";
        assert_eq!(accept(number, TEXT).as_deref(), Some(number));
        assert!(
            accept("屋顶为什么会变绿?", TEXT).is_some(),
            "words without spaces"
        );
    }

    #[test]
    fn what_cannot_be_trained_on_is_refused() {
        let long = "why ".repeat(41);
        let wide = format!("why {}", "x".repeat(600));
        for answer in [
            "",
            " \n\"\"",
            "NONE",
            "none",
            "Why?",
            long.as_str(),
            wide.as_str(),
            "<think>The passage is about roofs, so",
            "Copper roofs turn green over the years",
            "copper ROOFS turn green?",
            "Is it true that rain and air change the metal?",
        ] {
            assert_eq!(accept(answer, TEXT), None, "{answer}");
        }
    }

    #[test]
    fn a_prompt_holds_the_kind_and_a_bounded_passage() {
        let mut passage = PassageText {
            document_id: "d".to_owned(),
            ordinal: 0,
            revision: "r".to_owned(),
            title: "Roofs".to_owned(),
            text: TEXT.to_owned(),
            sentences: Vec::new(),
        };
        let users: std::collections::BTreeSet<String> = (0..QUERY_TYPES.len())
            .map(|i| prompt(&passage, i).user)
            .collect();
        assert_eq!(users.len(), QUERY_TYPES.len(), "one prompt per type");
        assert!(
            users
                .iter()
                .all(|user| user.contains(TEXT) && user.contains("Title: Roofs"))
        );
        passage.text = "北".repeat(10_000);
        assert!(prompt(&passage, 0).user.len() < MAX_PASSAGE_BYTES + 300);
    }
}
