//! Time of one `CollectionModel::attend` per device: `cargo run -p moerag-model --example
//! attend_latency [device …]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::time::Instant;

use moerag_model::{
    AttendInput, CollectionModel, CollectionWeights, DeviceKind, NUM_VIEWS, Routing,
};
use ndarray::Array2;

fn main() {
    let named: Vec<DeviceKind> = std::env::args()
        .skip(1)
        .map(|name| name.parse().unwrap())
        .collect();
    let kinds = if named.is_empty() {
        DeviceKind::ALL.to_vec()
    } else {
        named
    };
    println!(
        "{:<8} {:>5} {:>12} {:>12}",
        "device", "n", "median µs", "p99 µs"
    );
    for kind in kinds {
        let model = match CollectionModel::load(&CollectionWeights::prior(), kind) {
            Ok(model) => model,
            Err(error) => {
                println!("{kind:<8} skipped: {error}");
                continue;
            }
        };
        for n in [16, 128, 200] {
            let mut times = Vec::new();
            for round in 0..400 {
                // Fresh inputs every time: a repeated product can be cheaper than a new one.
                let z = Array2::from_shape_fn((n, NUM_VIEWS), |(i, v)| {
                    ((i * 31 + v * 17 + round * 7) % 23) as f32 / 7.0 - 1.5
                });
                let gate: Vec<f32> = (0..56).map(|i| ((i + round) % 9) as f32 / 4.0).collect();
                let input = AttendInput {
                    z: z.view(),
                    gate_inputs: &gate,
                    feedback: None,
                    named: &[],
                    query_vector: &[],
                };
                let start = Instant::now();
                let attention = model.attend(&input, Routing::Soft).unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e6);
                assert_eq!(attention.attn_weight.len(), n);
            }
            let warm = &mut times[50..];
            warm.sort_by(f64::total_cmp);
            println!(
                "{:<8} {n:>5} {:>12.1} {:>12.1}",
                kind.as_str(),
                warm[warm.len() / 2],
                warm[warm.len() * 99 / 100]
            );
        }
    }
}
