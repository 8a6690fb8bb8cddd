//! Everything that one seed's training gave: the mixture and what it is compared with.

use moerag_model::{CollectionModel, CollectionWeights, DeviceKind};
use trainer_worker::train::{fit_variant, typed_heads};
use trainer_worker::{TrainConfig, TrainError, TrainOutcome, single_head};

use crate::ablation::Ablation;
use crate::methods::Method;

/// Models of one seed, all fitted on the same synthetic queries.
pub(crate) struct Learned {
    /// What the router would serve.
    pub(crate) moe: CollectionModel,
    /// The untrained mixture.
    pub(crate) prior: CollectionModel,
    /// One weight a view.
    pub(crate) single_head: Option<Vec<f32>>,
    /// The same with the prior term.
    pub(crate) single_head_anchored: Option<Vec<f32>>,
    /// One weight a view for each query type.
    pub(crate) typed_heads: Option<Vec<Vec<f32>>>,
    /// Trainings that differ in one thing.
    pub(crate) ablations: Vec<(String, CollectionModel)>,
}

impl Learned {
    /// Fits what `methods` and `ablations` ask for. `heard` is told the name of each ablation.
    pub(crate) fn fit(
        outcome: &TrainOutcome,
        config: &TrainConfig,
        methods: &[Method],
        ablations: &[Ablation],
        heard: &dyn Fn(&str),
    ) -> Result<Learned, TrainError> {
        let (data, seed) = (&outcome.data, config.seed);
        let wanted = |method: Method| methods.contains(&method);
        let load = |weights: &CollectionWeights| CollectionModel::load(weights, DeviceKind::Flex);
        let mut fitted = Vec::new();
        for ablation in ablations {
            heard(&ablation.name);
            let config = ablation.config(config);
            let weights = fit_variant(data, &config, &ablation.variant)?;
            fitted.push((ablation.name.clone(), load(&weights)?));
        }
        Ok(Learned {
            moe: load(&outcome.weights)?,
            prior: load(&CollectionWeights::prior())?,
            single_head: wanted(Method::SingleHead)
                .then(|| single_head(data, false, seed))
                .transpose()?,
            single_head_anchored: wanted(Method::SingleHeadAnchored)
                .then(|| single_head(data, true, seed))
                .transpose()?,
            typed_heads: wanted(Method::TypedHeads)
                .then(|| typed_heads(data, seed))
                .transpose()?,
            ablations: fitted,
        })
    }
}
