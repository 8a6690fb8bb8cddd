//! Looking across the sets: all of them as collections of one deployment, with queries that name
//! none; and each of them served by the weights that another one's documents gave.

mod judge;
mod merged;
mod render;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use moerag_model::{CollectionModel, DeviceKind};
use moerag_store::PassageStore;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use router_service::RouterEngine;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use trainer_worker::corpus::TrainingCorpus;

use self::judge::judge;
use self::tally::Tally;
use crate::bootstrap::Deltas;
use crate::case::{Case, ask};
use crate::copy::copy;
use crate::dataset::{Dataset, JudgedQuery};
use crate::deploy::Deploy;
use crate::metrics::Metrics;
use crate::run::{BoxError, EvalProgress};
use crate::seeds::Round;

/// Queries scored before they are ranked; the gates that do not belong to a query are another one's
/// of these.
const CHUNK: usize = 64;

/// What was found across the sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AcrossReport {
    /// All sets in one deployment, no collection named: by the set that the queries are of.
    pub together: BTreeMap<String, TogetherSet>,
    /// Mean over the sets, per method.
    pub together_macro: BTreeMap<String, Metrics>,
    /// `moe` minus every other method over the mean of the sets, with 95 % intervals.
    pub together_deltas: BTreeMap<String, Deltas>,
    /// Metrics of the mixture on a set's own collection by whose weights served: first the set of
    /// the queries, then the one whose documents were trained on.
    pub transfer: BTreeMap<String, BTreeMap<String, Metrics>>,
    /// Wall time of scoring and ranking.
    pub seconds: f64,
}

/// Queries of one set, asked of all collections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TogetherSet {
    /// How many.
    pub n_queries: usize,
    /// Metrics per method. `own_collection` is told where to look: no method can know that.
    pub methods: BTreeMap<String, Metrics>,
    /// `moe` minus every other method, with 95 % intervals.
    pub deltas: BTreeMap<String, Deltas>,
    /// Share of the queries whose own collection weighs most.
    pub own_first: f64,
    /// Mean weight of each collection.
    pub weights: BTreeMap<String, f64>,
}

/// One set in the deployment.
struct Member {
    name: String,
    queries: Vec<JudgedQuery>,
    /// One a seed.
    models: Vec<CollectionModel>,
}

/// The deployment that the sets join one after the other.
pub(crate) struct Across<'a> {
    deploy: Deploy<'a>,
    engine: RouterEngine,
    members: Vec<Member>,
    _dir: TempDir,
}

/// A query scored in all collections, in the order of the members.
struct Answer {
    own: usize,
    at: usize,
    cases: Vec<Case>,
    weights: Vec<f64>,
}

impl<'a> Across<'a> {
    /// An empty deployment.
    pub(crate) async fn new(deploy: Deploy<'a>) -> Result<Across<'a>, BoxError> {
        let dir = tempfile::tempdir()?;
        let engine = deploy.engine(dir.path().join("store"), dir.path()).await?;
        Ok(Across {
            deploy,
            engine,
            members: Vec::new(),
            _dir: dir,
        })
    }

    /// Lets a set join: its passages as they were ingested, its queries, what was learned of it.
    pub(crate) async fn add(
        &mut self,
        set: &Dataset,
        from: (&dyn PassageStore, &str),
        corpus: &TrainingCorpus,
        rounds: &[Round],
    ) -> Result<(), BoxError> {
        let Some(first) = rounds.first() else {
            return Ok(());
        };
        // Not the set's name, which need not be one that a collection may have. The router answers
        // in the order of the names, so in that of the members.
        let collection = format!("set{:04}", self.members.len());
        let to = (self.engine.store().as_ref(), collection.as_str());
        copy(from, to, |_, _| {}).await?;
        let config = self.deploy.train_config(self.deploy.options.seed);
        self.deploy
            .publish(&self.engine, &collection, corpus, &first.outcome, &config)
            .await?;
        let load = |round: &Round| CollectionModel::load(&round.outcome.weights, DeviceKind::Flex);
        self.members.push(Member {
            name: set.name.clone(),
            queries: set.queries.clone(),
            models: rounds.iter().map(load).collect::<Result<_, _>>()?,
        });
        Ok(())
    }

    /// Asks every query of all collections.
    pub(crate) async fn evaluate(
        self,
        progress: &dyn EvalProgress,
    ) -> Result<AcrossReport, BoxError> {
        let started = Instant::now();
        let members = Arc::new(self.members);
        let mut tally = Tally::new(&members);
        let mut order: Vec<(usize, usize)> = members
            .iter()
            .enumerate()
            .flat_map(|(own, member)| (0..member.queries.len()).map(move |at| (own, at)))
            .collect();
        let seed = self.deploy.options.seed;
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let as_written = self.deploy.options.as_written;
        let mut done = 0;
        for chunk in order.chunks(CHUNK) {
            let answers = ask_all(&self.engine, &members, chunk, as_written).await?;
            let judging = Arc::clone(&members);
            let judged = tokio::task::spawn_blocking(move || {
                judge(&judging, &answers, &mut tally).map(|()| tally)
            });
            tally = judged.await??;
            done += chunk.len();
            progress.update("all sets", "one deployment", done, order.len(), "");
        }
        let mut report = tally.report(&members, seed);
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

async fn ask_all(
    engine: &RouterEngine,
    members: &[Member],
    chunk: &[(usize, usize)],
    as_written: bool,
) -> Result<Vec<Answer>, BoxError> {
    let width = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    stream::iter(chunk)
        .map(|(own, at)| async move {
            let query = &members[*own].queries[*at];
            let scored = engine.score(&ask(query, &[], as_written)).await?;
            let weights = scored.iter().map(|(_, weight)| *weight).collect();
            let case = |(collection, (scored, _)): (usize, _)| {
                let mut query = query.clone();
                if collection != *own {
                    // Ids of other sets may be the same.
                    query.gold.clear();
                    query.skipped.clear();
                }
                Case::new(query, Arc::unwrap_or_clone(scored))
            };
            Ok::<Answer, BoxError>(Answer {
                own: *own,
                at: *at,
                cases: scored.into_iter().enumerate().map(case).collect(),
                weights,
            })
        })
        .buffered(width)
        .try_collect()
        .await
}
