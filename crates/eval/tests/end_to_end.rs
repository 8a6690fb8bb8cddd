//! A made-up set through the whole evaluation: embedded store, training, publish, hot-load, scoring.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use moerag_encoder::{DeviceKind, Precision, default_dir};
use moerag_eval::{EvalError, EvalOptions, EvalProgress, Method, Report, TrainConfig, run};

/// Subject, predicate and place of twelve times four made-up facts.
const SUBJECTS: [&str; 12] = [
    "lighthouse",
    "orchard",
    "glacier",
    "violin",
    "ferry",
    "beehive",
    "quarry",
    "telescope",
    "bakery",
    "windmill",
    "library",
    "vineyard",
];
/// The same for a second set, with the same ids.
const OTHER_SUBJECTS: [&str; 12] = [
    "comet",
    "enzyme",
    "senate",
    "glove",
    "parrot",
    "turbine",
    "sonata",
    "harpoon",
    "mosque",
    "satellite",
    "cactus",
    "ledger",
];
const FACTS: [&str; 4] = [
    "was founded by two sisters who sold everything they owned to pay for it",
    "closes every winter because heavy snow makes the only road to it impassable",
    "is visited by thousands of travellers who hear of it from their grandparents",
    "needs expensive repairs since a storm in the autumn damaged its northern side",
];

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl EvalProgress for Heard {
    fn update(&self, _set: &str, stage: &str, _done: usize, _total: usize, _detail: &str) {
        let mut stages = self.0.lock().unwrap();
        if stages.last().map(String::as_str) != Some(stage) {
            stages.push(stage.to_owned());
        }
    }
}

fn write_set(dir: &Path, subjects: &[&str]) {
    fs_err::create_dir_all(dir.join("qrels")).unwrap();
    let mut corpus = String::new();
    for (s, subject) in subjects.iter().enumerate() {
        for (f, fact) in FACTS.iter().enumerate() {
            let text = format!(
                "The {subject} of the village of Alm {fact}. People there talk about the {subject} every single day. \
                 In the year {} a painter made a famous picture of it.",
                1700 + s * 20 + f
            );
            let entry =
                serde_json::json!({ "_id": format!("p{s}-{f}"), "title": "", "text": text });
            corpus.push_str(&format!("{entry}\n"));
        }
    }
    fs_err::write(dir.join("corpus.jsonl"), corpus).unwrap();
    let mut queries = String::new();
    let mut qrels = "query-id\tcorpus-id\tscore\n".to_owned();
    for (s, subject) in subjects.iter().enumerate() {
        let query = serde_json::json!({ "_id": format!("q{s}"), "text": format!("Who founded the {subject}?") });
        queries.push_str(&format!("{query}\n"));
        qrels.push_str(&format!("q{s}\tp{s}-0\t1\n"));
    }
    queries.push_str("{\"_id\":\"none\",\"text\":\"What does nobody know?\"}\n");
    fs_err::write(dir.join("queries.jsonl"), queries).unwrap();
    fs_err::write(dir.join("qrels/test.tsv"), qrels).unwrap();
}

/// Small trainings, nothing optional.
fn options(datasets: Vec<PathBuf>) -> EvalOptions {
    EvalOptions {
        datasets,
        methods: Method::ALL.to_vec(),
        seed: 0,
        seeds: 1,
        stores: None,
        ablations: false,
        across: false,
        queries: None,
        corrupt: None,
        as_written: false,
        encoder_dir: default_dir().unwrap(),
        device: DeviceKind::Flex,
        precision: Precision::Auto,
        train: TrainConfig {
            synthetic_queries: 240,
            ..TrainConfig::default()
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_scored_from_documents_alone() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("village");
    write_set(&set, &SUBJECTS);
    let options = EvalOptions {
        seed: 3,
        ..options(vec![set])
    };
    let heard = Arc::new(Heard::default());
    let evaluation = run(&options, heard.clone()).await.unwrap();

    let report = &evaluation.report.sets["village"];
    assert_eq!(
        (
            report.n_passages,
            report.n_queries,
            report.n_queries_without_gold
        ),
        (48, 12, 1)
    );
    assert_eq!((report.n_refused_passages, report.refused.len()), (0, 0));
    // What "auto" stands for on flex, and no store was kept.
    assert_eq!(evaluation.report.precision, "int8");
    assert!(!evaluation.report.kept_stores);
    assert_eq!(report.methods.len(), Method::ALL.len());
    // 48 passages: both lists hold nearly all of them, so no method can miss the gold in 100.
    for (method, metrics) in &report.methods {
        assert!(metrics.recall_at_100 > 0.99, "{method}: {metrics:?}");
        assert!(
            metrics.success_at_5 >= metrics.success_at_1,
            "{method}: {metrics:?}"
        );
    }
    // The subject is in four passages and "founded" in one of them.
    for method in ["bm25", "token", "moe"] {
        assert!(
            report.methods[method].mrr_at_10 > 0.7,
            "{method}: {:?}",
            report.methods[method]
        );
    }
    assert_eq!(evaluation.report.macro_mean["moe"], report.methods["moe"]);
    let used: f64 = report.head_utilization.values().sum();
    assert!((used - 1.0).abs() < 1e-3, "{used}");
    assert!(report.head_diversity.unwrap().spearman > 0.0);
    assert!(report.held_out_loss.prior.is_some());
    match report.served.as_str() {
        "trained" => assert!(report.held_out_loss.trained < report.held_out_loss.prior),
        "fallback_prior" => {
            assert!(report.fallback_reason.is_some());
            assert_eq!(report.methods["moe_no_feedback"], report.methods["prior"]);
        }
        other => panic!("served is {other}"),
    }
    assert!(report.seconds.ingest > 0.0 && report.seconds.synth > 0.0 && report.seconds.eval > 0.0);

    assert_eq!(evaluation.queries.len(), 12);
    assert!(
        evaluation
            .queries
            .iter()
            .all(|query| query.set == "village" && query.methods.len() == Method::ALL.len())
    );
    let stages = heard.0.lock().unwrap().clone();
    for stage in ["ingest", "synth", "train", "score queries"] {
        assert!(
            stages.iter().any(|heard| heard == stage),
            "{stage} is not in {stages:?}"
        );
    }

    let out = dir.path().join("out");
    evaluation.report.write(&out, &evaluation.queries).unwrap();
    let text = fs_err::read_to_string(out.join("evaluation_results.json")).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    // Not equal: the last digit of a number may change on its way through JSON.
    let (read, made) = (&back.sets["village"], report);
    assert_eq!(
        (read.n_queries, &read.served, &read.weights_digest),
        (12, &made.served, &made.weights_digest)
    );
    for (method, metrics) in &made.methods {
        assert!(
            (read.methods[method].ndcg_at_10 - metrics.ndcg_at_10).abs() < 1e-9,
            "{method}"
        );
    }
}

#[tokio::test]
async fn two_sets_of_one_name_are_refused_before_any_work() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_set(&one.path().join("same"), &SUBJECTS);
    write_set(&two.path().join("same"), &SUBJECTS);
    let options = EvalOptions {
        encoder_dir: "/nowhere".into(),
        ..options(vec![one.path().join("same"), two.path().join("same")])
    };
    let error = run(&options, Arc::new(Heard::default()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("two data sets are named same"), "{error}");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_before_any_work() {
    let nowhere = || options(vec!["/nowhere".into()]);
    let mut pruned = nowhere();
    pruned.train.prune_to = 1;
    let last_seed = EvalOptions {
        seed: u64::MAX,
        ..nowhere()
    };
    for (options, named) in [(pruned, "train.prune_to: "), (last_seed, "seed: ")] {
        let error = run(&options, Arc::new(Heard::default())).await.unwrap_err();
        assert!(matches!(error, EvalError::Options(_)), "{error}");
        assert!(error.to_string().starts_with(named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sets_are_told_apart_in_one_deployment() {
    let dir = tempfile::tempdir().unwrap();
    // Not in the order of their names, and one that no collection may have.
    let sets = [("village", &SUBJECTS), ("other things", &OTHER_SUBJECTS)];
    for (name, subjects) in sets {
        write_set(&dir.path().join(name), subjects);
    }
    let options = EvalOptions {
        methods: vec![Method::Moe],
        seed: 1,
        seeds: 2,
        across: true,
        ..options(sets.map(|(name, _)| dir.path().join(name)).to_vec())
    };
    let evaluation = run(&options, Arc::new(Heard::default())).await.unwrap();
    let across = evaluation.report.across.as_ref().unwrap();
    for (name, _) in sets {
        let set = &across.together[name];
        assert_eq!(set.n_queries, 12);
        assert!(set.own_first > 0.9, "{name}: {}", set.own_first);
        assert!((set.weights.values().sum::<f64>() - 1.0).abs() < 1e-3);
        let mrr = |method: &str| set.methods[method].mrr_at_10;
        assert!(
            mrr("moe") > mrr("shuffled_gate"),
            "{name}: {:?}",
            set.methods
        );
        assert!(
            mrr("moe") >= mrr("equal_collections"),
            "{name}: {:?}",
            set.methods
        );
        // Told where to look, and by its own weights: the same as the set alone.
        let alone = &evaluation.report.sets[name].methods["moe"];
        let told = &set.methods["own_collection"];
        let own = &across.transfer[name][name];
        assert!((told.ndcg_at_10 - alone.ndcg_at_10).abs() < 1e-9);
        assert!((own.ndcg_at_10 - alone.ndcg_at_10).abs() < 1e-9);
        assert_eq!(across.transfer[name].len(), 2);
    }
    assert!(across.together_deltas.contains_key("moe-shuffled_heads"));

    let out = dir.path().join("out");
    evaluation.report.write(&out, &evaluation.queries).unwrap();
    let text = fs_err::read_to_string(out.join("report.md")).unwrap();
    for said in ["one deployment", "collections.png", "transfer.png"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    assert!(out.join("collections.png").exists() && out.join("transfer.png").exists());
    assert!(evaluation.report.tables().contains("own_collection"));
}
