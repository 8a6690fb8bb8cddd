//! Terms of a passage and the lexical views over them: `bm25`, `cov`, `scov`, `big`.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::mask::GoldMask;
use crate::stats::CorpusStats;
use crate::text::{Analyzer, MAX_SENTENCES};

/// BM25's term saturation.
pub const K1: f32 = 1.2;
/// BM25's length normalisation.
pub const B: f32 = 0.75;

/// Terms of one passage: stem hashes of `title. body` in order, stop words out. The lexical views
/// read the whole text, also where the encoder saw only its beginning.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LexBlock {
    /// The first terms belong to the title.
    pub title_terms: u32,
    /// Term ids in order.
    #[serde(with = "crate::packed")]
    pub terms: Vec<u32>,
    /// Exclusive end of each sentence in `terms`, ascending; the first starts at `title_terms`.
    pub sentence_ends: Vec<u32>,
}

impl LexBlock {
    /// Number of terms, the passage's length in BM25.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether the passage has no terms.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// `(term, count)` of the distinct terms, sorted by term.
    pub fn counts(&self) -> Vec<(u32, u32)> {
        let mut sorted = self.terms.clone();
        sorted.sort_unstable();
        sorted
            .chunk_by(|a, b| a == b)
            .map(|run| (run[0], run.len() as u32))
            .collect()
    }

    /// Terms of the title.
    pub fn title(&self) -> &[u32] {
        &self.terms[..(self.title_terms as usize).min(self.terms.len())]
    }

    /// Number of sentences.
    pub fn sentence_count(&self) -> usize {
        self.sentence_ends.len()
    }

    /// Where sentence `s` lies in `terms`.
    pub fn sentence(&self, s: usize) -> Range<usize> {
        let end = self
            .sentence_ends
            .get(s)
            .map_or(self.terms.len(), |e| *e as usize);
        let start = match s.checked_sub(1) {
            None => self.title_terms as usize,
            Some(before) => self.sentence_ends.get(before).map_or(end, |e| *e as usize),
        };
        let end = end.min(self.terms.len());
        start.min(end)..end
    }
}

/// Analyses one passage. `sentences` are byte ranges in `body`.
pub fn lex_block(
    analyzer: &Analyzer,
    title: &str,
    body: &str,
    sentences: &[Range<usize>],
) -> LexBlock {
    let title = analyzer.title_terms(title);
    let mut terms: Vec<u32> = title.into_iter().map(|t| t.id).collect();
    let title_terms = terms.len();
    let body_terms = analyzer.terms(body);
    let sentence_ends = sentences
        .iter()
        .map(|s| (title_terms + body_terms.partition_point(|t| t.start < s.end)) as u32)
        .collect();
    terms.extend(body_terms.into_iter().map(|t| t.id));
    LexBlock {
        title_terms: title_terms as u32,
        terms,
        sentence_ends,
    }
}

/// The lexical views of one passage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LexScores {
    /// Raw BM25.
    pub bm25: f32,
    /// IDF share of the query's terms found in the passage.
    pub cov: f32,
    /// The same for the best sentence, title included.
    pub scov: f32,
    /// Share of the query's term bigrams found.
    pub big: f32,
}

/// A query prepared for the lexical views.
#[derive(Clone, Debug)]
pub struct LexQuery {
    /// Distinct query terms, sorted.
    terms: Vec<u32>,
    /// A bit for each term, by its lowest nine: nearly all terms of a passage are told apart by it.
    filter: [u64; 8],
    /// Idf of each; `None` for a term the corpus does not have.
    idf: Vec<Option<f32>>,
    /// Distinct bigrams, sorted.
    bigrams: Vec<(u32, u32)>,
    /// Idf of all distinct terms, unknown ones with half of the largest.
    total: f32,
    /// Average passage length.
    avg_len: f32,
    // Working space of `score`.
    counts: Vec<u32>,
    in_title: Vec<bool>,
    in_sentence: Vec<u32>,
    bigram_found: Vec<bool>,
}

impl LexQuery {
    /// Prepares the terms of a query.
    pub fn new(terms: &[u32], stats: &CorpusStats) -> Self {
        let mut distinct = terms.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut bigrams: Vec<(u32, u32)> = terms.windows(2).map(|w| (w[0], w[1])).collect();
        bigrams.sort_unstable();
        bigrams.dedup();
        let idf: Vec<Option<f32>> = distinct.iter().map(|t| stats.idf(*t)).collect();
        let unknown = stats.oov_idf() * 0.5;
        Self {
            total: idf.iter().map(|i| i.unwrap_or(unknown)).sum(),
            avg_len: stats.avg_len().max(1.0),
            counts: vec![0; distinct.len()],
            in_title: vec![false; distinct.len()],
            in_sentence: vec![0; distinct.len()],
            bigram_found: vec![false; bigrams.len()],
            filter: filter(&distinct),
            terms: distinct,
            idf,
            bigrams,
        }
    }

    /// Idf of all distinct query terms; unknown ones count half of the largest.
    pub fn total(&self) -> f32 {
        self.total
    }

    /// Scores one passage; with a mask, as if the masked terms and sentences were not in it.
    pub fn score(&mut self, lex: &LexBlock, mask: Option<&GoldMask>) -> LexScores {
        if self.terms.is_empty() {
            return LexScores::default();
        }
        let mut scores = self.whole(lex, mask);
        let share = 1.0 / (self.total + 1e-6);
        scores.cov *= share;
        scores.scov = self.best_sentence(lex, mask) * share;
        let found = self.bigram_found.iter().filter(|f| **f).count();
        scores.big = found as f32 / self.bigrams.len().max(1) as f32;
        scores
    }

    /// The `bm25` of [`LexQuery::score`] alone: all that pruning needs.
    pub fn bm25(&mut self, lex: &LexBlock) -> f32 {
        if self.terms.is_empty() {
            return 0.0;
        }
        self.whole(lex, None).bm25
    }

    /// `bm25`, and the idf of the terms found as `cov`.
    fn whole(&mut self, lex: &LexBlock, mask: Option<&GoldMask>) -> LexScores {
        let length = self.count(lex, mask);
        let mut scores = LexScores::default();
        let saturation = K1 * (1.0 - B + B * length.max(1) as f32 / self.avg_len);
        for (count, idf) in self.counts.iter().zip(&self.idf) {
            let Some(idf) = idf else { continue };
            if *count > 0 {
                let tf = *count as f32;
                scores.bm25 += idf * tf * (K1 + 1.0) / (tf + saturation);
                scores.cov += idf;
            }
        }
        scores
    }

    /// Whether the query names the passage's title: has all of its terms. Not of a passage without title.
    pub fn names(&self, lex: &LexBlock) -> bool {
        let title = lex.title();
        !title.is_empty() && title.iter().all(|term| self.find(*term).is_some())
    }

    /// IDF share of the query's terms in each sentence (title included), `[sentence_count]`.
    pub fn sentence_coverage(&mut self, lex: &LexBlock) -> Vec<f32> {
        let title = self.title(lex, None);
        let share = 1.0 / (self.total + 1e-6);
        (0..lex.sentence_count())
            .map(|s| (title + self.sentence(lex, s, None)) * share)
            .collect()
    }

    fn find(&self, term: u32) -> Option<usize> {
        if self.filter[word_of(term)] >> (term & 63) & 1 == 0 {
            return None;
        }
        self.terms.binary_search(&term).ok()
    }

    /// Counts query terms and marks bigrams; returns the number of terms the mask leaves.
    fn count(&mut self, lex: &LexBlock, mask: Option<&GoldMask>) -> usize {
        self.counts.fill(0);
        self.bigram_found.fill(false);
        let mut before = None;
        let mut length = 0;
        let spans = mask.map(|m| m.cut_terms(lex)).unwrap_or_default();
        for (at, term) in lex.terms.iter().enumerate() {
            if mask.is_some_and(|m| {
                m.hidden_terms.contains(term) || spans.iter().any(|s| s.contains(&at))
            }) {
                continue;
            }
            length += 1;
            let found = self.find(*term);
            if let Some(k) = found {
                self.counts[k] += 1;
                // Both terms of a bigram are query terms, so nothing else needs a look.
                if let Some(previous) = before
                    && let Ok(b) = self.bigrams.binary_search(&(previous, *term))
                {
                    self.bigram_found[b] = true;
                }
            }
            before = found.map(|_| *term);
        }
        length
    }

    fn best_sentence(&mut self, lex: &LexBlock, mask: Option<&GoldMask>) -> f32 {
        let title = self.title(lex, mask);
        let mut best = None;
        for s in 0..lex.sentence_count().min(MAX_SENTENCES) {
            if mask.is_some_and(|m| m.cut_sentences.contains(&s)) {
                continue;
            }
            let score = title + self.sentence(lex, s, mask);
            best = Some(best.map_or(score, |b: f32| b.max(score)));
        }
        best.unwrap_or(0.0)
    }

    /// Marks the query terms of the title and sums their idf.
    fn title(&mut self, lex: &LexBlock, mask: Option<&GoldMask>) -> f32 {
        self.in_title.fill(false);
        self.in_sentence.fill(0);
        let mut sum = 0.0;
        for term in lex.title() {
            if let Some(k) = self.visible(*term, mask)
                && !self.in_title[k]
            {
                self.in_title[k] = true;
                sum += self.idf[k].unwrap_or(0.0);
            }
        }
        sum
    }

    /// Idf of the query terms of one sentence that the title does not have.
    fn sentence(&mut self, lex: &LexBlock, s: usize, mask: Option<&GoldMask>) -> f32 {
        let stamp = s as u32 + 1;
        let mut sum = 0.0;
        for term in &lex.terms[lex.sentence(s)] {
            if let Some(k) = self.visible(*term, mask)
                && !self.in_title[k]
                && self.in_sentence[k] != stamp
            {
                self.in_sentence[k] = stamp;
                sum += self.idf[k].unwrap_or(0.0);
            }
        }
        sum
    }

    fn visible(&self, term: u32, mask: Option<&GoldMask>) -> Option<usize> {
        self.find(term)
            .filter(|_| !mask.is_some_and(|m| m.hidden_terms.contains(&term)))
    }
}

/// See [`LexQuery`]: terms are hashes, so their lowest bits are as good as any.
fn filter(terms: &[u32]) -> [u64; 8] {
    let mut bits = [0; 8];
    for term in terms {
        bits[word_of(*term)] |= 1 << (term & 63);
    }
    bits
}

fn word_of(term: u32) -> usize {
    (term >> 6 & 7) as usize
}
