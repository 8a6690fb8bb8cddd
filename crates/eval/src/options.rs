//! What to evaluate and how, checked before any work.

use std::ops::Range;
use std::path::PathBuf;

use moerag_encoder::{DeviceKind, Precision};
use trainer_worker::TrainConfig;

use crate::corrupt::Corruption;
use crate::error::EvalError;
use crate::methods::Method;

/// What to evaluate and how.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// Directories in BEIR layout.
    pub datasets: Vec<PathBuf>,
    /// Methods to score.
    pub methods: Vec<Method>,
    /// Seed of everything random.
    pub seed: u64,
    /// Trainings of each set, with this many seeds from `seed` on; every figure is their mean.
    pub seeds: u64,
    /// Score a seeded sample of this many queries of each set.
    pub queries: Option<usize>,
    /// Where to keep the stores, one directory a set below one for the encoder's precision; a later
    /// run with the same encoder then ingests only what changed. By default they are made anew and
    /// thrown away.
    pub stores: Option<PathBuf>,
    /// Train again without each part, to show what it is worth; takes about twenty times as long.
    pub ablations: bool,
    /// Also look across the sets: all of them in one deployment, and each under the others' weights.
    pub across: bool,
    /// What of the passages to make useless before training and scoring; a kept store stays intact.
    pub corrupt: Option<Corruption>,
    /// Search for misspelt words as they are. All methods read the same text, so a query that is mended is so
    /// for all of them.
    pub as_written: bool,
    /// Directory of the encoder's files.
    pub encoder_dir: PathBuf,
    /// Device of encoder and model.
    pub device: DeviceKind,
    /// Precision of the encoder.
    pub precision: Precision,
    /// How to train; its seed and device are those above.
    pub train: TrainConfig,
}

impl EvalOptions {
    /// Refuses what would otherwise fail only after the ingest.
    pub(crate) fn validate(&self) -> Result<(), EvalError> {
        self.train
            .validate()
            .map_err(|error| EvalError::Options(error.to_string()))?;
        self.training_seeds().map(|_| ())
    }

    /// The seed of each training of a set.
    pub(crate) fn training_seeds(&self) -> Result<Range<u64>, EvalError> {
        let seeds = self.seeds.max(1);
        let end = self.seed.checked_add(seeds).ok_or_else(|| {
            EvalError::Options(format!(
                "seed: {} is too large to count {seeds} from it on; use at most {}",
                self.seed,
                u64::MAX - seeds
            ))
        })?;
        Ok(self.seed..end)
    }

    /// What the encoder computes in.
    pub(crate) fn precision_used(&self) -> Precision {
        self.precision.on(self.device)
    }

    /// Where a set's store is kept, if it is. Precisions are kept apart: to the store they are the same
    /// encoder, so that it would serve vectors of one where the other was asked for.
    pub(crate) fn kept_store(&self, set: &str) -> Option<PathBuf> {
        let stores = self.stores.as_ref()?;
        Some(stores.join(self.precision_used().as_str()).join(set))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options() -> EvalOptions {
        EvalOptions {
            datasets: Vec::new(),
            methods: Vec::new(),
            seed: 0,
            seeds: 1,
            queries: None,
            stores: Some("kept".into()),
            ablations: false,
            across: false,
            corrupt: None,
            as_written: false,
            encoder_dir: PathBuf::new(),
            device: DeviceKind::Flex,
            precision: Precision::Auto,
            train: TrainConfig::default(),
        }
    }

    #[test]
    fn seeds_that_do_not_fit_are_refused_with_the_largest_that_do() {
        let mut options = EvalOptions {
            seed: u64::MAX - 3,
            seeds: 3,
            ..options()
        };
        assert!(options.validate().is_ok());
        assert_eq!(options.training_seeds().unwrap().count(), 3);
        options.seed += 1;
        let error = options.validate().unwrap_err().to_string();
        let remedy = format!("use at most {}", u64::MAX - 3);
        assert!(
            error.starts_with("seed: ") && error.ends_with(&remedy),
            "{error}"
        );
    }

    #[test]
    fn a_store_of_one_precision_is_not_used_by_the_other() {
        let auto = options();
        let of = |precision| EvalOptions {
            precision,
            ..options()
        };
        let (int8, f32) = (of(Precision::Int8), of(Precision::F32));
        assert_eq!(auto.kept_store("a"), int8.kept_store("a"));
        assert_ne!(auto.kept_store("a"), f32.kept_store("a"));
        let gpu = EvalOptions {
            device: DeviceKind::Wgpu,
            ..options()
        };
        assert_eq!(gpu.kept_store("a"), f32.kept_store("a"));
        let fresh = EvalOptions {
            stores: None,
            ..options()
        };
        assert_eq!(fresh.kept_store("a"), None);
    }
}
