//! Corrupted collections through the whole evaluation: the damaged side falls to chance, the other
//! side keeps its figures.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use moerag_encoder::{DeviceKind, Precision, default_dir};
use moerag_eval::{
    Corruption, EvalOptions, EvalProgress, Evaluation, Method, Metrics, TrainConfig, run,
};

/// A thing and what is said of it; the query asks for it in words of its own passage.
const FACTS: [(&str, &str); 40] = [
    ("volcano", "erupted at dawn and covered the fields with ash"),
    (
        "bicycle",
        "has a chain that needs oil after every rainy ride",
    ),
    (
        "cathedral",
        "took three centuries to build because money ran out",
    ),
    (
        "penguin",
        "keeps its egg on its feet through the polar night",
    ),
    ("orchestra", "tunes its instruments to the note of the oboe"),
    ("bakery", "sells rye bread that rises for two days"),
    ("submarine", "dives by letting sea water into its tanks"),
    ("cactus", "stores water in a stem that swells like a barrel"),
    (
        "telescope",
        "gathers faint light with a mirror of polished glass",
    ),
    ("lawyer", "read the contract twice before the court opened"),
    (
        "glacier",
        "carved the valley while it crept towards the coast",
    ),
    ("violin", "was varnished with resin by an old master"),
    (
        "beehive",
        "is warmed in winter by the trembling of its workers",
    ),
    ("railway", "crosses the mountains through a spiral tunnel"),
    ("pharmacy", "mixes ointments against itching skin"),
    ("desert", "blooms for a week when rain falls at last"),
    ("chess", "was played by letter between two prisoners"),
    ("whale", "sings songs that travel across whole oceans"),
    ("printer", "jams when its paper has become damp"),
    (
        "vineyard",
        "lost its grapes to a frost in the middle of May",
    ),
    ("parliament", "voted against the new tax on windows"),
    ("kite", "carried a camera above the roofs of the town"),
    ("dentist", "filled a tooth that had hurt since the holidays"),
    ("bridge", "sways when soldiers march over it in step"),
    ("mushroom", "shares sugar with the roots of the birch"),
    ("football", "burst on a nail just before half time"),
    ("satellite", "photographs forest fires from its orbit"),
    ("potter", "glazes her bowls with ash of burnt straw"),
    ("insulin", "lowers the sugar in the blood after a meal"),
    ("tornado", "lifted a barn and dropped it in the lake"),
    ("carpet", "is knotted from wool dyed with walnut shells"),
    ("judge", "fined the company for poisoning the river"),
    ("robot", "welds car doors without ever getting tired"),
    ("spider", "rebuilds its web before the sun comes up"),
    ("harbour", "freezes over when the east wind blows for days"),
    ("algebra", "replaces unknown numbers by letters"),
    ("elephant", "remembers the way to a spring for decades"),
    ("battery", "loses its charge faster in the cold"),
    ("museum", "hides its most fragile drawings from daylight"),
    ("surgeon", "closed the wound with a single thread of silk"),
];

struct Quiet;

impl EvalProgress for Quiet {
    fn update(&self, _: &str, _: &str, _: usize, _: usize, _: &str) {}
}

fn write_set(dir: &Path) {
    fs_err::create_dir_all(dir.join("qrels")).unwrap();
    let (mut corpus, mut queries, mut qrels) = (String::new(), String::new(), String::new());
    for (i, (thing, fact)) in FACTS.iter().enumerate() {
        let text = format!("The {thing} {fact}. People there still talk about this {thing}.");
        let entry = serde_json::json!({ "_id": format!("p{i:02}"), "title": "", "text": text });
        corpus.push_str(&format!("{entry}\n"));
        let last: Vec<&str> = fact.rsplit(' ').take(3).collect();
        let text = format!("which {thing} {} {} {}?", last[2], last[1], last[0]);
        let query = serde_json::json!({ "_id": format!("q{i:02}"), "text": text });
        queries.push_str(&format!("{query}\n"));
        qrels.push_str(&format!("q{i:02}\tp{i:02}\t1\n"));
    }
    fs_err::write(dir.join("corpus.jsonl"), corpus).unwrap();
    fs_err::write(dir.join("queries.jsonl"), queries).unwrap();
    fs_err::write(dir.join("qrels/test.tsv"), qrels).unwrap();
}

async fn evaluate(dir: &Path, corrupt: Option<Corruption>) -> Evaluation {
    let options = EvalOptions {
        datasets: vec![dir.join("things")],
        methods: vec![Method::Bm25, Method::Dense, Method::Token],
        seed: 0,
        seeds: 1,
        queries: None,
        // Kept, so that a corruption that reached the kept store would show in the next run.
        stores: Some(dir.join("stores")),
        ablations: false,
        across: false,
        corrupt,
        as_written: false,
        encoder_dir: default_dir().unwrap(),
        device: DeviceKind::Flex,
        precision: Precision::Auto,
        train: TrainConfig {
            synthetic_queries: 120,
            ..TrainConfig::default()
        },
    };
    run(&options, Arc::new(Quiet)).await.unwrap()
}

/// Of 40 passages, a random order has a mean reciprocal rank in the first ten of .07, and over 40
/// queries hardly ever twice that.
fn is_chance(metrics: &Metrics) -> bool {
    metrics.mrr_at_10 < 0.2
}

#[tokio::test(flavor = "multi_thread")]
async fn one_side_falls_to_chance_and_the_other_keeps_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    write_set(&dir.path().join("things"));
    let dense = evaluate(dir.path(), Some(Corruption::Dense)).await;
    let lexical = evaluate(dir.path(), Some(Corruption::Lexical)).await;
    let clean = evaluate(dir.path(), None).await;
    let of =
        |evaluation: &Evaluation, method: &str| evaluation.report.sets["things"].methods[method];

    for method in ["bm25", "dense", "token"] {
        let metrics = of(&clean, method);
        assert!(metrics.mrr_at_10 > 0.9, "{method}: {metrics:?}");
    }
    assert!(is_chance(&of(&dense, "dense")), "{:?}", of(&dense, "dense"));
    assert!(
        is_chance(&of(&lexical, "bm25")),
        "{:?}",
        of(&lexical, "bm25")
    );
    for method in ["bm25", "token"] {
        assert_eq!(of(&dense, method), of(&clean, method), "{method}");
    }
    for method in ["dense", "token"] {
        assert_eq!(of(&lexical, method), of(&clean, method), "{method}");
    }

    let json = |evaluation: &Evaluation| serde_json::to_value(&evaluation.report).unwrap();
    assert_eq!(json(&dense)["corruption"], "dense");
    assert_eq!(json(&lexical)["corruption"], "lexical");
    assert!(json(&clean).get("corruption").is_none());
    assert!(
        lexical
            .report
            .tables()
            .contains("lexical side of every passage was corrupted")
    );
}
