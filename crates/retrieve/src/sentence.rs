//! Scores of the sentences of one passage, for the sentence weights of a reply.

use crate::codec::TokenCodec;
use crate::lex::LexQuery;
use crate::linalg::dot;
use crate::passage::FeaturesRef;
use crate::query::QueryFeatures;
use crate::stats::CorpusStats;
use crate::token_views::TokenQuery;

/// Weight of the term coverage against the two cosines.
const COVERAGE_WEIGHT: f32 = 0.25;

/// One score per sentence of the passage: the mean of the cosine with the sentence vector and of the
/// IDF-weighted MaxSim over the sentence's tokens, plus a quarter of the IDF share of the query's terms
/// found in it. A sentence that the encoder did not see has only the last.
pub(crate) fn scores(
    codec: &TokenCodec,
    stats: &CorpusStats,
    q: &QueryFeatures,
    mut tokens: TokenQuery<'_>,
    passage: FeaturesRef<'_>,
) -> Vec<f32> {
    let coverage = LexQuery::new(&q.terms, stats).sentence_coverage(passage.lex);
    let keys = passage.keys;
    let dense = dot(&q.vector, passage.vector);
    let cosines: Vec<f32> = codec
        .sentence_cosines(&keys.sentences, tokens.sentences(), dense)
        .collect();
    let tokens = tokens.range_scores(keys, passage.vector);
    coverage
        .into_iter()
        .enumerate()
        .map(|(s, coverage)| {
            let seen = [cosines.get(s).copied(), tokens.get(s).copied().flatten()];
            let count = seen.iter().flatten().count().max(1);
            let similarity = seen.into_iter().flatten().sum::<f32>() / count as f32;
            let score = similarity + COVERAGE_WEIGHT * coverage;
            if score.is_finite() { score } else { 0.0 }
        })
        .collect()
}
