//! Inputs and weights that `golden/gen_mixture.py` makes too: sines of the index.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::collections::BTreeMap;

use moerag_model::{
    CollectionModel, CollectionWeights, DeviceKind, Example, HEAD_COLUMNS, HEAD_VIEWS, NUM_VIEWS,
    WeightTensor, names,
};
use ndarray::Array2;

/// z-scored views of `n` candidates.
pub(crate) fn z_matrix(n: usize, shift: f64) -> Array2<f32> {
    Array2::from_shape_fn((n, NUM_VIEWS), |(i, v)| {
        (2.0 * (1.7 * i as f64 + 0.9 * v as f64 + shift).sin()) as f32
    })
}

/// Gate inputs of a query.
pub(crate) fn gate_inputs(shift: f64) -> Vec<f32> {
    (0..56)
        .map(|i| (1.5 * (0.53 * f64::from(i) + shift).sin()) as f32)
        .collect()
}

/// Weights as after a training: every trained tensor differs from the prior's.
pub(crate) fn trained_weights() -> CollectionWeights {
    let mut tensors = CollectionWeights::prior().tensors().clone();
    let sine = |scale: f64, step: f64, from: usize, len: usize| -> Vec<f64> {
        (0..len)
            .map(|i| scale * (step * (i + from) as f64).sin())
            .collect()
    };
    // The golden values know the eight heads of the first stage; the ninth stays as it is.
    let table = |values: Vec<f64>, rows: usize, columns: usize, width: usize| -> Vec<f64> {
        let mut table = vec![0.0; rows * width];
        for (row, values) in table.chunks_mut(width).zip(values.chunks(columns)) {
            row[..columns].copy_from_slice(values);
        }
        table
    };
    let raw = table(
        sine(0.3, 1.0, 0, 8 * NUM_VIEWS),
        HEAD_VIEWS.len(),
        NUM_VIEWS,
        HEAD_COLUMNS,
    );
    shift(&mut tensors, names::HEAD_RAW, &raw);
    let per_head = |values: Vec<f64>| table(values, 1, 8, HEAD_VIEWS.len());
    let temperature = per_head(sine(0.2, 1.0, 1, 8));
    shift(&mut tensors, names::HEAD_LOG_TEMPERATURE, &temperature);
    shift(&mut tensors, names::LOG_ALPHA, &[0.1]);
    let log_bias = per_head(sine(0.1, 1.0, 2, 8));
    shift(&mut tensors, names::GATE_LOG_BIAS, &log_bias);
    shift(
        &mut tensors,
        names::GATE_BIAS,
        &per_head(sine(0.05, 1.0, 3, 8)),
    );
    let weight = table(sine(0.2, 0.37, 0, 62 * 8), 62, 8, HEAD_VIEWS.len());
    shift(&mut tensors, names::GATE_WEIGHT, &weight);
    shift(&mut tensors, names::STANDARD_MEAN, &sine(0.5, 1.0, 0, 62));
    shift(&mut tensors, names::STANDARD_SD, &sine(0.5, 1.0, 1, 62));
    shift(
        &mut tensors,
        names::LEVEL_WEIGHT,
        &sine(0.3, 0.71, 0, 6 * 56),
    );
    shift(&mut tensors, names::LEVEL_BIAS, &sine(0.1, 1.0, 0, 6));
    CollectionWeights::from_tensors(tensors).unwrap()
}

fn shift(tensors: &mut BTreeMap<String, WeightTensor>, name: &str, by: &[f64]) {
    let data = &mut tensors.get_mut(name).unwrap().data;
    assert_eq!(data.len(), by.len(), "{name}");
    for (value, by) in data.iter_mut().zip(by) {
        *value = (f64::from(*value) + by) as f32;
    }
}

/// The prior on the default device.
pub(crate) fn prior_model() -> CollectionModel {
    CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex).unwrap()
}

/// An example with the inputs above.
pub(crate) fn example(n: usize, shift: f64, gold: Vec<usize>) -> Example {
    Example::new(
        z_matrix(n, shift),
        gold,
        gate_inputs(shift),
        None,
        &prior_model(),
    )
    .unwrap()
}
