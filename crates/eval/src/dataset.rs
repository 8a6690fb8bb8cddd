//! Data sets in BEIR layout: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`.
//!
//! A query's metadata may list `related_passages`: near-duplicates of a gold passage that count as
//! neither right nor wrong (DESIGN.md section 6).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::EvalError;

/// One entry of the corpus, ingested as one passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id in `corpus.jsonl`.
    pub id: String,
    /// Its title, possibly empty.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// A query with its judgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedQuery {
    /// Its id in `queries.jsonl`.
    pub id: String,
    /// The text as the user would type it.
    pub text: String,
    /// Ids of the passages judged with a score above 0.
    pub gold: HashSet<String>,
    /// Ids that are taken out of every ranking before it is judged.
    pub skipped: HashSet<String>,
}

/// A data set.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The name of its directory.
    pub name: String,
    /// The corpus, in the order of the file.
    pub corpus: Vec<Entry>,
    /// The queries that have gold, in the order of the file.
    pub queries: Vec<JudgedQuery>,
    /// How many queries have no gold and are left out of the ranking metrics.
    pub queries_without_gold: usize,
    /// How many judged passages are not in the corpus; they count as missed.
    pub gold_not_in_corpus: usize,
}

#[derive(Deserialize)]
struct CorpusLine {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

#[derive(Deserialize)]
struct QueryLine {
    #[serde(rename = "_id")]
    id: String,
    text: String,
    #[serde(default)]
    metadata: QueryMetadata,
}

#[derive(Deserialize, Default)]
struct QueryMetadata {
    #[serde(default)]
    related_passages: Vec<String>,
}

impl Dataset {
    /// Reads a set from its directory.
    ///
    /// # Errors
    /// [`EvalError::Read`] for a missing file, [`EvalError::Line`] with file and line for anything
    /// that is not BEIR layout (bad JSON, an id used twice, a judgement of an unknown query),
    /// [`EvalError::Empty`] without a passage or a judged query.
    pub fn load(dir: &Path) -> Result<Dataset, EvalError> {
        let corpus = read_corpus(&dir.join("corpus.jsonl"))?;
        let known: HashSet<&str> = corpus.iter().map(|entry| entry.id.as_str()).collect();
        let queries_path = dir.join("queries.jsonl");
        let lines = read_queries(&queries_path)?;
        let query_ids: HashSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
        let mut gold = read_qrels(&dir.join("qrels").join("test.tsv"), &query_ids)?;

        let mut gold_not_in_corpus = 0;
        let mut queries = Vec::new();
        let mut queries_without_gold = 0;
        for line in &lines {
            match gold.remove(&line.id) {
                Some(gold) => {
                    gold_not_in_corpus += gold
                        .iter()
                        .filter(|id| !known.contains(id.as_str()))
                        .count();
                    // Gold wins over "related": a passage listed as both stays judged.
                    let skipped = line
                        .metadata
                        .related_passages
                        .iter()
                        .filter(|id| !gold.contains(*id))
                        .cloned()
                        .collect();
                    queries.push(JudgedQuery {
                        id: line.id.clone(),
                        text: line.text.clone(),
                        gold,
                        skipped,
                    });
                }
                None => queries_without_gold += 1,
            }
        }
        if queries.is_empty() {
            return Err(EvalError::Empty {
                path: dir.join("qrels").join("test.tsv"),
                reason: "no query has a passage with a score above 0",
            });
        }
        let name = dir
            .canonicalize()
            .unwrap_or_else(|_| dir.to_path_buf())
            .file_name()
            .map_or_else(
                || dir.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            );
        Ok(Dataset {
            name,
            corpus,
            queries,
            queries_without_gold,
            gold_not_in_corpus,
        })
    }

    /// Keeps a seeded sample of `n` queries, in the order of the file; all of them if there are no more.
    pub fn sample(&mut self, n: usize, seed: u64) {
        use rand::SeedableRng;
        if n >= self.queries.len() {
            return;
        }
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut keep = rand::seq::index::sample(&mut rng, self.queries.len(), n).into_vec();
        keep.sort_unstable();
        self.queries = keep.into_iter().map(|i| self.queries[i].clone()).collect();
    }
}

fn read_corpus(path: &Path) -> Result<Vec<Entry>, EvalError> {
    let mut seen = HashSet::new();
    let mut corpus = Vec::new();
    each_line(path, |_, text| {
        let entry: CorpusLine = serde_json::from_str(text)
            .map_err(|error| format!("not a corpus entry with _id, title and text: {error}"))?;
        if !seen.insert(entry.id.clone()) {
            return Err(format!("the _id {:?} was used before", entry.id));
        }
        corpus.push(Entry {
            id: entry.id,
            title: entry.title,
            text: entry.text,
        });
        Ok(())
    })?;
    if corpus.is_empty() {
        return Err(EvalError::Empty {
            path: path.to_path_buf(),
            reason: "the corpus has no entry",
        });
    }
    Ok(corpus)
}

fn read_queries(path: &Path) -> Result<Vec<QueryLine>, EvalError> {
    let mut seen = HashSet::new();
    let mut queries = Vec::new();
    each_line(path, |_, text| {
        let query: QueryLine = serde_json::from_str(text)
            .map_err(|error| format!("not a query with _id and text: {error}"))?;
        if !seen.insert(query.id.clone()) {
            return Err(format!("the _id {:?} was used before", query.id));
        }
        queries.push(query);
        Ok(())
    })?;
    Ok(queries)
}

/// The gold ids (score above 0) of each query that has one.
fn read_qrels(
    path: &Path,
    queries: &HashSet<&str>,
) -> Result<BTreeMap<String, HashSet<String>>, EvalError> {
    let mut scores: HashMap<(String, String), f64> = HashMap::new();
    each_line(path, |line, text| {
        let fields: Vec<&str> = text.split('\t').map(str::trim).collect();
        let [query, passage, score] = fields[..] else {
            return Err(format!(
                "{} fields; expected query-id, corpus-id and score, separated by tabs",
                fields.len()
            ));
        };
        let score: f64 = match score.parse() {
            Ok(score) => score,
            Err(_) if line == 1 => return Ok(()), // the header
            Err(_) => return Err(format!("the score {score:?} is not a number")),
        };
        if !score.is_finite() {
            return Err(format!("the score {score} is not a finite number"));
        }
        if !queries.contains(query) {
            return Err(format!("the query {query:?} is not in queries.jsonl"));
        }
        if scores
            .insert((query.to_owned(), passage.to_owned()), score)
            .is_some()
        {
            return Err(format!(
                "the query {query:?} and the passage {passage:?} were judged before"
            ));
        }
        Ok(())
    })?;
    let mut gold: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for ((query, passage), score) in scores {
        if score > 0.0 {
            gold.entry(query).or_default().insert(passage);
        }
    }
    Ok(gold)
}

/// Calls `take` with the number (from 1) and the text of every line that is not blank.
fn each_line(
    path: &Path,
    mut take: impl FnMut(usize, &str) -> Result<(), String>,
) -> Result<(), EvalError> {
    let read = |source: std::io::Error| EvalError::Read {
        path: PathBuf::from(path),
        source,
    };
    let file = std::fs::File::open(path).map_err(read)?;
    for (index, text) in BufReader::new(file).lines().enumerate() {
        let line = index + 1;
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(EvalError::Line {
                    path: path.into(),
                    line,
                    reason: "not valid UTF-8".into(),
                });
            }
            Err(source) => return Err(read(source)),
        };
        if text.trim().is_empty() {
            continue;
        }
        take(line, &text).map_err(|reason| EvalError::Line {
            path: path.into(),
            line,
            reason,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn write(dir: &Path, corpus: &str, queries: &str, qrels: &str) {
        fs_err::create_dir_all(dir.join("qrels")).unwrap();
        fs_err::write(dir.join("corpus.jsonl"), corpus).unwrap();
        fs_err::write(dir.join("queries.jsonl"), queries).unwrap();
        fs_err::write(dir.join("qrels/test.tsv"), qrels).unwrap();
    }

    const CORPUS: &str = "{\"_id\":\"a\",\"title\":\"T\",\"text\":\"one\"}\n\n{\"_id\":\"b\",\"text\":\"two\"}\n{\"_id\":\"c\",\"text\":\"three\"}\n";
    const QUERIES: &str = "{\"_id\":\"1\",\"text\":\"q1\",\"metadata\":{\"related_passages\":[\"a\",\"b\"],\"x\":3}}\n{\"_id\":\"2\",\"text\":\"q2\"}\n{\"_id\":\"3\",\"text\":\"q3\"}\n";

    #[test]
    fn gold_is_a_score_above_zero_and_related_passages_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            CORPUS,
            QUERIES,
            "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tc\t0\n3\tb\t1\n3\tgone\t1\n2\ta\t0\n",
        );
        let set = Dataset::load(dir.path()).unwrap();
        assert_eq!(set.corpus.len(), 3);
        assert_eq!(set.corpus[0].title, "T");
        assert_eq!(
            set.queries
                .iter()
                .map(|q| q.id.as_str())
                .collect::<Vec<_>>(),
            ["1", "3"]
        );
        assert_eq!(set.queries[0].gold, HashSet::from(["a".to_owned()]));
        assert_eq!(set.queries[0].skipped, HashSet::from(["b".to_owned()]));
        assert_eq!(set.queries_without_gold, 1);
        assert_eq!(set.gold_not_in_corpus, 1);
    }

    #[test]
    fn every_mistake_names_file_and_line() {
        let cases: [(&str, &str, &str, &str); 6] = [
            (
                "{\"_id\":\"a\"}\n",
                QUERIES,
                "1\ta\t1\n",
                "corpus.jsonl:1: not a corpus entry",
            ),
            (
                "{\"_id\":\"a\",\"text\":\"\"}\n{\"_id\":\"a\",\"text\":\"\"}\n",
                QUERIES,
                "1\ta\t1\n",
                "corpus.jsonl:2: the _id \"a\" was used before",
            ),
            (
                CORPUS,
                "{\"_id\":\"1\"}",
                "1\ta\t1\n",
                "queries.jsonl:1: not a query",
            ),
            (CORPUS, QUERIES, "h\th\th\n1 a 1\n", "test.tsv:2: 1 fields"),
            (
                CORPUS,
                QUERIES,
                "1\ta\t1\n1\tb\tmany\n",
                "test.tsv:2: the score \"many\"",
            ),
            (
                CORPUS,
                QUERIES,
                "1\ta\t1\n9\tb\t1\n",
                "test.tsv:2: the query \"9\" is not in queries.jsonl",
            ),
        ];
        for (corpus, queries, qrels, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), corpus, queries, qrels);
            let error = Dataset::load(dir.path()).unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{error} does not contain {expected}"
            );
        }
    }

    #[test]
    fn a_missing_file_and_a_set_without_gold_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = Dataset::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("corpus.jsonl") && error.contains("BEIR"),
            "{error}"
        );
        write(dir.path(), CORPUS, QUERIES, "1\ta\t0\n");
        let error = Dataset::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("no query has a passage with a score above 0"),
            "{error}"
        );
    }

    #[test]
    fn a_sample_is_seeded_and_keeps_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let queries: String = (0..40)
            .map(|i| format!("{{\"_id\":\"{i:02}\",\"text\":\"q\"}}\n"))
            .collect();
        let qrels: String = (0..40).map(|i| format!("{i:02}\ta\t1\n")).collect();
        write(dir.path(), CORPUS, &queries, &qrels);
        let full = Dataset::load(dir.path()).unwrap();
        let ids = |n, seed| {
            let mut set = full.clone();
            set.sample(n, seed);
            set.queries.into_iter().map(|q| q.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(7, 1), ids(7, 1));
        assert_ne!(ids(7, 1), ids(7, 2));
        assert!(ids(7, 1).is_sorted());
        assert_eq!(ids(400, 1).len(), 40);
    }
}
