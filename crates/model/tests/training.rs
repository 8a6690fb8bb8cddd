//! Training lowers the loss, is reproducible bit by bit, and the baselines learn too.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::prior_model;
use moerag_model::{
    AttendInput, ClassifierConfig, CollectionModel, CollectionWeights, DeviceKind, Dropout,
    Example, GateFeatures, HeadLayout, LinearClassifier, LossConfig, MixtureTrainer, ModelError,
    NUM_VIEWS, OptimConfig, Routing, SingleHead, SingleHeadConfig, epoch_order, names,
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const QUERIES: usize = 96;
const CANDIDATES: usize = 20;

/// Queries of two kinds, told apart by gate input 0: the gold stands out in `bm25` for one kind
/// and in `dense` for the other. Only a gate that reads the query can serve both.
fn toy() -> (Vec<Example>, GateFeatures) {
    let prior = prior_model();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut examples = Vec::new();
    let mut inputs = Vec::new();
    for query in 0..QUERIES {
        let gold = query % CANDIDATES;
        let lexical = query % 2 == 0;
        let mut z = Array2::from_shape_fn((CANDIDATES - query % 3, NUM_VIEWS), |_| {
            rng.random_range(-1.0..1.0_f32)
        });
        let gold = gold.min(z.nrows() - 1);
        z[[gold, if lexical { 3 } else { 0 }]] = 3.0;
        let mut gate: Vec<f32> = (0..56).map(|_| rng.random_range(-0.2..0.2)).collect();
        gate[0] = if lexical { 1.0 } else { -1.0 };
        inputs.push(gate.clone());
        examples.push(Example::new(z, vec![gold], gate, None, &prior).unwrap());
    }
    let levels: Vec<usize> = (0..QUERIES).map(|query| query % 6).collect();
    let features = GateFeatures::fit(&inputs, &levels, &ClassifierConfig::default(), 1).unwrap();
    (examples, features)
}

/// Weak anchors, so that a toy problem far from the prior can be learned.
fn loose() -> LossConfig {
    LossConfig {
        anchor: 0.1,
        gate_kl: 0.01,
        ..LossConfig::default()
    }
}

fn train(kind: DeviceKind, seed: u64, epochs: usize) -> (f32, f32, CollectionWeights) {
    let (examples, features) = toy();
    let start = CollectionWeights::start(&HeadLayout::default(), seed, &features, None);
    let optim = OptimConfig {
        batch_size: 32,
        ..OptimConfig::default()
    };
    let mut trainer = MixtureTrainer::new(&start, kind, &optim, &loose()).unwrap();
    let mut dropout = Dropout::new(optim.dropout, seed).unwrap();
    let all: Vec<&Example> = examples.iter().collect();
    let before = trainer.evaluate(&all).unwrap().gold;
    for epoch in 0..epochs {
        for rows in epoch_order(all.len(), seed, epoch).chunks(optim.batch_size) {
            let batch: Vec<&Example> = rows.iter().map(|row| all[*row]).collect();
            trainer.step(&batch, &mut dropout).unwrap();
        }
    }
    let after = trainer.evaluate(&all).unwrap().gold;
    (before, after, trainer.weights().unwrap())
}

#[test]
fn training_lowers_the_loss_and_changes_what_it_may() {
    let (before, after, weights) = train(DeviceKind::Flex, 3, 12);
    assert!(after < 0.7 * before, "{before} -> {after}");
    let prior = CollectionWeights::prior();
    for name in [
        names::HEAD_RAW,
        names::HEAD_LOG_TEMPERATURE,
        names::LOG_ALPHA,
        names::GATE_WEIGHT,
    ] {
        assert_ne!(weights.tensors()[name], prior.tensors()[name], "{name}");
    }
    for name in [names::HEAD_MASK, names::GATE_PRIOR] {
        assert_eq!(
            weights.tensors()[name],
            prior.tensors()[name],
            "{name} is not trained"
        );
    }
    // Views that a head does not read keep their raw value: the mask stops their gradient.
    let (mask, raw) = (
        &weights.tensors()[names::HEAD_MASK],
        &weights.tensors()[names::HEAD_RAW],
    );
    assert!(
        mask.data
            .iter()
            .zip(&raw.data)
            .all(|(mask, raw)| *mask == 1.0 || *raw == -4.0)
    );
}

#[test]
fn seed_and_device_decide_the_weights_to_the_bit() {
    for kind in [DeviceKind::Flex, DeviceKind::Ndarray] {
        let (_, _, first) = train(kind, 3, 2);
        let (_, _, again) = train(kind, 3, 2);
        assert_eq!(first.digest(), again.digest(), "{kind}");
        let (_, _, other) = train(kind, 4, 2);
        assert_ne!(first.digest(), other.digest(), "{kind}");
    }
}

/// A trainer after thirty steps on all examples.
fn trained(examples: &[&Example], start: &CollectionWeights, loss: &LossConfig) -> MixtureTrainer {
    let optim = OptimConfig::default();
    let mut trainer = MixtureTrainer::new(start, DeviceKind::Flex, &optim, loss).unwrap();
    let mut dropout = Dropout::new(0.2, 3).unwrap();
    for _ in 0..30 {
        trainer.step(examples, &mut dropout).unwrap();
    }
    trainer
}

#[test]
fn the_full_anchor_keeps_a_short_training_near_the_prior() {
    let (examples, features) = toy();
    let start = CollectionWeights::start(&HeadLayout::default(), 3, &features, None);
    let all: Vec<&Example> = examples.iter().collect();
    let run = |loss: LossConfig| {
        let trainer = trained(&all, &start, &loss);
        trainer.evaluate(&all).unwrap().anchor
    };
    assert!(
        run(LossConfig::default())
            < run(LossConfig {
                anchor: 0.0,
                gate_kl: 0.0,
                diversity: 0.0
            })
    );
}

#[test]
fn the_diversity_term_sets_the_heads_apart() {
    let (examples, features) = toy();
    let start = CollectionWeights::start(&HeadLayout::default(), 3, &features, None);
    let all: Vec<&Example> = examples.iter().collect();
    let overlap = |diversity: f32| {
        let loss = LossConfig {
            diversity,
            ..LossConfig::default()
        };
        let trainer = trained(&all, &start, &loss);
        let model = CollectionModel::load(&trainer.weights().unwrap(), DeviceKind::Flex).unwrap();
        let shared = examples.iter().take(20).map(|example| {
            let input = AttendInput {
                z: example.z().view(),
                gate_inputs: example.gate_inputs(),
                feedback: None,
                named: &[],
                query_vector: &[],
            };
            let heads = model.attend(&input, Routing::Soft).unwrap().head_attn;
            let pairs = (0..8).flat_map(|a| (0..a).map(move |b| (a, b)));
            let both = |(a, b): (usize, usize)| -> f32 {
                heads[a].iter().zip(&heads[b]).map(|(x, y)| x.min(*y)).sum()
            };
            pairs.map(both).sum::<f32>() / 28.0
        });
        shared.sum::<f32>() / 20.0
    };
    let (without, with) = (overlap(0.0), overlap(5.0));
    assert!(with < without - 0.02, "{with} is not below {without}");
}

#[test]
fn an_empty_batch_and_bad_settings_are_errors() {
    let (_, features) = toy();
    let start = CollectionWeights::start(&HeadLayout::default(), 0, &features, None);
    let mut trainer = MixtureTrainer::new(
        &start,
        DeviceKind::Flex,
        &OptimConfig::default(),
        &LossConfig::default(),
    )
    .unwrap();
    let mut dropout = Dropout::new(0.0, 0).unwrap();
    assert!(matches!(
        trainer.step(&[], &mut dropout),
        Err(ModelError::BadLength { .. })
    ));
    assert!(Dropout::new(1.0, 0).is_err());
    assert!(Dropout::new(f32::NAN, 0).is_err());
    let prior = prior_model();
    let z = Array2::zeros((2, NUM_VIEWS));
    for gold in [vec![], vec![2]] {
        assert!(Example::new(z.clone(), gold, vec![0.0; 56], None, &prior).is_err());
    }
}

#[test]
fn epochs_are_permutations_of_their_own() {
    let first = epoch_order(50, 9, 0);
    assert_eq!(first, epoch_order(50, 9, 0));
    assert_ne!(first, epoch_order(50, 9, 1));
    let mut sorted = first;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<_>>());
}

#[test]
fn single_heads_learn_and_the_anchor_holds_them_back() {
    let (examples, _) = toy();
    let config = SingleHeadConfig {
        epochs: 8,
        batch_size: 32,
        ..SingleHeadConfig::default()
    };
    let fit = |config: &SingleHeadConfig| {
        SingleHead::fit(
            &examples.iter().collect::<Vec<_>>(),
            config,
            1,
            DeviceKind::Flex,
            &|| false,
        )
        .unwrap()
    };
    let start = SingleHead::start();
    let distance = |head: &SingleHead| -> f32 {
        head.weights
            .iter()
            .zip(&start.weights)
            .map(|(a, b)| (a - b).abs())
            .sum()
    };
    let hits = |head: &SingleHead| {
        examples
            .iter()
            .filter(|example| {
                moerag_model::argmax(&head.scores(example.z().view())) == Some(example.gold()[0])
            })
            .count()
    };
    let free = fit(&config);
    let anchored = fit(&SingleHeadConfig {
        anchor: 8.0,
        ..config.clone()
    });
    assert!(
        hits(&free) > hits(&start),
        "{} {}",
        hits(&free),
        hits(&start)
    );
    assert!(distance(&anchored) < 0.7 * distance(&free));
    assert_eq!(fit(&config), free, "same seed, same bits");
    let stopped = SingleHead::fit(
        &examples.iter().collect::<Vec<_>>(),
        &config,
        1,
        DeviceKind::Flex,
        &|| true,
    )
    .unwrap();
    assert_eq!(stopped, start);
}

#[test]
fn query_types_come_from_the_query_vector() {
    let labels: Vec<usize> = (0..80).map(|row| row % 8).collect();
    let vectors = Array2::from_shape_fn((80, 16), |(row, column)| {
        if column == labels[row] {
            0.9
        } else {
            0.02 * ((row * column) % 5) as f32
        }
    });
    let types =
        LinearClassifier::fit(&vectors, &labels, 8, &ClassifierConfig::default(), 0).unwrap();
    let (_, features) = toy();
    let weights = CollectionWeights::start(&HeadLayout::default(), 0, &features, Some(&types));
    assert_eq!(weights.query_dim(), 16);
    let fallback = CollectionWeights::fallback(&HeadLayout::default(), &features, Some(&types));
    let differing: Vec<&String> = weights
        .tensors()
        .iter()
        .filter(|(name, tensor)| fallback.tensors()[*name] != **tensor)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        differing,
        [names::GATE_WEIGHT],
        "training starts at the fallback"
    );
    let model = moerag_model::CollectionModel::load(&weights, DeviceKind::Flex).unwrap();
    let z = Array2::zeros((2, NUM_VIEWS));
    let query = vectors.row(5).to_vec();
    let input = moerag_model::AttendInput {
        z: z.view(),
        gate_inputs: &[0.0; 56],
        feedback: None,
        named: &[],
        query_vector: &query,
    };
    let found = model.attend(&input, moerag_model::Routing::Soft).unwrap();
    assert_eq!(moerag_model::argmax(&found.types), Some(5));
    let short = moerag_model::AttendInput {
        query_vector: &query[1..],
        ..input
    };
    assert!(matches!(
        model.attend(&short, moerag_model::Routing::Soft),
        Err(ModelError::BadLength {
            field: "query_vector",
            expected: 16,
            found: 15
        })
    ));
}
