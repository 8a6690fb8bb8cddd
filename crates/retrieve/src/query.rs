//! Features of a query.

use ndarray::Array2;

use crate::stats::CorpusStats;
use crate::text::Analyzer;

/// Everything the views need to know about one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryFeatures {
    /// The query as it was asked.
    pub text: String,
    /// Term ids in the order of the text, repetitions kept.
    pub terms: Vec<u32>,
    /// Unit pooled vector, `[d]`.
    pub vector: Vec<f32>,
    /// Unit token states without CLS and SEP, unrotated, `[nq, d]`.
    pub tokens: Array2<f32>,
    /// Wordpiece ids, `[nq]`.
    pub token_ids: Vec<u32>,
}

impl QueryFeatures {
    /// Puts the encoder's output and the analysed text together.
    pub fn new(
        analyzer: &Analyzer,
        text: impl Into<String>,
        vector: Vec<f32>,
        tokens: Array2<f32>,
        token_ids: Vec<u32>,
    ) -> Self {
        let text = text.into();
        let terms = analyzer.terms(&text).into_iter().map(|t| t.id).collect();
        Self {
            text,
            terms,
            vector,
            tokens,
            token_ids,
        }
    }

    /// Query side of the sparse vector that finds lexical candidates: `(term, idf)` of the distinct
    /// known terms, sorted by term. Its product with [`CorpusStats::bm25_weights`] is BM25.
    pub fn sparse(&self, stats: &CorpusStats) -> Vec<(u32, f32)> {
        let mut terms = self.terms.clone();
        terms.sort_unstable();
        terms.dedup();
        terms
            .into_iter()
            .filter_map(|t| Some((t, stats.idf(t)?)))
            .collect()
    }
}
