//! What becomes of a trained collection: a pure decision (DESIGN.md section 4, `trainer-worker`).

/// Held-out loss (levels inverse cloze and gist, nats) of the three contenders on the same queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contest {
    /// Untrained mixture.
    pub prior: f32,
    /// The result of this training; `None` when there was too little to train on.
    pub trained: Option<f32>,
    /// What the live version would have, if it has weights for this collection.
    pub live: Option<Live>,
}

/// The live weights of the collection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Live {
    /// Their held-out loss; `None` when there are no held-out queries to measure on.
    pub loss: Option<f32>,
    /// Whether they are the prior's.
    pub is_fallback: bool,
    /// Version that serves them.
    pub version: u64,
}

/// Outcome of a contest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Publish the trained weights.
    Trained {
        /// Why.
        reason: String,
    },
    /// Publish the prior's weights with the collection's statistics.
    FallbackPrior {
        /// Why not the trained ones.
        reason: String,
    },
    /// Publish nothing for this collection.
    Keep {
        /// Why.
        reason: String,
    },
}

/// Decides. Equal is not better: nothing is published without a gain on the held-out queries.
#[must_use]
pub fn decide(contest: &Contest) -> Verdict {
    let prior = contest.prior;
    let beats_prior = contest.trained.is_some_and(|trained| trained < prior);
    let why_not = match contest.trained {
        None => "too few synthetic queries to train on".to_owned(),
        Some(_) if prior.is_nan() => "there are no held-out queries to measure on".to_owned(),
        Some(trained) => {
            format!("held-out loss {trained:.4} is not below the untrained prior's {prior:.4}")
        }
    };
    let better = |trained: f32| Verdict::Trained {
        reason: format!("held-out loss {trained:.4} is below the untrained prior's {prior:.4}"),
    };
    let Some(live) = contest.live else {
        return match contest.trained {
            Some(trained) if beats_prior => better(trained),
            _ => Verdict::FallbackPrior { reason: why_not },
        };
    };
    let Some(live_loss) = live.loss else {
        return Verdict::Keep {
            reason: format!("{why_not}; version {} stays", live.version),
        };
    };
    match contest.trained {
        Some(trained) if beats_prior && trained < live_loss => better(trained),
        _ if !live.is_fallback && prior < live_loss => Verdict::FallbackPrior {
            reason: format!(
                "{why_not}, and version {} ({live_loss:.4}) is worse than the prior on the documents as they are now",
                live.version
            ),
        },
        Some(trained) if beats_prior => Verdict::Keep {
            reason: format!(
                "held-out loss {trained:.4} is not below the {live_loss:.4} of version {}, which stays",
                live.version
            ),
        },
        _ => Verdict::Keep {
            reason: format!("{why_not}; version {} stays", live.version),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(loss: f32, is_fallback: bool) -> Option<Live> {
        Some(Live {
            loss: Some(loss),
            is_fallback,
            version: 3,
        })
    }

    #[test]
    fn table() {
        let cases: [(Option<f32>, Option<Live>, &str); 10] = [
            (Some(0.9), None, "trained"),
            (Some(1.0), None, "fallback"),
            (Some(1.1), None, "fallback"),
            (None, None, "fallback"),
            (Some(0.8), live(0.9, false), "trained"),
            (Some(0.9), live(0.9, false), "keep"),
            (Some(0.9), live(0.8, false), "keep"),
            (Some(1.2), live(1.1, false), "fallback"),
            (Some(1.2), live(1.0, true), "keep"),
            (None, live(0.9, false), "keep"),
        ];
        for (trained, live, expected) in cases {
            let verdict = decide(&Contest {
                prior: 1.0,
                trained,
                live,
            });
            let name = match &verdict {
                Verdict::Trained { .. } => "trained",
                Verdict::FallbackPrior { .. } => "fallback",
                Verdict::Keep { .. } => "keep",
            };
            assert_eq!(name, expected, "{trained:?} {live:?}: {verdict:?}");
        }
        let verdict = decide(&Contest {
            prior: f32::NAN,
            trained: Some(f32::NAN),
            live: None,
        });
        assert!(
            matches!(verdict, Verdict::FallbackPrior { reason } if reason.contains("no held-out"))
        );
        let unmeasured = Some(Live {
            loss: None,
            is_fallback: false,
            version: 3,
        });
        let verdict = decide(&Contest {
            prior: 1.0,
            trained: None,
            live: unmeasured,
        });
        assert!(matches!(verdict, Verdict::Keep { reason } if reason.contains("version 3")));
    }
}
