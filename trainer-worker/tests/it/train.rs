//! Training: it learns, it is reproducible, it stops when told to.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use moerag_model::{CollectionModel, CollectionWeights, DeviceKind, Example};
use moerag_retrieve::{Language, View};
use tokio_util::sync::CancellationToken;
use trainer_worker::corpus::TrainingCorpus;
use trainer_worker::train::{TrainingData, Variant, fit_variant, live_loss};
use trainer_worker::{
    NoProgress, ProgressEvent, QueryEncoder, Stage, TrainConfig, TrainError, TrainOutcome,
    TrainStatus, single_head, train_collection,
};

use crate::support::{corpus, corpus_of, encoder, query_encoder, quick};
use crate::text::articles;

fn train(config: &TrainConfig) -> TrainOutcome {
    let cancel = CancellationToken::new();
    train_collection(&corpus(), &query_encoder(), config, &NoProgress, &cancel).unwrap()
}

#[test]
fn training_lowers_the_held_out_loss() {
    let outcome = train(&TrainConfig {
        synthetic_queries: 1200,
        ..quick()
    });
    let report = &outcome.report;
    let trained = report.trained.as_ref().unwrap();
    assert_eq!(outcome.status, TrainStatus::Trained, "{report:?}");
    assert!(trained.ship < report.prior.ship, "{report:?}");
    assert!(outcome.metrics["train_loss_last"] < outcome.metrics["train_loss_first"]);
    assert_ne!(outcome.weights, CollectionWeights::prior());
    assert_eq!(outcome.digest, outcome.weights.digest());
    // Both took part as sharp as suits them best: the contest is about how they rank.
    let config = quick();
    let loss =
        |weights: &CollectionWeights| live_loss(&outcome.data, weights, &config).unwrap().unwrap();
    assert!((loss(&outcome.prior) - report.prior.ship).abs() < 1e-5);
    for weights in [&outcome.prior, &outcome.weights] {
        for factor in [0.5, 0.8, 1.3, 2.0] {
            let other = weights.clone().with_alpha(factor * weights.alpha());
            assert!(loss(weights) <= loss(&other) + 0.01, "{factor}");
        }
    }
    // Held out by passage: no passage is on both sides.
    let sources = |held_out: bool| {
        let rows = outcome
            .data
            .queries
            .iter()
            .filter(move |row| row.held_out == held_out);
        rows.map(|row| row.query.passage)
            .collect::<std::collections::BTreeSet<usize>>()
    };
    assert!(sources(true).is_disjoint(&sources(false)));
    assert!(report.held_out > 60);

    assert!((report.head_utilization.iter().sum::<f32>() - 1.0).abs() < 1e-3);
    assert!(report.head_diversity.spearman > 0.1 && report.head_diversity.attention > 0.02);
    // Eight types, half of the queries without their question words: chance is about .2.
    assert!(
        report.routing_accuracy.unwrap() > 0.3,
        "{:?}",
        report.routing_accuracy
    );
    assert!(!outcome.warmup.cases.is_empty());

    let free = single_head(&outcome.data, false, 0).unwrap();
    let anchored = single_head(&outcome.data, true, 0).unwrap();
    assert_ne!(free, anchored);
    assert!(
        free.iter()
            .chain(&anchored)
            .all(|weight| weight.is_finite())
    );
}

#[test]
fn the_fallback_knows_the_collection_and_ranks_as_the_prior() {
    let outcome = train(&quick());
    let (fallback, trained) = (&outcome.prior, outcome.trained.as_ref().unwrap());
    assert!(fallback.type_classifier().is_some());
    assert_eq!(fallback.type_classifier(), trained.type_classifier());
    assert_eq!(fallback.gate_features(), trained.gate_features());
    let bare = CollectionWeights::prior().with_alpha(fallback.alpha());
    let loss = |weights: &CollectionWeights| {
        live_loss(&outcome.data, weights, &quick())
            .unwrap()
            .unwrap()
    };
    assert!((loss(fallback) - loss(&bare)).abs() < 1e-5);
}

#[test]
fn where_the_prior_does_not_hold_a_linear_head_takes_part() {
    let config = TrainConfig {
        synthetic_queries: 600,
        ..quick()
    };
    let mut data = train(&config).data;
    let linear = |data: &TrainingData, config: &TrainConfig, variant: &Variant| {
        let weights = fit_variant(data, config, variant).unwrap();
        let linear = weights.linear();
        linear.map(|(views, share)| (views.to_vec(), share))
    };
    // What pooled vectors make of the gold beside the other candidates; token states find it.
    let prior = CollectionModel::load(&CollectionWeights::prior(), DeviceKind::Flex).unwrap();
    let mut pooled_vectors_say = |gold_z: f32| {
        for row in &mut data.queries {
            let (mut z, gold) = (row.example.z().clone(), row.gold());
            let pooled = [View::Dense, View::Sctx, View::Smax].map(|view| (view, gold_z));
            let tokens = [View::Maxsim, View::Ph3, View::Wms].map(|view| (view, 1.0));
            for (view, gold_z) in pooled.into_iter().chain(tokens) {
                z.column_mut(view as usize).fill(0.0);
                z[[gold, view as usize]] = gold_z;
            }
            let inputs = row.example.gate_inputs().to_vec();
            row.example = Example::new(z, vec![gold], inputs, None, &prior).unwrap();
        }
        data.clone()
    };
    let product = Variant::default();
    let sound = pooled_vectors_say(1.0);
    assert_eq!(linear(&sound, &config, &product), None, "the prior holds");

    let data = pooled_vectors_say(-1.0);
    let (views, share) = linear(&data, &config, &product).unwrap();
    assert!((share - 0.3).abs() < 1e-6, "{share}");
    // Without an anchor it learns that these views are wrong.
    assert!(views[View::Dense as usize] < 0.0, "{views:?}");
    assert!(views[View::Maxsim as usize] > 0.0, "{views:?}");
    assert_eq!(linear(&data, &config, &product).unwrap(), (views, share));

    let without = Variant {
        without_linear: true,
        ..Variant::default()
    };
    assert_eq!(linear(&data, &config, &without), None);
    let fixed = TrainConfig {
        adaptive_anchor: false,
        ..config.clone()
    };
    assert_eq!(linear(&data, &fixed, &product), None);
}

#[test]
fn a_loss_that_leaves_the_numbers_names_the_setting() {
    let mut config = TrainConfig {
        synthetic_queries: 120,
        min_queries: 10,
        ..quick()
    };
    let data = train(&config).data;
    config.optim.learning_rate = 1e30;
    let error = fit_variant(&data, &config, &Variant::default()).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("train.optim.learning_rate"), "{message}");
}

#[test]
fn the_same_seed_gives_the_same_digest_on_any_number_of_threads() {
    let in_pool = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| train(&TrainConfig { seed, ..quick() }))
    };
    let one = in_pool(1, 1);
    let four = in_pool(4, 1);
    let digest = |outcome: &TrainOutcome| outcome.trained.as_ref().unwrap().digest();
    assert_eq!(digest(&one), digest(&four));
    assert_eq!(one.metrics, four.metrics);
    assert_ne!(digest(&one), digest(&in_pool(4, 2)));
}

#[test]
fn stages_come_in_order_with_loss_and_speed() {
    let events: Mutex<Vec<ProgressEvent>> = Mutex::default();
    let progress = |event: ProgressEvent| events.lock().unwrap().push(event);
    let cancel = CancellationToken::new();
    let config = TrainConfig {
        synthetic_queries: 120,
        min_queries: 10,
        ..quick()
    };
    train_collection(&corpus(), &query_encoder(), &config, &progress, &cancel).unwrap();
    let events = events.into_inner().unwrap();
    let mut stages: Vec<Stage> = events.iter().map(|event| event.stage).collect();
    stages.dedup();
    let expected = [
        Stage::Synth,
        Stage::Encode,
        Stage::Views,
        Stage::Train,
        Stage::Evaluate,
    ];
    assert_eq!(stages, expected);
    assert!(events.iter().all(|event| event.done <= event.total));
    let last = events
        .iter()
        .rfind(|event| event.stage == Stage::Train)
        .unwrap();
    assert_eq!(last.done, last.total);
    assert!(last.loss.unwrap().is_finite() && last.per_second > 0.0);
}

#[test]
fn a_cancel_is_heard_within_a_second_in_every_stage() {
    for stage in [
        Stage::Synth,
        Stage::Encode,
        Stage::Views,
        Stage::Train,
        Stage::Evaluate,
    ] {
        let cancel = CancellationToken::new();
        let pulled: Mutex<Option<Instant>> = Mutex::default();
        let progress = |event: ProgressEvent| {
            if event.stage == stage {
                cancel.cancel();
                pulled.lock().unwrap().get_or_insert_with(Instant::now);
            }
        };
        let outcome = train_collection(&corpus(), &query_encoder(), &quick(), &progress, &cancel);
        assert!(matches!(outcome, Err(TrainError::Cancelled)), "{stage:?}");
        let waited = pulled.lock().unwrap().unwrap().elapsed();
        assert!(waited < Duration::from_secs(1), "{stage:?}: {waited:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let config = TrainConfig {
        prune_to: 1,
        ..quick()
    };
    let cancel = CancellationToken::new();
    let refused = train_collection(&corpus(), &query_encoder(), &config, &NoProgress, &cancel);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "train.prune_to: use 0 (all) or at least 2"
    );
}

#[test]
fn what_was_encoded_before_is_not_encoded_again() {
    let cancel = CancellationToken::new();
    let config = TrainConfig {
        synthetic_queries: 600,
        ..quick()
    };
    let train = |corpus: &TrainingCorpus, encoder: &QueryEncoder| {
        train_collection(corpus, encoder, &config, &NoProgress, &cancel).unwrap()
    };
    let known = |outcome: &TrainOutcome| outcome.metrics["texts_encoded_before"];
    let articles = articles().into_iter();
    let mut passages: Vec<(String, String)> = articles
        .map(|article| (article.title, article.sentences.join(" ")))
        .collect();
    let last = passages.split_off(passages.len() - 3);
    let small = corpus_of("articles", Language::English, &passages);

    let memory = QueryEncoder::new(encoder(), 64 << 20);
    let first = train(&small, &memory);
    // A text may come twice within one training.
    assert!(known(&first) < 10.0, "{}", known(&first));
    let again = train(&small, &memory);
    assert_eq!(again.digest, first.digest);
    assert!(known(&again) >= again.data.queries.len() as f64);
    // A corpus that has grown asks most of it again, and learns what it would learn without a memory.
    passages.extend(last);
    let large = corpus_of("articles", Language::English, &passages);
    let (grown, forgetful) = (train(&large, &memory), train(&large, &query_encoder()));
    assert_eq!(grown.digest, forgetful.digest);
    assert_eq!(known(&forgetful), 0.0);
    let share = known(&grown) / known(&again);
    assert!(share > 0.7, "{share:.2} of the texts came again");
}
