//! Queries with a slip of the fingers.

use std::collections::HashMap;

use rand::Rng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use super::source::Source;
use super::{Attacked, rng};

/// Shortest word, in letters, that is misspelt.
const SHORTEST: usize = 5;
/// Rows of the keyboard; beside a key lie its neighbours in its own row and those above and below.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Misspells one word of every query: a letter left out, typed twice, taken for its neighbour on the keyboard
/// or swapped with the next, but never the first. Queries without a word of plain letters stay as they are.
pub(super) fn attack(source: &Source, seed: u64) -> Attacked {
    let mut texts = HashMap::new();
    for query in &source.set.queries {
        let mut rng = rng(seed, &query.id);
        if let Some(text) = misspell(source, &query.text, &mut rng) {
            texts.insert(query.id.clone(), text);
        }
    }
    Attacked {
        corpus: source.set.corpus.clone(),
        changed_queries: texts,
        ..Attacked::default()
    }
}

fn misspell(source: &Source, text: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    let plain = |(start, end): &(usize, usize)| {
        let word = &text[*start..*end];
        word.len() >= SHORTEST && word.bytes().all(|c| c.is_ascii_alphabetic())
    };
    let words = source.analyzer.words(text).into_iter().filter(plain);
    let (start, end) = words.choose(rng)?;
    let word: Vec<char> = text[start..end].chars().collect();
    // A slip may change nothing: two equal letters swapped.
    let slipped = std::iter::repeat_with(|| slip(&word, rng)).find(|slipped| *slipped != word)?;
    let slipped: String = slipped.into_iter().collect();
    Some(format!("{}{slipped}{}", &text[..start], &text[end..]))
}

fn slip(word: &[char], rng: &mut ChaCha8Rng) -> Vec<char> {
    let at = rng.random_range(1..word.len());
    let mut slipped = word.to_vec();
    match rng.random_range(0..4) {
        0 => drop(slipped.remove(at)),
        1 => slipped.insert(at, word[at]),
        2 => slipped[at] = beside(word[at], rng),
        _ => slipped.swap(at, (at + 1).min(word.len() - 1)),
    }
    slipped
}

/// A key beside that of a letter, in lower case.
fn beside(letter: char, rng: &mut ChaCha8Rng) -> char {
    let place = |wanted: char| {
        let rows = ROWS.iter().enumerate();
        rows.filter_map(|(row, keys)| Some((row, keys.find(wanted)?)))
            .next()
    };
    let letter = letter.to_ascii_lowercase();
    let near = |key: &char| {
        let (Some(own), Some(other)) = (place(letter), place(*key)) else {
            return false;
        };
        *key != letter && own.0.abs_diff(other.0) <= 1 && own.1.abs_diff(other.1) <= 1
    };
    let keys = ROWS.iter().flat_map(|row| row.chars());
    keys.filter(near).choose(rng).unwrap_or(letter)
}
