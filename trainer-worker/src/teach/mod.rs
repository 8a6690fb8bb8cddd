//! Optional teachers, off by default (docs/teachers.md): a language model that writes some of the
//! synthetic queries, and a cross-encoder that corrects their labels.
//!
//! Both act on what is trained on and on nothing else. Held-out queries stay those of the rules with
//! the passage they came from as the only right answer, so the yardstick of the ship rule does not
//! move with a teacher. Neither is asked at query time.

mod cache;
mod config;
mod cross;
mod endpoint;
mod llm;
mod prompts;

use std::collections::BTreeMap;

use moerag_encoder::CrossEncoder;
use tokio_util::sync::CancellationToken;

pub use config::{CrossEncoderConfig, LlmConfig, TeacherConfig};
pub use cross::{DROP_MARGIN, judge};

use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::progress::Progress;
use crate::synth::SyntheticQuery;
use crate::train::{TrainConfig, TrainingData};
use llm::Writer;

/// The teachers of one training, and what they did.
#[derive(Debug)]
pub struct Teachers<'a> {
    config: &'a TrainConfig,
    writer: Option<Writer<'a>>,
    judge: Option<CrossEncoder>,
    metrics: BTreeMap<String, f64>,
    notes: Vec<String>,
}

impl<'a> Teachers<'a> {
    /// Makes those ready that `config` asks for. No request is sent yet.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a setting that cannot work, the variable of the key and the cache
    /// directory included; [`TrainError::CrossEncoder`] when its files cannot be loaded.
    pub fn start(config: &'a TrainConfig) -> Result<Self, TrainError> {
        let teachers = &config.teachers;
        let writer = match &teachers.llm.url {
            Some(url) => Some(Writer::new(url, &teachers.llm)?),
            None => None,
        };
        let judge = match &teachers.cross_encoder.dir {
            Some(dir) => {
                let loaded = CrossEncoder::load(dir, config.device);
                Some(loaded.map_err(TrainError::CrossEncoder)?)
            }
            None => None,
        };
        Ok(Self {
            config,
            writer,
            judge,
            metrics: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    /// Lets the language model write some of `queries`, where one is configured: of the first three
    /// levels (whose gold is not masked) and of passages that are trained on. An endpoint that does
    /// not answer, or a spent budget, leaves the rules' queries where they are.
    ///
    /// # Errors
    /// [`TrainError::Cancelled`] within a second of `cancel`; [`TrainError::Internal`] when no thread
    /// can be had.
    pub fn write(
        &mut self,
        corpus: &TrainingCorpus,
        queries: &mut [SyntheticQuery],
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<(), TrainError> {
        if let Some(writer) = self.writer.take() {
            let report = writer.write(corpus, queries, self.config, progress, cancel)?;
            self.metrics.extend(report.metrics());
            self.notes.push(report.note());
        }
        Ok(())
    }

    /// Lets the cross-encoder correct the labels of the queries that are trained on, where one is
    /// configured.
    ///
    /// # Errors
    /// [`TrainError::Cancelled`] within a batch of `cancel`; [`TrainError::CrossEncoder`] when scoring
    /// fails.
    pub fn label(
        &mut self,
        corpus: &TrainingCorpus,
        data: &mut TrainingData,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<(), TrainError> {
        if let Some(network) = self.judge.take() {
            let settings = &self.config.teachers.cross_encoder;
            let report = cross::label(&network, settings, corpus, data, progress, cancel)?;
            self.metrics.extend(report.metrics());
            self.notes.push(report.note());
        }
        Ok(())
    }

    /// What was done, as numbers named `teacher.…` for manifests, and in one sentence per teacher;
    /// both empty without teachers.
    #[must_use]
    pub fn into_report(self) -> (BTreeMap<String, f64>, Vec<String>) {
        (self.metrics, self.notes)
    }
}

/// Names counts for a manifest.
fn counts<const N: usize>(
    teacher: &str,
    counts: [(&str, u64); N],
) -> impl Iterator<Item = (String, f64)> {
    counts
        .map(|(name, count)| (format!("teacher.{teacher}.{name}"), count as f64))
        .into_iter()
}
