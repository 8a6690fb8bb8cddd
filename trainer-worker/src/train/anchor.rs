//! How strongly a training is held to the prior: as far as the documents bear the prior out.
//!
//! The prior trusts every head of the first stage. Whether a corpus deserves that shows on synthetic
//! queries of the level that a head is there for: pooled vectors must find a passage whose sentence
//! was cut out, sentence vectors a paraphrased sentence, words a quoted one. A head that finds far
//! less there than the token view (for the token view: than BM25) is one that the prior is wrong
//! about, and what was learned is then the better guide. Measured on nine sets (docs/research.md):
//! on seven of them every head reaches .79 of its yardstick or more; on the two where letting go of
//! the prior helps, the sentence head reaches .45.

use moerag_retrieve::View;

use super::data::TrainingData;
use crate::synth::Level;

/// Queries of a level without which nothing is concluded.
const FEWEST: usize = 30;
/// Share of the yardstick up to which a head is not trusted at all.
const NO_TRUST: f32 = 0.5;
/// Share from which on it is trusted fully.
const FULL_TRUST: f32 = 0.75;

/// A head of the prior, its main view, the level it is judged on, and the view it is compared with.
type Duty = (&'static str, View, Level, View);

const DUTIES: [Duty; 7] = [
    ("dense", View::Dense, Level::InverseCloze, View::Maxsim),
    ("context", View::Sctx, Level::InverseCloze, View::Maxsim),
    ("sentence", View::Smax, Level::Paraphrase, View::Maxsim),
    ("token", View::Maxsim, Level::Lexical, View::Bm25),
    ("phrase", View::Ph3, Level::Lexical, View::Maxsim),
    ("window", View::Wms, Level::Lexical, View::Maxsim),
    ("lexical", View::Bm25, Level::Lexical, View::Maxsim),
];

/// How far the documents bear the prior out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trust {
    /// Factor of the anchor, 0..=1.
    pub(crate) share: f32,
    /// Mean reciprocal rank of each head's main view over that of its yardstick; heads with too few
    /// queries are left out.
    pub(crate) evidence: Vec<(&'static str, f32)>,
}

impl Trust {
    /// Looks at all queries: nothing of this is fitted to them.
    pub(crate) fn of(data: &TrainingData) -> Trust {
        let evidence: Vec<(&'static str, f32)> = DUTIES
            .iter()
            .filter_map(|(head, view, level, yardstick)| {
                let found = mean_reciprocal_rank(data, *view, *level)?;
                let expected = mean_reciprocal_rank(data, *yardstick, *level)?;
                (expected > 0.0).then(|| (*head, found / expected))
            })
            .collect();
        Trust {
            share: share(evidence.iter().map(|(_, ratio)| *ratio)),
            evidence,
        }
    }

    /// The head that the prior is most wrong about, when the anchor is loosened for it.
    pub(crate) fn weakest(&self) -> Option<(&'static str, f32)> {
        let weakest = self.evidence.iter().copied();
        weakest
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|_| self.share < 1.0)
    }
}

/// The weakest head decides.
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
    fn the_weakest_head_decides() {
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
    fn the_weakest_is_named_only_when_the_anchor_is_loosened() {
        let trust = |share| Trust {
            share,
            evidence: vec![("dense", 1.0), ("sentence", 0.45), ("lexical", 1.1)],
        };
        assert_eq!(trust(0.0).weakest(), Some(("sentence", 0.45)));
        assert_eq!(trust(1.0).weakest(), None);
    }
}
