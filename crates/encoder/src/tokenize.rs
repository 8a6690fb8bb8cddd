//! The encoder's tokenizer: wordpiece ids with byte offsets into the text they came from.

use std::iter;
use std::ops::Range;
use std::path::Path;

use crate::error::EncoderError;

/// The tokenizer file of the Hugging Face layout.
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// One wordpiece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenSpan {
    /// Vocabulary id.
    pub id: u32,
    /// First byte in the given text.
    pub start: usize,
    /// One past the last byte. Spans lie on character boundaries and never go back, but the pieces
    /// of one character (decomposed Hangul, for one) all carry that character's span.
    pub end: usize,
}

/// The tokenizer that belongs to the encoder.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: tokenizers::Tokenizer,
    cls: u32,
    sep: u32,
}

/// A window of a text ready for the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenizedText {
    /// CLS, prefix, text (what fits), SEP.
    pub(crate) ids: Vec<u32>,
    /// Tokens before the first that the window reads anew: CLS, prefix, and what stands before it.
    pub(crate) lead: usize,
    /// The text's tokens that the window reads anew.
    pub(crate) spans: Vec<TokenSpan>,
    /// Tokens of the whole text, specials and prefix left out.
    pub(crate) token_count: usize,
    /// Whether the text is longer than its first window.
    pub(crate) truncated: bool,
}

impl TextTokenizer {
    /// Reads `dir`'s tokenizer for a network of `vocab_size` word embeddings.
    pub(crate) fn read(dir: &Path, vocab_size: usize) -> Result<(Self, Vec<u8>), EncoderError> {
        let path = dir.join(TOKENIZER_FILE);
        let bytes = fs_err::read(&path).map_err(|error| EncoderError::reading(&path, error))?;
        let damaged = |reason: &dyn ToString| EncoderError::damaged(&path, reason.to_string());
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| damaged(&error))?;
        // The file's own settings (MiniLM's: cut to and pad to 128) would act behind our back.
        inner
            .with_truncation(None)
            .map_err(|error| damaged(&error))?;
        inner.with_padding(None);
        let vocabulary = inner.get_vocab(true);
        let largest = vocabulary.values().copied().max().unwrap_or_default() as usize;
        if largest >= vocab_size {
            return Err(damaged(&format!(
                "token id {largest} is outside config.json's vocab_size {vocab_size}"
            )));
        }
        // Encoding fails only without an unknown token: a text of none but unknown ones proves it.
        let probe = inner
            .encode("\u{10ffff}", true)
            .map_err(|error| damaged(&error))?;
        let empty = inner.encode("", true).map_err(|error| damaged(&error))?;
        let (Some(&cls), Some(&sep), 2) = (
            empty.get_ids().first(),
            empty.get_ids().last(),
            empty.get_ids().len(),
        ) else {
            return Err(damaged(
                &"it does not put one token before and one after a text",
            ));
        };
        tracing::trace!(
            probe = probe.get_ids().len(),
            "tokenizer can encode unknown characters"
        );
        Ok((TextTokenizer { inner, cls, sep }, bytes))
    }

    /// Whether `word` is one of the vocabulary, also where that marks beginnings of words with "▁".
    pub fn is_word(&self, word: &str) -> bool {
        let has = |word: &str| self.inner.token_to_id(word).is_some();
        has(word) || has(&format!("▁{word}"))
    }

    /// Number of wordpieces of `text`, without CLS, SEP and prefix.
    pub fn token_count(&self, text: &str) -> usize {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.len(),
            // Excluded by the probe at loading; no text has more tokens than bytes.
            Err(_) => text.len(),
        }
    }

    /// The first `most` wordpieces of `text` with their byte offsets, without CLS and SEP.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Compute`] when the tokenizer fails; a text alone cannot make it fail.
    pub fn spans(&self, text: &str, most: usize) -> Result<Vec<TokenSpan>, EncoderError> {
        let mut spans = self.all_spans(text)?;
        spans.truncate(most);
        Ok(spans)
    }

    /// The vocabulary in id order; ids without a token are empty strings.
    pub(crate) fn vocabulary(&self, size: usize) -> Vec<String> {
        let mut words = vec![String::new(); size];
        for (word, id) in self.inner.get_vocab(true) {
            if let Some(slot) = words.get_mut(id as usize) {
                *slot = word;
            }
        }
        words
    }

    /// Tokenizes `prefix + text` into windows of at most `max_tokens` ids, at least one and at most `windows`
    /// (see [`crate::EncodeOptions::windows`]); each begins with the prefix.
    ///
    /// Prefix and text are tokenized as one string, as sentence-transformers does it, and told
    /// apart by offset afterwards.
    pub(crate) fn prepare(
        &self,
        prefix: &str,
        text: &str,
        max_tokens: usize,
        windows: usize,
    ) -> Result<Vec<TokenizedText>, EncoderError> {
        let joined;
        let input = if prefix.is_empty() {
            text
        } else {
            joined = format!("{prefix}{text}");
            &joined
        };
        let mut lead = self.all_spans(input)?;
        let mut own = lead.split_off(lead.partition_point(|span| span.end <= prefix.len()));
        for span in &mut own {
            span.start = span.start.saturating_sub(prefix.len());
            span.end -= prefix.len();
        }
        lead.truncate(max_tokens - 2);
        let room = max_tokens - 2 - lead.len();
        let cuts = cut(own.len(), room, windows);
        let window = |range: Range<usize>| {
            let from = range.end.saturating_sub(room).min(range.start);
            let mut ids = Vec::with_capacity(lead.len() + range.end - from + 2);
            ids.push(self.cls);
            ids.extend(lead.iter().map(|span| span.id));
            ids.extend(own[from..range.end].iter().map(|span| span.id));
            ids.push(self.sep);
            TokenizedText {
                lead: 1 + lead.len() + range.start - from,
                ids,
                spans: own[range].to_vec(),
                token_count: own.len(),
                truncated: room < own.len(),
            }
        };
        Ok(cuts.into_iter().map(window).collect())
    }

    /// `CLS a SEP b SEP` in at most `max_tokens` ids (at least 5), and how many of them are `CLS a
    /// SEP`. The longer text is cut first, as transformers' `longest_first` does it.
    pub(crate) fn pair(
        &self,
        a: &str,
        b: &str,
        max_tokens: usize,
    ) -> Result<(Vec<u32>, usize), EncoderError> {
        let (a, b) = (self.all_spans(a)?, self.all_spans(b)?);
        let (most_a, most_b) = fit(a.len(), b.len(), max_tokens - 3);
        let mut ids = Vec::with_capacity(most_a + most_b + 3);
        ids.push(self.cls);
        ids.extend(a[..most_a].iter().map(|span| span.id));
        ids.push(self.sep);
        let first = ids.len();
        ids.extend(b[..most_b].iter().map(|span| span.id));
        ids.push(self.sep);
        Ok((ids, first))
    }

    fn all_spans(&self, text: &str) -> Result<Vec<TokenSpan>, EncoderError> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| EncoderError::Compute(format!("tokenizer: {error}")))?;
        let ids = encoding.get_ids().iter();
        let spans = ids.zip(encoding.get_offsets());
        Ok(spans
            .map(|(&id, &(start, end))| TokenSpan { id, start, end })
            .collect())
    }
}

/// What each window reads anew of a text of `count` tokens, where there is room for `room`.
fn cut(count: usize, room: usize, windows: usize) -> Vec<Range<usize>> {
    let first = count.min(room);
    let further = (first..count).step_by((room / 2).max(1));
    let further = further.map(|start| start..(start + room / 2).min(count));
    iter::once(0..first)
        .chain(further.filter(|range| !range.is_empty()))
        .take(windows.max(1))
        .collect()
}

/// How many tokens of two texts are kept where there is room for `room`.
fn fit(a: usize, b: usize, room: usize) -> (usize, usize) {
    let half = room / 2;
    if a + b <= room {
        (a, b)
    } else if a <= half {
        (a, room - a)
    } else if b <= room - half {
        (room - b, b)
    } else {
        (half, room - half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read_every_token_once() {
        for (count, room, windows, expected) in [
            (0, 254, 2, vec![0]),
            (254, 254, 2, vec![254]),
            (255, 254, 2, vec![254, 255]),
            (900, 254, 1, vec![254]),
            (900, 254, 3, vec![254, 381, 508]),
            (400, 254, 9, vec![254, 381, 400]),
            (9, 1, 3, vec![1]),
            (9, 0, 3, vec![0]),
        ] {
            let cuts = cut(count, room, windows);
            let ends: Vec<usize> = cuts.iter().map(|cut| cut.end).collect();
            assert_eq!(ends, expected, "{count} {room} {windows}");
            assert_eq!(cuts[0].start, 0);
            assert!(cuts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn the_longer_text_of_a_pair_is_cut_first() {
        for (a, b, room, expected) in [
            (3, 4, 7, (3, 4)),
            (3, 40, 10, (3, 7)),
            (40, 3, 10, (7, 3)),
            (40, 40, 11, (5, 6)),
            (0, 40, 10, (0, 10)),
        ] {
            assert_eq!(fit(a, b, room), expected, "{a} {b} {room}");
        }
    }
}
