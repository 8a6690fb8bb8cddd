//! Teachers: a language model behind real HTTP, and a cross-encoder with tiny random weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use moerag_model::QUERY_TYPES;
use moerag_retrieve::TokenCodec;
use tokio_util::sync::CancellationToken;
use trainer_worker::synth::{Level, SyntheticQuery, generate};
use trainer_worker::teach::{DROP_MARGIN, LlmConfig, Teachers, judge};
use trainer_worker::{NoProgress, TrainConfig, TrainError, TrainOutcome, train_collection};

use crate::stub::{Reply, Stub, nobody, question};
use crate::support::{corpus, encoder, query_encoder, quick};
use crate::tiny::Tiny;

const QUERIES: usize = 24;

fn config(url: String, cache: &Path) -> TrainConfig {
    let mut config = quick();
    config.teachers.llm = LlmConfig {
        url: Some(url),
        model: "stub".to_owned(),
        queries: QUERIES,
        cache_dir: Some(cache.to_owned()),
        concurrency: 8,
        ..LlmConfig::default()
    };
    config
}

fn by_rules() -> Vec<SyntheticQuery> {
    let corpus = corpus();
    let codec = TokenCodec::new(&corpus.key_spec);
    let cancel = CancellationToken::new();
    generate(&corpus, &encoder(), &codec, 360, 0, &NoProgress, &cancel).unwrap()
}

/// Rewritten queries with counts (without their common prefix) and the note.
struct Written {
    queries: Vec<SyntheticQuery>,
    counts: BTreeMap<String, u64>,
    note: String,
}

impl Written {
    fn count(&self, name: &str) -> u64 {
        self.counts[name]
    }

    fn by_model(&self) -> Vec<&SyntheticQuery> {
        let written = |q: &&SyntheticQuery| q.rule.starts_with("llm: ");
        self.queries.iter().filter(written).collect()
    }
}

fn write(config: &TrainConfig) -> Written {
    let mut queries = by_rules();
    let mut teachers = Teachers::start(config).unwrap();
    let cancel = CancellationToken::new();
    teachers
        .write(&corpus(), &mut queries, &NoProgress, &cancel)
        .unwrap();
    let (metrics, notes) = teachers.into_report();
    let counts = metrics.iter().map(|(name, n)| {
        (
            name.strip_prefix("teacher.llm.").unwrap().to_owned(),
            *n as u64,
        )
    });
    Written {
        queries,
        counts: counts.collect(),
        note: notes.join("; "),
    }
}

#[test]
fn a_model_writes_queries_of_every_type_for_passages_trained_on() {
    let stub = Stub::start(|request| Some(question(request)));
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(stub.url(), cache.path());
    // Set by cargo for every test.
    config.teachers.llm.api_key_env = Some("CARGO_PKG_NAME".to_owned());
    let written = write(&config);
    assert_eq!(written.count("written"), QUERIES as u64, "{}", written.note);
    assert_eq!(written.count("tokens"), 100 * written.count("requests"));
    assert_eq!((written.count("failed"), written.count("stopped")), (0, 0));

    let rules = by_rules();
    let mut types = [0; QUERY_TYPES.len()];
    for (before, after) in rules.iter().zip(&written.queries) {
        if before == after {
            continue;
        }
        types[after.query_type] += 1;
        let passage = &corpus().texts[after.passage];
        assert!(
            after
                .text
                .starts_with(&format!("So what of {}", passage.title)),
            "{after:?}"
        );
        assert!(before.level <= Level::Paraphrase && after.level == Level::Paraphrase);
        assert_eq!(
            after.rule,
            format!("llm: {}", QUERY_TYPES[after.query_type])
        );
        let same = |q: &SyntheticQuery| (q.passage, q.query_type, q.sentence, q.cut);
        assert_eq!(same(before), same(after));
    }
    assert_eq!(types, [QUERIES / 8; 8], "evenly");

    let requests = stub.requests();
    assert_eq!(requests.len(), QUERIES);
    let kinds: BTreeSet<&str> = requests
        .iter()
        .map(|r| r.prompt().lines().next().unwrap())
        .collect();
    assert_eq!(kinds.len(), 8, "one prompt per type");
    for request in &requests {
        assert!(
            request.head.starts_with("post /v1/chat/completions "),
            "{}",
            request.head
        );
        assert!(
            request
                .head
                .contains("authorization: bearer trainer-worker")
        );
        assert_eq!(
            (&request.body["model"], &request.body["temperature"]),
            (&"stub".into(), &0.into())
        );
        assert!(request.body["seed"].is_u64());
    }
}

#[test]
fn answers_that_cannot_be_used_leave_the_rules_query() {
    let stub = Stub::start(|request| {
        let text = request.prompt().split("Passage:\n").nth(1).unwrap();
        let first = text.split(". ").next().unwrap();
        Some(match request.number % 3 {
            0 => Reply::says("NONE", 1),
            1 => Reply::says(first, 1),
            _ => question(request),
        })
    });
    let cache = tempfile::tempdir().unwrap();
    let config = config(stub.url(), cache.path());
    let written = write(&config);
    assert_eq!(
        (written.count("written"), written.count("rejected")),
        (8, 16),
        "{}",
        written.note
    );
    assert_eq!(written.by_model().len(), 8);
    // They are known to be of no use: nobody is asked again.
    let again = write(&config);
    assert_eq!((again.count("rejected"), again.count("requests")), (16, 0));
}

#[test]
fn a_busy_endpoint_is_asked_again() {
    let stub = Stub::start(|request| {
        Some(match request.number {
            0..5 => Reply {
                headers: vec![("retry-after", "0".to_owned())],
                ..Reply::status(429)
            },
            5..8 => Reply::status(503),
            _ => question(request),
        })
    });
    let cache = tempfile::tempdir().unwrap();
    let written = write(&config(stub.url(), cache.path()));
    assert_eq!(written.count("written"), QUERIES as u64, "{}", written.note);
    assert_eq!(written.count("requests"), QUERIES as u64 + 8);
    assert_eq!(written.count("failed"), 0);
}

#[test]
fn retry_after_is_honoured() {
    let stub = Stub::start(|request| {
        Some(match request.number {
            0 => Reply {
                headers: vec![("retry-after", "2".to_owned())],
                ..Reply::status(429)
            },
            _ => question(request),
        })
    });
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(stub.url(), cache.path());
    config.teachers.llm.queries = 1;
    let started = Instant::now();
    assert_eq!(write(&config).count("written"), 1);
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[test]
fn an_endpoint_that_fails_is_given_up_and_says_why() {
    let broken = Stub::start(|_| Some(Reply::status(500)));
    let garbled = Stub::start(|_| {
        Some(Reply {
            body: "<html>".to_owned(),
            ..Reply::status(200)
        })
    });
    let locked = Stub::start(|_| Some(Reply::status(401)));
    let elsewhere = Stub::start(|_| {
        let target = "http://127.0.0.1:1/".to_owned();
        Some(Reply {
            headers: vec![("location", target)],
            ..Reply::status(307)
        })
    });
    for (url, part) in [
        (broken.url(), "500"),
        (garbled.url(), "no chat completion"),
        (locked.url(), "401"),
        (elsewhere.url(), "redirects"),
        (nobody(), "refused"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let written = write(&config(url, cache.path()));
        assert_eq!(written.queries, by_rules(), "{part}");
        assert_eq!(
            (written.count("failed"), written.count("stopped")),
            (5, 1),
            "{}",
            written.note
        );
        assert!(
            written.note.to_lowercase().contains(part),
            "{}",
            written.note
        );
    }
    // Five at least, but not all twenty-four, which would have been four requests each.
    assert!(broken.requests().len() < 4 * QUERIES / 2);
}

#[test]
fn a_budget_ends_it_and_the_next_training_goes_on_from_the_cache() {
    let stub = Stub::start(|request| Some(question(request)));
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(stub.url(), cache.path());
    config.teachers.llm.max_requests = 10;
    let first = write(&config);
    assert_eq!(
        (first.count("written"), first.count("requests")),
        (10, 10),
        "{}",
        first.note
    );
    assert_eq!(first.count("stopped"), 1);
    assert!(
        first.note.contains("budget of 10 requests is spent"),
        "{}",
        first.note
    );

    let second = write(&config);
    assert_eq!(
        (second.count("cached"), second.count("written")),
        (10, 20),
        "{}",
        second.note
    );
    config.teachers.llm.max_requests = 100;
    let third = write(&config);
    assert_eq!((third.count("cached"), third.count("requests")), (20, 4));
    assert_eq!(
        (third.count("written"), third.count("stopped")),
        (QUERIES as u64, 0)
    );

    config.teachers.llm.max_requests = 0;
    let fourth = write(&config);
    assert_eq!(fourth.queries, third.queries);
    assert_eq!((fourth.count("requests"), fourth.count("stopped")), (0, 0));
    assert_eq!(stub.requests().len(), QUERIES, "nothing is asked twice");

    // Another model answers differently.
    config.teachers.llm.model = "other".to_owned();
    assert_eq!(write(&config).count("cached"), 0);
}

#[test]
fn tokens_are_a_budget_too() {
    let stub = Stub::start(|request| Some(question(request)));
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(stub.url(), cache.path());
    config.teachers.llm.max_tokens = 450;
    config.teachers.llm.concurrency = 1;
    let written = write(&config);
    assert_eq!(
        (written.count("written"), written.count("tokens")),
        (5, 500)
    );
    assert!(
        written.note.contains("budget of 450 tokens is spent"),
        "{}",
        written.note
    );
}

#[test]
fn a_cancel_does_not_wait_for_the_endpoint() {
    let silent = Stub::start(|_| None);
    let busy = Stub::start(|_| {
        let wait = vec![("retry-after", "20".to_owned())];
        Some(Reply {
            headers: wait,
            ..Reply::status(429)
        })
    });
    for url in [silent.url(), busy.url()] {
        let cache = tempfile::tempdir().unwrap();
        let config = config(url, cache.path());
        let mut teachers = Teachers::start(&config).unwrap();
        let mut queries = by_rules();
        let cancel = CancellationToken::new();
        let pulled = std::thread::scope(|scope| {
            let pull = || {
                std::thread::sleep(Duration::from_millis(500));
                cancel.cancel();
                Instant::now()
            };
            let puller = scope.spawn(pull);
            let outcome = teachers.write(&corpus(), &mut queries, &NoProgress, &cancel);
            assert!(matches!(outcome, Err(TrainError::Cancelled)));
            puller.join().unwrap()
        });
        assert!(
            pulled.elapsed() < Duration::from_secs(1),
            "{:?}",
            pulled.elapsed()
        );
    }
    assert!(!silent.requests().is_empty() && !busy.requests().is_empty());
}

#[test]
fn a_teacher_that_cannot_start_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let refused = |config: &TrainConfig| Teachers::start(config).unwrap_err().to_string();
    let mut keyless = config(nobody(), cache.path());
    keyless.teachers.llm.api_key_env = Some("NO_SUCH_VARIABLE".to_owned());
    let error = refused(&keyless);
    assert!(
        error.contains("api_key_env") && error.contains("NO_SUCH_VARIABLE"),
        "{error}"
    );

    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(refused(&config(nobody(), &file)).contains("train.teachers.llm.cache_dir"));

    let mut headless = quick();
    headless.teachers.cross_encoder.dir = Some(Tiny::new().dir().to_owned());
    let error = refused(&headless);
    assert!(
        error.starts_with("train.teachers.cross_encoder: cross-encoder file"),
        "{error}"
    );
}

#[test]
fn pseudo_labels_by_hand() {
    // As good as the gold, or better: relevant too. Worse: not.
    assert_eq!(judge(2.0, &[1.9, 2.0, 5.0, -3.0]), Some(vec![1, 2]));
    assert_eq!(judge(2.0, &[]), Some(vec![]));
    // Far better than the gold: the query does not belong to it.
    assert_eq!(judge(2.0, &[1.9, 2.0 + DROP_MARGIN + 0.1]), None);
    assert_eq!(judge(2.0, &[2.0 + DROP_MARGIN]), Some(vec![0]));
}

fn words() -> Vec<String> {
    let mut words: BTreeSet<String> = BTreeSet::new();
    for passage in &corpus().texts {
        let lower = format!("{} {}", passage.title, passage.text).to_lowercase();
        words.extend(
            lower
                .split(|c: char| !c.is_alphanumeric())
                .map(str::to_owned),
        );
    }
    words.remove("");
    words.into_iter().collect()
}

fn train(config: &TrainConfig) -> TrainOutcome {
    let cancel = CancellationToken::new();
    train_collection(&corpus(), &query_encoder(), config, &NoProgress, &cancel).unwrap()
}

#[test]
fn a_training_with_both_teachers_is_reproducible_and_keeps_the_yardstick() {
    let stub = Stub::start(|request| Some(question(request)));
    let cache = tempfile::tempdir().unwrap();
    let tiny = Tiny::cross_encoder(&words());
    let mut config = config(stub.url(), cache.path());
    config.teachers.cross_encoder.dir = Some(tiny.dir().to_owned());
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| train(&config))
    };
    let (first, second) = (in_pool(1), in_pool(3));
    let trained = |outcome: &TrainOutcome| outcome.trained.as_ref().unwrap().digest();
    assert_eq!(trained(&first), trained(&second));
    let untaught = train(&quick());
    assert_ne!(
        trained(&first),
        trained(&untaught),
        "the teachers taught something"
    );

    let metric = |name: &str| first.metrics[&format!("teacher.{name}")];
    assert_eq!(metric("llm.written"), QUERIES as f64);
    assert_eq!(
        second.metrics["teacher.llm.requests"], 0.0,
        "the second comes from the cache"
    );
    let judged = metric("cross_encoder.queries");
    assert!(judged > 100.0 && metric("cross_encoder.pairs") == 9.0 * judged);
    assert!(metric("cross_encoder.positives_added") > 0.0);
    assert_eq!(first.notes.len(), 2, "{:?}", first.notes);
    assert!(untaught.notes.is_empty());
    assert!(
        !untaught
            .metrics
            .keys()
            .any(|name| name.starts_with("teacher."))
    );

    // What is measured on is the rules' and has one right answer, as without teachers.
    let held_out = |outcome: &TrainOutcome| -> Vec<(SyntheticQuery, Vec<usize>)> {
        let rows = outcome.data.held_out();
        rows.map(|row| (row.query.clone(), row.example.gold().to_vec()))
            .collect()
    };
    assert!(held_out(&first) == held_out(&untaught));
    // Up to what another batch does to an encoding.
    let moved = first.report.prior.ship - untaught.report.prior.ship;
    assert!(moved.abs() < 1e-4, "{moved}");
    for row in first.data.training() {
        let gold = row.example.gold();
        assert_eq!(
            row.candidates[gold[0]], row.query.passage,
            "the source comes first"
        );
        let distinct: BTreeSet<usize> = gold.iter().copied().collect();
        assert_eq!(distinct.len(), gold.len());
        let masked = row.query.cut || !row.query.hidden_terms.is_empty();
        assert!(!masked || gold.len() == 1);
    }
}

#[test]
fn a_far_better_candidate_drops_the_query_and_the_budget_bounds_the_work() {
    // Random weights hardly tell pairs apart; these do, by thousands of logits.
    let tiny = Tiny::cross_encoder(&words());
    tiny.write_weights(|name, tensor| {
        if name == "classifier.weight" {
            tensor.values.iter_mut().for_each(|x| *x *= 1e5);
        }
    });
    let mut config = quick();
    config.teachers.cross_encoder.dir = Some(tiny.dir().to_owned());
    config.teachers.cross_encoder.max_pairs = 900;
    let outcome = train(&config);
    let metric = |name: &str| outcome.metrics[&format!("teacher.cross_encoder.{name}")];
    assert_eq!((metric("queries"), metric("pairs")), (100.0, 900.0));
    assert!(
        metric("unjudged") > 0.0 && metric("dropped") > 50.0,
        "{:?}",
        outcome.notes
    );
    let untaught = train(&quick());
    let trained_on = |outcome: &TrainOutcome| outcome.data.training().count() as f64;
    assert_eq!(
        trained_on(&outcome) + metric("dropped"),
        trained_on(&untaught)
    );
}
