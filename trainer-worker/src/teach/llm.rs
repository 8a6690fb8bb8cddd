//! Queries written by a language model: which ones, from where, and what became of them.

use std::collections::{HashMap, HashSet};
use std::thread;

use futures::StreamExt;
use moerag_model::QUERY_TYPES;
use tokio_util::sync::CancellationToken;

use super::cache::{self, Cache};
use super::config::LlmConfig;
use super::counts;
use super::endpoint::{AskError, Budget, Endpoint};
use super::prompts::{self, Prompt, accept, prompt};
use crate::corpus::TrainingCorpus;
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use crate::synth::{Level, SyntheticQuery};
use crate::train::{TrainConfig, is_held_out};

/// Failed requests in a row, each of them repeated, after which an endpoint counts as gone.
const GIVE_UP_AFTER: usize = 5;

/// A language model, ready to be asked.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    config: &'a LlmConfig,
    endpoint: Endpoint,
    cache: Cache,
}

/// What became of the queries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Queries chosen to be written.
    chosen: usize,
    /// Queries written, from the cache or not.
    written: usize,
    /// Answers that were in the cache.
    cached: usize,
    /// Answers that could not be used.
    rejected: usize,
    /// Requests that failed for good.
    failed: usize,
    /// Requests sent, repeated ones included.
    requests: usize,
    /// Tokens used.
    tokens: u64,
    /// Why it ended before all were asked for.
    stopped: Option<String>,
    /// The last failure.
    failure: Option<String>,
}

impl Report {
    pub(super) fn metrics(&self) -> impl Iterator<Item = (String, f64)> {
        counts(
            "llm",
            [
                ("chosen", self.chosen as u64),
                ("written", self.written as u64),
                ("cached", self.cached as u64),
                ("rejected", self.rejected as u64),
                ("failed", self.failed as u64),
                ("requests", self.requests as u64),
                ("tokens", self.tokens),
                ("stopped", u64::from(self.stopped.is_some())),
            ],
        )
    }

    /// One sentence for the job.
    pub(super) fn note(&self) -> String {
        let mut note = format!(
            "the language model wrote {} of {} queries ({} answers from the cache, {} rejected, {} \
             requests failed)",
            self.written, self.chosen, self.cached, self.rejected, self.failed
        );
        let reason = self.stopped.as_ref().or(self.failure.as_ref());
        if let Some(reason) = reason {
            note = format!("{note}; {reason}");
        }
        note
    }
}

/// One question to ask.
struct Task {
    /// Index of the query that it replaces.
    query: usize,
    key: String,
    prompt: Prompt,
}

impl<'a> Writer<'a> {
    pub(super) fn new(url: &str, config: &'a LlmConfig) -> Result<Self, TrainError> {
        let refuse = |reason: String| TrainError::Config {
            field: "train.teachers.llm.cache_dir",
            reason,
        };
        let endpoint = Endpoint::new(url, config)?;
        let dir = config
            .cache_dir
            .as_deref()
            .ok_or_else(|| refuse("must be set".to_owned()))?;
        let cache = Cache::open(dir).map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            config,
            endpoint,
            cache,
        })
    }

    /// Replaces queries by written ones, in place.
    pub(super) fn write(
        mut self,
        corpus: &TrainingCorpus,
        queries: &mut [SyntheticQuery],
        train: &TrainConfig,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<Report, TrainError> {
        let eligible = |query: &SyntheticQuery| {
            is_unmasked_level(query.level)
                && !is_held_out(corpus, query.passage, train.seed, train.held_out_share)
        };
        let tasks: Vec<Task> = choose(queries, eligible, self.config.queries)
            .into_iter()
            .map(|query| self.task(corpus, queries, query))
            .collect();
        let mut report = Report {
            chosen: tasks.len(),
            ..Report::default()
        };
        let wanted: HashSet<&str> = tasks.iter().map(|task| task.key.as_str()).collect();
        let mut answers = self.cache.read(&wanted).unwrap_or_else(|error| {
            report.failure = Some(format!("the cache cannot be read: {error}"));
            HashMap::new()
        });
        report.cached = answers.len();
        // Equal passages are asked about once.
        let mut keys = HashSet::new();
        let open: Vec<&Task> = tasks
            .iter()
            .filter(|task| !answers.contains_key(&task.key) && keys.insert(task.key.as_str()))
            .collect();
        let clock = StageClock::start(Stage::Synth, tasks.len(), progress);
        clock.advance(report.cached, None);
        if !open.is_empty() {
            self.ask_all(open, &mut answers, &mut report, &clock, cancel)?;
        }
        for task in &tasks {
            let Some(answer) = answers.get(&task.key) else {
                continue;
            };
            let query = &mut queries[task.query];
            match accept(answer, &corpus.texts[query.passage].text) {
                Some(text) => {
                    rewrite(query, text);
                    report.written += 1;
                }
                None => report.rejected += 1,
            }
        }
        if let Some(reason) = report.stopped.as_ref().or(report.failure.as_ref()) {
            let (written, chosen) = (report.written, report.chosen);
            tracing::warn!(%reason, written, chosen, "the language model did not write all queries");
        }
        Ok(report)
    }

    fn task(&self, corpus: &TrainingCorpus, queries: &[SyntheticQuery], query: usize) -> Task {
        let SyntheticQuery {
            passage,
            query_type,
            ..
        } = queries[query];
        let passage = &corpus.texts[passage];
        let prompt = prompt(passage, query_type);
        let parts = [
            &*self.config.model,
            prompts::VERSION,
            QUERY_TYPES[query_type],
            &*passage.title,
            &*passage.text,
        ];
        Task {
            query,
            key: cache::key(&parts),
            prompt,
        }
    }

    /// Asks on a thread of its own: the caller may be a thread of a runtime, which cannot wait for
    /// another one.
    fn ask_all(
        &mut self,
        open: Vec<&Task>,
        answers: &mut HashMap<String, String>,
        report: &mut Report,
        clock: &StageClock<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), TrainError> {
        let no_thread = |error: std::io::Error| TrainError::Internal(format!("teacher: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let asking = move || {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(TrainError::Cancelled),
                    () = self.ask_each(open, answers, report, clock) => Ok(()),
                }
            });
            // A look-up of a name cannot be cancelled; waiting for it would take seconds.
            runtime.shutdown_background();
            outcome
        };
        thread::scope(|scope| {
            let named = thread::Builder::new().name("teacher-llm".to_owned());
            let joined = named.spawn_scoped(scope, asking).map_err(no_thread)?.join();
            joined.unwrap_or_else(|_| Err(TrainError::Internal("the teacher panicked".to_owned())))
        })
    }

    async fn ask_each<'t>(
        &mut self,
        open: Vec<&'t Task>,
        answers: &mut HashMap<String, String>,
        report: &mut Report,
        clock: &StageClock<'_>,
    ) {
        let budget = Budget::new(self.config);
        let endpoint = &self.endpoint;
        let ask = |task: &'t Task| {
            let budget = &budget;
            async move { (task, endpoint.ask(&task.prompt, budget).await) }
        };
        let mut asked = futures::stream::iter(open)
            .map(ask)
            .buffer_unordered(self.config.concurrency);
        let mut failed_in_a_row = 0;
        while let Some((task, answer)) = asked.next().await {
            match answer {
                Ok(answer) => {
                    failed_in_a_row = 0;
                    if let Err(error) = self.cache.append(&task.key, &answer) {
                        // What cannot be kept would be paid for again.
                        report.stopped = Some(format!("the cache cannot be written: {error}"));
                        break;
                    }
                    answers.insert(task.key.clone(), answer);
                    clock.advance(answers.len(), None);
                }
                // Requests under way may still end; those that wait get the same answer at once.
                Err(AskError::Spent(reason)) => report.stopped = Some(reason),
                Err(error) => {
                    report.failed += 1;
                    failed_in_a_row += 1;
                    let failure = format!("the endpoint failed: {error}");
                    if failed_in_a_row >= GIVE_UP_AFTER {
                        report.stopped = Some(failure);
                        break;
                    }
                    report.failure = Some(failure);
                }
            }
        }
        drop(asked);
        (report.requests, report.tokens) = (budget.requests(), budget.tokens());
    }
}

/// The levels at which a written query may stand: nothing of the gold is masked there, and the ship
/// rule does not look at them.
fn is_unmasked_level(level: Level) -> bool {
    matches!(
        level,
        Level::Lexical | Level::Abstraction | Level::Paraphrase
    )
}

/// Indices of up to `count` of the queries that are eligible, one per passage and type, taken from
/// the eight types in turn; where a type has no more, the others give.
fn choose(
    queries: &[SyntheticQuery],
    eligible: impl Fn(&SyntheticQuery) -> bool,
    count: usize,
) -> Vec<usize> {
    let mut of_type = [const { Vec::new() }; QUERY_TYPES.len()];
    let mut seen = HashSet::new();
    for (i, query) in queries.iter().enumerate() {
        if eligible(query) && seen.insert((query.passage, query.query_type)) {
            of_type[query.query_type].push(i);
        }
    }
    let mut turns = of_type.map(Vec::into_iter);
    let mut chosen = Vec::new();
    loop {
        let before = chosen.len();
        for turn in &mut turns {
            if chosen.len() < count {
                chosen.extend(turn.next());
            }
        }
        if chosen.len() == before {
            return chosen;
        }
    }
}

/// Puts a written query in the place of a rule's. It says the passage's meaning in other words,
/// which is what the paraphrase level is.
fn rewrite(query: &mut SyntheticQuery, text: String) {
    query.level = Level::Paraphrase;
    query.rule = format!("llm: {}", QUERY_TYPES[query.query_type]);
    query.bare = text.clone();
    query.text = text;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(passage: usize, query_type: usize) -> SyntheticQuery {
        SyntheticQuery {
            text: "why".to_owned(),
            bare: "why".to_owned(),
            passage,
            query_type,
            level: Level::Lexical,
            rule: String::new(),
            sentence: 0,
            cut: false,
            hidden_terms: Vec::new(),
        }
    }

    #[test]
    fn types_take_turns_and_rare_ones_are_made_up_for() {
        // Twenty of type 7, three of type 0, one of type 4; passage 0 asks twice for type 7.
        let mut queries: Vec<SyntheticQuery> = (0..20).map(|i| query(i, 7)).collect();
        queries.push(query(0, 7));
        queries.extend((0..3).map(|i| query(i, 0)));
        queries.push(query(9, 4));
        let types = |count| -> Vec<usize> {
            let chosen = choose(&queries, |_| true, count);
            chosen.iter().map(|i| queries[*i].query_type).collect()
        };
        assert_eq!(types(3), [0, 4, 7]);
        assert_eq!(types(8), [0, 4, 7, 0, 7, 0, 7, 7]);
        assert_eq!(types(100).len(), 24, "a passage is asked once for a type");
        assert!(choose(&queries, |_| false, 5).is_empty());
        assert!(types(0).is_empty());
    }

    #[test]
    fn what_the_ship_rule_compares_is_never_written() {
        let kept: Vec<Level> = Level::ALL
            .into_iter()
            .filter(|l| !is_unmasked_level(*l))
            .collect();
        assert_eq!(kept, [Level::InverseCloze, Level::Mismatch, Level::Gist]);
    }
}
