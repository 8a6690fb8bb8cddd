//! Sentences to pieces of the right size, section by section.

use std::ops::Range;

use moerag_retrieve::{encoded_text, sentences};

use super::MAX_TOKENS;
use super::cut::cut;
use crate::plain::{BlockKind, PlainText};

/// Most wordpieces of a title; a longer one is cut.
const MAX_TITLE_TOKENS: usize = 60;
/// Most wordpieces of an opening that stands for a title.
const MAX_OPENING_TOKENS: usize = 24;
/// Most wordpieces of a sentence: what the longest title and the stop after it leave.
const MAX_UNIT_TOKENS: usize = MAX_TOKENS - MAX_TITLE_TOKENS - 2;
/// A longer "heading" is text.
const MAX_HEADING_TOKENS: usize = 32;
/// Most words aimed at.
const MAX_WORDS: usize = 200;
/// A section with fewer words is joined with the next one.
const JOIN_BELOW_WORDS: usize = 60;
/// A rest with less of a passage's load than this stays with what is before it.
const MIN_LOAD: f32 = 0.25;
/// Most bytes of a piece; only text without words gets near it.
const MAX_BYTES: usize = 8_000;

/// A passage to be.
pub(super) struct Piece {
    pub(super) title: String,
    pub(super) range: Range<usize>,
    /// Ranges in the plain text, like `range`.
    pub(super) sentences: Vec<Range<usize>>,
}

/// A sentence, a part of one that is too long, or a heading.
#[derive(Clone)]
struct Unit {
    range: Range<usize>,
    words: usize,
    tokens: usize,
    heading: Option<u8>,
    ends_block: bool,
}

/// A section, or small ones joined.
struct Run {
    title: String,
    /// Level of the heading it starts under, 0 for none.
    level: u8,
    /// That heading, as long as nothing else was said under it.
    lead: Option<Unit>,
    units: Vec<Unit>,
}

struct Packer<'a> {
    text: &'a str,
    token_count: &'a dyn Fn(&str) -> usize,
    /// How the text begins. Pieces without a title, the first excepted, have it as theirs: what goes on in
    /// the middle of a text is hard to find without what the text is about (docs/research.md, "Context").
    opening: String,
    pieces: Vec<Piece>,
}

pub(super) fn pieces(
    plain: &PlainText,
    title: &str,
    token_count: &dyn Fn(&str) -> usize,
) -> Vec<Piece> {
    let mut packer = Packer {
        text: &plain.text,
        token_count,
        opening: String::new(),
        pieces: Vec::new(),
    };
    let units = packer.units(plain);
    packer.opening = packer.opening(&units);
    let mut path: Vec<(u8, &str)> = Vec::new();
    let mut open: Option<Run> = None;
    for unit in units {
        let Some(level) = unit.heading else {
            let run = open.get_or_insert_with(|| packer.run(title, &path, 0, None));
            run.lead = None;
            run.units.push(unit);
            continue;
        };
        path.retain(|(above, _)| *above < level);
        path.push((level, &plain.text[unit.range.clone()]));
        match open.as_mut() {
            Some(run) if run.lead.is_some() && level > run.level => {
                *run = packer.run(title, &path, level, Some(unit));
            }
            Some(run) if level >= run.level && run.words() < JOIN_BELOW_WORDS => {
                run.units.extend(run.lead.take());
                run.units.push(unit);
            }
            _ => {
                let next = packer.run(title, &path, level, Some(unit));
                packer.pack(open.replace(next));
            }
        }
    }
    packer.pack(open);
    packer.pieces
}

impl Run {
    /// Words of running text.
    fn words(&self) -> usize {
        self.units
            .iter()
            .filter(|unit| unit.heading.is_none())
            .map(|unit| unit.words)
            .sum()
    }
}

impl Packer<'_> {
    fn opening(&self, units: &[Unit]) -> String {
        let Some(first) = units.first().filter(|unit| unit.heading.is_none()) else {
            return String::new();
        };
        let sentence = first.range.clone();
        let parts = cut(self.text, sentence, MAX_OPENING_TOKENS, self.token_count);
        let words = parts
            .first()
            .map(|range| self.text[range.clone()].split_whitespace());
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The title of the next piece of a run with a title of its own, or without.
    fn title<'t>(&'t self, title: &'t str) -> &'t str {
        match title.is_empty() && !self.pieces.is_empty() {
            true => &self.opening,
            false => title,
        }
    }

    fn units(&self, plain: &PlainText) -> Vec<Unit> {
        let mut units = Vec::new();
        for block in &plain.blocks {
            let source = &self.text[block.range.clone()];
            if let BlockKind::Heading(level) = block.kind
                && (self.token_count)(source) <= MAX_HEADING_TOKENS
                && source.len() <= MAX_BYTES
            {
                units.push(self.unit(block.range.clone(), Some(level)));
                continue;
            }
            for sentence in sentences(source) {
                let range = block.range.start + sentence.start..block.range.start + sentence.end;
                let parts = cut(self.text, range, MAX_UNIT_TOKENS, self.token_count);
                units.extend(parts.into_iter().map(|part| self.unit(part, None)));
            }
            if let Some(last) = units.last_mut() {
                last.ends_block = true;
            }
        }
        units
    }

    fn unit(&self, range: Range<usize>, heading: Option<u8>) -> Unit {
        let source = &self.text[range.clone()];
        Unit {
            words: source.split_whitespace().count(),
            tokens: (self.token_count)(source),
            range,
            heading,
            ends_block: false,
        }
    }

    fn run(&self, title: &str, path: &[(u8, &str)], level: u8, lead: Option<Unit>) -> Run {
        let same = |heading: &str| heading.trim().eq_ignore_ascii_case(title.trim());
        let headings = path
            .iter()
            .map(|(_, heading)| *heading)
            .filter(|heading| !same(heading));
        let parts: Vec<&str> = [title.trim()]
            .into_iter()
            .filter(|t| !t.is_empty())
            .chain(headings)
            .collect();
        let full = parts.join(" > ");
        let first = cut(&full, 0..full.len(), MAX_TITLE_TOKENS, self.token_count)
            .into_iter()
            .next();
        let title = first.map_or(String::new(), |range| full[range].to_owned());
        Run {
            title,
            level,
            lead,
            units: Vec::new(),
        }
    }

    /// Cuts a run into pieces of about equal load.
    fn pack(&mut self, run: Option<Run>) {
        let Some(mut run) = run else { return };
        run.units.extend(run.lead.take());
        let load_under = |title: &str| {
            let room = MAX_TOKENS
                .saturating_sub((self.token_count)(title) + 2)
                .max(1);
            move |unit: &Unit| {
                let words = unit.words as f32 / MAX_WORDS as f32;
                words.max(unit.tokens as f32 / room as f32)
            }
        };
        let mut load = load_under(self.title(&run.title));
        if run.title.is_empty() && exceeds(1.0, run.units.iter().map(&load)) {
            // All pieces but one have the opening.
            load = load_under(&self.opening);
        }
        let mut left: f32 = run.units.iter().map(load).sum();
        let mut target = even_share(left);
        let mut start = 0;
        let mut filled = 0.0f32;
        for at in 0..run.units.len() {
            let next = load(&run.units[at]);
            let over = filled + next;
            let previous = at.checked_sub(1).map(|i| &run.units[i]);
            let block_end = previous.is_some_and(|unit| unit.ends_block) && filled >= 0.8 * target;
            let enough = block_end || over - target > target - filled;
            let cut = over > 1.0 || enough && exceeds(MIN_LOAD, run.units[at..].iter().map(load));
            if at > start && cut {
                // A heading opens what follows it.
                let cut_at =
                    if previous.is_some_and(|unit| unit.heading.is_some()) && at - 1 > start {
                        at - 1
                    } else {
                        at
                    };
                self.emit(&run.title, &run.units[start..cut_at]);
                left -= run.units[start..cut_at].iter().map(load).sum::<f32>();
                target = even_share(left);
                filled = run.units[cut_at..at].iter().map(load).sum();
                start = cut_at;
            }
            filled += next;
        }
        self.emit(&run.title, &run.units[start..]);
    }

    /// Adds pieces that hold the limits for certain.
    fn emit(&mut self, title: &str, units: &[Unit]) {
        let mut rest = units;
        while let (Some(first), Some(_)) = (rest.first(), rest.last()) {
            let title = self.title(title).to_owned();
            let mut count = rest.len();
            while count > 1 {
                let range = first.range.start..rest[count - 1].range.end;
                let encoded = encoded_text(&title, &self.text[range.clone()]);
                if range.len() <= MAX_BYTES && (self.token_count)(&encoded) <= MAX_TOKENS {
                    break;
                }
                count -= 1;
            }
            let (piece, tail) = rest.split_at(count);
            self.pieces.push(Piece {
                title,
                range: first.range.start..piece[count - 1].range.end,
                sentences: piece.iter().map(|unit| unit.range.clone()).collect(),
            });
            rest = tail;
        }
    }
}

/// Load of each of the fewest equal pieces that `left` makes.
fn even_share(left: f32) -> f32 {
    // Sums of many small loads come out a little too large.
    left / (left - 1e-3).ceil().max(1.0)
}

/// Whether the sum of `parts` is above `bound`; looks at no more of them than it needs.
fn exceeds(bound: f32, parts: impl Iterator<Item = f32>) -> bool {
    let mut sum = 0.0;
    parts.into_iter().any(|part| {
        sum += part;
        sum > bound
    })
}
