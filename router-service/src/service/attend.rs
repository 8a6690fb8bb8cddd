//! The query path: score every collection, merge, cut, explain.

use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt, stream};
use moerag_model::collection_weights;
use moerag_retrieve::Views;
use moerag_store::{PassageRef, StoreError};
use rayon::prelude::*;

use super::cache::ReplyKey;
use super::encode::EncodedQuery;
use super::engine::{Inner, RouterEngine};
use super::score::{Request, Scored};
use crate::domain::cut::{Cut, Ranked};
use crate::domain::explain::{head_shares, sentence_weights, view_shares};
use crate::domain::merge::{Part, attend_together, mean_by_share};
use crate::domain::validate;
use crate::domain::violations::Violations;
use crate::domain::{
    AttendQuery, Attended, AttendedPassage, CollectionRoute, RouteQuery, Routed, RouterError,
    ServedModel, Source, Stage, Stages, TypePrediction,
};
use crate::model_slot::LoadedModel;

/// Passages that are worth another thread's while to explain.
const LEAST_SHARE: usize = 4;

/// A passage on its way into a reply.
struct Chosen {
    collection: usize,
    row: usize,
    weight: f64,
}

impl RouterEngine {
    /// Returns the passages a query attends to.
    ///
    /// # Errors
    /// A bad query, an unknown collection, a store that does not answer, a full queue.
    pub async fn attend(
        &self,
        query: &AttendQuery,
        stages: &Stages,
    ) -> Result<Attended, RouterError> {
        let mut violations = Violations::new();
        validate::attend(query, self.limits(), &mut violations);
        violations.finish()?;
        let _queued = self.inner.admission.queue(1)?;
        self.attend_with(self.inner.models.take(), query, stages)
            .await
    }

    /// The same for several queries, by one model. Replies are in the order of the queries.
    ///
    /// # Errors
    /// As for [`RouterEngine::attend`]; one bad query refuses all.
    pub async fn batch_attend(
        &self,
        queries: &[AttendQuery],
        stages: &Stages,
    ) -> Result<Vec<Attended>, RouterError> {
        let mut violations = Violations::new();
        let most = self.limits().batch;
        violations.check((1..=most).contains(&queries.len()), "requests", || {
            format!("has {} entries, must have 1 to {most}", queries.len())
        });
        for (i, query) in queries.iter().take(most).enumerate() {
            violations.set_prefix(format!("requests[{i}]."));
            validate::attend(query, self.limits(), &mut violations);
        }
        violations.finish()?;
        let _queued = self.inner.admission.queue(queries.len())?;
        let model = self.inner.models.take();
        let width = self.inner.admission.batch_width();
        // Each query has its own clock; the request's own one names the stage when the deadline
        // passes.
        let _guard = stages.enter(Stage::Attend);
        let work: Vec<_> = queries
            .iter()
            .enumerate()
            .map(|(i, query)| {
                let model = Arc::clone(&model);
                async move {
                    let own = Stages::new();
                    self.attend_with(model, query, &own)
                        .await
                        .map_err(|error| at(i, error))
                }
            })
            .collect();
        stream::iter(work).buffered(width).try_collect().await
    }

    /// Returns the decisions for a query.
    ///
    /// # Errors
    /// As for [`RouterEngine::attend`].
    pub async fn route(&self, query: &RouteQuery, stages: &Stages) -> Result<Routed, RouterError> {
        let mut violations = Violations::new();
        validate::route(query, self.limits(), &mut violations);
        violations.finish()?;
        let _queued = self.inner.admission.queue(1)?;
        let _permit = self.inner.admission.run(stages).await?;
        let model = self.inner.models.take();
        let (engine, query, stages) = (self.clone(), query.clone(), stages.clone());
        let work = async move {
            let names = engine.names(&query.collections).await?;
            let (request, scored, shares) = engine.ask(model, &query, names, &stages).await?;
            Ok(engine.routed(&request, &scored, &shares))
        };
        self.inner.pool.begin(work).await?
    }

    async fn attend_with(
        &self,
        model: Arc<LoadedModel>,
        query: &AttendQuery,
        stages: &Stages,
    ) -> Result<Attended, RouterError> {
        let names = self.names(&query.collections).await?;
        let key = self.reply_key(&model, query, &names);
        if let Some(known) = key.as_ref().and_then(|key| self.inner.replies.get(key)) {
            let mut reply = Attended::clone(&known);
            reply.route.timings = stages.timings();
            return Ok(reply);
        }
        let _permit = self.inner.admission.run(stages).await?;
        let (engine, query, stages) = (self.clone(), query.clone(), stages.clone());
        // On one thread for queries, from the encoder to the reply, unless a server has to be waited for.
        let work = async move {
            let asked = engine.ask(model, &query.route(), names, &stages).await?;
            let (request, scored, shares) = asked;
            let chosen = choose(&scored, &shares, &query);
            let passages = engine.fill(&request, &scored, &chosen).await?;
            Ok::<_, RouterError>(Attended {
                attn_mass_returned: passages.iter().map(|p| p.attn_weight).sum(),
                passages,
                route: engine.routed(&request, &scored, &shares),
            })
        };
        let reply = self.inner.pool.begin(work).await??;
        // Not if something changed meanwhile: the reply may show either state.
        if let Some(key) = key
            && key.is_current(&*self.inner.store)
        {
            self.inner.replies.put(key, Arc::new(reply.clone()));
        }
        Ok(reply)
    }

    /// What a reply to `query` from the collections `names` depends on now; `None` where replies are not
    /// kept.
    fn reply_key(
        &self,
        model: &LoadedModel,
        query: &AttendQuery,
        names: &[Arc<str>],
    ) -> Option<ReplyKey> {
        if !self.inner.replies.is_on() {
            return None;
        }
        let states = names.iter().map(|name| {
            let state = self.inner.store.content_state(name)?;
            Some((Arc::clone(name), state))
        });
        let states: Option<Vec<_>> = states.collect();
        states.map(|states| ReplyKey::new(query, states, model))
    }

    /// The collections of a query, or all that this router can serve. Sorted by name.
    async fn names(&self, given: &[String]) -> Result<Vec<Arc<str>>, RouterError> {
        let mut names: Vec<Arc<str>> = if given.is_empty() {
            self.inner.servable().await?
        } else {
            given.iter().map(|name| name.as_str().into()).collect()
        };
        names.sort();
        Ok(names)
    }

    /// Scores a query against its collections, or all that this router can serve, without the cut and
    /// without texts. Sorted by name, each with the gate's weight of it.
    ///
    /// # Errors
    /// A query that is too long, an unknown or unfit collection, a store that does not answer.
    pub async fn score(&self, query: &AttendQuery) -> Result<Vec<(Arc<Scored>, f64)>, RouterError> {
        let model = self.inner.models.take();
        let (engine, query) = (self.clone(), query.route());
        let work = async move {
            let names = engine.names(&query.collections).await?;
            let (_, scored, shares) = engine.ask(model, &query, names, &Stages::new()).await?;
            Ok(scored.into_iter().zip(shares).collect())
        };
        self.inner.pool.begin(work).await?
    }

    /// Encodes a query and scores it against the collections `names`, each with the gate's weight of it.
    async fn ask(
        &self,
        model: Arc<LoadedModel>,
        query: &RouteQuery,
        names: Vec<Arc<str>>,
        stages: &Stages,
    ) -> Result<(Request, Vec<Arc<Scored>>, Vec<f64>), RouterError> {
        let request = self.request(model, query, &names, stages).await?;
        let each = names
            .into_iter()
            .map(|name| self.score_collection(&request, name));
        // A query that names none is not wrong because one has just been deleted.
        let unnamed = query.collections.is_empty();
        let counts = |scored: &Result<_, _>| {
            !unnamed || !matches!(scored, Err(RouterError::NotFound { .. }))
        };
        let scored: Vec<Arc<Scored>> = join_all(each)
            .await
            .into_iter()
            .filter(counts)
            .map(|scored| scored.map(Arc::new))
            .collect::<Result<_, _>>()?;
        let shares = shares_of(&scored);
        Ok((request, scored, shares))
    }

    fn routed(&self, request: &Request, scored: &[Arc<Scored>], shares: &[f64]) -> Routed {
        let collections: Vec<CollectionRoute> = scored
            .iter()
            .zip(shares)
            .map(|(scored, share)| collection_route(scored, *share))
            .collect();
        let mean = |part: fn(&CollectionRoute) -> &[f32]| {
            mean_by_share(collections.iter().map(|c| (c.weight, part(c))))
        };
        let query: &EncodedQuery = &request.query;
        Routed {
            heads: mean(|c| &c.heads),
            query_type: TypePrediction {
                posterior: mean(|c| &c.query_type.posterior),
            },
            model: self.served(&request.model, collections.iter().map(|c| c.source).min()),
            collections,
            token_count: query.token_count,
            truncated: query.truncated,
            timings: request.stages.timings(),
            searched_for: query.respelled.then(|| query.text.clone()),
        }
    }

    pub(super) fn served(&self, model: &LoadedModel, source: Option<Source>) -> ServedModel {
        ServedModel {
            version: model.version(),
            source: source.unwrap_or_else(|| model.weakest_source()),
            weights_digest: model.weights_digest().to_owned(),
            space: self.inner.space().to_owned(),
            key_spec: self.inner.config.key_spec.id(),
        }
    }

    /// Fetches texts and sentence weights of the chosen passages.
    async fn fill(
        &self,
        request: &Request,
        scored: &[Arc<Scored>],
        chosen: &[Chosen],
    ) -> Result<Vec<AttendedPassage>, RouterError> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let guard = request.stages.enter(Stage::Passages);
        let fetched = try_join_all(scored.iter().enumerate().map(|(at, scored)| {
            let refs: Vec<PassageRef> = chosen
                .iter()
                .filter(|c| c.collection == at)
                .map(|c| scored.passage_ref(c.row).clone())
                .collect();
            async move {
                if refs.is_empty() {
                    return Ok(Vec::new());
                }
                let found = self.inner.store.passages(&scored.collection, &refs).await;
                match found {
                    // Deleted since the search.
                    Err(StoreError::UnknownCollection { .. }) => Ok(vec![None; refs.len()]),
                    found => found,
                }
            }
        }))
        .await?;
        drop(guard);
        let mut fetched: Vec<_> = fetched.into_iter().map(Vec::into_iter).collect();
        let parts: Vec<_> = chosen
            .iter()
            .filter_map(|c| {
                // A passage that was replaced since the search has no text to show.
                let passage = fetched[c.collection].next()??;
                Some((Arc::clone(&scored[c.collection]), c.row, c.weight, passage))
            })
            .collect();
        let (inner, stages) = (Arc::clone(&self.inner), request.stages.clone());
        let filled = self.inner.pool.run(move || {
            let _guard = stages.enter(Stage::Sentences);
            parts
                .into_par_iter()
                .with_min_len(LEAST_SHARE)
                .filter_map(|(scored, row, weight, passage)| {
                    explain(&inner, &scored, row, weight, passage)
                })
                .collect()
        });
        Ok(filled.await?)
    }
}

/// The gate's weight of each collection.
fn shares_of(scored: &[Arc<Scored>]) -> Vec<f64> {
    let inputs: Vec<_> = scored
        .iter()
        .map(|s| {
            let model = s.model.model_for(&s.collection);
            (model, s.attention.as_ref().map(|_| &s.gate_inputs[..]))
        })
        .collect();
    collection_weights(&inputs)
        .into_iter()
        .map(f64::from)
        .collect()
}

/// Ranks the passages of all collections together and cuts.
fn choose(scored: &[Arc<Scored>], shares: &[f64], query: &AttendQuery) -> Vec<Chosen> {
    let parts: Vec<Part<'_>> = scored
        .iter()
        .zip(shares)
        .map(|(scored, weight)| Part {
            weight: *weight,
            mixture: scored.attention.as_ref().map_or(&[], |a| &a.mixture),
            alpha: f64::from(scored.model.model_for(&scored.collection).alpha()),
        })
        .collect();
    let mut ranked: Vec<(Ranked<'_>, Chosen)> = Vec::new();
    for (collection, weights) in attend_together(&parts).into_iter().enumerate() {
        let scored = &scored[collection];
        for (row, weight) in weights.into_iter().enumerate() {
            let at = scored.passage_ref(row);
            let rank = Ranked {
                weight,
                collection: &scored.collection,
                document_id: &at.document_id,
                ordinal: at.ordinal,
            };
            ranked.push((
                rank,
                Chosen {
                    collection,
                    row,
                    weight,
                },
            ));
        }
    }
    ranked.sort_by(|a, b| a.0.order(&b.0));
    let cut = Cut {
        top_k: query.top_k as usize,
        budget_tokens: query.context_budget_tokens.map(|n| n as usize),
        min_weight: query.min_attn_weight.unwrap_or(0.0),
    };
    let length = cut.length(
        ranked
            .iter()
            .map(|(_, c)| (c.weight, tokens_of(&scored[c.collection], c.row))),
    );
    ranked
        .into_iter()
        .take(length)
        .map(|(_, chosen)| chosen)
        .collect()
}

fn tokens_of(scored: &Scored, row: usize) -> usize {
    scored.keys[row].seq()
}

fn explain(
    inner: &Inner,
    scored: &Scored,
    row: usize,
    attn_weight: f64,
    passage: moerag_store::Passage,
) -> Option<AttendedPassage> {
    let attention = scored.attention.as_ref()?;
    let heads = head_shares(attention, row);
    let logit_weights = scored.model.logit_weights(&scored.collection);
    let views = view_shares(&scored.views, row, &heads, logit_weights);
    let scores = Views::new(&inner.codec, &scored.stats).sentence_scores(
        &scored.query,
        &scored.tokens,
        scored.features(row),
    );
    // Both lists come from the same split; a shorter one would only leave sentences out.
    let known = scores.len().min(passage.sentences.len());
    let weights = sentence_weights(&scores[..known]);
    Some(AttendedPassage {
        collection: Arc::clone(&scored.collection),
        attn_weight,
        title_named: scored.named.get(row) == Some(&true),
        heads,
        views,
        sentences: passage.sentences.iter().cloned().zip(weights).collect(),
        token_count: tokens_of(scored, row),
        passage,
    })
}

fn collection_route(scored: &Scored, weight: f64) -> CollectionRoute {
    let (heads, types) = match &scored.attention {
        Some(attention) => (attention.head_weights.clone(), attention.types.clone()),
        None => (Vec::new(), Vec::new()),
    };
    CollectionRoute {
        collection: scored.collection.to_string(),
        weight,
        source: scored.source,
        source_reason: scored.model.reason_of(&scored.collection).to_owned(),
        heads,
        candidates: scored.candidates.len(),
        scored: scored.survivors.len(),
        stats_digest: scored.stats_digest.to_string(),
        query_type: TypePrediction { posterior: types },
    }
}

/// Names the query of a batch that failed.
fn at(index: usize, error: RouterError) -> RouterError {
    match error {
        RouterError::Invalid(violations) => RouterError::Invalid(
            violations
                .into_iter()
                .map(|mut violation| {
                    violation.field = format!("requests[{index}].{}", violation.field);
                    violation
                })
                .collect(),
        ),
        other => other,
    }
}
