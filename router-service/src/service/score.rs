//! A query against one collection: everything before the cut.

use std::sync::Arc;

use moerag_model::{AttendInput, Attention, Feedback, Routing};
use moerag_retrieve::lex::LexQuery;
use moerag_retrieve::{
    CheapCandidate, CheapScores, CorpusStats, FeaturesRef, KeyBlock, QueryFeatures, QueryTokens,
    VIEW_COUNT, ViewMatrix, Views, cheap_scores, feedback_vector, gate_inputs, prune,
};
use moerag_runtime::Ahead;
use moerag_store::{Candidate, CandidateQuery, Filter, PassageRef};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rayon::prelude::*;

use super::encode::EncodedQuery;
use super::engine::RouterEngine;
use crate::domain::{RouteQuery, RouterError, Source, Stage, Stages};
use crate::model_slot::LoadedModel;

/// Candidates that are worth another thread's while: some 200 µs of work.
const LEAST_SHARE: usize = 16;

/// A query scored against one collection. Rows of `views`, `attention` and `keys` belong to
/// `survivors`, in their order.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The collection.
    pub collection: Arc<str>,
    /// The model that scored.
    pub model: Arc<LoadedModel>,
    /// Where its weights for this collection come from.
    pub source: Source,
    /// The query, with this collection's terms.
    pub query: Arc<QueryFeatures>,
    /// Whether misspelt words of it have been replaced.
    pub respelled: bool,
    /// The collection's statistics.
    pub stats: Arc<CorpusStats>,
    /// Their digest.
    pub stats_digest: Arc<str>,
    /// Union of the dense and the lexical list, by (document id, ordinal).
    pub candidates: Vec<Candidate>,
    /// Dense and BM25 score of every candidate, before pruning: what rank fusion needs.
    pub cheap: Vec<CheapScores>,
    /// Indices of the candidates that survived pruning, ascending.
    pub survivors: Vec<usize>,
    /// Keys of the survivors.
    pub keys: Vec<Arc<KeyBlock>>,
    /// Views of the survivors, `[n, 13]`.
    pub views: ViewMatrix,
    /// The query prepared for the token views.
    pub tokens: Ahead<QueryTokens>,
    /// Whether the query names the title of each survivor.
    pub named: Vec<bool>,
    /// Inputs of the gate, `[56]`; empty without survivors.
    pub gate_inputs: Vec<f32>,
    /// What the feedback head reads; `None` where there is nothing to follow.
    pub feedback: Option<Feedback>,
    /// The model's attention over the survivors; `None` without any.
    pub attention: Option<Attention>,
}

impl Scored {
    /// The passage of survivor `row`.
    pub fn passage_ref(&self, row: usize) -> &PassageRef {
        &self.candidates[self.survivors[row]].at
    }

    /// Features of survivor `row`.
    pub fn features(&self, row: usize) -> FeaturesRef<'_> {
        let candidate = &self.candidates[self.survivors[row]];
        FeaturesRef {
            vector: &candidate.vector,
            lex: &candidate.lex,
            keys: &self.keys[row],
        }
    }

    /// What the feedback head reads; `None` for a collection without a latent space.
    fn follow(&self) -> Option<Feedback> {
        let basis = self.model.lsi_for(&self.collection)?;
        let known = self.model.places();
        let place = |i: &usize| {
            known.of(
                &self.collection,
                basis,
                &self.candidates[*i].lex,
                &self.stats,
            )
        };
        let survivors = self.survivors.par_iter().with_min_len(LEAST_SHARE);
        let places: Vec<Arc<[f32]>> = survivors.map(place).collect();
        Feedback::new(self.views.z.view(), &places)
    }

    /// Whether the query names the title of each survivor.
    fn names(&self) -> Vec<bool> {
        let lexical = LexQuery::new(&self.query.terms, &self.stats);
        let survivors = self.survivors.iter();
        survivors
            .map(|i| lexical.names(&self.candidates[*i].lex))
            .collect()
    }
}

/// What is the same for all collections of a request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) model: Arc<LoadedModel>,
    pub(super) query: Arc<EncodedQuery>,
    pub(super) routing: Routing,
    pub(super) filter: Filter,
    pub(super) stages: Stages,
}

impl RouterEngine {
    /// Reads a query for all its collections.
    pub(super) async fn request(
        &self,
        model: Arc<LoadedModel>,
        query: &RouteQuery,
        names: &[Arc<str>],
        stages: &Stages,
    ) -> Result<Request, RouterError> {
        let encoded = self.read_query(query, names, stages).await?;
        Ok(Request {
            model,
            query: Arc::new(encoded),
            routing: query.routing,
            filter: query.filter.clone(),
            stages: stages.clone(),
        })
    }

    pub(super) async fn score_collection(
        &self,
        request: &Request,
        collection: Arc<str>,
    ) -> Result<Scored, RouterError> {
        let inner = &self.inner;
        let stages = &request.stages;
        let known = inner.known(&collection).await?;
        let config = request.model.view_config().clone();

        let guard = stages.enter(Stage::Candidates);
        let encoded = Arc::clone(&request.query);
        let analyzed = inner.pool.run(move || encoded.features(&known.analyzer));
        let query = Arc::new(analyzed.await?);
        let stats = inner.store.stats(&collection).await?;
        // Needed with the keys; a thread has time for it while another searches the longer list.
        let (engine, q, s) = (Arc::clone(inner), Arc::clone(&query), Arc::clone(&stats));
        let tokens = inner
            .pool
            .ahead(move || Views::new(&engine.codec, &s).prepare(&q));
        let wanted = CandidateQuery::new(
            &query,
            &stats,
            config.candidates_per_list,
            request.filter.clone(),
        );
        let candidates = Arc::new(inner.store.candidates(&collection, &wanted).await?);
        drop(guard);

        let guard = stages.enter(Stage::Prune);
        let (q, s, c) = (
            Arc::clone(&query),
            Arc::clone(&stats),
            Arc::clone(&candidates),
        );
        let (engine, name) = (Arc::clone(inner), Arc::clone(&collection));
        let (cheap, survivors, feedback, stats_digest) = inner
            .pool
            .run(move || {
                let candidates = c.iter().map(|c| CheapCandidate {
                    vector: &c.vector,
                    lex: &c.lex,
                });
                let cheap = cheap_scores(&q, candidates, &s);
                let vectors: Vec<&[f32]> = c.iter().map(|c| &*c.vector).collect();
                let survivors = prune(&cheap, &config, None);
                (
                    cheap,
                    survivors,
                    feedback_vector(&q, &vectors),
                    engine.stats_digest(&name, &s),
                )
            })
            .await?;
        drop(guard);

        let guard = stages.enter(Stage::Features);
        let wanted: Vec<PassageRef> = survivors
            .iter()
            .map(|i| candidates[*i].at.clone())
            .collect();
        let found = if wanted.is_empty() {
            Vec::new()
        } else {
            inner.store.keys(&collection, &wanted).await?
        };
        // A passage that was replaced since the search is not there any more.
        let (survivors, keys): (Vec<usize>, Vec<Arc<KeyBlock>>) = survivors
            .into_iter()
            .zip(found)
            .filter_map(|(i, keys)| Some((i, keys?)))
            .unzip();
        drop(guard);

        let mut scored = Scored {
            source: request.model.source_of(&collection),
            collection,
            model: Arc::clone(&request.model),
            query,
            respelled: request.query.respelled,
            stats,
            stats_digest,
            candidates: Arc::unwrap_or_clone(candidates),
            cheap,
            survivors,
            keys,
            views: ViewMatrix::new(Array2::zeros((0, VIEW_COUNT))),
            tokens,
            gate_inputs: Vec::new(),
            feedback: None,
            named: Vec::new(),
            attention: None,
        };
        if scored.survivors.is_empty() {
            return Ok(scored);
        }
        let (engine, stages, routing) = (Arc::clone(inner), stages.clone(), request.routing);
        inner
            .pool
            .run(move || {
                {
                    let _guard = stages.enter(Stage::Views);
                    let views = Views::new(&engine.codec, &scored.stats);
                    let passages: Vec<FeaturesRef<'_>> = (0..scored.survivors.len())
                        .map(|row| scored.features(row))
                        .collect();
                    let tokens = &*scored.tokens;
                    // Idle cores take a share; under load there are none, and nothing is lost.
                    let share = passages.len().div_ceil(rayon::current_num_threads());
                    let parts: Vec<Array2<f32>> = passages
                        .par_chunks(share.max(LEAST_SHARE))
                        .map(|part| views.raw(&scored.query, tokens, &feedback, part, None))
                        .collect();
                    let parts: Vec<ArrayView2<'_, f32>> = parts.iter().map(|p| p.view()).collect();
                    let raw = concatenate(Axis(0), &parts)
                        .map_err(|error| RouterError::internal("computing views", error))?;
                    scored.views = ViewMatrix::new(raw);
                    scored.gate_inputs = gate_inputs(&scored.views, &scored.query, &scored.stats);
                }
                let _guard = stages.enter(Stage::Attend);
                scored.feedback = scored.follow();
                scored.named = scored.names();
                let input = AttendInput {
                    z: scored.views.z.view(),
                    gate_inputs: &scored.gate_inputs,
                    feedback: scored.feedback.as_ref(),
                    named: &scored.named,
                    query_vector: &scored.query.vector,
                };
                let model = scored.model.model_for(&scored.collection);
                let attention = model
                    .attend(&input, routing)
                    .map_err(|error| RouterError::internal("attending", error))?;
                scored.attention = Some(attention);
                Ok(scored)
            })
            .await?
    }
}
