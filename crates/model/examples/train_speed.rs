//! Time of a training of RECIPE.md's size: `cargo run -p moerag-model --example train_speed
//! [device]`. Random examples: the loss means nothing here.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::time::Instant;

use moerag_model::{
    ClassifierConfig, CollectionModel, CollectionWeights, DeviceKind, Dropout, Example,
    GateFeatures, HeadLayout, LossConfig, MixtureTrainer, NUM_VIEWS, OptimConfig, SingleHead,
    SingleHeadConfig, epoch_order,
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const QUERIES: usize = 2400;
const CANDIDATES: usize = 128;

fn main() {
    let kind = std::env::args()
        .nth(1)
        .map_or(DeviceKind::Flex, |name| name.parse().unwrap());
    let prior = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);

    let start = Instant::now();
    let examples: Vec<Example> = (0..QUERIES)
        .map(|query| {
            let z = Array2::from_shape_fn((CANDIDATES, NUM_VIEWS), |_| rng.random_range(-2.0..2.0));
            let gate = (0..56).map(|_| rng.random_range(-1.0..1.0)).collect();
            Example::new(z, vec![query % CANDIDATES], gate, None, &prior).unwrap()
        })
        .collect();
    println!("{QUERIES} examples with anchors: {:.2?}", start.elapsed());

    let start = Instant::now();
    let inputs: Vec<Vec<f32>> = examples.iter().map(|e| e.gate_inputs().to_vec()).collect();
    let levels: Vec<usize> = (0..QUERIES).map(|query| query % 6).collect();
    let features = GateFeatures::fit(&inputs, &levels, &ClassifierConfig::default(), 0).unwrap();
    println!("standardiser and level classifier: {:.2?}", start.elapsed());

    let start = Instant::now();
    let optim = OptimConfig::default();
    let weights = CollectionWeights::start(&HeadLayout::default(), 0, &features, None);
    let mut trainer = MixtureTrainer::new(&weights, kind, &optim, &LossConfig::default()).unwrap();
    let mut dropout = Dropout::new(optim.dropout, 0).unwrap();
    for epoch in 0..optim.epochs {
        for rows in epoch_order(QUERIES, 0, epoch).chunks(optim.batch_size) {
            let batch: Vec<&Example> = rows.iter().map(|row| &examples[*row]).collect();
            trainer.step(&batch, &mut dropout).unwrap();
        }
    }
    let digest = trainer.weights().unwrap().digest();
    println!(
        "mixture, {} epochs on {kind}: {:.2?}",
        optim.epochs,
        start.elapsed()
    );
    println!("weights digest {digest}");

    let start = Instant::now();
    let config = SingleHeadConfig::anchored();
    SingleHead::fit(
        &examples.iter().collect::<Vec<_>>(),
        &config,
        0,
        kind,
        &|| false,
    )
    .unwrap();
    println!(
        "anchored single head, {} epochs on {kind}: {:.2?}",
        config.epochs,
        start.elapsed()
    );
}
