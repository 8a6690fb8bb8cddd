//! What a report says, and that it comes back from its file.
#![allow(clippy::unwrap_used)]

use super::*;

fn report() -> Report {
    let metrics = |ndcg: f64| Metrics {
        ndcg_at_10: ndcg,
        ..Metrics::default()
    };
    let set = |moe: f64, rrf: f64| SetReport {
        n_passages: 3,
        n_queries: 2,
        sampled_from: Some(9),
        n_queries_without_gold: 1,
        n_truncated_passages: 1,
        methods: BTreeMap::from([("moe".into(), metrics(moe)), ("rrf".into(), metrics(rrf))]),
        served: "trained".into(),
        routing_accuracy: Some(0.5),
        head_utilization: BTreeMap::from([("dense".into(), 1.0)]),
        held_out_loss: HeldOutLoss {
            prior: Some(2.0),
            trained: None,
        },
        weights_digest: "ab".into(),
        ..SetReport::default()
    };
    let mut report = Report {
        sets: BTreeMap::from([("a".into(), set(0.5, 0.25)), ("b".into(), set(1.0, 0.5))]),
        macro_mean: BTreeMap::new(),
        macro_deltas: BTreeMap::new(),
        macro_ablations: BTreeMap::new(),
        seed: 0,
        seeds: 1,
        device: "flex".into(),
        precision: "int8".into(),
        kept_stores: false,
        embedding_space_id: "e".into(),
        candidates_per_list: 100,
        prune_to: Some(128),
        across: None,
        corruption: None,
        as_written: false,
        code_version: "0".into(),
    };
    report.finish(&[Method::Rrf, Method::Moe], &queries());
    report
}

fn queries() -> Vec<QueryReport> {
    let query = |set: &str, query_type: &str, moe: f64, rrf: f64| {
        let metrics = |ndcg_at_10| Metrics {
            ndcg_at_10,
            ..Metrics::default()
        };
        QueryReport {
            set: set.into(),
            query_type: query_type.into(),
            methods: BTreeMap::from([("moe".into(), metrics(moe)), ("rrf".into(), metrics(rrf))]),
            ..QueryReport::default()
        }
    };
    vec![
        query("a", "factual", 0.75, 0.5),
        query("a", "causal", 0.25, 0.0),
        query("b", "factual", 1.0, 0.5),
    ]
}

#[test]
fn differences_and_types_come_from_the_queries() {
    let report = report();
    assert_eq!(report.sets["a"].deltas["moe-rrf"]["ndcg@10"], [0.25; 3]);
    let [_, mean, _] = report.macro_deltas["moe-rrf"]["ndcg@10"];
    assert!((mean - 0.375).abs() < 1e-12);
    let types = &report.sets["a"].per_type;
    assert_eq!(types["causal"].methods["moe"].ndcg_at_10, 0.25);
    assert_eq!(types["factual"].n_queries, 1);
}

#[test]
fn the_macro_mean_is_over_sets() {
    let report = report();
    assert!((report.macro_mean["moe"].ndcg_at_10 - 0.75).abs() < 1e-12);
    assert!((report.macro_mean["rrf"].ndcg_at_10 - 0.375).abs() < 1e-12);
}

#[test]
fn json_has_the_contract_s_names_and_no_invented_fields() {
    let value = serde_json::to_value(report()).unwrap();
    assert_eq!(value["macro"]["moe"]["ndcg@10"], 0.75);
    assert_eq!(value["sets"]["a"]["methods"]["rrf"]["ndcg@10"], 0.25);
    assert_eq!(value["sets"]["a"]["served"], "trained");
    let set = value["sets"]["a"].as_object().unwrap();
    for absent in [
        "soft_minus_hard_mrr",
        "head_diversity",
        "fallback_reason",
        "refused",
    ] {
        assert!(!set.contains_key(absent), "{absent}");
    }
    assert!(set["held_out_loss"].get("trained").is_none());
    for seconds in ["ingest", "synth", "train", "eval"] {
        assert!(set["seconds"].get(seconds).is_some());
    }
}

#[test]
fn the_text_says_whether_stores_were_kept() {
    let mut report = report();
    assert!(report.markdown(&[]).contains("Each set in a fresh store"));
    report.kept_stores = true;
    let text = report.markdown(&[]);
    assert!(
        !text.contains("fresh") && text.contains("Each set in a kept store"),
        "{text}"
    );
}

#[test]
fn what_was_refused_is_named_with_the_reason() {
    let mut report = report();
    let set = report.sets.get_mut("a").unwrap();
    set.n_refused_passages = 3;
    set.refused = vec![Refusal {
        id: "p\n1".into(),
        reason: "text: is empty".into(),
    }];
    for text in [report.markdown(&[]), report.tables()] {
        let said = "refused           \"p\\n1\": text: is empty\nrefused           and 2 more\n";
        assert!(
            text.contains(said) && text.contains("3 entries refused"),
            "{text}"
        );
    }
}

#[test]
fn seeds_that_fell_back_beside_others_are_counted() {
    let mut report = report();
    let set = report.sets.get_mut("a").unwrap();
    set.n_fallback_seeds = 2;
    set.seed_sd = Some(BTreeMap::new());
    let text = report.markdown(&[]);
    assert!(
        text.contains("served            trained\nfell back         2 of the seeds\n"),
        "{text}"
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_found_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("some/new");
    Report::prepare(&new).unwrap();
    assert_eq!(fs_err::read_dir(&new).unwrap().count(), 0);
    let file = dir.path().join("file");
    fs_err::write(&file, "").unwrap();
    for bad in [file.clone(), file.join("below")] {
        let error = Report::prepare(&bad).unwrap_err().to_string();
        let named = bad.display().to_string();
        assert!(
            error.contains(&named) && error.contains("choose"),
            "{error}"
        );
    }
}

#[test]
fn the_files_are_written_and_say_that_queries_were_sampled() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    let query = QueryReport {
        set: "a".into(),
        query_id: "1".into(),
        query: "q".into(),
        n_gold: 1,
        n_candidates: 2,
        n_scored: 2,
        query_type: "factual".into(),
        ..QueryReport::default()
    };
    report().write(&out, std::slice::from_ref(&query)).unwrap();
    let text = fs_err::read_to_string(out.join("report.md")).unwrap();
    assert!(
        text.contains("a sample of 9") && text.contains("| moe | 0.5000 |"),
        "{text}"
    );
    let lines = fs_err::read_to_string(out.join("per_query.jsonl")).unwrap();
    assert_eq!(
        serde_json::from_str::<QueryReport>(lines.trim()).unwrap(),
        query
    );
    let back: Report =
        serde_json::from_slice(&fs_err::read(out.join("evaluation_results.json")).unwrap())
            .unwrap();
    assert_eq!(back, report());
}
