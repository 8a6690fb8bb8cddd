//! Empty and odd inputs: no panic, only finite numbers.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use moerag_retrieve::{
    Analyzer, CheapCandidate, CorpusStats, GATE_INPUTS, GoldMask, KeyBlock, KeySpec, MemIndex,
    PassageFeatures, PassageInput, QueryFeatures, TokenCode, TokenCodec, ViewConfig, Views,
    cheap_scores, encoded_text, feedback_vector, gate_inputs, lex::LexQuery, lex_block, prune,
    sentences,
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMS: usize = 384;

fn unit_rows(rng: &mut ChaCha8Rng, n: usize) -> Array2<f32> {
    let mut rows = Array2::from_shape_fn((n, DIMS), |_| rng.random::<f32>() - 0.5);
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    rows
}

fn features(
    codec: &TokenCodec,
    rng: &mut ChaCha8Rng,
    title: &str,
    body: &str,
    seq: usize,
) -> PassageFeatures {
    let (states, sentences) = (unit_rows(rng, seq), sentences(body));
    let vectors: Vec<Vec<f32>> = sentences
        .iter()
        .map(|_| unit_rows(rng, 1).row(0).to_vec())
        .collect();
    let length = encoded_text(title, body).len();
    let offsets: Vec<(usize, usize)> = (0..seq)
        .map(|j| (j * length / seq.max(1), (j + 1) * length / seq.max(1)))
        .collect();
    PassageFeatures::build(
        codec,
        &Analyzer::default(),
        &PassageInput {
            title,
            body,
            sentences: &sentences,
            vector: unit_rows(rng, 1).row(0).to_slice().unwrap(),
            states: states.view(),
            token_ids: &(0..seq as u32).collect::<Vec<_>>(),
            offsets: &offsets,
            sentence_vectors: &vectors,
        },
    )
}

fn bodies() -> [&'static str; 5] {
    [
        "",
        "the of and",
        "One short sentence.",
        "The mortgage rate was raised by the bank. Nobody had expected the rate to go up again. 東京は日本の首都です。",
        "Interest rates and mortgages: what the bank does not say about the rate of a mortgage in 2020.",
    ]
}

fn assert_finite(
    codec: &TokenCodec,
    stats: &CorpusStats,
    q: &QueryFeatures,
    pool: &[&PassageFeatures],
    mask: Option<&GoldMask>,
) {
    let vectors: Vec<&[f32]> = pool.iter().map(|p| p.vector.as_slice()).collect();
    let views = Views::new(codec, stats);
    let matrix = views.compute(
        q,
        &views.prepare(q),
        &feedback_vector(q, &vectors),
        pool,
        mask,
    );
    assert_eq!(matrix.len(), pool.len());
    assert!(matrix.raw.iter().chain(&matrix.z).all(|x| x.is_finite()));
    let inputs = gate_inputs(&matrix, q, stats);
    assert!(inputs.len() == GATE_INPUTS && inputs.iter().all(|x| x.is_finite()));
    for passage in pool {
        let scores = views.sentence_scores(q, &views.prepare(q), *passage);
        assert_eq!(scores.len(), passage.lex.sentence_count());
        assert!(scores.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn odd_passages_queries_and_masks_give_finite_numbers() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for code in [TokenCode::Sign1, TokenCode::F16] {
        let codec = TokenCodec::new(&KeySpec {
            code,
            ..KeySpec::default()
        });
        let mut passages: Vec<PassageFeatures> = bodies()
            .iter()
            .zip([0, 1, 5, 40, 21])
            .map(|(body, seq)| features(&codec, &mut rng, "", body, seq))
            .collect();
        passages.push(PassageFeatures::default());
        // A damaged block counts as empty.
        let mut damaged = passages[3].clone();
        damaged.keys.window_norms.clear();
        passages.push(damaged);
        let analyzer = Analyzer::default();
        let query = |text: &str, rng: &mut ChaCha8Rng, n: usize| {
            let vector = unit_rows(rng, 1).row(0).to_vec();
            QueryFeatures::new(
                &analyzer,
                text,
                vector,
                unit_rows(rng, n),
                (0..n as u32).collect(),
            )
        };
        let queries = [
            QueryFeatures::default(),
            query("", &mut rng, 0),
            query("unknown xyzzy words", &mut rng, 3),
            query("mortgage rate of the bank", &mut rng, 40),
        ];
        let all: Vec<&PassageFeatures> = passages.iter().collect();
        let cut_all = GoldMask {
            candidate: 3,
            dropped_tokens: vec![true; 40],
            cut_sentences: vec![0, 1, 2, 9],
            hidden_terms: HashSet::new(),
        };
        let hidden = GoldMask {
            candidate: 3,
            dropped_tokens: vec![true; 37],
            cut_sentences: vec![],
            hidden_terms: passages[3].lex.terms.iter().copied().collect(),
        };
        for stats in [
            CorpusStats::default(),
            CorpusStats::fit(passages.iter().take(1)),
            CorpusStats::fit(passages.iter()),
        ] {
            for q in &queries {
                for pool in [&all[..], &all[..1], &all[3..4], &[]] {
                    assert_finite(&codec, &stats, q, pool, None);
                }
                for mask in [&cut_all, &hidden] {
                    assert_finite(&codec, &stats, q, &all, Some(mask));
                }
                let index = MemIndex::build(&passages, &stats);
                let found = |n| index.candidates(&[q], n).remove(0);
                assert!(found(3).len() <= 6 && found(0).is_empty());
            }
        }
    }
}

#[test]
fn a_mask_drops_the_tokens_of_a_sentence_and_of_hidden_words() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let codec = TokenCodec::new(&KeySpec::default());
    let analyzer = Analyzer::default();
    let (title, body) = (
        "Über",
        "The first sentence is about mortgages. The second one speaks of rates only.",
    );
    let text = encoded_text(title, body);
    let offsets: Vec<(usize, usize)> = analyzer.words(&text);
    let sentences = sentences(body);
    assert_eq!(sentences.len(), 2);
    let states = unit_rows(&mut rng, offsets.len());
    let p = PassageFeatures::build(
        &codec,
        &analyzer,
        &PassageInput {
            title,
            body,
            sentences: &sentences,
            vector: unit_rows(&mut rng, 1).row(0).to_slice().unwrap(),
            states: states.view(),
            token_ids: &vec![5; offsets.len()],
            offsets: &offsets,
            sentence_vectors: &[],
        },
    );
    let dropped = |cut: Vec<usize>, hidden: &[&str]| {
        let hidden = hidden.iter().map(|w| analyzer.term_id(w)).collect();
        let mask = GoldMask::new(0, &analyzer, &text, &offsets, &p.keys, cut, hidden);
        let words: Vec<&str> = offsets
            .iter()
            .zip(&mask.dropped_tokens)
            .filter_map(|(o, d)| d.then_some(&text[o.0..o.1]))
            .collect();
        words.join(" ")
    };
    assert_eq!(
        dropped(vec![0], &[]),
        "The first sentence is about mortgages"
    );
    assert_eq!(dropped(vec![], &["mortgage", "rated"]), "mortgages rates");
    assert_eq!(
        dropped(vec![1], &["über"]),
        "Über The second one speaks of rates only"
    );
    assert_eq!(dropped(vec![], &[]), "");
}

#[test]
fn pruning_keeps_the_best_in_order_and_the_gold() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let codec = TokenCodec::new(&KeySpec::default());
    let passages: Vec<PassageFeatures> = (0..30)
        .map(|i| features(&codec, &mut rng, "", bodies()[i % 5], 3))
        .collect();
    let stats = CorpusStats::fit(passages.iter());
    let q = QueryFeatures::new(
        &Analyzer::default(),
        "mortgage rate",
        passages[4].vector.clone(),
        Array2::zeros((0, DIMS)),
        vec![],
    );
    let cheap = cheap_scores(&q, passages.iter().map(CheapCandidate::from), &stats);
    let config = |prune_to| ViewConfig {
        prune_to,
        ..ViewConfig::default()
    };
    assert_eq!(prune(&cheap, &config(None), None).len(), 30);
    assert_eq!(prune(&cheap, &config(Some(1)), None), [4]);
    let kept = prune(&cheap, &config(Some(8)), Some(0));
    assert!(kept.len() == 8 && kept.contains(&0) && kept.contains(&4) && kept.is_sorted());
    assert!(prune(&[], &config(Some(8)), None).is_empty());
}

#[test]
fn the_index_finds_what_the_definitions_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let codec = TokenCodec::new(&KeySpec::default());
    let passages: Vec<PassageFeatures> = (0..25)
        .map(|i| features(&codec, &mut rng, "Bank", bodies()[i % 5], 3))
        .collect();
    let stats = CorpusStats::fit(passages.iter());
    let index = MemIndex::build(&passages, &stats);
    let q = QueryFeatures::new(
        &Analyzer::default(),
        "a mortgage, a mortgage rate",
        passages[7].vector.clone(),
        Array2::zeros((0, DIMS)),
        vec![],
    );
    let all: Vec<&PassageFeatures> = passages.iter().collect();
    let views = Views::new(&codec, &stats);
    let raw = views
        .compute(&q, &views.prepare(&q), &q.vector, &all, None)
        .raw;
    let (dense, bm25) = (index.dense(&[&q]).row(0).to_vec(), index.bm25(&q));
    for i in 0..25 {
        assert!((dense[i] - raw[[i, 0]]).abs() < 1e-5 && (bm25[i] - raw[[i, 3]]).abs() < 1e-4);
        let sparse = stats.bm25_weights(&passages[i].lex);
        let product: f32 = q
            .sparse(&stats)
            .iter()
            .map(|(t, idf)| {
                sparse
                    .iter()
                    .find(|(s, _)| s == t)
                    .map_or(0.0, |(_, w)| w * idf)
            })
            .sum();
        assert!((product - bm25[i]).abs() < 1e-4);
    }
    // Beside another query, and whatever their order, the same.
    let mut other = q.clone();
    other.vector.clone_from(&passages[20].vector);
    let together = index.candidates(&[&other, &q], 4);
    assert!(together[0].contains(&20));
    let found = index.candidates(&[&q], 4).remove(0);
    assert_eq!(found, together[1]);
    assert!(found.contains(&7) && found.is_sorted() && found.len() <= 8);
    // Ten passages have a query term; the four of equal score that come first are taken.
    assert!(
        [3, 8, 13, 18].iter().all(|i| found.contains(i))
            || [4, 9, 14, 19].iter().all(|i| found.contains(i))
    );
}

#[test]
fn key_blocks_survive_storage_and_report_what_does_not_fit() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let spec = KeySpec::default();
    let codec = TokenCodec::new(&spec);
    assert_eq!(spec.id(), "k4-d384-sign1-p15-r0");
    let p = features(&codec, &mut rng, "Bank", bodies()[3], 40);
    let bytes = postcard::to_allocvec(&p).unwrap();
    assert_eq!(postcard::from_bytes::<PassageFeatures>(&bytes).unwrap(), p);
    let json = serde_json::to_string(&p.keys).unwrap();
    assert_eq!(serde_json::from_str::<KeyBlock>(&json).unwrap(), p.keys);
    assert!(p.keys.validate(&spec).is_ok());
    let f16 = KeySpec {
        code: TokenCode::F16,
        ..spec
    };
    let message = p.keys.validate(&f16).unwrap_err().to_string();
    assert!(
        message.contains("codes has 1296") && message.contains("k4-d384-f16-p15-r0"),
        "{message}"
    );
}

#[test]
fn a_query_names_a_title_if_it_has_all_of_it() {
    let analyzer = Analyzer::default();
    let passage = |title: &str| lex_block(&analyzer, title, "Nothing of it here.", &[]);
    let stats = CorpusStats::default();
    let names = |query: &str, title: &str| {
        let terms: Vec<u32> = analyzer.terms(query).into_iter().map(|t| t.id).collect();
        LexQuery::new(&terms, &stats).names(&passage(title))
    };
    assert!(names("Was King Edward II crucified?", "Edward II"));
    assert!(names("how do I route an ingress", "Routing the Ingress"));
    assert!(!names("Was Edward crucified?", "Edward II"));
    assert!(!names("nothing of it here", ""));
    assert!(!names("is it of the", "Of the"), "stop words name nothing");
    assert!(!names("", "Edward II"));
}

/// A passage of more tokens than a byte can number codes: its slots take two bytes.
#[test]
fn long_passages_have_as_many_codes_as_they_need() {
    let spec = KeySpec::default();
    let codec = TokenCodec::new(&spec);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for (seq, codes, slot_bytes) in [(254, 170, 1), (384, 256, 1), (386, 258, 2), (635, 424, 2)] {
        let states = unit_rows(&mut rng, seq);
        let vector = unit_rows(&mut rng, 1).row(0).to_vec();
        let none: [Vec<f32>; 0] = [];
        let ids: Vec<u32> = (0..seq as u32).collect();
        let keys = KeyBlock::build(&codec, &vector, states.view(), &ids, vec![], &none);
        assert_eq!(keys.tokens.gains.len(), codes, "{seq}");
        assert_eq!(keys.tokens.slots.len(), seq * slot_bytes, "{seq}");
        keys.validate(&spec).unwrap();
        let bytes = postcard::to_allocvec(&keys).unwrap();
        assert_eq!(postcard::from_bytes::<KeyBlock>(&bytes).unwrap(), keys);
        // The code of a token is nearer to it than that of the one before it, almost always.
        let found = codec.similarities(states.view(), keys.tokens.of(&vector));
        let nearer = (1..seq).filter(|j| {
            let of = |at: usize| found[[keys.tokens.slot(at), *j]];
            of(*j) >= of(j - 1)
        });
        assert!(nearer.count() * 100 > 95 * (seq - 1), "{seq}");
        let mut damaged = keys.clone();
        damaged.tokens.slots.pop();
        damaged.validate(&spec).unwrap_err();
        let mut beyond = keys;
        *beyond.tokens.slots.last_mut().unwrap() = u8::MAX;
        if codes != 256 {
            beyond.validate(&spec).unwrap_err();
        }
    }
}
