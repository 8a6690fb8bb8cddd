//! From a corpus to published-ready weights: the library entry of the trainer.

mod anchor;
mod baseline;
mod data;
mod encoder;
mod fit;
mod ship;

use std::collections::BTreeMap;

use moerag_model::{
    AttendInput, ClassifierConfig, CollectionModel, CollectionWeights, DeviceKind, LossConfig,
    OptimConfig, Warmup, WarmupCase,
};
use moerag_retrieve::{TokenCodec, ViewConfig};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use baseline::{single_head, typed_heads};
pub(crate) use data::is_held_out;
pub use data::{TrainingData, TrainingQuery};
pub use encoder::QueryEncoder;
pub use fit::Variant;
pub use ship::{Contest, Live, Verdict, decide};

use self::anchor::Trust;
use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::evaluate::{Report, calibrated, evaluate, ship_loss};
use crate::progress::{NoProgress, Progress};
use crate::synth::{SyntheticQuery, generate};
use crate::teach::{TeacherConfig, Teachers};

/// Queries stored with a version to check that a router computes the same.
const WARMUP_CASES: usize = 4;

/// Everything that decides the result of a training, besides the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// Synthetic queries asked for; small corpora give fewer.
    pub synthetic_queries: usize,
    /// Share of the passages whose queries are held out, in 0..1.
    pub held_out_share: f64,
    /// With fewer usable queries than this the prior is published.
    pub min_queries: usize,
    /// Passages kept in memory; larger collections are sampled.
    pub max_passages: usize,
    /// Where the mixture trains. Set by the process' `device`, not in this section.
    #[serde(skip)]
    pub device: DeviceKind,
    /// Candidates of the dense and of the lexical list (N), part of the model version.
    pub candidates_per_list: usize,
    /// Candidates that survive pruning (P), part of the model version; 0: all.
    pub prune_to: usize,
    /// Optimiser of heads and gate.
    pub optim: OptimConfig,
    /// Weights of the loss terms.
    pub loss: LossConfig,
    /// Fit of the overlap-level classifier.
    pub levels: ClassifierConfig,
    /// Whether the anchor is loosened where the documents do not bear the prior out; else it always
    /// has its full weight.
    pub adaptive_anchor: bool,
    /// Fit of the query-type classifier.
    pub types: ClassifierConfig,
    /// Optional teachers; none by default.
    pub teachers: TeacherConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let views = ViewConfig::default();
        Self {
            seed: 0,
            synthetic_queries: 2400,
            held_out_share: 0.1,
            min_queries: 30,
            max_passages: 20_000,
            device: DeviceKind::default(),
            candidates_per_list: views.candidates_per_list,
            prune_to: views.prune_to.unwrap_or(0),
            optim: OptimConfig::default(),
            loss: LossConfig::default(),
            levels: ClassifierConfig::default(),
            adaptive_anchor: true,
            types: ClassifierConfig::default(),
            teachers: TeacherConfig::default(),
        }
    }
}

impl TrainConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the first field that cannot work.
    pub fn validate(&self) -> Result<(), TrainError> {
        let checks = [
            (
                "train.synthetic_queries",
                (1..=1_000_000).contains(&self.synthetic_queries),
                "use 1 to 1000000",
            ),
            (
                "train.held_out_share",
                (0.0..0.9).contains(&self.held_out_share),
                "use 0 or more, below 0.9",
            ),
            (
                "train.max_passages",
                self.max_passages >= 2,
                "use at least 2",
            ),
            (
                "train.candidates_per_list",
                (2..=10_000).contains(&self.candidates_per_list),
                "use 2 to 10000",
            ),
            (
                "train.prune_to",
                self.prune_to != 1,
                "use 0 (all) or at least 2",
            ),
            (
                "train.optim.batch_size",
                self.optim.batch_size >= 1,
                "use at least 1",
            ),
            (
                "train.optim.epochs",
                (1..=10_000).contains(&self.optim.epochs),
                "use 1 to 10000",
            ),
            (
                "train.optim.learning_rate",
                self.optim.learning_rate > 0.0 && self.optim.learning_rate < 10.0,
                "use above 0, below 10",
            ),
            (
                "train.optim.dropout",
                (0.0..1.0).contains(&self.optim.dropout),
                "use 0 or more, below 1",
            ),
            (
                "train.loss.anchor",
                self.loss.anchor >= 0.0,
                "use 0 or more",
            ),
            (
                "train.loss.gate_kl",
                self.loss.gate_kl >= 0.0,
                "use 0 or more",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _)| !fine) {
            None => self.teachers.validate(),
            Some((field, _, remedy)) => Err(TrainError::Config {
                field,
                reason: remedy.to_owned(),
            }),
        }
    }

    /// Candidates and views for a corpus with these keys.
    #[must_use]
    pub fn view_config(&self, corpus: &TrainingCorpus) -> ViewConfig {
        ViewConfig {
            candidates_per_list: self.candidates_per_list,
            prune_to: (self.prune_to > 0).then_some(self.prune_to),
            key_spec: corpus.key_spec.clone(),
            ..ViewConfig::default()
        }
    }
}

/// Which weights a training ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainStatus {
    /// Learned, better than the prior on the held-out queries.
    Trained,
    /// The prior's.
    FallbackPrior {
        /// Why.
        reason: String,
    },
}

/// Result of a training.
#[derive(Debug, Clone)]
pub struct TrainOutcome {
    /// What to publish: trained weights, or the prior's.
    pub weights: CollectionWeights,
    /// The untrained mixture as it took part in the contest, with the collection's statistics where there
    /// was enough to fit them: what to publish when `weights` lose to it.
    pub prior: CollectionWeights,
    /// What training gave, also when the prior was better; `None` when there was too little data.
    pub trained: Option<CollectionWeights>,
    /// Which of the two `weights` is.
    pub status: TrainStatus,
    /// Held-out measurements.
    pub report: Report,
    /// The same and the run's counts as named numbers, for manifests.
    pub metrics: BTreeMap<String, f64>,
    /// Digest of `weights`.
    pub digest: String,
    /// Queries with the attention that `weights` gives them.
    pub warmup: Warmup,
    /// What is worth knowing about this training, one sentence each: a loosened anchor, what teachers did.
    pub notes: Vec<String>,
    /// The packed queries, for baselines and for comparing with other weights.
    pub data: TrainingData,
    /// Candidates and views that the weights are for.
    pub view_config: ViewConfig,
    /// Wall seconds of each stage.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// Learns heads and gate for one collection from its documents alone.
///
/// The same corpus, seed and device give the same digest, whatever the number of threads.
///
/// # Errors
/// [`TrainError::Cancelled`] within a second of `cancel`; [`TrainError::Config`]; encoder or device
/// failures. A corpus too small to learn from is not an error: the prior comes back with the reason.
pub fn train_collection(
    corpus: &TrainingCorpus,
    encoder: &QueryEncoder,
    config: &TrainConfig,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<TrainOutcome, TrainError> {
    config.validate()?;
    let mut seconds = Seconds::default();
    let mut teachers = Teachers::start(config)?;
    let codec = TokenCodec::new(&corpus.key_spec);
    let mut queries = generate(
        corpus,
        encoder.encoder(),
        &codec,
        config.synthetic_queries,
        config.seed,
        progress,
        cancel,
    )?;
    teachers.write(corpus, &mut queries, progress, cancel)?;
    seconds.lap("synth");
    let mut data = prepare(corpus, encoder, config, queries, progress, cancel)?;
    teachers.label(corpus, &mut data, progress, cancel)?;
    seconds.lap("views");
    let fitted = if data.training().count() >= config.min_queries.max(1) {
        let mut fitted = fit::fit(&data, config, &Variant::default(), progress, cancel)?;
        fitted.weights = calibrated(fitted.weights, &data, config)?;
        Some(fitted)
    } else {
        None
    };
    let prior = match &fitted {
        Some(fitted) => fitted.fallback.clone(),
        None => CollectionWeights::prior(),
    };
    let prior = calibrated(prior, &data, config)?;
    seconds.lap("train");
    let trained = fitted.as_ref().map(|fitted| &fitted.weights);
    let report = evaluate(&data, &prior, trained, config, progress, cancel)?;
    let contest = Contest {
        prior: report.prior.ship,
        trained: report.trained.as_ref().map(|losses| losses.ship),
        live: None,
    };
    let (status, weights) = match (decide(&contest), trained) {
        (Verdict::Trained { .. }, Some(trained)) => (TrainStatus::Trained, trained.clone()),
        (Verdict::FallbackPrior { reason } | Verdict::Keep { reason }, _) => {
            (TrainStatus::FallbackPrior { reason }, prior.clone())
        }
        (Verdict::Trained { .. }, None) => {
            let reason = "nothing was trained".to_owned();
            (TrainStatus::FallbackPrior { reason }, prior.clone())
        }
    };
    let warmup = warmup(&corpus.collection, &weights, &data)?;
    seconds.lap("evaluate");
    let mut metrics = report.metrics();
    let (taught, mut notes) = teachers.into_report();
    metrics.extend(taught);
    metrics.insert("synthetic_queries".into(), data.queries.len() as f64);
    metrics.insert("synthetic_queries_unusable".into(), data.unusable as f64);
    metrics.insert("texts_encoded_before".into(), data.known as f64);
    metrics.insert("passages".into(), corpus.len() as f64);
    if let Some(fitted) = &fitted {
        metrics.insert("train_loss_first".into(), f64::from(fitted.first_loss));
        metrics.insert("train_loss_last".into(), f64::from(fitted.last_loss));
        if config.adaptive_anchor {
            metrics.insert("anchor_share".into(), f64::from(fitted.trust.share));
            notes.extend(loosened(&fitted.trust));
        }
        for (part, ratio) in &fitted.trust.evidence {
            metrics.insert(format!("anchor_evidence.{part}"), f64::from(*ratio));
        }
    }
    Ok(TrainOutcome {
        digest: weights.digest(),
        trained: fitted.map(|fitted| fitted.weights),
        weights,
        prior,
        status,
        report,
        metrics,
        notes,
        warmup,
        view_config: data.view_config.clone(),
        data,
        seconds: seconds.laps,
    })
}

/// What a loosened anchor means, for people.
fn loosened(trust: &Trust) -> Option<String> {
    trust.weakest().map(|(what, ratio)| {
        format!(
            "the prior is trusted to {:.0} % only: on queries made for them, the {what} views find {:.0} % of what they should",
            100.0 * trust.share,
            100.0 * ratio
        )
    })
}

/// Turns queries into training data with the candidates and views of `config`.
///
/// # Errors
/// As [`train_collection`].
pub fn prepare(
    corpus: &TrainingCorpus,
    encoder: &QueryEncoder,
    config: &TrainConfig,
    queries: Vec<SyntheticQuery>,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<TrainingData, TrainError> {
    let view_config = config.view_config(corpus);
    let codec = TokenCodec::new(&corpus.key_spec);
    let input = data::Build {
        corpus,
        encoder,
        codec: &codec,
        config: &view_config,
        seed: config.seed,
        held_out_share: config.held_out_share,
        progress,
        cancel,
    };
    data::build(&input, queries)
}

/// Trains once more on the same queries with other heads or fewer levels: the ablations of the evaluation.
///
/// # Errors
/// As [`train_collection`].
pub fn fit_variant(
    data: &TrainingData,
    config: &TrainConfig,
    variant: &Variant,
) -> Result<CollectionWeights, TrainError> {
    let cancel = CancellationToken::new();
    Ok(fit::fit(data, config, variant, &NoProgress, &cancel)?.weights)
}

/// Held-out loss of other weights (the live version's) on the same queries; `None` without held-out
/// queries.
///
/// # Errors
/// Device failures.
pub fn live_loss(
    data: &TrainingData,
    weights: &CollectionWeights,
    config: &TrainConfig,
) -> Result<Option<f32>, TrainError> {
    ship_loss(data, weights, config)
}

/// Some queries with the attention that `weights` gives them.
pub(crate) fn warmup(
    collection: &str,
    weights: &CollectionWeights,
    data: &TrainingData,
) -> Result<Warmup, TrainError> {
    let model = CollectionModel::load(weights, DeviceKind::Flex)?;
    let step = (data.queries.len() / WARMUP_CASES).max(1);
    let cases = data
        .queries
        .iter()
        .step_by(step)
        .take(WARMUP_CASES)
        .map(|query| {
            let input = AttendInput {
                z: query.example.z().view(),
                gate_inputs: query.example.gate_inputs(),
                feedback: query.example.feedback(),
                named: &[],
                query_vector: &query.vector,
            };
            WarmupCase::record(collection, &model, &input)
        });
    Ok(Warmup {
        cases: cases.collect::<Result<_, _>>()?,
    })
}

struct Seconds {
    last: std::time::Instant,
    laps: BTreeMap<&'static str, f64>,
}

impl Default for Seconds {
    fn default() -> Self {
        Self {
            last: std::time::Instant::now(),
            laps: BTreeMap::new(),
        }
    }
}

impl Seconds {
    fn lap(&mut self, name: &'static str) {
        self.laps.insert(name, self.last.elapsed().as_secs_f64());
        self.last = std::time::Instant::now();
    }
}
