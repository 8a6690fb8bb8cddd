//! The training loop: classifiers first, then heads and gate (RECIPE.md, "Loss").

use moerag_model::{
    CollectionModel, CollectionWeights, DeviceKind, Dropout, Example, GateFeatures, HeadLayout,
    LinearClassifier, LossConfig, MixtureTrainer, ModelError, QUERY_TYPES, SingleHead,
    SingleHeadConfig, epoch_order,
};
use ndarray::Array2;
use tokio_util::sync::CancellationToken;

use super::TrainConfig;
use super::anchor::{POOLED, TOKENS, Trust};
use super::data::{TrainingData, TrainingQuery};
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use crate::synth::Level;

/// What the linear head takes of the weights of the first stage where the prior is not trusted at all.
const LINEAR_SHARE: f32 = 0.3;

/// Weights and how the loss went.
pub(crate) struct Fitted {
    pub(crate) weights: CollectionWeights,
    /// The prior with the standardiser and the classifiers of these queries.
    pub(crate) fallback: CollectionWeights,
    /// How far the anchor held.
    pub(crate) trust: Trust,
    /// Mean loss of the first epoch, nats.
    pub(crate) first_loss: f32,
    /// Mean loss of the last epoch, nats.
    pub(crate) last_loss: f32,
}

/// What a training differs in from the product's: the ablations of the evaluation.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// The heads and their views.
    pub layout: HeadLayout,
    /// A level whose queries are not trained on.
    pub without_level: Option<Level>,
    /// Whether there is no linear head, however far the anchor lets go.
    pub without_linear: bool,
}

/// Trains on the queries that are not held out.
pub(crate) fn fit(
    data: &TrainingData,
    config: &TrainConfig,
    variant: &Variant,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Fitted, TrainError> {
    let rows: Vec<&TrainingQuery> = data
        .training()
        .filter(|row| variant.without_level != Some(row.query.level))
        .collect();
    let optim = &config.optim;
    let steps = rows.len().div_ceil(optim.batch_size) * optim.epochs;
    let clock = StageClock::start(Stage::Train, steps, progress);

    let inputs: Vec<Vec<f32>> = rows
        .iter()
        .map(|row| row.example.gate_inputs().to_vec())
        .collect();
    let levels: Vec<usize> = rows.iter().map(|row| row.query.level.index()).collect();
    let features = GateFeatures::fit(&inputs, &levels, &config.levels, config.seed)?;
    stop_if(cancel)?;
    let types = fit_types(&rows, config)?;
    stop_if(cancel)?;

    let trust = Trust::of(data);
    let adaptive = |share: f32| if config.adaptive_anchor { share } else { 1.0 };
    let of_part = |part| adaptive(trust.of_part(part));
    // The gate stays near its prior all the same: without that it overfits (docs/research.md).
    let loss = LossConfig {
        anchor: adaptive(trust.share) * config.loss.anchor,
        ..config.loss.clone()
    };
    let layout = variant
        .layout
        .clone()
        .trusting(of_part(POOLED), of_part(TOKENS));
    let start = CollectionWeights::start(&layout, config.seed, &features, types.as_ref());
    let mut trainer = MixtureTrainer::new(&start, config.device, optim, &loss)?;
    let mut dropout = Dropout::new(optim.dropout, config.seed)?;
    let own = examples_of(&rows, &variant.layout)?;
    let examples: Vec<&Example> = match &own {
        Some(own) => own.iter().collect(),
        None => rows.iter().map(|row| &row.example).collect(),
    };
    let (mut first_loss, mut last_loss) = (f32::NAN, f32::NAN);
    let mut step = 0;
    for epoch in 0..optim.epochs {
        let (mut sum, mut seen) = (0.0, 0);
        for order in epoch_order(examples.len(), config.seed, epoch).chunks(optim.batch_size) {
            stop_if(cancel)?;
            let batch: Vec<&Example> = order.iter().map(|row| examples[*row]).collect();
            let loss = trainer
                .step(&batch, &mut dropout)
                .map_err(|error| match error {
                    ModelError::Diverged => TrainError::Diverged { epoch: epoch + 1 },
                    error => error.into(),
                })?;
            sum += loss.total * batch.len() as f32;
            seen += batch.len();
            step += 1;
            clock.advance(step, Some(sum / seen as f32));
        }
        last_loss = sum / seen.max(1) as f32;
        if epoch == 0 {
            first_loss = last_loss;
        }
    }
    let mut weights = trainer.weights()?;
    let share = LINEAR_SHARE * (1.0 - adaptive(trust.share));
    if share > 0.0
        && !variant.without_linear
        && let Some(linear) = fit_linear(&examples, &trust, config, cancel)?
    {
        weights = weights.with_linear(&linear, share)?;
    }
    Ok(Fitted {
        weights,
        fallback: CollectionWeights::fallback(&HeadLayout::default(), &features, types.as_ref()),
        trust,
        first_loss,
        last_loss,
    })
}

/// The linear head, held to the prior as far as that is trusted and the other heads are held at all. On the
/// default device: thirteen numbers gain nothing from another one. `None` if its weights ran away, which the
/// mixture can do without.
fn fit_linear(
    examples: &[&Example],
    trust: &Trust,
    config: &TrainConfig,
    cancel: &CancellationToken,
) -> Result<Option<SingleHead>, TrainError> {
    let anchored = SingleHeadConfig::anchored();
    let held = config.loss.anchor / LossConfig::default().anchor;
    let single = SingleHeadConfig {
        anchor: trust.share * held * anchored.anchor,
        ..anchored
    };
    let stop = || cancel.is_cancelled();
    let head = SingleHead::fit(examples, &single, config.seed, DeviceKind::Flex, &stop);
    stop_if(cancel)?;
    match head {
        Err(ModelError::Diverged) => {
            tracing::warn!("the linear head's weights ran away; the mixture goes without it");
            Ok(None)
        }
        head => Ok(Some(head?)),
    }
}

/// The examples with the anchor of other heads; `None` for the product's, which they have.
fn examples_of(
    rows: &[&TrainingQuery],
    layout: &HeadLayout,
) -> Result<Option<Vec<Example>>, ModelError> {
    if *layout == HeadLayout::default() {
        return Ok(None);
    }
    let prior = CollectionModel::load(&CollectionWeights::of_layout(layout), DeviceKind::Flex)?;
    let anchored = rows.iter().map(|row| row.example.anchored_to(&prior));
    anchored.collect::<Result<_, _>>().map(Some)
}

/// The query-type classifier on the pooled vectors; `None` without queries.
///
/// Types are uneven, in some corpora fifty to one, and a classifier that never says "temporal" is of
/// no use to anybody; so rows of rare types are repeated.
fn fit_types(
    rows: &[&TrainingQuery],
    config: &TrainConfig,
) -> Result<Option<LinearClassifier>, TrainError> {
    let dim = rows.first().map_or(0, |row| row.type_vector.len());
    if dim == 0 {
        return Ok(None);
    }
    let mut counts = [0usize; QUERY_TYPES.len()];
    for row in rows {
        counts[row.query.query_type] += 1;
    }
    let repeats = counts.map(|count| repeats(count, counts.iter().copied().max().unwrap_or(1)));
    let repeated: Vec<&TrainingQuery> = rows
        .iter()
        .flat_map(|row| std::iter::repeat_n(*row, repeats[row.query.query_type]))
        .collect();
    let mut vectors = Array2::zeros((repeated.len(), dim));
    for (mut target, row) in vectors.rows_mut().into_iter().zip(&repeated) {
        target.assign(&ndarray::aview1(&row.type_vector));
    }
    let labels: Vec<usize> = repeated.iter().map(|row| row.query.query_type).collect();
    let fitted = LinearClassifier::fit(
        &vectors,
        &labels,
        QUERY_TYPES.len(),
        &config.types,
        config.seed,
    )?;
    Ok(Some(fitted))
}

/// How often rows of a type with `count` of them are used: the root of its rarity, at most six times,
/// so that a handful of queries does not become the loudest type.
fn repeats(count: usize, most: usize) -> usize {
    ((most as f64 / count.max(1) as f64).sqrt().round() as usize).clamp(1, 6)
}

fn stop_if(cancel: &CancellationToken) -> Result<(), TrainError> {
    if cancel.is_cancelled() {
        Err(TrainError::Cancelled)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_types_are_repeated_within_bounds() {
        let cases = [(100, 1), (50, 1), (25, 2), (4, 5), (1, 6), (0, 6)];
        for (count, expected) in cases {
            assert_eq!(repeats(count, 100), expected, "{count}");
        }
    }
}
