//! The methods that are compared, each a ranking of the same candidates of a query.
//!
//! `bm25`, `dense` and `rrf` rank the unpruned union of both candidate lists, with the scores that
//! the router found them by; the others rank what pruning left, which is what the heads see
//! (DESIGN.md section 6). What a method does not rank counts as missed.

use std::fmt;
use std::str::FromStr;

use ndarray::ArrayView2;

use crate::error::EvalError;

/// Constant of reciprocal rank fusion.
const RRF_K: f64 = 60.0;

/// A way to rank the candidates of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// BM25 alone.
    Bm25,
    /// Cosine of the pooled vectors alone.
    Dense,
    /// Reciprocal rank fusion of the two, k = 60.
    Rrf,
    /// Late interaction alone: the plain mean of the MaxSim of the query's tokens.
    Token,
    /// The untrained mixture.
    Prior,
    /// One linear head over all views, trained on the same synthetic queries without the prior term.
    SingleHead,
    /// The mixture without its feedback head.
    MoeNoFeedback,
    /// The mixture as it is served: the trained weights, or the prior's after a fallback, and
    /// feedback where the collection has a latent space.
    Moe,
}

impl Method {
    /// All of them, in the order of the tables.
    pub const ALL: [Method; 8] = [
        Method::Bm25,
        Method::Dense,
        Method::Rrf,
        Method::Token,
        Method::Prior,
        Method::SingleHead,
        Method::MoeNoFeedback,
        Method::Moe,
    ];

    /// The name in flags and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Method::Bm25 => "bm25",
            Method::Dense => "dense",
            Method::Rrf => "rrf",
            Method::Token => "token",
            Method::Prior => "prior",
            Method::SingleHead => "single_head",
            Method::MoeNoFeedback => "moe_no_feedback",
            Method::Moe => "moe",
        }
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Method::ALL.map(Method::name).join(", ")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Method, EvalError> {
        Method::ALL
            .into_iter()
            .find(|method| method.name() == name.trim())
            .ok_or_else(|| EvalError::UnknownMethod {
                name: name.to_owned(),
            })
    }
}

/// What all methods rank: the candidates of one query with every score that was computed for them.
///
/// Candidates come in the order `(document id, ordinal)`, so that a stable sort breaks ties by it.
pub(crate) struct Scored<'a> {
    /// Cosine with the query, `[n]`, unpruned.
    pub(crate) dense: &'a [f32],
    /// BM25, `[n]`, unpruned.
    pub(crate) bm25: &'a [f32],
    /// The candidates that pruning left, ascending, `[m]`.
    pub(crate) survivors: &'a [usize],
    /// MaxSim, `[m]`.
    pub(crate) maxsim: &'a [f32],
    /// Z-scored views, `[m, views]`.
    pub(crate) z: ArrayView2<'a, f32>,
    /// Attention of the untrained mixture, `[m]`.
    pub(crate) prior: &'a [f32],
    /// Attention of the served mixture before feedback, `[m]`.
    pub(crate) moe_no_feedback: &'a [f32],
    /// Attention of the served mixture, `[m]`.
    pub(crate) moe: &'a [f32],
    /// Weights of the single head, `[views]`; none if it was not trained.
    pub(crate) single_head: Option<&'a [f32]>,
}

impl Scored<'_> {
    /// Indices into the unpruned candidates, best first. Empty if the method has no scores.
    pub(crate) fn rank(&self, method: Method) -> Vec<usize> {
        let survivors = |scores: &[f32]| -> Vec<usize> {
            order(scores)
                .into_iter()
                .map(|at| self.survivors[at])
                .collect()
        };
        match method {
            Method::Bm25 => order(self.bm25),
            Method::Dense => order(self.dense),
            Method::Rrf => {
                let mut fused = vec![0.0f64; self.dense.len()];
                for scores in [self.dense, self.bm25] {
                    for (rank, at) in order(scores).into_iter().enumerate() {
                        fused[at] += 1.0 / (RRF_K + rank as f64 + 1.0);
                    }
                }
                let mut at: Vec<usize> = (0..fused.len()).collect();
                at.sort_by(|a, b| fused[*b].total_cmp(&fused[*a]));
                at
            }
            Method::Token => survivors(self.maxsim),
            Method::Prior => survivors(self.prior),
            Method::MoeNoFeedback => survivors(self.moe_no_feedback),
            Method::Moe => survivors(self.moe),
            Method::SingleHead => self.single_head.map_or_else(Vec::new, |weights| {
                let scores: Vec<f32> = self
                    .z
                    .rows()
                    .into_iter()
                    .map(|row| row.iter().zip(weights).map(|(z, w)| z * w).sum())
                    .collect();
                survivors(&scores)
            }),
        }
    }
}

/// Indices by falling score; equal scores keep their order.
fn order(scores: &[f32]) -> Vec<usize> {
    let mut at: Vec<usize> = (0..scores.len()).collect();
    at.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    at
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn every_method_ranks_by_its_own_scores() {
        let z = array![[1.0, -1.0], [0.0, 2.0], [-1.0, -1.0]];
        let scored = Scored {
            dense: &[0.9, 0.1, 0.5, 0.4],
            bm25: &[0.0, 3.0, 2.0, 0.0],
            survivors: &[0, 1, 2],
            maxsim: &[0.2, 0.3, 0.1],
            z: z.view(),
            prior: &[0.3, 0.3, 0.4],
            moe_no_feedback: &[0.2, 0.7, 0.1],
            moe: &[0.1, 0.7, 0.2],
            single_head: Some(&[0.1, 1.0]),
        };
        assert_eq!(scored.rank(Method::Dense), [0, 2, 3, 1]);
        // Ties (candidates 0 and 3) keep the order of the candidates.
        assert_eq!(scored.rank(Method::Bm25), [1, 2, 0, 3]);
        assert_eq!(scored.rank(Method::Token), [1, 0, 2]);
        assert_eq!(scored.rank(Method::Prior), [2, 0, 1]);
        assert_eq!(scored.rank(Method::MoeNoFeedback), [1, 0, 2]);
        assert_eq!(scored.rank(Method::Moe), [1, 2, 0]);
        assert_eq!(scored.rank(Method::SingleHead), [1, 0, 2]);
        // Ranks (dense, bm25): 0 -> 1, 3; 1 -> 4, 1; 2 -> 2, 2; 3 -> 3, 4.
        // 1/61 + 1/63 = .032266 > 1/62 + 1/62 = .032258 > 1/64 + 1/61 = .032018 > 1/63 + 1/64.
        assert_eq!(scored.rank(Method::Rrf), [0, 2, 1, 3]);
    }

    #[test]
    fn names_go_there_and_back_and_a_wrong_one_lists_them() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().ok(), Some(method));
        }
        let error = "bm52"
            .parse::<Method>()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            error.contains("\"bm52\"") && error.contains("single_head"),
            "{error}"
        );
    }
}
