//! Synthetic queries: every type and level, honest records of how they were made, determinism.

use std::collections::{BTreeMap, BTreeSet};

use moerag_model::QUERY_TYPES;
use moerag_retrieve::{Analyzer, TokenCodec};
use tokio_util::sync::CancellationToken;
use trainer_worker::corpus::{TrainingCorpus, TrainingPassage};
use trainer_worker::synth::{Level, SyntheticQuery, generate};
use trainer_worker::{NoProgress, TrainError};

use crate::support::{corpus, encoder, spec};

fn queries(corpus: &TrainingCorpus, count: usize, seed: u64) -> Vec<SyntheticQuery> {
    let codec = TokenCodec::new(&corpus.key_spec);
    let cancel = CancellationToken::new();
    generate(
        corpus,
        &encoder(),
        &codec,
        count,
        seed,
        &NoProgress,
        &cancel,
    )
    .unwrap()
}

#[test]
fn every_type_and_level_is_made() {
    let made = queries(&corpus(), 1200, 0);
    assert_eq!(made.len(), 1200);
    let mut types = BTreeMap::new();
    for (i, query) in made.iter().enumerate() {
        assert_eq!(query.level, Level::ALL[i % 6], "level is index modulo six");
        *types.entry(query.query_type).or_insert(0) += 1;
        assert!(
            query.rule.starts_with(QUERY_TYPES[query.query_type]),
            "{}",
            query.rule
        );
        assert!(query.text.split_whitespace().count() >= 3, "{}", query.text);
        assert!(
            query
                .text
                .to_lowercase()
                .ends_with(&query.bare.to_lowercase())
        );
    }
    assert_eq!(types.len(), 8, "{types:?}");
    assert!(types.values().all(|count| *count >= 20), "{types:?}");
    let passages: BTreeSet<usize> = made.iter().map(|query| query.passage).collect();
    assert_eq!(passages.len(), corpus().len(), "every passage is a source");
}

#[test]
fn levels_differ_in_overlap_as_they_should() {
    let corpus = corpus();
    let analyzer = Analyzer::new(corpus.language);
    let made = queries(&corpus, 1200, 0);
    let mut overlap = [(0.0, 0); 6];
    for query in &made {
        let inside: BTreeSet<u32> = corpus.features[query.passage]
            .lex
            .terms
            .iter()
            .copied()
            .collect();
        // Without the question words, which no passage needs to hold.
        let terms: Vec<u32> = analyzer.terms(&query.bare).iter().map(|t| t.id).collect();
        let visible = terms
            .iter()
            .filter(|t| inside.contains(t) && query.hidden_terms.binary_search(t).is_err())
            .count();
        let slot = &mut overlap[query.level.index()];
        slot.0 += visible as f64 / terms.len().max(1) as f64;
        slot.1 += 1;
        let hides = matches!(query.level, Level::Mismatch | Level::Gist);
        assert!(hides || query.hidden_terms.is_empty());
        assert_eq!(query.cut, query.level == Level::InverseCloze);
        assert!(query.hidden_terms.is_sorted());
    }
    let share = overlap.map(|(sum, count)| sum / f64::from(count));
    let of = |level: Level| share[level.index()];
    assert!(of(Level::Lexical) > 0.99, "{share:?}");
    assert!(of(Level::Abstraction) > 0.99, "{share:?}");
    assert!((0.4..0.9).contains(&of(Level::Paraphrase)), "{share:?}");
    assert!((0.3..0.7).contains(&of(Level::Mismatch)), "{share:?}");
    assert!((0.4..0.8).contains(&of(Level::Gist)), "{share:?}");
}

#[test]
fn queries_do_not_depend_on_threads_or_order() {
    let corpus = corpus();
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| queries(&corpus, 300, 3))
    };
    let one = in_pool(1);
    assert_eq!(one, in_pool(5));
    assert_ne!(one, queries(&corpus, 300, 4));

    let mut passages: Vec<TrainingPassage> = corpus
        .texts
        .iter()
        .zip(&corpus.features)
        .map(|(text, features)| TrainingPassage {
            document_id: text.document_id.clone(),
            ordinal: text.ordinal,
            revision: text.revision.clone(),
            title: text.title.clone(),
            text: text.text.clone(),
            sentences: text.sentences.clone(),
            features: features.clone(),
        })
        .collect();
    passages.reverse();
    let reversed = TrainingCorpus::new(spec("articles", corpus.language), passages, None);
    assert_eq!(one, queries(&reversed, 300, 3));
    assert_eq!(corpus.corpus_digest, reversed.corpus_digest);
}

#[test]
fn a_cancelled_synthesis_says_so() {
    let corpus = corpus();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let codec = TokenCodec::new(&corpus.key_spec);
    let outcome = generate(&corpus, &encoder(), &codec, 600, 0, &NoProgress, &cancel);
    assert!(matches!(outcome, Err(TrainError::Cancelled)));
}
