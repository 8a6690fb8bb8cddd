//! The thirteen views: one score per matching pattern between a query and a passage.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::codec::TokenCodec;
use crate::keys::KeySpec;
use crate::lex::LexQuery;
use crate::linalg::dot;
use crate::mask::GoldMask;
use crate::passage::FeaturesRef;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;
use crate::text::MAX_SENTENCES;
use crate::token_views::{QueryTokens, TokenQuery};

/// Number of views.
pub const VIEW_COUNT: usize = 13;

/// Names of the views; the position is the column of a [`ViewMatrix`].
pub const VIEWS: [&str; VIEW_COUNT] = [
    "dense",
    "smax",
    "ph3",
    "bm25",
    "maxsim",
    "maxsim_idf",
    "wms",
    "big",
    "cov",
    "scov",
    "prf",
    "dcen",
    "sctx",
];

/// A view; `view as usize` is its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Cosine of the pooled vectors.
    Dense,
    /// Best cosine of the query with a sentence encoded alone.
    Smax,
    /// MaxSim on states smoothed with their neighbours.
    Ph3,
    /// Raw BM25.
    Bm25,
    /// Mean over query tokens of the best cosine with a passage token.
    Maxsim,
    /// The same, query tokens weighted by wordpiece idf.
    MaxsimIdf,
    /// Best 32-token window under IDF-weighted MaxSim.
    Wms,
    /// Share of the query's term bigrams found.
    Big,
    /// IDF share of the query's terms found.
    Cov,
    /// IDF share of the query's terms found in the best sentence.
    Scov,
    /// Cosine with the query moved toward the dense top three.
    Prf,
    /// Cosine after taking away the collection's mean and two principal directions.
    Dcen,
    /// Best cosine of the query with the mean of a 32-token window.
    Sctx,
}

/// What a model was trained with and has to be served with.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ViewConfig {
    /// Version of the list of views and their definitions, and of the mixture over them: weights of
    /// another one would answer differently from when they were trained.
    pub version: u16,
    /// Candidates taken from the dense and from the lexical list (N).
    pub candidates_per_list: usize,
    /// Candidates that survive pruning (P); all when `None`.
    pub prune_to: Option<usize>,
    /// Keys that the views read.
    pub key_spec: KeySpec,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self {
            version: 2,
            candidates_per_list: 100,
            prune_to: Some(96),
            key_spec: KeySpec::default(),
        }
    }
}

/// Scores of the candidates of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewMatrix {
    /// Scores as defined, `[n, 13]`.
    pub raw: Array2<f32>,
    /// `(raw - mean) / (std + 1e-6)` per column, `[n, 13]`.
    pub z: Array2<f32>,
}

impl ViewMatrix {
    /// Standardises raw scores `[n, 13]` over the candidates.
    pub fn new(raw: Array2<f32>) -> Self {
        let n = raw.nrows().max(1) as f64;
        let mut z = raw.clone();
        for mut column in z.columns_mut() {
            // In f64: the spread of a column may be far smaller than its mean.
            let mean = column.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let variance = column
                .iter()
                .map(|x| (f64::from(*x) - mean).powi(2))
                .sum::<f64>()
                / n;
            let scale = 1.0 / (variance.sqrt() + 1e-6);
            column
                .iter_mut()
                .for_each(|x| *x = ((f64::from(*x) - mean) * scale) as f32);
        }
        Self { raw, z }
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.raw.nrows()
    }

    /// Whether there are no candidates.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Computes views over the passages of one collection.
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    codec: &'a TokenCodec,
    stats: &'a CorpusStats,
}

impl<'a> Views<'a> {
    /// Views with the codec and the statistics of a collection.
    pub fn new(codec: &'a TokenCodec, stats: &'a CorpusStats) -> Self {
        Self { codec, stats }
    }

    /// Prepares a query for the token views: rotation and tables, once for all its candidates.
    pub fn prepare(&self, q: &QueryFeatures) -> QueryTokens {
        QueryTokens::new(self.codec, q, self.stats)
    }

    /// All views of all candidates. `tokens` are `q`'s; `prf` is [`crate::feedback_vector`] over the candidates before
    /// pruning; `mask` takes something out of one candidate, in training only.
    pub fn compute<'p, C: Into<FeaturesRef<'p>> + Copy>(
        &self,
        q: &QueryFeatures,
        tokens: &QueryTokens,
        prf: &[f32],
        candidates: &[C],
        mask: Option<&GoldMask>,
    ) -> ViewMatrix {
        ViewMatrix::new(self.raw(q, tokens, prf, candidates, mask))
    }

    /// The same before standardisation, `[n, 13]`: for callers that share the candidates between
    /// threads, since each is scored by itself.
    pub fn raw<'p, C: Into<FeaturesRef<'p>> + Copy>(
        &self,
        q: &QueryFeatures,
        tokens: &QueryTokens,
        prf: &[f32],
        candidates: &[C],
        mask: Option<&GoldMask>,
    ) -> Array2<f32> {
        let mut raw = Array2::zeros((candidates.len(), VIEW_COUNT));
        let mut scorer = Scorer::new(*self, q, tokens, prf);
        for (i, (candidate, mut row)) in candidates.iter().zip(raw.rows_mut()).enumerate() {
            let mask = mask.filter(|m| m.candidate == i);
            let scores = scorer.score((*candidate).into(), mask);
            row.iter_mut().zip(scores).for_each(|(r, s)| *r = s);
        }
        raw
    }

    /// How much each sentence of a passage has to do with the query, `[sentence_count]`: the mean of the
    /// cosine with the sentence vector and of the IDF-weighted MaxSim over the sentence's tokens, plus a
    /// quarter of the IDF share of the query's terms found in it.
    pub fn sentence_scores<'p>(
        &self,
        q: &QueryFeatures,
        tokens: &QueryTokens,
        passage: impl Into<FeaturesRef<'p>>,
    ) -> Vec<f32> {
        let tokens = TokenQuery::new(self.codec, tokens);
        crate::sentence::scores(self.codec, self.stats, q, tokens, passage.into())
    }
}

/// One query prepared for all views, with reused working space.
struct Scorer<'a> {
    codec: &'a TokenCodec,
    stats: &'a CorpusStats,
    query: &'a [f32],
    prf: &'a [f32],
    centred_query: Vec<f32>,
    lex: LexQuery,
    tokens: TokenQuery<'a>,
    centred: Vec<f32>,
}

impl<'a> Scorer<'a> {
    fn new(
        views: Views<'a>,
        q: &'a QueryFeatures,
        tokens: &'a QueryTokens,
        prf: &'a [f32],
    ) -> Self {
        let mut centred_query = Vec::new();
        views.stats.geometry().centre(&q.vector, &mut centred_query);
        Self {
            codec: views.codec,
            stats: views.stats,
            query: &q.vector,
            prf,
            centred_query,
            lex: LexQuery::new(&q.terms, views.stats),
            tokens: TokenQuery::new(views.codec, tokens),
            centred: Vec::new(),
        }
    }

    fn score(&mut self, passage: FeaturesRef<'_>, mask: Option<&GoldMask>) -> [f32; VIEW_COUNT] {
        let masked = mask.map(|m| masked_vector(self.codec, passage, m));
        let vector = masked.as_deref().unwrap_or(passage.vector);
        let dense = dot(self.query, vector);
        self.stats.geometry().centre(vector, &mut self.centred);
        let lex = self.lex.score(passage.lex, mask);
        let tokens = self.tokens.score(passage.keys, passage.vector, mask);
        let whole = match mask {
            Some(_) => dot(self.query, passage.vector),
            None => dense,
        };
        let smax = self.best_sentence(passage, whole, mask).map(|best| {
            // Hidden words lower a sentence vector as they lower the passage vector.
            let hidden = mask.is_some_and(|m| !m.hidden_terms.is_empty());
            if hidden { best + dense - whole } else { best }
        });

        let mut scores = [0.0; VIEW_COUNT];
        let mut set = |view: View, score: f32| scores[view as usize] = score;
        set(View::Dense, dense);
        set(View::Smax, smax.unwrap_or(dense));
        set(View::Ph3, tokens.ph3);
        set(View::Bm25, lex.bm25);
        set(View::Maxsim, tokens.maxsim);
        set(View::MaxsimIdf, tokens.maxsim_idf);
        set(View::Wms, tokens.wms);
        set(View::Big, lex.big);
        set(View::Cov, lex.cov);
        set(View::Scov, lex.scov);
        set(View::Prf, dot(self.prf, vector));
        set(View::Dcen, dot(&self.centred_query, &self.centred));
        set(View::Sctx, tokens.sctx.unwrap_or(dense));
        scores.map(|s| if s.is_finite() { s } else { 0.0 })
    }

    /// The highest cosine of a sentence that is there; `dense` is that of the whole passage.
    fn best_sentence(
        &self,
        passage: FeaturesRef<'_>,
        dense: f32,
        mask: Option<&GoldMask>,
    ) -> Option<f32> {
        let cut = |s: &usize| mask.is_some_and(|m| m.cut_sentences.contains(s));
        self.codec
            .sentence_cosines(&passage.keys.sentences, self.tokens.sentences(), dense)
            .take(MAX_SENTENCES)
            .enumerate()
            .filter(|(s, _)| !cut(s))
            .map(|(_, cosine)| cosine)
            .reduce(f32::max)
    }
}

/// The passage vector without the dropped tokens: `unit(p + (mean kept - mean all) / |mean all|)`.
/// Both means come from the same coded states, so that the error of their difference is small; what it
/// adds to the length is known on average and taken off.
fn masked_vector(codec: &TokenCodec, passage: FeaturesRef<'_>, mask: &GoldMask) -> Vec<f32> {
    let mut vector = passage.vector.to_vec();
    let keys = passage.keys;
    let mut states = Array2::zeros((0, 0));
    codec.decode_into(keys.tokens.of(passage.vector), &mut states);
    let seq = keys.seq();
    let kept = (0..seq).filter(|j| mask.keeps(*j)).count();
    if kept == 0 || kept == seq || keys.mean_norm <= 1e-9 {
        return vector;
    }
    let mut weights = vec![0.0f32; states.nrows()];
    for j in 0..seq {
        let share = if mask.keeps(j) {
            1.0 / kept as f32
        } else {
            0.0
        };
        if let Some(weight) = weights.get_mut(keys.tokens.slot(j)) {
            *weight += (share - 1.0 / seq as f32) / keys.mean_norm;
        }
    }
    let mut shift = vec![0.0f32; codec.dims()];
    let mut noise = 0.0;
    for (at, (state, weight)) in states.rows().into_iter().zip(weights).enumerate() {
        shift
            .iter_mut()
            .zip(state)
            .for_each(|(s, x)| *s += weight * x);
        noise += weight * weight * codec.coding_noise(&keys.tokens, at);
    }
    vector
        .iter_mut()
        .zip(codec.unrotate(&shift))
        .for_each(|(v, s)| *v += s);
    let square = dot(&vector, &vector);
    let length = (square - noise).max(0.25 * square).sqrt();
    vector.iter_mut().for_each(|v| *v /= length + 1e-9);
    vector
}
