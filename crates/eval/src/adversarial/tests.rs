//! Properties of the attacks on a set that is made up here, for several seeds.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use super::*;
use crate::dataset::Dataset;

const PEOPLE: [&str; 6] = [
    "Anna Berg",
    "Kofi Mensah",
    "Lin Zhao",
    "Pedro Alvarez",
    "Greta Holm",
    "Omar Haddad",
];
const TOWNS: [&str; 6] = ["Lisbon", "Accra", "Harbin", "Quito", "Bergen", "Tunis"];
const BUILDINGS: [&str; 6] = [
    "lighthouse",
    "brewery",
    "theatre",
    "foundry",
    "cathedral",
    "aqueduct",
];

/// Of six gold passages each names a building, who built it, where and when; the other thirty are
/// about anything.
fn write_original(dir: &Path) -> PathBuf {
    let dir = dir.join("tiny");
    fs_err::create_dir_all(dir.join("qrels")).unwrap();
    let (mut corpus, mut queries) = (String::new(), String::new());
    let mut qrels = "query-id\tcorpus-id\tscore\n".to_owned();
    for i in 0..6 {
        let text = format!(
            "The {} was built by {} in {}. The builders needed {} carts of stone, and {} paid them well.",
            BUILDINGS[i],
            PEOPLE[i],
            1700 + 13 * i,
            210 + 7 * i,
            TOWNS[i]
        );
        let entry =
            serde_json::json!({ "_id": format!("g{i}"), "title": "Buildings", "text": text });
        corpus.push_str(&format!("{entry}\n"));
        let query = serde_json::json!({
            "_id": format!("q{i}"),
            "text": format!("Who built the {} that {} paid for?", BUILDINGS[i], TOWNS[i]),
            "metadata": { "answers": [PEOPLE[i]], "kept": i },
        });
        queries.push_str(&format!("{query}\n"));
        qrels.push_str(&format!("q{i}\tg{i}\t1\n"));
    }
    queries.push_str("{\"_id\":\"none\",\"text\":\"What does nobody know?\"}\n");
    for i in 0..30 {
        let text = format!(
            "Number {i} of the winter stories tells of a fox that stole {} fishes. \
             It ran across the frozen lake before the moon of night {i} rose.",
            300 + i
        );
        let entry = serde_json::json!({ "_id": format!("o{i}"), "title": "", "text": text });
        corpus.push_str(&format!("{entry}\n"));
    }
    fs_err::write(dir.join("corpus.jsonl"), corpus).unwrap();
    fs_err::write(dir.join("queries.jsonl"), queries).unwrap();
    fs_err::write(dir.join("qrels/test.tsv"), qrels).unwrap();
    dir
}

struct Made {
    original: Dataset,
    set: Dataset,
    written: Written,
    files: HashMap<&'static str, String>,
    original_files: HashMap<&'static str, String>,
}

impl Made {
    fn text(&self, id: &str) -> &str {
        &self
            .set
            .corpus
            .iter()
            .find(|entry| entry.id == id)
            .unwrap()
            .text
    }

    fn added(&self) -> &[Entry] {
        &self.set.corpus[self.original.corpus.len()..]
    }
}

fn files(dir: &Path) -> HashMap<&'static str, String> {
    let names = [
        "corpus.jsonl",
        "queries.jsonl",
        "qrels/test.tsv",
        "README.md",
    ];
    let read = |name| Some((name, fs_err::read_to_string(dir.join(name)).ok()?));
    names.into_iter().filter_map(read).collect()
}

fn make(attack: Attack, seed: u64) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let from = write_original(dir.path());
    let out = dir.path().join("new").join("set");
    let written = build(&from, attack, &out, seed).unwrap();
    let made = Made {
        original: Dataset::load(&from).unwrap(),
        set: Dataset::load(&out).unwrap(),
        written,
        files: files(&out),
        original_files: files(&from),
    };
    assert_eq!(made.set.corpus.len(), made.written.passages);
    assert_eq!(made.set.queries.len(), made.written.queries);
    assert_eq!(made.set.gold_not_in_corpus, 0);
    // Passages of the original keep their places, ids and titles.
    for (was, is) in made.original.corpus.iter().zip(&made.set.corpus) {
        assert_eq!((&was.id, &was.title), (&is.id, &is.title));
        assert!(was == is || made.written.changed > 0);
    }
    made
}

const ATTACKS: [Attack; 4] = [
    Attack::Buried,
    Attack::NearDuplicates,
    Attack::Stuffed,
    Attack::Misspelt,
];

#[test]
fn the_seed_decides_everything() {
    for attack in ATTACKS {
        let one = make(attack, 7).files;
        assert_eq!(one, make(attack, 7).files, "{attack:?}");
        let file = match attack {
            Attack::Misspelt => "queries.jsonl",
            _ => "corpus.jsonl",
        };
        assert_ne!(one[file], make(attack, 8).files[file], "{attack:?}");
    }
}

#[test]
fn buried_passages_lie_in_the_middle_of_sentences_of_others() {
    for seed in 0..5 {
        let made = make(Attack::Buried, seed);
        assert_eq!((made.written.changed, made.written.added), (6, 0));
        for file in ["queries.jsonl", "qrels/test.tsv"] {
            assert_eq!(made.files[file], made.original_files[file]);
        }
        for (was, is) in made.original.corpus.iter().zip(&made.set.corpus) {
            if !was.id.starts_with('g') {
                assert_eq!(was, is);
                continue;
            }
            let (before, behind) = is.text.split_once(&was.text).unwrap();
            for side in [before, behind] {
                // As long as the passage, half of a sentence more or less.
                assert!(side.len().abs_diff(was.text.len()) <= 65, "{side}");
                assert!(side.contains("fox") || side.contains("lake"));
                assert!(
                    !BUILDINGS.iter().any(|building| side.contains(building)),
                    "{side}"
                );
            }
        }
    }
}

#[test]
fn near_duplicates_keep_what_the_query_names_and_change_the_rest() {
    for seed in 0..5 {
        let made = make(Attack::NearDuplicates, seed);
        assert_eq!((made.written.changed, made.written.added), (0, 12));
        for copy in made.added() {
            let i = PEOPLE
                .iter()
                .enumerate()
                .position(|(i, _)| copy.id.ends_with(&format!("g{i}-q{i}")))
                .unwrap();
            let gold = made.text(&format!("g{i}"));
            assert_ne!(copy.text, gold);
            assert!(
                copy.text.contains(BUILDINGS[i]) && copy.text.contains(TOWNS[i]),
                "{}",
                copy.text
            );
            let year = (1700 + 13 * i).to_string();
            for fact in [PEOPLE[i], &year] {
                assert!(
                    gold.contains(fact) && !copy.text.contains(fact),
                    "{}",
                    copy.text
                );
            }
            // The frame of the sentences is the same.
            assert!(copy.text.contains("was built by") && copy.text.ends_with("paid them well."));
        }
    }
}

#[test]
fn stuffed_passages_repeat_the_query_among_unrelated_sentences() {
    for seed in 0..5 {
        let made = make(Attack::Stuffed, seed);
        assert_eq!((made.written.changed, made.written.added), (0, 6));
        for (query, passage) in made.original.queries.iter().zip(made.added()) {
            assert_eq!(passage.id, format!("stuffed-{}", query.id));
            for word in ["built", "paid"] {
                assert_eq!(passage.text.matches(word).count(), 4, "{}", passage.text);
            }
            assert!(passage.text.contains("fox") || passage.text.contains("lake"));
            assert!(!PEOPLE.iter().any(|person| passage.text.contains(person)));
        }
    }
}

/// What two texts have apart between what they share at both ends.
fn apart<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    let same = |pair: &(u8, u8)| pair.0 == pair.1;
    let front = a.bytes().zip(b.bytes()).take_while(same).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take_while(same)
        .count();
    (&a[..a.len() - back], &b[..b.len() - back])
}

#[test]
fn misspelt_queries_have_one_slip_and_everything_else_is_as_it_was() {
    let mut slips = Vec::new();
    for seed in 0..20 {
        let made = make(Attack::Misspelt, seed);
        assert_eq!(made.written.changed_queries, 6);
        for file in ["corpus.jsonl", "qrels/test.tsv"] {
            assert_eq!(made.files[file], made.original_files[file]);
        }
        assert!(
            made.files["queries.jsonl"].contains("\"kept\":3"),
            "metadata"
        );
        for (was, is) in made.original.queries.iter().zip(&made.set.queries) {
            let (before, after) = apart(&was.text, &is.text);
            slips.push((before.len(), after.len()));
            let swapped = before.chars().rev().eq(after.chars());
            assert!(
                before.len().max(after.len()) <= 1 || swapped,
                "{} {}",
                was.text,
                is.text
            );
        }
    }
    for kind in [(1, 0), (0, 1), (1, 1), (2, 2)] {
        assert!(slips.contains(&kind), "{kind:?} among {slips:?}");
    }
    assert!(!slips.contains(&(0, 0)));
}

#[test]
fn queries_that_were_not_attacked_are_left_out_and_the_others_copied_as_they_are() {
    let made = make(Attack::Stuffed, 0);
    let lines: Vec<&str> = made.original_files["queries.jsonl"].lines().collect();
    assert_eq!(
        made.files["queries.jsonl"].lines().collect::<Vec<_>>(),
        lines[..6]
    );
    assert_eq!(
        made.files["qrels/test.tsv"],
        made.original_files["qrels/test.tsv"]
    );
}

#[test]
fn the_readme_says_what_was_done_to_what() {
    for attack in ATTACKS {
        let made = make(attack, 42);
        let text = &made.files["README.md"];
        for part in [
            "made harder",
            attack.name(),
            "| made from | tiny |",
            "| seed | 42 |",
            "must not be trained on",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let from = write_original(dir.path());
    let before = files(&from);
    let error = build(&from, Attack::Buried, &from, 0).unwrap_err();
    assert!(matches!(error, EvalError::NotEmpty { .. }), "{error}");
    assert_eq!(files(&from), before);
    let empty = dir.path().join("empty");
    fs_err::create_dir(&empty).unwrap();
    assert!(build(&from, Attack::Buried, &empty, 0).is_ok());
}

#[test]
fn a_set_that_offers_nothing_to_change_is_an_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("dull");
    fs_err::create_dir_all(from.join("qrels")).unwrap();
    fs_err::write(
        from.join("corpus.jsonl"),
        "{\"_id\":\"a\",\"text\":\"no facts here\"}\n",
    )
    .unwrap();
    fs_err::write(
        from.join("queries.jsonl"),
        "{\"_id\":\"1\",\"text\":\"the of\"}\n",
    )
    .unwrap();
    fs_err::write(from.join("qrels/test.tsv"), "1\ta\t1\n").unwrap();
    for attack in [Attack::NearDuplicates, Attack::Stuffed, Attack::Misspelt] {
        let out = dir.path().join("out");
        let error = build(&from, attack, &out, 0).unwrap_err().to_string();
        assert!(error.contains("no query could be attacked"), "{error}");
        assert!(!out.exists());
    }
}
