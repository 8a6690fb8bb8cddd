//! The methods that are compared, each a ranking of the same candidates of a query.
//!
//! `bm25`, `dense` and `rrf` rank the unpruned union of both candidate lists, with the scores that
//! the router found them by; the others rank what pruning left, which is what the heads see
//! (DESIGN.md section 6). What a method does not rank counts as missed.

use std::fmt;
use std::str::FromStr;

use crate::error::EvalError;

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
    /// The untrained mixture without feedback and without regard to titles that the query names.
    Prior,
    /// The untrained mixture with both.
    PriorFeedback,
    /// One linear head over all views, trained on the same synthetic queries without the prior term.
    SingleHead,
    /// The same with the prior term.
    SingleHeadAnchored,
    /// One linear head for each query type, mixed by the predicted type, without a prior.
    TypedHeads,
    /// One head of the trained mixture, drawn for each query.
    RandomRouting,
    /// The head with the largest gate weight alone; feedback takes no part in sparse routing, so it is
    /// never this one.
    HardRouting,
    /// The trained heads under the gate of another query of the set.
    ShuffledGate,
    /// The trained heads under the mean of the gate over the set.
    MeanGate,
    /// The trained heads with their logits mixed by the gate instead of their attentions.
    LogitsMixed,
    /// The mixture without its feedback head.
    MoeNoFeedback,
    /// The mixture without regard to titles that the query names.
    MoeNoTitles,
    /// The mixture as it is served: the trained weights, or the prior's after a fallback.
    Moe,
}

impl Method {
    /// All of them, in the order of the tables.
    pub const ALL: [Method; 17] = [
        Method::Bm25,
        Method::Dense,
        Method::Rrf,
        Method::Token,
        Method::Prior,
        Method::PriorFeedback,
        Method::SingleHead,
        Method::SingleHeadAnchored,
        Method::TypedHeads,
        Method::RandomRouting,
        Method::HardRouting,
        Method::ShuffledGate,
        Method::MeanGate,
        Method::LogitsMixed,
        Method::MoeNoFeedback,
        Method::MoeNoTitles,
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
            Method::PriorFeedback => "prior_feedback",
            Method::SingleHead => "single_head",
            Method::SingleHeadAnchored => "single_head_anchored",
            Method::TypedHeads => "typed_heads",
            Method::RandomRouting => "random_routing",
            Method::HardRouting => "hard_routing",
            Method::ShuffledGate => "shuffled_gate",
            Method::MeanGate => "mean_gate",
            Method::LogitsMixed => "logits_mixed",
            Method::MoeNoFeedback => "moe_no_feedback",
            Method::MoeNoTitles => "moe_no_titles",
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_go_there_and_back_and_a_wrong_one_lists_them() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
        }
        let error = "mo".parse::<Method>().unwrap_err().to_string();
        for method in Method::ALL {
            assert!(error.contains(method.name()), "{error}");
        }
    }
}
