//! Masks: what is hidden from the gold does not count in any view, and in no other candidate.

use moerag_retrieve::{Analyzer, View};
use tokio_util::sync::CancellationToken;
use trainer_worker::NoProgress;
use trainer_worker::synth::{Level, SyntheticQuery};
use trainer_worker::train::{TrainConfig, TrainingData, prepare};

use crate::support::{corpus, query_encoder};

fn prepared(queries: Vec<SyntheticQuery>) -> TrainingData {
    let config = TrainConfig {
        prune_to: 0,
        ..TrainConfig::default()
    };
    let cancel = CancellationToken::new();
    prepare(
        &corpus(),
        &query_encoder(),
        &config,
        queries,
        &NoProgress,
        &cancel,
    )
    .unwrap()
}

/// A query that is one sentence of passage 0, word by word.
fn verbatim(sentence: usize) -> SyntheticQuery {
    let corpus = corpus();
    let passage = &corpus.texts[0];
    let text = passage.text[passage.sentences[sentence].clone()].to_owned();
    SyntheticQuery {
        bare: text.clone(),
        text,
        passage: 0,
        query_type: 7,
        level: Level::Lexical,
        rule: "descriptive: test".to_owned(),
        sentence,
        cut: false,
        hidden_terms: Vec::new(),
    }
}

#[test]
fn a_cut_sentence_does_not_help_its_passage() {
    let open = verbatim(3);
    let cut = SyntheticQuery {
        cut: true,
        level: Level::InverseCloze,
        ..open.clone()
    };
    let data = prepared(vec![open, cut]);
    let [open, cut] = &data.queries[..] else {
        panic!("both queries are usable")
    };
    let gold = open.gold();
    assert_eq!(gold, cut.gold());
    for view in [
        View::Dense,
        View::Smax,
        View::Ph3,
        View::Bm25,
        View::Maxsim,
        View::MaxsimIdf,
        View::Wms,
        View::Big,
        View::Cov,
        View::Scov,
        View::Sctx,
    ] {
        let (before, after) = (
            open.example.z()[[gold, view as usize]],
            cut.example.z()[[gold, view as usize]],
        );
        assert!(before > after + 0.2, "{view:?}: {before} {after}");
    }
    // The sentence names things that no other sentence of the passage does, so what is left of the
    // lexical match is the lighthouse's siblings' too.
    let column = cut.example.z().column(View::Big as usize).to_vec();
    assert!(column[gold] <= column.iter().copied().fold(f32::MIN, f32::max));
}

#[test]
fn hidden_stems_do_not_match() {
    let open = verbatim(1);
    let analyzer = Analyzer::new(corpus().language);
    let mut terms: Vec<u32> = analyzer.terms(&open.text).iter().map(|t| t.id).collect();
    terms.sort_unstable();
    terms.dedup();
    let hidden = SyntheticQuery {
        hidden_terms: terms,
        level: Level::Mismatch,
        ..open.clone()
    };
    let data = prepared(vec![open, hidden]);
    let [open, hidden] = &data.queries[..] else {
        panic!("both queries are usable")
    };
    let gold = open.gold();
    for view in [View::Bm25, View::Cov, View::Scov, View::Big] {
        let z = hidden.example.z().column(view as usize).to_vec();
        let least = z.iter().copied().fold(f32::MAX, f32::min);
        assert!(
            (z[gold] - least).abs() < 1e-5,
            "{view:?}: nothing of the query is visible"
        );
    }
    for view in [View::Dense, View::Maxsim, View::Wms, View::Ph3, View::Smax] {
        let (before, after) = (
            open.example.z()[[gold, view as usize]],
            hidden.example.z()[[gold, view as usize]],
        );
        assert!(before > after + 0.1, "{view:?}: {before} {after}");
    }
}

#[test]
fn hiding_everything_makes_a_query_unusable() {
    let corpus = corpus();
    let analyzer = Analyzer::new(corpus.language);
    let passage = &corpus.texts[0];
    // Every stem of the passage, stop words apart, leaves the stop words' tokens: still usable.
    let mut terms: Vec<u32> = analyzer
        .terms(&format!("{} {}", passage.title, passage.text))
        .iter()
        .map(|t| t.id)
        .collect();
    terms.sort_unstable();
    terms.dedup();
    let query = SyntheticQuery {
        hidden_terms: terms,
        level: Level::Mismatch,
        ..verbatim(1)
    };
    let data = prepared(vec![query]);
    assert_eq!((data.queries.len(), data.unusable), (1, 0));
    let z = data.queries[0].example.z();
    assert!(z.iter().all(|value| value.is_finite()));
}
