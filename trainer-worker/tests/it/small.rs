//! Corpora that are too small, too odd or in another language: no panic, no endless loop, a reason.

use std::time::Instant;

use moerag_retrieve::Language;
use tokio_util::sync::CancellationToken;
use trainer_worker::{NoProgress, TrainConfig, TrainOutcome, TrainStatus, train_collection};

use crate::support::{corpus_of, query_encoder};

fn outcome(language: Language, passages: &[(&str, &str)]) -> TrainOutcome {
    let passages: Vec<(String, String)> = passages
        .iter()
        .map(|(title, body)| ((*title).to_owned(), (*body).to_owned()))
        .collect();
    let corpus = corpus_of("odd", language, &passages);
    let config = TrainConfig {
        synthetic_queries: 240,
        ..TrainConfig::default()
    };
    let started = Instant::now();
    let outcome = train_collection(
        &corpus,
        &query_encoder(),
        &config,
        &NoProgress,
        &CancellationToken::new(),
    );
    assert!(started.elapsed().as_secs() < 60, "bounded");
    outcome.unwrap()
}

fn is_prior(outcome: &TrainOutcome, why: &str) {
    assert_eq!(outcome.weights, moerag_model::CollectionWeights::prior());
    match &outcome.status {
        TrainStatus::FallbackPrior { reason } => assert!(reason.contains(why), "{reason}"),
        TrainStatus::Trained => panic!("nothing can be learned here"),
    }
    assert!(outcome.metrics.values().all(|value| value.is_finite()));
}

#[test]
fn no_passage_at_all() {
    is_prior(
        &outcome(Language::English, &[]),
        "too few synthetic queries",
    );
}

#[test]
fn one_passage_has_no_other_candidate() {
    let outcome = outcome(
        Language::English,
        &[(
            "Bees",
            "A bee is an insect that makes honey. It dances because it has found flowers.",
        )],
    );
    is_prior(&outcome, "too few synthetic queries");
    assert!(outcome.data.unusable > 0);
}

#[test]
fn empty_and_one_word_passages() {
    is_prior(
        &outcome(
            Language::English,
            &[("", ""), ("", "Yes."), ("x", "?"), ("", "1")],
        ),
        "too few",
    );
}

#[test]
fn passages_of_one_sentence_have_no_inverse_cloze() {
    let passages: Vec<(&str, &str)> = vec![
        (
            "",
            "The quick brown fox jumps over the lazy dog near the river bank in autumn",
        ),
        (
            "",
            "A steam engine turns heat into motion by letting vapour push a piston",
        ),
        (
            "",
            "Copper roofs turn green because air and rain slowly change the metal",
        ),
    ];
    let outcome = outcome(Language::English, &passages);
    assert!(outcome.data.queries.iter().all(|query| !query.query.cut));
    assert!(!outcome.data.queries.is_empty());
}

#[test]
fn code_and_other_scripts() {
    let code = "fn main() { let x = 1; println!(\"{x}\"); } // prints one\nstruct Foo { bar: u32 }";
    let chinese = "北京是中华人民共和国的首都。它位于华北平原的北部。一九四九年成为首都。";
    let russian = "Москва является столицей России. Город основан в 1147 году. Он стоит на реке.";
    let emoji = "🦀🦀🦀 🦀! 🎉🎉 ??? …";
    let passages = [
        ("lib.rs", code),
        ("北京", chinese),
        ("Москва", russian),
        ("", emoji),
        ("a", "b c d e f g"),
    ];
    for language in [Language::English, Language::None, Language::Russian] {
        let outcome = outcome(language, &passages);
        assert!(outcome.metrics.values().all(|value| value.is_finite()));
        let english = language == Language::English;
        let asks = |text: &str| text.starts_with("what ") || text.starts_with("how ");
        assert!(
            english
                || outcome
                    .data
                    .queries
                    .iter()
                    .all(|query| !asks(&query.query.text))
        );
    }
}
