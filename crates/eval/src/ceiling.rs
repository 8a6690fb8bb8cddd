//! What nobody can have, because it needs the judgements: the best head for each query in
//! hindsight, and a linear head fitted on the very queries it is scored on. They say how far the
//! mixture is from what its views hold.

use std::collections::BTreeMap;

use moerag_model::{
    CollectionModel, CollectionWeights, DeviceKind, Example, ModelError, SingleHead,
    SingleHeadConfig,
};
use rayon::prelude::*;

use crate::case::Case;
use crate::metrics::Metrics;
use crate::scoring::{Judged, dot_rows};

/// Name of the best head in hindsight.
const BEST_HEAD: &str = "oracle_best_head";
/// Name of the head fitted on the judgements.
const LINEAR: &str = "oracle_linear";

/// Both ceilings; `judged` belongs to `cases`.
pub(crate) fn ceilings(
    cases: &[Case],
    judged: &[Judged],
    seed: u64,
) -> Result<BTreeMap<String, Metrics>, ModelError> {
    let best: Vec<Metrics> = cases
        .par_iter()
        .zip(judged)
        .map(|(case, judged)| best_head(case, judged))
        .collect();
    let prior = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex)?;
    let examples: Vec<Example> = cases
        .iter()
        .filter_map(|case| {
            let gold = case.gold_rows();
            let known = !gold.is_empty();
            known
                .then(|| Example::new(case.z.clone(), gold, case.gate_inputs.clone(), None, &prior))
        })
        .collect::<Result<_, _>>()?;
    let config = SingleHeadConfig::default();
    let head = SingleHead::fit(
        &examples.iter().collect::<Vec<_>>(),
        &config,
        seed,
        DeviceKind::Flex,
        &|| false,
    )?;
    let linear: Vec<Metrics> = cases
        .iter()
        .map(|case| {
            let ranking = case.ranked(&dot_rows(case, &head.weights));
            case.judge(&ranking).0
        })
        .collect();
    Ok(BTreeMap::from([
        (BEST_HEAD.to_owned(), Metrics::mean(&best)),
        (LINEAR.to_owned(), Metrics::mean(&linear)),
    ]))
}

/// The metrics of the head with the best nDCG@10, and of those with the best MRR@10.
fn best_head(case: &Case, judged: &Judged) -> Metrics {
    let heads = judged.attention.iter().flat_map(|a| &a.head_attn);
    heads
        .map(|head| case.judge(&case.ranked(head)).0)
        .max_by(|a, b| {
            let key = |m: &Metrics| (m.ndcg_at_10, m.mrr_at_10);
            let ((a, a2), (b, b2)) = (key(a), key(b));
            a.total_cmp(&b).then(a2.total_cmp(&b2))
        })
        .unwrap_or_default()
}
