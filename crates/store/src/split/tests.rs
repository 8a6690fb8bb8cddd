//! Properties of the splitter on made-up documents.

use moerag_retrieve::encoded_text;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::document::Format;
use crate::plain::BlockKind;

/// A stand-in for wordpieces: a token for every four characters of a word.
fn pieces_of(text: &str) -> usize {
    text.split_whitespace()
        .map(|word| word.chars().count().div_ceil(4))
        .sum()
}

fn words_of(text: &str) -> usize {
    text.split_whitespace().count()
}

fn random_document(rng: &mut ChaCha8Rng) -> Document {
    let words = [
        "alpha",
        "über",
        "語語語",
        "42",
        "e.g.",
        "🦀🦀",
        "x",
        "naïve",
        "supercalifragilistic",
    ];
    let format = *[Format::Plain, Format::Markdown, Format::Html]
        .choose(rng)
        .unwrap();
    let mut text = String::new();
    for _ in 0..rng.random_range(0..40) {
        match rng.random_range(0..12) {
            0..2 if format == Format::Markdown => {
                text.push_str(&"#".repeat(rng.random_range(1..5)));
                text.push_str(" Heading words\n\n");
            }
            0..2 if format == Format::Html => text.push_str("<h2>Heading words</h2>"),
            2 => text.push_str(&"w".repeat(rng.random_range(1..3_000))),
            3 => text.push_str("\n\n- item one\n- item two\n\n"),
            _ => {
                for _ in 0..rng.random_range(1..20) {
                    for _ in 0..rng.random_range(1..60) {
                        text.push_str(words.choose(rng).unwrap());
                        text.push(if rng.random_bool(0.05) { '\n' } else { ' ' });
                    }
                    text.push_str("End of it. ");
                }
            }
        }
        text.push_str(["\n\n", " ", "\u{a0}", "\r\n\r\n"].choose(rng).unwrap());
    }
    let title = ["", "A title", "long title ".repeat(60).as_str()]
        .choose(rng)
        .unwrap()
        .to_string();
    Document {
        id: "d".into(),
        title,
        text,
        format,
        ..Document::default()
    }
}

fn check(document: &Document, token_count: &dyn Fn(&str) -> usize) -> Vec<Passage> {
    let plain = plain_text(document);
    let passages = split(document, token_count);
    let mut covered = vec![false; plain.text.len()];
    for (passage, ordinal) in passages.iter().zip(0u32..) {
        assert_eq!(passage.ordinal, ordinal);
        assert!(token_count(&encoded_text(&passage.title, &passage.text)) <= MAX_TOKENS);
        assert_eq!(
            plain.text.get(passage.start..passage.end),
            Some(passage.text.as_str())
        );
        assert!(!passage.text.trim().is_empty());
        let mut last = 0;
        for sentence in &passage.sentences {
            assert!(last <= sentence.start && sentence.start < sentence.end);
            assert!(passage.text.get(sentence.clone()).is_some());
            last = sentence.end;
        }
        covered[passage.start..passage.end].fill(true);
    }
    assert!(passages.windows(2).all(|pair| pair[0].end <= pair[1].start));
    for block in plain
        .blocks
        .iter()
        .filter(|b| matches!(b.kind, BlockKind::Heading(_)))
    {
        let heading = &plain.text[block.range.clone()];
        if passages.iter().any(|p| p.title.contains(heading)) || document.title.len() > 100 {
            covered[block.range.clone()].fill(true);
        }
    }
    for (at, c) in plain.text.char_indices() {
        assert!(
            c.is_whitespace() || covered[at],
            "byte {at} ({c:?}) is in no passage"
        );
    }
    passages
}

#[test]
fn passages_hold_the_limits_and_cover_the_text() {
    for seed in 0..300 {
        let document = random_document(&mut ChaCha8Rng::seed_from_u64(seed));
        check(&document, &pieces_of);
        check(&document, &words_of);
        check(&document, &|text| {
            text.chars().filter(|c| !c.is_whitespace()).count()
        });
    }
}

#[test]
fn long_prose_gets_passages_of_the_size_aimed_at() {
    let text = "This sentence has exactly eight words in it. ".repeat(300);
    let document = Document {
        id: "d".into(),
        text,
        ..Document::default()
    };
    let passages = check(&document, &words_of);
    let sizes: Vec<_> = passages.iter().map(|p| words_of(&p.text)).collect();
    assert!(
        sizes.iter().all(|size| (120..=200).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn sections_give_titles_and_small_ones_join() {
    let long = "A sentence of some seven more words. ".repeat(12);
    let text = format!(
        "# Guide\n\nShort intro.\n\n## Install\n\n{long}\n\n## Empty\n\n## Use\n\n### Fast\n\n{long}\n\n### Slow\n\nWait.\n"
    );
    let document = Document {
        id: "d".into(),
        text,
        format: Format::Markdown,
        ..Document::default()
    };
    let passages = check(&document, &words_of);
    let titles: Vec<_> = passages.iter().map(|p| p.title.as_str()).collect();
    assert_eq!(
        titles,
        ["Guide", "Guide > Empty", "Guide > Use > Slow"],
        "{passages:#?}"
    );
    assert!(
        passages[0]
            .text
            .starts_with("Short intro.\n\nInstall\n\nA sentence")
    );
    assert!(
        passages[1]
            .text
            .starts_with("Empty\n\nUse\n\nFast\n\nA sentence")
    );
    assert_eq!(passages[2].text, "Wait.");
}

#[test]
fn a_long_text_without_a_title_is_titled_by_its_opening() {
    let opening = "Kettles and how they\nwhistle. ";
    let text = opening.to_owned() + &"Some sentence of exactly eight words is here. ".repeat(60);
    let document = |title: &str, text: &str| Document {
        id: "d".into(),
        title: title.into(),
        text: text.into(),
        ..Document::default()
    };
    let titles = |document: &Document| -> Vec<String> {
        let passages = check(document, &words_of).into_iter();
        passages.map(|passage| passage.title).collect()
    };
    let opened = titles(&document("", &text));
    assert_eq!(opened[0], "");
    assert!(
        opened.len() > 2
            && opened[1..]
                .iter()
                .all(|t| t == "Kettles and how they whistle.")
    );
    assert!(
        titles(&document("A title", &text))
            .iter()
            .all(|t| t == "A title")
    );
    assert_eq!(titles(&document("", opening)), [""]);
    // A long one is cut.
    let long = "word ".repeat(100) + ". " + &text;
    assert_eq!(titles(&document("", &long))[1], ["word"; 24].join(" "));
}

#[test]
fn a_whole_document_is_one_passage() {
    let text = "Word. ".repeat(2_000);
    for text in [text, String::new()] {
        let document = Document {
            text,
            title: "T".into(),
            whole: true,
            ..Document::default()
        };
        let passages = split(&document, &words_of);
        assert_eq!(passages.len(), 1);
        assert_eq!(
            (passages[0].start, passages[0].end),
            (0, document.text.len())
        );
        assert_eq!(passages[0].text, document.text);
    }
}

#[test]
fn blank_documents_have_no_passages() {
    for text in ["", " \n\t\n", "\u{a0}"] {
        let document = Document {
            text: text.into(),
            ..Document::default()
        };
        assert!(split(&document, &words_of).is_empty());
    }
}
