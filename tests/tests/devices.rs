//! One checkpoint, three devices: attention weights agree to 1e-3 (issue 2, "Must hold").
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use moerag_checkpoint::CheckpointStore;
use moerag_encoder::{EncodeOptions, Encoder, LoadOptions, Precision};
use moerag_model::{AttendInput, CollectionModel, DeviceKind, Routing};
use moerag_tests::{encoder_dir, models, texts};
use ndarray::Array2;

#[tokio::test]
async fn attention_agrees_over_devices() {
    let dir = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(dir.path().to_str().unwrap()).unwrap();
    let version = models::publish(&store, "notes", "test@0/mean", 2)
        .await
        .unwrap();
    let loaded = store.load(version).await.unwrap();
    let (weights, own) = loaded.snapshot.weights_for("notes");
    assert!(own);

    let z = Array2::from_shape_fn((90, 13), |(i, v)| {
        ((i * 31 + v * 17) % 97) as f32 / 20.0 - 2.4
    });
    let gate_inputs: Vec<f32> = (0..56)
        .map(|i| ((i * 13) % 29) as f32 / 7.0 - 2.0)
        .collect();
    let query = vec![0.05f32; 384];
    let input = AttendInput {
        z: z.view(),
        gate_inputs: &gate_inputs,
        feedback: None,
        named: &[],
        query_vector: &query,
    };
    let mut reference: Option<Vec<f32>> = None;
    for kind in [DeviceKind::Flex, DeviceKind::Ndarray, DeviceKind::Wgpu] {
        let model = match CollectionModel::load(weights, kind) {
            Ok(model) => model,
            Err(error) if kind == DeviceKind::Wgpu => {
                println!("SKIPPED: the wgpu device: {error}");
                continue;
            }
            Err(error) => panic!("{kind}: {error}"),
        };
        let attention = model.attend(&input, Routing::Soft).unwrap();
        let reference = reference.get_or_insert_with(|| attention.attn_weight.clone());
        let difference = reference
            .iter()
            .zip(&attention.attn_weight)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{kind}: largest difference of an attention weight {difference:.1e}");
        assert!(difference <= 1e-3, "{kind}: {difference}");
    }
}

#[test]
fn embeddings_agree_over_devices() {
    let dir = encoder_dir().unwrap();
    let texts: Vec<String> = texts::documents(4).into_iter().map(|d| d.text).collect();
    let mut reference: Option<Vec<Vec<f32>>> = None;
    for kind in [DeviceKind::Flex, DeviceKind::Ndarray, DeviceKind::Wgpu] {
        let options = LoadOptions {
            device: kind,
            precision: Precision::F32,
            ..LoadOptions::default()
        };
        let encoder = match Encoder::load_with(&dir, &options) {
            Ok(encoder) => encoder,
            Err(error) if kind == DeviceKind::Wgpu => {
                println!("SKIPPED: the wgpu device: {error}");
                continue;
            }
            Err(error) => panic!("{kind}: {error}"),
        };
        let encoded = encoder.encode(&texts, &EncodeOptions::passage()).unwrap();
        let vectors: Vec<Vec<f32>> = encoded.into_iter().map(|e| e.vector).collect();
        let reference = reference.get_or_insert_with(|| vectors.clone());
        for (a, b) in reference.iter().flatten().zip(vectors.iter().flatten()) {
            assert!((a - b).abs() <= 1e-4, "{kind}: {a} {b}");
        }
    }
}
