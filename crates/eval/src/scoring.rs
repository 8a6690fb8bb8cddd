//! Every query of a set, scored once by the router and ranked by every method.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use moerag_model::{
    ALL_HEADS, AttendInput, Attention, CollectionModel, CollectionWeights, DeviceKind, NUM_HEADS,
    QUERY_TYPES, Routing, argmax,
};
use moerag_retrieve::View;
use router_service::{AttendQuery, RouterEngine, Scored as RouterScored};

use crate::dataset::JudgedQuery;
use crate::methods::{Method, Scored};
use crate::metrics::judge;
use crate::report::QueryReport;
use crate::run::BoxError;

/// A query with its figures.
pub(crate) struct Judged {
    /// For `per_query.jsonl`; the name of the set is filled in later.
    pub(crate) report: QueryReport,
    /// Attention of the served model; none without candidates.
    pub(crate) attention: Option<Attention>,
}

/// Scores the queries of one set.
pub(crate) struct Scorer {
    engine: RouterEngine,
    collection: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    methods: Vec<Method>,
    prior: CollectionModel,
    single_head: Option<Vec<f32>>,
}

impl Scorer {
    /// A scorer over one collection of a router.
    pub(crate) fn new(
        engine: RouterEngine,
        collection: &'static str,
        methods: Vec<Method>,
        device: DeviceKind,
        single_head: Option<Vec<f32>>,
    ) -> Result<Scorer, BoxError> {
        let prior = CollectionModel::load(&CollectionWeights::prior(), device)?;
        Ok(Scorer {
            engine,
            collection,
            shared: Arc::new(Shared {
                methods,
                prior,
                single_head,
            }),
        })
    }

    /// All queries in their order, as many at a time as there are cores.
    pub(crate) async fn judge_all(
        &self,
        queries: &[JudgedQuery],
        progress: impl Fn(usize),
    ) -> Result<Vec<Judged>, BoxError> {
        let width = std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let mut judged = stream::iter(queries)
            .map(|query| self.judge(query))
            .buffered(width);
        let mut all = Vec::with_capacity(queries.len());
        while let Some(one) = judged.try_next().await? {
            all.push(one);
            progress(all.len());
        }
        Ok(all)
    }

    async fn judge(&self, query: &JudgedQuery) -> Result<Judged, BoxError> {
        let mut request = AttendQuery::new(query.text.clone());
        request.truncate = true;
        let scored = self.engine.score(&request, self.collection).await?;
        let (shared, query) = (Arc::clone(&self.shared), query.clone());
        tokio::task::spawn_blocking(move || shared.judge(scored, &query)).await?
    }
}

impl Shared {
    fn judge(&self, scored: RouterScored, query: &JudgedQuery) -> Result<Judged, BoxError> {
        let (dense, bm25): (Vec<f32>, Vec<f32>) = scored.cheap_scores().into_iter().unzip();
        let prior = if scored.survivors.is_empty() {
            Vec::new()
        } else {
            let input = AttendInput {
                z: scored.views.z.view(),
                gate_inputs: &scored.gate_inputs,
                query_vector: &scored.query.vector,
            };
            self.prior.attend(&input, Routing::Soft)?.mixture
        };
        let maxsim = scored.views.raw.column(View::Maxsim as usize).to_vec();
        let moe = scored
            .attention
            .as_ref()
            .map_or(&[][..], |attention| &attention.mixture);
        let moe_no_feedback = scored
            .attention
            .as_ref()
            .map_or_else(Vec::new, of_mixture_heads);
        let ranked = Scored {
            dense: &dense,
            bm25: &bm25,
            survivors: &scored.survivors,
            maxsim: &maxsim,
            z: scored.views.z.view(),
            prior: &prior,
            moe_no_feedback: &moe_no_feedback,
            moe,
            single_head: self.single_head.as_deref(),
        };
        let mut methods = BTreeMap::new();
        let mut first_gold_rank = BTreeMap::new();
        for method in &self.methods {
            let order = ranked.rank(*method);
            let ids: Vec<&str> = order
                .iter()
                .map(|at| scored.candidates[*at].at.document_id.as_str())
                .collect();
            methods.insert(
                method.name().to_owned(),
                judge(&ids, &query.gold, &query.skipped),
            );
            let judged = ids.iter().filter(|id| !query.skipped.contains(**id));
            if let Some(rank) = judged.clone().position(|id| query.gold.contains(*id)) {
                first_gold_rank.insert(method.name().to_owned(), rank + 1);
            }
        }
        let types = scored
            .attention
            .as_ref()
            .map_or(&[][..], |attention| &attention.types);
        let report = QueryReport {
            set: String::new(),
            query_id: query.id.clone(),
            query: query.text.clone(),
            n_gold: query.gold.len(),
            n_candidates: scored.candidates.len(),
            n_scored: scored.survivors.len(),
            query_type: argmax(types)
                .and_then(|at| QUERY_TYPES.get(at))
                .map_or("", |name| name)
                .to_owned(),
            head_weights: scored
                .attention
                .as_ref()
                .map_or_else(BTreeMap::new, |attention| {
                    ALL_HEADS
                        .iter()
                        .zip(&attention.head_weights)
                        .map(|(head, weight)| ((*head).to_owned(), *weight))
                        .collect()
                }),
            first_gold_rank,
            methods,
        };
        Ok(Judged {
            report,
            attention: scored.attention,
        })
    }
}

/// What the heads of the mixture alone give each candidate, up to a factor.
fn of_mixture_heads(attention: &Attention) -> Vec<f32> {
    let heads = attention.head_weights.iter().zip(&attention.head_attn);
    let mut sum = vec![0.0; attention.mixture.len()];
    for (weight, head) in heads.take(NUM_HEADS) {
        for (s, a) in sum.iter_mut().zip(head) {
            *s += weight * a;
        }
    }
    sum
}
