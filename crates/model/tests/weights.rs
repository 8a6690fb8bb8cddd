//! Weights from outside: what is refused, what a digest means, the safetensors round trip.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{gate_inputs, prior_model, trained_weights, z_matrix};
use moerag_model::{
    AttendInput, CollectionWeights, DeviceKind, LsiBasis, ModelError, ModelSnapshot, ViewConfig,
    Warmup, WarmupCase, WeightTensor, names,
};

fn changed(
    change: impl FnOnce(&mut BTreeMap<String, WeightTensor>),
) -> Result<CollectionWeights, ModelError> {
    let mut tensors = trained_weights().tensors().clone();
    change(&mut tensors);
    CollectionWeights::from_tensors(tensors)
}

fn set(name: &'static str, index: usize, value: f32) -> Result<CollectionWeights, ModelError> {
    changed(|tensors| tensors.get_mut(name).unwrap().data[index] = value)
}

#[test]
fn damaged_weights_are_refused_with_the_tensor_s_name() {
    assert!(changed(|_| {}).is_ok());
    assert!(matches!(
        changed(|tensors| drop(tensors.remove(names::GATE_BIAS))),
        Err(ModelError::MissingTensor(name)) if name == names::GATE_BIAS
    ));
    assert!(matches!(
        changed(|tensors| {
            tensors.insert("extra".to_owned(), WeightTensor::new([1], vec![0.0]));
        }),
        Err(ModelError::UnknownTensor(name)) if name == "extra"
    ));
    assert!(matches!(
        changed(|tensors| tensors.get_mut(names::GATE_WEIGHT).unwrap().shape = vec![8, 62]),
        Err(ModelError::BadShape { tensor, .. }) if tensor == names::GATE_WEIGHT
    ));
    assert!(matches!(
        changed(|tensors| tensors.get_mut(names::TYPE_BIAS).unwrap().data.truncate(7)),
        Err(ModelError::BadShape { .. })
    ));
    assert!(matches!(
        changed(|tensors| tensors.get_mut(names::TYPE_WEIGHT).unwrap().shape = vec![9, 0]),
        Err(ModelError::BadShape { .. })
    ));
    for value in [f32::NAN, f32::INFINITY] {
        assert!(matches!(
            set(names::HEAD_RAW, 3, value),
            Err(ModelError::NonFinite { tensor, index: 3 }) if tensor == names::HEAD_RAW
        ));
    }
    for (name, value) in [
        (names::LOG_ALPHA, 60.0),
        (names::STANDARD_SD, 0.0),
        (names::HEAD_MASK, 0.5),
        (names::GATE_PRIOR, 0.0),
        (names::GATE_WEIGHT, 1e9),
    ] {
        assert!(
            matches!(set(name, 0, value), Err(ModelError::OutOfRange { .. })),
            "{name}"
        );
    }
    assert!(matches!(
        changed(|tensors| tensors.get_mut(names::HEAD_MASK).unwrap().data.fill(0.0)),
        Err(ModelError::OutOfRange {
            allowed: "at least one view per head",
            ..
        })
    ));
}

#[test]
fn another_sharpness_changes_nothing_else() {
    let prior = CollectionWeights::prior();
    let soft = prior.clone().with_alpha(2.0);
    assert!((soft.alpha() - 2.0).abs() < 1e-5);
    assert_eq!(
        soft.clone().with_alpha(prior.alpha()).digest(),
        prior.digest()
    );
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(soft.clone().with_alpha(bad), soft);
    }
}

#[test]
fn the_digest_depends_on_every_value_and_on_nothing_else() {
    assert_eq!(trained_weights().digest(), trained_weights().digest());
    assert_ne!(
        trained_weights().digest(),
        CollectionWeights::prior().digest()
    );
    let other = set(names::TYPE_BIAS, 7, 0.001).unwrap();
    assert_ne!(other.digest(), trained_weights().digest());
    // Exactly representable values, so that the digest is the same on every platform.
    let exact = changed(|tensors| {
        for (name, tensor) in tensors {
            tensor.data.fill(if name == names::GATE_PRIOR {
                0.125
            } else {
                1.0
            });
        }
    });
    assert_eq!(
        exact.unwrap().digest(),
        "c69787b1953a7a9c1bd02c3b21c92c021c21272ff2adea6de2078ad5fbb3c801",
        "a change of the digest makes old manifests unreadable: raise the format version"
    );
}

fn snapshot() -> ModelSnapshot {
    let mut snapshot = ModelSnapshot::prior(ViewConfig::default());
    for name in ["docs", "default", "a/b"] {
        snapshot
            .collections
            .insert(name.to_owned(), trained_weights());
    }
    snapshot.version = 7;
    snapshot
}

#[test]
fn a_snapshot_survives_the_file_bit_by_bit() {
    let snapshot = snapshot();
    let bytes = snapshot.to_safetensors().unwrap();
    assert_eq!(
        bytes,
        snapshot.to_safetensors().unwrap(),
        "the same bytes every time"
    );
    let back = ModelSnapshot::from_safetensors(&bytes, 7, ViewConfig::default()).unwrap();
    assert_eq!(back, snapshot);
    assert_eq!(back.digest(), snapshot.digest());
    assert!(back.weights_for("a/b").1);
    assert!(!back.weights_for("unseen").1);
}

#[test]
fn a_latent_space_travels_with_the_snapshot_and_is_checked() {
    let mut with = snapshot();
    let name = with.collections.keys().next().unwrap().clone();
    let basis = LsiBasis::from_parts(
        vec![3, 9, 70_000],
        vec![0.5, 0.1, 2.0],
        vec![1, -127, 3, 4, 5, 127],
    );
    with.lsi.insert(name.clone(), Arc::new(basis.unwrap()));
    assert_ne!(with.digest(), snapshot().digest());
    let bytes = with.to_safetensors().unwrap();
    let read = ModelSnapshot::from_safetensors(&bytes, with.version, with.view_config.clone());
    let read = read.unwrap();
    assert_eq!(read, with);
    assert_eq!(read.digest(), with.digest());
    let loaded = read.load(DeviceKind::Flex).unwrap();
    assert_eq!(loaded.lsi_for(&name).unwrap().dims(), 2);
    assert!(loaded.lsi_for("another").is_none());
    // One collection's space without its weights.
    with.collections.clear();
    let bytes = with.to_safetensors().unwrap();
    let orphan = ModelSnapshot::from_safetensors(&bytes, 1, ViewConfig::default());
    assert!(
        matches!(orphan, Err(ModelError::MissingTensor(_))),
        "{orphan:?}"
    );
}

#[test]
fn files_that_are_no_snapshot_are_refused() {
    let bytes = snapshot().to_safetensors().unwrap();
    let read = |bytes: &[u8]| ModelSnapshot::from_safetensors(bytes, 1, ViewConfig::default());
    assert!(matches!(
        read(&bytes[..bytes.len() - 4]),
        Err(ModelError::Malformed(_))
    ));
    assert!(matches!(read(b""), Err(ModelError::Malformed(_))));
    assert!(matches!(read(&[0xff; 64]), Err(ModelError::Malformed(_))));
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).into_owned();
    assert!(text.contains("collections/a/b/gate.bias"));
    let mut renamed = bytes.clone();
    let at = text.find("\"default/gate.bias").unwrap() + 1;
    renamed[at..at + 7].copy_from_slice(b"dEfault");
    assert!(matches!(read(&renamed), Err(ModelError::UnknownTensor(_))));
}

#[test]
fn warm_up_finds_a_model_that_computes_something_else() {
    let snapshot = snapshot();
    let loaded = snapshot.load(DeviceKind::Flex).unwrap();
    let z = z_matrix(12, 0.6);
    let gate = gate_inputs(0.6);
    let input = AttendInput {
        z: z.view(),
        gate_inputs: &gate,
        feedback: None,
        named: &[],
        query_vector: &[],
    };
    let case = WarmupCase::record("docs", loaded.model_for("docs").0, &input).unwrap();
    let json = serde_json::to_string(&Warmup {
        cases: vec![case.clone()],
    })
    .unwrap();
    let warmup: Warmup = serde_json::from_str(&json).unwrap();
    loaded.check(&warmup).unwrap();
    snapshot
        .load(DeviceKind::Ndarray)
        .unwrap()
        .check(&warmup)
        .unwrap();

    assert!(
        case.difference(&prior_model()).unwrap() > 1e-3,
        "the prior is another model"
    );
    let mut other = snapshot;
    other
        .collections
        .insert("docs".to_owned(), CollectionWeights::prior());
    let error = other
        .load(DeviceKind::Flex)
        .unwrap()
        .check(&warmup)
        .unwrap_err();
    assert!(
        matches!(error, ModelError::WarmupMismatch { case: 0, .. }),
        "{error}"
    );
    let mut short = warmup;
    short.cases[0].z.pop();
    assert!(matches!(
        loaded.check(&short),
        Err(ModelError::BadLength { .. })
    ));
}
