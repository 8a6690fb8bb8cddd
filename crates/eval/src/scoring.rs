//! All cases of a set ranked by every method of one seed.

use std::collections::BTreeMap;

use moerag_model::{
    AttendInput, Attention, CollectionModel, FIRST_STAGE_HEADS, ModelError, Routing,
};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::case::{Case, order};
use crate::learned::Learned;
use crate::methods::Method;
use crate::metrics::Metrics;

/// Constant of reciprocal rank fusion.
const RRF_K: f64 = 60.0;
/// Largest difference between what the router served and what is ranked here: the order in which a
/// batch is summed up.
const SERVED_TOLERANCE: f32 = 1e-4;

/// What the methods made of one case.
pub(crate) struct Judged {
    /// Metrics by method.
    pub(crate) methods: BTreeMap<&'static str, Metrics>,
    /// Rank from 1 of the first gold passage by method, where it is ranked at all.
    pub(crate) first_gold_rank: BTreeMap<&'static str, usize>,
    /// Metrics by ablation.
    pub(crate) ablations: BTreeMap<String, Metrics>,
    /// Attention of the mixture; none without survivors.
    pub(crate) attention: Option<Attention>,
}

/// Ranks and judges every case.
pub(crate) fn judge_all(
    cases: &[Case],
    learned: &Learned,
    methods: &[Method],
    seed: u64,
) -> Result<Vec<Judged>, ModelError> {
    let attention: Vec<Option<Attention>> = cases
        .par_iter()
        .map(|case| attend(case, &learned.moe, Routing::Soft))
        .collect::<Result<_, _>>()?;
    let gates = Gates::new(&attention, seed);
    cases
        .par_iter()
        .zip(attention)
        .enumerate()
        .map(|(at, (case, attention))| {
            let mut judged = Judged {
                methods: BTreeMap::new(),
                first_gold_rank: BTreeMap::new(),
                ablations: BTreeMap::new(),
                attention,
            };
            for method in methods {
                let ranking = rank(case, *method, learned, &judged.attention, &gates, at)?;
                let (metrics, first) = case.judge(&ranking);
                judged.methods.insert(method.name(), metrics);
                if let Some(rank) = first {
                    judged.first_gold_rank.insert(method.name(), rank);
                }
            }
            for (name, model) in &learned.ablations {
                let attention = attend(case, model, Routing::Soft)?;
                let ranking = attention.map_or_else(Vec::new, |a| case.ranked(&a.mixture));
                let (metrics, _) = case.judge(&ranking);
                judged.ablations.insert(name.clone(), metrics);
            }
            Ok(judged)
        })
        .collect()
}

/// The largest difference between the attention that the router served and the one ranked here, if it
/// is more than rounding: then the figures would not be those of the service.
pub(crate) fn served_difference(cases: &[Case], judged: &[Judged]) -> Option<f32> {
    let pairs = cases
        .iter()
        .zip(judged)
        .filter_map(|(case, judged)| Some((case.served.as_ref()?, judged.attention.as_ref()?)));
    let differences = pairs.flat_map(|(served, here)| {
        let pairs = served.attn_weight.iter().zip(&here.attn_weight);
        pairs.map(|(a, b)| (a - b).abs())
    });
    let worst = differences.fold(0.0, f32::max);
    (worst > SERVED_TOLERANCE).then_some(worst)
}

/// Attention of a model to a case; none without survivors.
pub(crate) fn attend(
    case: &Case,
    model: &CollectionModel,
    routing: Routing,
) -> Result<Option<Attention>, ModelError> {
    attend_to(case.input(), model, routing)
}

fn attend_to(
    input: Option<AttendInput<'_>>,
    model: &CollectionModel,
    routing: Routing,
) -> Result<Option<Attention>, ModelError> {
    input.map(|input| model.attend(&input, routing)).transpose()
}

fn without_titles(input: AttendInput<'_>) -> AttendInput<'_> {
    AttendInput {
        named: &[],
        ..input
    }
}

/// Gates that do not know the query.
struct Gates {
    /// The gate of another query, by case.
    shuffled: Vec<Vec<f32>>,
    /// The mean over all cases.
    mean: Vec<f32>,
    /// The head drawn for each case.
    random: Vec<usize>,
}

impl Gates {
    fn new(attention: &[Option<Attention>], seed: u64) -> Gates {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let known: Vec<&[f32]> = attention
            .iter()
            .flatten()
            .map(|attention| attention.head_weights.as_slice())
            .collect();
        let mut mean = vec![0.0; known.first().map_or(0, |gate| gate.len())];
        for gate in &known {
            for (m, g) in mean.iter_mut().zip(*gate) {
                *m += g / known.len() as f32;
            }
        }
        let mut drawn: Vec<usize> = (0..known.len()).collect();
        drawn.shuffle(&mut rng);
        let mut drawn = drawn.into_iter();
        let shuffled = attention
            .iter()
            .map(|attention| match attention {
                Some(_) => drawn.next().map_or_else(Vec::new, |at| known[at].to_vec()),
                None => Vec::new(),
            })
            .collect();
        let random = attention
            .iter()
            .map(|_| rng.random_range(0..FIRST_STAGE_HEADS))
            .collect();
        Gates {
            shuffled,
            mean,
            random,
        }
    }
}

/// Candidates of a case, best first; empty if the method has no scores.
fn rank(
    case: &Case,
    method: Method,
    learned: &Learned,
    attention: &Option<Attention>,
    gates: &Gates,
    at: usize,
) -> Result<Vec<usize>, ModelError> {
    let linear = |weights: &Option<Vec<f32>>| {
        let scores = weights.as_deref().map(|weights| dot_rows(case, weights));
        scores.map_or_else(Vec::new, |scores| case.ranked(&scores))
    };
    let mixed = |attention: Option<Attention>| {
        attention.map_or_else(Vec::new, |attention| case.ranked(&attention.mixture))
    };
    let regated = |gate: &[f32]| {
        let attention = attention.as_ref()?;
        Some(learned.moe.regated(attention, gate))
    };
    Ok(match method {
        Method::Bm25 => order(&case.bm25),
        Method::Dense => order(&case.dense),
        Method::Rrf => fused(case),
        Method::Token => case.ranked(&case.maxsim),
        Method::Prior => {
            let input = case.input().map(|input| AttendInput {
                feedback: None,
                ..without_titles(input)
            });
            mixed(attend_to(input, &learned.prior, Routing::Soft)?)
        }
        Method::PriorFeedback => mixed(attend(case, &learned.prior, Routing::Soft)?),
        Method::SingleHead => linear(&learned.single_head),
        Method::SingleHeadAnchored => linear(&learned.single_head_anchored),
        Method::TypedHeads => match (&learned.typed_heads, attention) {
            (Some(heads), Some(attention)) => case.ranked(&typed(case, heads, &attention.types)),
            _ => Vec::new(),
        },
        Method::RandomRouting => attention.as_ref().map_or_else(Vec::new, |attention| {
            case.ranked(&attention.head_attn[gates.random[at]])
        }),
        Method::HardRouting => mixed(attend(case, &learned.moe, Routing::Hard)?),
        Method::ShuffledGate => mixed(regated(&gates.shuffled[at])),
        Method::MeanGate => mixed(regated(&gates.mean)),
        Method::LogitsMixed => attention
            .as_ref()
            .map_or_else(Vec::new, |attention| case.ranked(&logits_mixed(attention))),
        Method::MoeNoFeedback => {
            let gate = attention.as_ref().map(|attention| {
                let mut gate = attention.head_weights.clone();
                gate.iter_mut()
                    .skip(FIRST_STAGE_HEADS)
                    .take(1)
                    .for_each(|g| *g = 0.0);
                gate
            });
            mixed(gate.and_then(|gate| regated(&gate)))
        }
        Method::MoeNoTitles => {
            let input = case.input().map(without_titles);
            mixed(attend_to(input, &learned.moe, Routing::Soft)?)
        }
        Method::Moe => mixed(attention.clone()),
    })
}

/// `sum_h g_h ln a_h`: a head's log attention is its logit but for a constant. What f32 cannot hold
/// counts as the least it can.
fn logits_mixed(attention: &Attention) -> Vec<f32> {
    let mut scores = vec![0.0; attention.mixture.len()];
    for (gate, attn) in attention.head_weights.iter().zip(&attention.head_attn) {
        for (score, a) in scores.iter_mut().zip(attn) {
            *score += gate * a.max(f32::MIN_POSITIVE).ln();
        }
    }
    scores
}

/// Reciprocal rank fusion of the dense and the lexical order.
fn fused(case: &Case) -> Vec<usize> {
    order(&reciprocal_ranks(&[&case.dense, &case.bm25]))
}

/// Sum of the reciprocal ranks that each candidate has by each of `scores`.
pub(crate) fn reciprocal_ranks(scores: &[&[f32]]) -> Vec<f64> {
    let mut fused = vec![0.0f64; scores.first().map_or(0, |scores| scores.len())];
    for scores in scores {
        for (rank, at) in order(scores).into_iter().enumerate() {
            fused[at] += 1.0 / (RRF_K + rank as f64 + 1.0);
        }
    }
    fused
}

pub(crate) fn dot_rows(case: &Case, weights: &[f32]) -> Vec<f32> {
    case.z
        .rows()
        .into_iter()
        .map(|row| row.iter().zip(weights).map(|(z, w)| z * w).sum())
        .collect()
}

/// Attentions of one head a type, mixed by the posterior of the types.
fn typed(case: &Case, heads: &[Vec<f32>], types: &[f32]) -> Vec<f32> {
    let mut mixture = vec![0.0; case.survivors.len()];
    for (weights, share) in heads.iter().zip(types) {
        let logits = dot_rows(case, weights);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let raised: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
        let total: f32 = raised.iter().sum();
        for (m, value) in mixture.iter_mut().zip(raised) {
            *m += share * value / total;
        }
    }
    mixture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention(gate: &[f32]) -> Option<Attention> {
        Some(Attention {
            attn_weight: vec![1.0],
            mixture: vec![1.0],
            head_weights: gate.to_vec(),
            head_attn: vec![vec![1.0]; gate.len()],
            levels: Vec::new(),
            types: Vec::new(),
        })
    }

    #[test]
    fn shuffling_permutes_the_gates_and_the_mean_is_theirs() {
        let all: Vec<Option<Attention>> = (0..20)
            .map(|i| match i {
                7 => None,
                i => attention(&[i as f32, 1.0]),
            })
            .collect();
        let gates = Gates::new(&all, 3);
        let mut firsts: Vec<usize> = gates
            .shuffled
            .iter()
            .filter_map(|gate| gate.first().map(|first| *first as usize))
            .collect();
        assert!(gates.shuffled[7].is_empty());
        assert!(firsts.iter().enumerate().any(|(i, first)| i != *first));
        firsts.sort_unstable();
        let expected: Vec<usize> = (0..20).filter(|i| *i != 7).collect();
        assert_eq!(firsts, expected);
        let mean = expected.iter().sum::<usize>() as f32 / 19.0;
        assert!((gates.mean[0] - mean).abs() < 1e-4 && (gates.mean[1] - 1.0).abs() < 1e-5);
        assert!(gates.random.iter().all(|head| *head < FIRST_STAGE_HEADS));
    }
}
