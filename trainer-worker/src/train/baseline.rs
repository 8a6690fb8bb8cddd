//! The single-head baselines of the evaluation, on the same queries and candidates as the mixture
//! (DESIGN.md section 6, "Evaluation").

use moerag_model::{DeviceKind, Example, QUERY_TYPES, SingleHead, SingleHeadConfig};

use super::data::TrainingData;
use crate::error::TrainError;

/// Fits one linear head over all views on the queries that are not held out; one weight per view in
/// the order of [`moerag_retrieve::VIEWS`]. Ranks by the dot product with the z-scores. `anchored`
/// adds the prior term. On the default device: thirteen numbers gain nothing from another one.
///
/// # Errors
/// [`TrainError::Model`] when the loss diverges.
pub fn single_head(data: &TrainingData, anchored: bool, seed: u64) -> Result<Vec<f32>, TrainError> {
    let config = if anchored {
        SingleHeadConfig::anchored()
    } else {
        SingleHeadConfig::default()
    };
    let rows: Vec<&Example> = data.training().map(|query| &query.example).collect();
    fit(&rows, &config, seed)
}

/// One such head for each query type, on the queries of that type alone and without the prior term,
/// `[8][views]`: the ablation "typed heads". A type without queries gets the start weights.
///
/// # Errors
/// As [`single_head`].
pub fn typed_heads(data: &TrainingData, seed: u64) -> Result<Vec<Vec<f32>>, TrainError> {
    let config = SingleHeadConfig::default();
    (0..QUERY_TYPES.len())
        .map(|query_type| {
            let rows: Vec<&Example> = data
                .training()
                .filter(|query| query.query.query_type == query_type)
                .map(|query| &query.example)
                .collect();
            fit(&rows, &config, seed)
        })
        .collect()
}

fn fit(rows: &[&Example], config: &SingleHeadConfig, seed: u64) -> Result<Vec<f32>, TrainError> {
    let head = SingleHead::fit(rows, config, seed, DeviceKind::Flex, &|| false)?;
    Ok(head.weights)
}
