//! Masks of the gold passage in training: the passage as it would be without a sentence or without
//! some of its words (levels 3 to 5 of RECIPE.md), with nothing encoded again.

use std::collections::HashSet;
use std::ops::Range;

use crate::keys::KeyBlock;
use crate::lex::LexBlock;
use crate::text::Analyzer;

/// What is taken out of one candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoldMask {
    /// Row of the masked candidate.
    pub candidate: usize,
    /// Tokens that are not there, `[seq]`; missing entries mean kept.
    pub dropped_tokens: Vec<bool>,
    /// Sentences that are not there.
    pub cut_sentences: Vec<usize>,
    /// Terms that are not there.
    pub hidden_terms: HashSet<u32>,
}

impl GoldMask {
    /// Finds the tokens to drop: those of the cut sentences, and those inside a word whose term is
    /// hidden. `text` is [`crate::encoded_text`] of the passage, `offsets` the byte range of each of
    /// its wordpieces.
    pub fn new(
        candidate: usize,
        analyzer: &Analyzer,
        text: &str,
        offsets: &[(usize, usize)],
        keys: &KeyBlock,
        cut_sentences: Vec<usize>,
        hidden_terms: HashSet<u32>,
    ) -> Self {
        let seq = keys.seq();
        let mut dropped_tokens = vec![false; seq];
        for (start, end) in cut_sentences
            .iter()
            .filter_map(|s| keys.sentence_tokens.get(*s))
        {
            let end = usize::from(*end).min(seq);
            dropped_tokens[usize::from(*start).min(end)..end].fill(true);
        }
        if !hidden_terms.is_empty() {
            for term in analyzer
                .terms(text)
                .iter()
                .filter(|t| hidden_terms.contains(&t.id))
            {
                let first = offsets.partition_point(|o| o.0 < term.start);
                for (j, offset) in offsets.iter().enumerate().take(seq).skip(first) {
                    if offset.1 > term.end {
                        break;
                    }
                    dropped_tokens[j] = true;
                }
            }
        }
        Self {
            candidate,
            dropped_tokens,
            cut_sentences,
            hidden_terms,
        }
    }

    /// Whether any of the passage's tokens is left; without one a masked passage teaches nothing.
    pub fn keeps_a_token(&self) -> bool {
        self.dropped_tokens.iter().any(|d| !d)
    }

    /// Whether token `j` is there.
    pub(crate) fn keeps(&self, j: usize) -> bool {
        !self.dropped_tokens.get(j).copied().unwrap_or(false)
    }

    /// Ranges of the cut sentences in the terms of the passage.
    pub(crate) fn cut_terms(&self, lex: &LexBlock) -> Vec<Range<usize>> {
        let inside = |s: &&usize| **s < lex.sentence_count();
        self.cut_sentences
            .iter()
            .filter(inside)
            .map(|s| lex.sentence(*s))
            .collect()
    }
}
