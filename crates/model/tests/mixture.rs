//! The mixture against values computed in double precision by `golden/gen_mixture.py`, on every
//! device, and its edges.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{example, gate_inputs, prior_model, trained_weights, z_matrix};
use moerag_model::{
    AttendInput, Attention, CollectionModel, CollectionWeights, DeviceKind, Feedback, LossConfig,
    ModelError, Routing, evaluate_weights, names,
};
use ndarray::{Array2, ArrayView2};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    prior: Vec<Case>,
    trained: Vec<Case>,
    loss: Loss,
}

#[derive(Deserialize)]
struct Loss {
    gold: f32,
    anchor: f32,
    gate_kl: f32,
    total: f32,
}

#[derive(Deserialize)]
struct Case {
    n: usize,
    shift: f64,
    attn: Vec<f32>,
    mixture: Vec<f32>,
    gate: Vec<f32>,
    heads: Vec<Vec<f32>>,
    levels: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/mixture.json")).unwrap()
}

fn attend(
    model: &CollectionModel,
    z: ArrayView2<'_, f32>,
    shift: f64,
    routing: Routing,
) -> Attention {
    let gate_inputs = gate_inputs(shift);
    let input = AttendInput {
        z,
        gate_inputs: &gate_inputs,
        feedback: None,
        named: &[],
        query_vector: &[],
    };
    model.attend(&input, routing).unwrap()
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()), "{found:?}");
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Largest difference of any output from the golden values.
fn difference(model: &CollectionModel, cases: &[Case]) -> f32 {
    let mut largest: f32 = 0.0;
    for case in cases {
        let found = attend(
            model,
            z_matrix(case.n, case.shift).view(),
            case.shift,
            Routing::Soft,
        );
        largest = largest
            .max(worst(&found.attn_weight, &case.attn))
            .max(worst(&found.mixture, &case.mixture))
            .max(worst(&found.head_weights[..8], &case.gate))
            .max(found.head_weights[8])
            .max(worst(&found.levels, &case.levels));
        for (head, expected) in found.head_attn.iter().zip(&case.heads) {
            largest = largest.max(worst(head, expected));
        }
    }
    largest
}

#[test]
fn every_device_reproduces_the_golden_values() {
    let golden = golden();
    for kind in DeviceKind::ALL {
        if let Err(error) = kind.device() {
            assert_eq!(
                kind,
                DeviceKind::Wgpu,
                "the CPU devices are always there: {error}"
            );
            eprintln!("SKIPPED on {kind}: {error}");
            continue;
        }
        let prior = CollectionModel::load(&CollectionWeights::prior(), kind).unwrap();
        let trained = CollectionModel::load(&trained_weights(), kind).unwrap();
        let largest = difference(&prior, &golden.prior).max(difference(&trained, &golden.trained));
        eprintln!("{kind}: largest difference {largest:.1e}");
        // The issue asks for 1e-3; the CPU devices hold far more.
        assert!(
            largest < if kind == DeviceKind::Wgpu { 1e-3 } else { 1e-5 },
            "{kind}: {largest}"
        );
    }
}

#[test]
fn the_loss_is_the_one_of_the_recipe() {
    let expected = golden().loss;
    let examples = [example(4, 0.2, vec![1]), example(7, 0.5, vec![2, 5])];
    let examples: Vec<_> = examples.iter().collect();
    let values = evaluate_weights(
        &trained_weights(),
        &examples,
        &LossConfig::default(),
        DeviceKind::Flex,
    )
    .unwrap();
    for (name, found, expected) in [
        ("gold", values.gold, expected.gold),
        ("anchor", values.anchor, expected.anchor),
        ("gate_kl", values.gate_kl, expected.gate_kl),
        ("total", values.total, expected.total),
    ] {
        assert!(
            (found - expected).abs() < 2e-5,
            "{name}: {found} is not {expected}"
        );
    }
}

#[test]
fn a_query_does_not_depend_on_its_batch() {
    let model = CollectionModel::load(&trained_weights(), DeviceKind::Flex).unwrap();
    let sizes = [(3, 0.1), (0, 0.2), (40, 0.3), (1, 0.4)];
    let z: Vec<Array2<f32>> = sizes
        .iter()
        .map(|(n, shift)| z_matrix(*n, *shift))
        .collect();
    let gates: Vec<Vec<f32>> = sizes.iter().map(|(_, shift)| gate_inputs(*shift)).collect();
    let inputs: Vec<AttendInput<'_>> = z
        .iter()
        .zip(&gates)
        .map(|(z, gate)| AttendInput {
            z: z.view(),
            gate_inputs: gate,
            feedback: None,
            named: &[],
            query_vector: &[],
        })
        .collect();
    let together = model.attend_batch(&inputs, Routing::Soft).unwrap();
    for (input, batched) in inputs.iter().zip(&together) {
        let alone = model.attend(input, Routing::Soft).unwrap();
        assert!(worst(&alone.attn_weight, &batched.attn_weight) < 1e-6);
        assert!(worst(&alone.head_weights, &batched.head_weights) < 1e-6);
        assert_eq!(alone.attn_weight.len(), input.z.nrows());
    }
    assert!(model.attend_batch(&[], Routing::Soft).unwrap().is_empty());
}

#[test]
fn edges_stay_finite_and_sum_to_one() {
    let model = CollectionModel::load(&trained_weights(), DeviceKind::Flex).unwrap();
    let extreme = Array2::from_shape_fn((6, 13), |(row, _)| if row == 0 { 1e4 } else { -1e4 });
    let equal = Array2::from_elem((5, 13), 0.7);
    for routing in [Routing::Soft, Routing::Hard, Routing::TopK(3)] {
        for z in [&extreme, &equal, &z_matrix(1, 0.3)] {
            let found = attend(&model, z.view(), 0.3, routing);
            let values = found
                .attn_weight
                .iter()
                .chain(&found.mixture)
                .chain(&found.head_weights);
            assert!(
                values.clone().all(|value| value.is_finite()),
                "{routing:?}: {found:?}"
            );
            assert!((found.attn_weight.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!((found.head_weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
    let uniform = attend(&model, equal.view(), 0.3, Routing::Soft);
    assert!(worst(&uniform.attn_weight, &[0.2; 5]) < 1e-6);
    assert_eq!(
        attend(&model, extreme.view(), 0.3, Routing::Soft).attn_weight[0],
        1.0
    );
}

#[test]
fn contributions_split_each_candidate_among_the_heads_in_use() {
    let model = CollectionModel::load(&trained_weights(), DeviceKind::Flex).unwrap();
    let z = z_matrix(9, 0.8);
    let soft = attend(&model, z.view(), 0.8, Routing::Soft);
    for row in 0..9 {
        let shares = soft.contributions(row);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let mixed: f32 = (0..8)
            .map(|head| soft.head_weights[head] * soft.head_attn[head][row])
            .sum();
        assert!(
            (mixed - soft.mixture[row]).abs() < 1e-6,
            "A is the mixture of attentions"
        );
    }
    let two = attend(&model, z.view(), 0.8, Routing::TopK(2));
    assert_eq!(
        two.contributions(0)
            .iter()
            .filter(|share| **share > 0.0)
            .count(),
        2
    );
    let hard = attend(&model, z.view(), 0.8, Routing::Hard);
    let chosen = hard
        .head_weights
        .iter()
        .position(|weight| *weight == 1.0)
        .unwrap();
    assert!(worst(&hard.mixture, &hard.head_attn[chosen]) < 1e-6);
}

#[test]
fn feedback_takes_its_share_of_the_gate_and_leaves_the_first_rank() {
    let model = prior_model();
    let (z, gate_inputs) = (z_matrix(12, 0.3), gate_inputs(0.3));
    let attend = |feedback: Option<&Feedback>, routing| {
        let input = AttendInput {
            z: z.view(),
            gate_inputs: &gate_inputs,
            feedback,
            named: &[],
            query_vector: &[],
        };
        model.attend(&input, routing)
    };
    let without = attend(None, Routing::Soft).unwrap();
    let first = moerag_model::argmax(&without.mixture).unwrap();
    let lifted = (first + 5) % 12;
    let mut feedback = Feedback {
        view: vec![-0.3; 12],
        mass: 2.0,
    };
    feedback.view[lifted] = 3.3;
    let with = attend(Some(&feedback), Routing::Soft).unwrap();
    // The prior gate of the other eight sums to 6.6, a unit of mass is worth 1.5.
    assert!((with.head_weights[8] - 3.0 / 9.6).abs() < 1e-5);
    assert!(with.mixture[lifted] > without.mixture[lifted]);
    assert_eq!(moerag_model::argmax(&with.mixture), Some(first));
    assert_eq!(moerag_model::argmax(&with.attn_weight), Some(first));
    // Another gate over the same heads: without feedback it is the first stage again.
    let mut gate = with.head_weights.clone();
    gate[8] = 0.0;
    let regated = model.regated(&with, &gate);
    assert!(worst(&regated.mixture, &without.mixture) < 1e-6);
    assert!(worst(&regated.attn_weight, &without.attn_weight) < 1e-5);
    // Sparse routing chooses among the heads of the first stage.
    let sparse = attend(Some(&feedback), Routing::TopK(8)).unwrap();
    assert!(sparse.head_weights[8] < 1e-9);
    feedback.view.pop();
    assert!(matches!(
        attend(Some(&feedback), Routing::Soft),
        Err(ModelError::BadLength {
            field: "feedback",
            ..
        })
    ));
}

/// No synthetic query has feedback, so nothing holds what the others have together where it was.
#[test]
fn training_cannot_change_what_feedback_is_worth() {
    let biased = |bias: [f32; 8]| {
        let mut tensors = CollectionWeights::prior().tensors().clone();
        tensors.get_mut(names::GATE_BIAS).unwrap().data[..8].copy_from_slice(&bias);
        CollectionWeights::from_tensors(tensors).unwrap()
    };
    let (z, gate_inputs) = (z_matrix(12, 0.3), gate_inputs(0.3));
    let feedback = Feedback {
        view: (0..12).map(|row| (row as f32).sin()).collect(),
        mass: 2.0,
    };
    let gate = |bias| {
        let model = CollectionModel::load(&biased(bias), DeviceKind::Flex).unwrap();
        let input = AttendInput {
            z: z.view(),
            gate_inputs: &gate_inputs,
            feedback: Some(&feedback),
            named: &[],
            query_vector: &[],
        };
        model.attend(&input, Routing::Soft).unwrap().head_weights
    };
    let prior = gate([0.0; 8]);
    assert!(worst(&gate([1.5; 8]), &prior) < 1e-6);
    let other = gate([3.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.5]);
    assert!(other[0] > prior[0] && (other[8] - prior[8]).abs() < 1e-6);
}

#[test]
fn a_named_title_lifts_a_passage_in_every_head() {
    let model = prior_model();
    let (z, gate_inputs) = (z_matrix(12, 0.3), gate_inputs(0.3));
    let attend = |named: &[bool]| {
        let input = AttendInput {
            z: z.view(),
            gate_inputs: &gate_inputs,
            feedback: None,
            named,
            query_vector: &[],
        };
        model.attend(&input, Routing::Soft)
    };
    let without = attend(&[]).unwrap();
    assert_eq!(attend(&[false; 12]).unwrap(), without);
    let mut named = [false; 12];
    named[4] = true;
    let with = attend(&named).unwrap();
    for (is, was) in with.head_attn.iter().zip(&without.head_attn) {
        assert!(is[4] > was[4] && is[5] < was[5]);
    }
    assert!(with.mixture[4] > without.mixture[4] && with.attn_weight[4] > without.attn_weight[4]);
    for weights in [&with.mixture, &with.attn_weight] {
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    // Another gate sees the same heads.
    let regated = model.regated(&with, &with.head_weights);
    assert!(worst(&regated.mixture, &with.mixture) < 1e-6);
    assert!(matches!(
        attend(&named[..11]),
        Err(ModelError::BadLength { field: "named", .. })
    ));
}

#[test]
fn bad_inputs_give_typed_errors() {
    let model = prior_model();
    let gate_inputs = gate_inputs(0.0);
    let z = z_matrix(3, 0.0);
    let mut nan = z.clone();
    nan[[1, 2]] = f32::NAN;
    let narrow = Array2::zeros((3, 12));
    let attend = |z: ArrayView2<'_, f32>, gate_inputs: &[f32], routing| {
        model.attend(
            &AttendInput {
                z,
                gate_inputs,
                feedback: None,
                named: &[],
                query_vector: &[],
            },
            routing,
        )
    };
    assert!(matches!(
        attend(narrow.view(), &gate_inputs, Routing::Soft),
        Err(ModelError::BadLength {
            field: "z columns",
            expected: 13,
            found: 12
        })
    ));
    assert!(matches!(
        attend(nan.view(), &gate_inputs, Routing::Soft),
        Err(ModelError::NonFiniteInput("z"))
    ));
    assert!(matches!(
        attend(z.view(), &gate_inputs[1..], Routing::Soft),
        Err(ModelError::BadLength {
            field: "gate_inputs",
            ..
        })
    ));
    assert!(matches!(
        attend(z.view(), &[f32::INFINITY; 56], Routing::Soft),
        Err(ModelError::NonFiniteInput("gate_inputs"))
    ));
    for k in [0, 9] {
        assert!(matches!(
            attend(z.view(), &gate_inputs, Routing::TopK(k)),
            Err(ModelError::BadConfig {
                field: "top_k_heads",
                ..
            })
        ));
    }
}

#[test]
fn a_model_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<CollectionModel>();
    let model = CollectionModel::load(&trained_weights(), DeviceKind::Flex).unwrap();
    let z = z_matrix(20, 0.4);
    let expected = attend(&model, z.view(), 0.4, Routing::Soft);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(attend(&model, z.view(), 0.4, Routing::Soft), expected);
                }
            });
        }
    });
}
