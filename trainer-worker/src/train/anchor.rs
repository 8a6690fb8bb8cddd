//! How strongly a training is held to the prior: as far as the documents bear the prior out.
//!
//! Nine tenths of the prior rest on two things: that pooled vectors of the frozen encoder carry meaning
//! (dense, context, sentence), and that its token states do (token, phrase, window). Whether a corpus
//! deserves that shows on its synthetic queries: pooled vectors must find a paraphrased sentence about
//! as well as token states do, token states a quoted one about as well as BM25. Where they do not, the
//! prior is wrong about the corpus and what was learned is the better guide. Measured on nine sets
//! (docs/research.md): on seven of them pooled vectors reach .79 of their yardstick or more; on the two
//! where letting go of the prior helps, about .5. The best view of a group counts, so one that is
//! broken alone is left to the gate. The prior gate follows: heads of a part that is not trusted
//! count half, lexical ones more.

use moerag_retrieve::View;

use super::data::TrainingData;
use crate::synth::Level;

/// Queries of a level without which nothing is concluded.
const FEWEST: usize = 30;
/// Share of the yardstick up to which a part is not trusted at all.
const NO_TRUST: f32 = 0.5;
/// Share from which on it is trusted fully.
const FULL_TRUST: f32 = 0.75;

/// Names of the parts.
pub(crate) const POOLED: &str = "pooled";
pub(crate) const TOKENS: &str = "tokens";

/// Part of the prior: its views, the level that they are judged on, and the view to compare with.
struct Part {
    name: &'static str,
    views: [View; 3],
    level: Level,
    yardstick: View,
}

const PARTS: [Part; 2] = [
    Part {
        name: POOLED,
        views: [View::Dense, View::Sctx, View::Smax],
        level: Level::Paraphrase,
        yardstick: View::Maxsim,
    },
    Part {
        name: TOKENS,
        views: [View::Maxsim, View::Ph3, View::Wms],
        level: Level::Lexical,
        yardstick: View::Bm25,
    },
];

/// How far the documents bear the prior out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trust {
    /// Factor of the anchor, 0..=1.
    pub(crate) share: f32,
    /// Mean reciprocal rank of each part's best view over that of its yardstick; parts with too few
    /// queries are left out.
    pub(crate) evidence: Vec<(&'static str, f32)>,
}

impl Trust {
    /// Looks at all queries: nothing of this is fitted to them.
    pub(crate) fn of(data: &TrainingData) -> Trust {
        let evidence: Vec<(&'static str, f32)> = PARTS
            .iter()
            .filter_map(|part| {
                let rank = |view: View| mean_reciprocal_rank(data, view, part.level);
                let found = part.views.into_iter().filter_map(rank).reduce(f32::max)?;
                let expected = rank(part.yardstick)?;
                (expected > 0.0).then(|| (part.name, found / expected))
            })
            .collect();
        Trust {
            share: share(evidence.iter().map(|(_, ratio)| *ratio)),
            evidence,
        }
    }

    /// How far a part is trusted, 0..=1; fully where too little is known of it.
    pub(crate) fn of_part(&self, name: &str) -> f32 {
        let of_part = self.evidence.iter().filter(|(part, _)| *part == name);
        share(of_part.map(|(_, ratio)| *ratio))
    }

    /// The part that the prior is most wrong about, when the anchor is loosened for it.
    pub(crate) fn weakest(&self) -> Option<(&'static str, f32)> {
        let weakest = self.evidence.iter().copied();
        weakest
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|_| self.share < 1.0)
    }
}

/// The weakest part decides.
fn share(ratios: impl Iterator<Item = f32>) -> f32 {
    let weakest = ratios.fold(f32::INFINITY, f32::min);
    ((weakest - NO_TRUST) / (FULL_TRUST - NO_TRUST)).clamp(0.0, 1.0)
}

/// Of the gold by one view, over the queries of a level; `None` for too few.
fn mean_reciprocal_rank(data: &TrainingData, view: View, level: Level) -> Option<f32> {
    let (mut sum, mut count) = (0.0, 0);
    for query in data.queries.iter().filter(|q| q.query.level == level) {
        let column = query.example.z().column(view as usize);
        let gold = column[query.gold()];
        let ahead = column.iter().filter(|z| **z > gold).count();
        sum += 1.0 / (1.0 + ahead as f32);
        count += 1;
    }
    (count >= FEWEST).then(|| sum / count as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_part_decides() {
        let cases: [(&[f32], f32); 6] = [
            (&[1.1, 0.9, 0.79], 1.0),
            (&[1.1, 0.75], 1.0),
            (&[1.1, 0.625, 2.0], 0.5),
            (&[1.1, 0.45], 0.0),
            (&[0.0], 0.0),
            (&[], 1.0),
        ];
        for (ratios, expected) in cases {
            let found = share(ratios.iter().copied());
            assert!((found - expected).abs() < 1e-5, "{ratios:?}: {found}");
        }
    }

    #[test]
    fn parts_are_trusted_by_their_own_evidence() {
        let trust = Trust {
            share: 0.0,
            evidence: vec![(POOLED, 0.45), (TOKENS, 0.95)],
        };
        assert_eq!((trust.of_part(POOLED), trust.of_part(TOKENS)), (0.0, 1.0));
        let unknown = Trust {
            share: 1.0,
            evidence: Vec::new(),
        };
        assert_eq!(unknown.of_part(POOLED), 1.0);
    }

    #[test]
    fn the_weakest_is_named_only_when_the_anchor_is_loosened() {
        let trust = |share| Trust {
            share,
            evidence: vec![("pooled", 0.45), ("tokens", 0.95)],
        };
        assert_eq!(trust(0.0).weakest(), Some(("pooled", 0.45)));
        assert_eq!(trust(1.0).weakest(), None);
    }
}
