//! The linear head beside the others.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{gate_inputs, prior_model, trained_weights, z_matrix};
use moerag_model::{
    AttendInput, Attention, CollectionModel, CollectionWeights, DeviceKind, Example, Feedback,
    LossConfig, ModelError, ModelSnapshot, NUM_VIEWS, Routing, SingleHead, ViewConfig,
    WeightTensor, evaluate_weights, names,
};
use ndarray::ArrayView2;

const SHARE: f32 = 0.4;

/// Weights of either sign.
fn head() -> SingleHead {
    SingleHead {
        weights: (0..NUM_VIEWS).map(|view| (view as f32).sin()).collect(),
    }
}

fn weights() -> CollectionWeights {
    trained_weights().with_linear(&head(), SHARE).unwrap()
}

fn model(weights: &CollectionWeights) -> CollectionModel {
    CollectionModel::load(weights, DeviceKind::Flex).unwrap()
}

fn attend(
    model: &CollectionModel,
    z: ArrayView2<'_, f32>,
    feedback: Option<&Feedback>,
    routing: Routing,
) -> Attention {
    let gate_inputs = gate_inputs(0.3);
    let input = AttendInput {
        z,
        gate_inputs: &gate_inputs,
        feedback,
        named: &[],
        query_vector: &[],
    };
    model.attend(&input, routing).unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let raised: Vec<f32> = logits.iter().map(|logit| logit.exp()).collect();
    let total: f32 = raised.iter().sum();
    raised.into_iter().map(|value| value / total).collect()
}

#[test]
fn it_takes_its_share_of_the_first_stage_and_nothing_of_feedback() {
    let z = z_matrix(12, 0.7);
    let own = softmax(&head().scores(z.view()));
    let (with, without) = (model(&weights()), model(&trained_weights()));
    let soft = attend(&with, z.view(), None, Routing::Soft);
    let before = attend(&without, z.view(), None, Routing::Soft);
    assert_eq!(
        (soft.head_weights.len(), before.head_weights.len()),
        (10, 9)
    );
    assert!((soft.head_weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert!((soft.head_weights[9] - SHARE).abs() < 1e-5);
    assert!(worst(&soft.head_attn[9], &own) < 1e-5);
    let expected = before.mixture.iter().zip(&own);
    let expected: Vec<f32> = expected
        .map(|(mixture, own)| (1.0 - SHARE) * mixture + SHARE * own)
        .collect();
    assert!(worst(&soft.mixture, &expected) < 1e-5);

    let feedback = Feedback {
        view: (0..12).map(|row| (row as f32).cos()).collect(),
        mass: 2.0,
    };
    let soft = attend(&with, z.view(), Some(&feedback), Routing::Soft);
    let before = attend(&without, z.view(), Some(&feedback), Routing::Soft);
    let others = 1.0 - before.head_weights[8];
    assert!((soft.head_weights[8] - before.head_weights[8]).abs() < 1e-6);
    assert!((soft.head_weights[9] - SHARE * others).abs() < 1e-5);
    // Under its own gate it is what it was.
    let again = with.regated(&soft, &soft.head_weights);
    assert!(worst(&again.mixture, &soft.mixture) < 1e-6);
}

#[test]
fn sparse_routing_chooses_among_the_others() {
    let z = z_matrix(12, 0.7);
    let (with, without) = (model(&weights()), model(&trained_weights()));
    for routing in [Routing::Hard, Routing::TopK(3)] {
        let sparse = attend(&with, z.view(), None, routing);
        assert_eq!(sparse, attend(&without, z.view(), None, routing));
    }
}

#[test]
fn padding_an_empty_query_and_another_device_change_nothing() {
    let (weights, gate_inputs) = (weights(), gate_inputs(0.3));
    let queries = [z_matrix(12, 0.7), z_matrix(0, 0.0), z_matrix(5, 0.2)];
    let inputs: Vec<AttendInput<'_>> = queries
        .iter()
        .map(|z| AttendInput {
            z: z.view(),
            gate_inputs: &gate_inputs,
            feedback: None,
            named: &[],
            query_vector: &[],
        })
        .collect();
    for kind in [DeviceKind::Flex, DeviceKind::Ndarray] {
        let model = CollectionModel::load(&weights, kind).unwrap();
        let batch = model.attend_batch(&inputs, Routing::Soft).unwrap();
        for (input, from_batch) in inputs.iter().zip(batch) {
            let alone = attend(&crate::model(&weights), input.z, None, Routing::Soft);
            assert!(worst(&alone.mixture, &from_batch.mixture) < 1e-5, "{kind}");
            assert!(worst(&alone.head_weights, &from_batch.head_weights) < 1e-5);
            assert_eq!(from_batch.head_attn.len(), 10);
        }
    }
}

#[test]
fn held_out_losses_are_those_of_what_is_served() {
    let z = z_matrix(12, 0.7);
    let example = Example::new(z.clone(), vec![3], gate_inputs(0.3), None, &prior_model()).unwrap();
    let loss = LossConfig::default();
    let of = |weights: &CollectionWeights| {
        evaluate_weights(weights, &[&example], &loss, DeviceKind::Flex).unwrap()
    };
    let served = attend(&model(&weights()), z.view(), None, Routing::Soft);
    assert!((of(&weights()).gold + served.attn_weight[3].ln()).abs() < 1e-4);
    assert_ne!(of(&weights()).gold, of(&trained_weights()).gold);
}

#[test]
fn half_a_linear_head_is_refused_and_a_whole_one_travels() {
    let refused = |share: f32| trained_weights().with_linear(&head(), share).is_err();
    assert!(refused(0.0) && refused(1.5) && refused(f32::NAN));
    let short = SingleHead {
        weights: vec![1.0; 3],
    };
    assert!(matches!(
        trained_weights().with_linear(&short, SHARE),
        Err(ModelError::BadShape { tensor, .. }) if tensor == names::LINEAR_WEIGHT
    ));
    let mut half = trained_weights().tensors().clone();
    half.insert(
        names::LINEAR_SHARE.to_owned(),
        WeightTensor::new([1], vec![SHARE]),
    );
    assert!(matches!(
        CollectionWeights::from_tensors(half),
        Err(ModelError::MissingTensor(name)) if name == names::LINEAR_WEIGHT
    ));

    let mut snapshot = ModelSnapshot::prior(ViewConfig::default());
    let before = snapshot.digest();
    snapshot.collections.insert("docs".to_owned(), weights());
    let bytes = snapshot.to_safetensors().unwrap();
    let back = ModelSnapshot::from_safetensors(&bytes, 0, ViewConfig::default()).unwrap();
    assert_eq!(back, snapshot);
    assert_eq!(
        back.weights_for("docs").0.linear(),
        Some((&head().weights[..], SHARE))
    );
    assert_ne!(back.digest(), before);
}
