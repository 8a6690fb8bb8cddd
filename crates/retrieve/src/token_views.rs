//! Views over the token similarities of one candidate: `maxsim`, `maxsim_idf`, `ph3`, `wms`, `sctx`.
//!
//! One product of the query's tokens with the passage's tokens serves all of them; the pooled query
//! vector is one more row of it, for `sctx`. Similarities are kept by code, `[codes, lanes]`, so
//! that every step runs over all query tokens at once; tokens that share a code share its row.

use ndarray::{Array2, Axis};

use crate::codec::{CodecRows, LANES, SentenceQuery, TokenCodec};
use crate::keys::{
    KeyBlock, NEIGHBOUR_WEIGHT, WINDOW_STRIDE, smooth_norms, window_count, window_range,
};
use crate::mask::GoldMask;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;

/// Tokens of a block of `wms`; its windows are two blocks.
const BLOCK: usize = 16;
/// Fewest tokens that a mask may leave in a window that counts.
const MIN_WINDOW_TOKENS: usize = 4;

/// The token views of one candidate; zero without query or passage tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenScores {
    pub(crate) ph3: f32,
    pub(crate) maxsim: f32,
    pub(crate) maxsim_idf: f32,
    pub(crate) wms: f32,
    /// `None` without a window to look at.
    pub(crate) sctx: Option<f32>,
}

/// A query prepared for the token and sentence views of one collection.
#[derive(Clone, Debug)]
pub struct QueryTokens {
    rows: CodecRows,
    /// The pooled vector, for sentences.
    sentences: SentenceQuery,
    /// Query tokens; the row after them is the pooled vector.
    count: usize,
    /// Idf weight of each query token, summing to one.
    weights: Vec<f32>,
    /// Inverse norms of the smoothed query tokens.
    smooth: Vec<f32>,
}

/// A prepared query with the working space for one candidate at a time.
pub(crate) struct TokenQuery<'a> {
    codec: &'a TokenCodec,
    query: &'a QueryTokens,
    decoded: Vec<f32>,
    sims: Vec<f32>,
    /// Where the similarities of each token begin, `[seq]`.
    at: Vec<usize>,
    kept: Vec<usize>,
    blocks: Vec<f32>,
    best: Vec<f32>,
    row: Vec<f32>,
}

impl QueryTokens {
    pub(crate) fn new(codec: &TokenCodec, q: &QueryFeatures, stats: &CorpusStats) -> Self {
        let dims = codec.dims();
        let count = if q.tokens.ncols() == dims {
            q.tokens.nrows().min(q.token_ids.len())
        } else {
            0
        };
        let mut rows = Array2::zeros((count + 1, dims));
        let tokens = q.tokens.slice_axis(Axis(0), (..count).into());
        if count > 0 {
            rows.slice_axis_mut(Axis(0), (..count).into())
                .assign(&tokens);
        }
        rows.row_mut(count)
            .iter_mut()
            .zip(&q.vector)
            .for_each(|(r, x)| *r = *x);
        let mut weights: Vec<f32> = q.token_ids[..count]
            .iter()
            .map(|id| stats.wordpiece_idf(*id))
            .collect();
        let total: f32 = weights.iter().sum::<f32>() + 1e-6;
        weights.iter_mut().for_each(|w| *w /= total);
        Self {
            rows: codec.prepare(rows.view()),
            sentences: codec.sentence_query(&q.vector),
            count,
            weights,
            smooth: smooth_norms(tokens).map(|n| 1.0 / (n + 1e-9)).collect(),
        }
    }
}

impl<'a> TokenQuery<'a> {
    pub(crate) fn new(codec: &'a TokenCodec, query: &'a QueryTokens) -> Self {
        Self {
            codec,
            query,
            decoded: Vec::new(),
            sims: Vec::new(),
            at: Vec::new(),
            kept: Vec::new(),
            blocks: Vec::new(),
            best: Vec::new(),
            row: Vec::new(),
        }
    }

    /// The pooled query vector, for sentences.
    pub(crate) fn sentences(&self) -> &'a SentenceQuery {
        &self.query.sentences
    }

    /// Scores one candidate; with a mask, as if the dropped tokens were not in it. A key block that
    /// does not fit the codec counts as empty. `vector` is the passage's own, `[d]`.
    pub(crate) fn score(
        &mut self,
        keys: &KeyBlock,
        vector: &[f32],
        mask: Option<&GoldMask>,
    ) -> TokenScores {
        if keys.validate(self.codec.spec()).is_err() {
            return TokenScores::default();
        }
        self.multiply(keys, vector);
        pulp::Arch::new().dispatch(Score {
            query: self,
            keys,
            mask,
        })
    }

    #[inline(always)]
    fn scores(&mut self, keys: &KeyBlock, mask: Option<&GoldMask>) -> TokenScores {
        let seq = keys.seq();
        self.kept.clear();
        self.kept
            .extend((0..seq).filter(|j| mask.is_none_or(|m| m.keeps(*j))));
        if self.kept.is_empty() {
            return TokenScores::default();
        }
        let sctx = self.windows(keys, mask);
        if self.query.count == 0 {
            return TokenScores {
                sctx,
                ..TokenScores::default()
            };
        }
        self.block_maxima(seq);
        let (maxsim, maxsim_idf) = self.maxsim();
        TokenScores {
            ph3: self.phrase(keys),
            maxsim,
            maxsim_idf,
            wms: self.window_maxsim(),
            sctx,
        }
    }

    /// IDF-weighted MaxSim of each token range; `None` for an empty one.
    pub(crate) fn range_scores(&mut self, keys: &KeyBlock, vector: &[f32]) -> Vec<Option<f32>> {
        if self.query.count == 0 || keys.validate(self.codec.spec()).is_err() {
            return vec![None; keys.sentence_tokens.len()];
        }
        self.multiply(keys, vector);
        let lanes = self.query.rows.lanes();
        let mut scores = Vec::with_capacity(keys.sentence_tokens.len());
        for (start, end) in &keys.sentence_tokens {
            let tokens = self.at.iter().take(usize::from(*end));
            self.best.clear();
            self.best.resize(lanes, -1.0);
            let mut any = false;
            for at in tokens.skip(usize::from(*start)) {
                any = true;
                raise(&mut self.best, &self.sims[*at..][..lanes]);
            }
            scores.push(any.then(|| weighted(&self.query.weights, &self.best)));
        }
        scores
    }

    fn multiply(&mut self, keys: &KeyBlock, vector: &[f32]) {
        self.codec.products(
            &self.query.rows,
            keys.tokens.of(vector),
            &mut self.decoded,
            &mut self.sims,
        );
        let lanes = self.query.rows.lanes();
        self.at.clear();
        self.at
            .extend((0..keys.seq()).map(|j| keys.tokens.slot(j) * lanes));
    }

    /// Similarities of token `j` with all query rows.
    #[inline(always)]
    fn token(&self, j: usize) -> &[f32] {
        &self.sims[self.at[j]..][..self.query.rows.lanes()]
    }

    /// Best similarity per block and query token; a block without kept tokens has -1.
    #[inline(always)]
    fn block_maxima(&mut self, seq: usize) {
        let lanes = self.query.rows.lanes();
        self.blocks.clear();
        self.blocks.resize(seq.div_ceil(BLOCK) * lanes, -1.0);
        for j in &self.kept {
            let block = &mut self.blocks[j / BLOCK * lanes..(j / BLOCK + 1) * lanes];
            raise(block, &self.sims[self.at[*j]..][..lanes]);
        }
    }

    #[inline(always)]
    fn maxsim(&mut self) -> (f32, f32) {
        let lanes = self.query.rows.lanes();
        self.best.clear();
        self.best.resize(lanes, -1.0);
        for block in self.blocks.chunks_exact(lanes) {
            raise(&mut self.best, block);
        }
        let mean = self.best[..self.query.count].iter().sum::<f32>() / self.query.count as f32;
        (mean, weighted(&self.query.weights, &self.best))
    }

    /// Best window of two neighbouring blocks under IDF-weighted MaxSim.
    #[inline(always)]
    fn window_maxsim(&mut self) -> f32 {
        let lanes = self.query.rows.lanes();
        let count = self.blocks.len() / lanes;
        let mut best = f32::NEG_INFINITY;
        for b in 0..count.saturating_sub(1).max(1) {
            self.row.clear();
            self.row
                .extend_from_slice(&self.blocks[b * lanes..(b + 1) * lanes]);
            if b + 1 < count {
                raise(
                    &mut self.row,
                    &self.blocks[(b + 1) * lanes..(b + 2) * lanes],
                );
            }
            best = best.max(weighted(&self.query.weights, &self.row));
        }
        best
    }

    /// Best cosine of the pooled query with the mean of a window's kept tokens.
    #[inline(always)]
    fn windows(&self, keys: &KeyBlock, mask: Option<&GoldMask>) -> Option<f32> {
        let seq = keys.seq();
        let mut best = None;
        for w in 0..window_count(seq) {
            let range = window_range(w, seq);
            let first = self.kept.partition_point(|j| *j < range.start);
            let kept = &self.kept[first..self.kept.partition_point(|j| *j < range.end)];
            if mask.is_some() && kept.len() < MIN_WINDOW_TOKENS {
                continue;
            }
            let whole = kept.len() == range.len();
            let norm = keys.window_norm(w)
                * if whole {
                    1.0
                } else {
                    self.shrinkage(keys, range, kept)
                };
            let sum: f32 = kept.iter().map(|j| self.token(*j)[self.query.count]).sum();
            let cosine = sum / kept.len() as f32 / (norm + 1e-9);
            best = Some(best.map_or(cosine, |b: f32| b.max(cosine)));
        }
        best
    }

    /// Norm of the mean of `kept` over the norm of the mean of the whole window, both from cosines of
    /// coded tokens: their errors mostly cancel, and the exact norm of the whole window is known.
    fn shrinkage(&self, keys: &KeyBlock, window: std::ops::Range<usize>, kept: &[usize]) -> f32 {
        let all: Vec<usize> = window.collect();
        let mean_norm = |tokens: &[usize]| {
            let mut sum = tokens.len() as f32;
            for (i, a) in tokens.iter().enumerate() {
                sum += 2.0
                    * tokens[..i]
                        .iter()
                        .map(|b| self.codec.cosine(&keys.tokens, *a, *b))
                        .sum::<f32>();
            }
            sum.max(1e-6).sqrt() / tokens.len() as f32
        };
        mean_norm(kept) / mean_norm(&all)
    }

    /// MaxSim on states smoothed with their neighbours: the kernel `[.7 1 .7]ᵀ[.7 1 .7]` over the
    /// similarities, divided by the norms of the smoothed states. Dropped tokens are no neighbours.
    #[inline(always)]
    fn phrase(&mut self, keys: &KeyBlock) -> f32 {
        let lanes = self.query.rows.lanes();
        self.best.clear();
        self.best.resize(lanes, f32::NEG_INFINITY);
        // One zero on either side, so that the first and last query token need no special case.
        self.row.clear();
        self.row.resize(lanes + 2, 0.0);
        for (i, &j) in self.kept.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| self.kept[i]);
            let after = self.kept.get(i + 1).copied();
            let scale = 1.0 / (self.smooth_norm(keys, before, j, after) + 1e-9);
            let token = |j: usize| self.sims[self.at[j]..][..lanes].as_chunks::<LANES>().0;
            // A neighbour that is not there counts as the token itself with weight zero.
            let (wb, b) = before.map_or((0.0, token(j)), |b| (NEIGHBOUR_WEIGHT, token(b)));
            let (wa, a) = after.map_or((0.0, token(j)), |a| (NEIGHBOUR_WEIGHT, token(a)));
            let row = self.row[1..=lanes].as_chunks_mut::<LANES>().0.iter_mut();
            for (((row, own), b), a) in row.zip(token(j)).zip(b).zip(a) {
                let mut smoothed = [0.0; LANES];
                for i in 0..LANES {
                    smoothed[i] = (own[i] + wb * b[i] + wa * a[i]) * scale;
                }
                *row = smoothed;
            }
            // The pooled vector is nobody's neighbour.
            self.row[self.query.count + 1] = 0.0;
            let group = |from: usize| self.row[from..from + lanes].as_chunks::<LANES>().0;
            let best = self.best.as_chunks_mut::<LANES>().0.iter_mut();
            for (((best, left), own), right) in best.zip(group(0)).zip(group(1)).zip(group(2)) {
                for i in 0..LANES {
                    let smoothed = own[i] + NEIGHBOUR_WEIGHT * (left[i] + right[i]);
                    best[i] = if smoothed > best[i] {
                        smoothed
                    } else {
                        best[i]
                    };
                }
            }
        }
        self.best
            .iter()
            .zip(&self.query.smooth)
            .map(|(b, s)| b * s)
            .sum::<f32>()
            / self.query.count as f32
    }

    /// Norm of the smoothed state of token `j` between the neighbours that are left.
    #[inline(always)]
    fn smooth_norm(
        &self,
        keys: &KeyBlock,
        before: Option<usize>,
        j: usize,
        after: Option<usize>,
    ) -> f32 {
        let seq = keys.seq();
        if before == j.checked_sub(1) && after == (j + 1 < seq).then_some(j + 1) {
            return keys.smooth_norm(j);
        }
        let cosine = |a: usize, b: usize| self.codec.cosine(&keys.tokens, a, b);
        let w = NEIGHBOUR_WEIGHT;
        let mut square = 1.0;
        for k in [before, after].into_iter().flatten() {
            square += w * w + 2.0 * w * cosine(j, k);
        }
        if let (Some(b), Some(a)) = (before, after) {
            square += 2.0 * w * w * cosine(b, a);
        }
        square.max(1e-6).sqrt()
    }
}

/// Everything after the products, compiled for the widest registers of this processor: all loops run
/// over the lanes of query tokens.
struct Score<'q, 'a> {
    query: &'q mut TokenQuery<'a>,
    keys: &'q KeyBlock,
    mask: Option<&'q GoldMask>,
}

impl pulp::NullaryFnOnce for Score<'_, '_> {
    type Output = TokenScores;

    #[inline(always)]
    fn call(self) -> TokenScores {
        self.query.scores(self.keys, self.mask)
    }
}

/// Element-wise maximum into `best`; both are whole groups of lanes.
#[inline(always)]
fn raise(best: &mut [f32], row: &[f32]) {
    let groups = best.as_chunks_mut::<LANES>().0.iter_mut();
    for (best, row) in groups.zip(row.as_chunks::<LANES>().0) {
        *best = larger(*best, *row);
    }
}

/// Element-wise maximum. By value: through references the loop would not be vectorised. `f32::max`
/// also handles NaN, which takes three times as long.
#[inline(always)]
fn larger(mut a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
    for i in 0..LANES {
        a[i] = if b[i] > a[i] { b[i] } else { a[i] };
    }
    a
}

#[inline(always)]
fn weighted(weights: &[f32], values: &[f32]) -> f32 {
    weights.iter().zip(values).map(|(w, v)| w * v).sum()
}

const _: () = assert!(WINDOW_STRIDE == BLOCK);
