//! The single-head baselines of the evaluation, on the same queries and candidates as the mixture
//! (DESIGN.md section 6, "Evaluation").

use moerag_model::{DeviceKind, Example, NUM_VIEWS, SingleHead, SingleHeadConfig};

use super::data::TrainingData;
use crate::error::TrainError;

/// Fits one linear head over all views on the queries that are not held out; one weight per view in
/// the order of [`moerag_retrieve::VIEWS`]. Ranks by the dot product with the z-scores. `anchored`
/// adds the prior term. On the default device: thirteen numbers gain nothing from another one.
///
/// # Errors
/// [`TrainError::Model`] when the loss diverges.
pub fn single_head(
    data: &TrainingData,
    anchored: bool,
    seed: u64,
) -> Result<[f32; NUM_VIEWS], TrainError> {
    let config = if anchored {
        SingleHeadConfig::anchored()
    } else {
        SingleHeadConfig::default()
    };
    let rows: Vec<Example> = data.training().map(|query| query.example.clone()).collect();
    let head = SingleHead::fit(&rows, &config, seed, DeviceKind::Flex, &|| false)?;
    let mut weights = [0.0; NUM_VIEWS];
    for (weight, fitted) in weights.iter_mut().zip(&head.weights) {
        *weight = *fitted;
    }
    Ok(weights)
}
