//! The set that is attacked, with what the attacks need to know of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use moerag_retrieve::Analyzer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;

use crate::dataset::{Dataset, JudgedQuery};
use crate::error::EvalError;

/// Shortest answer that is looked for without a digit in it; a "no" stands in every text.
const ANSWER_BYTES: usize = 4;

/// A data set and what is known of its queries.
pub(super) struct Source {
    /// Where it lies.
    pub(super) dir: PathBuf,
    /// All of it.
    pub(super) set: Dataset,
    /// The queries of the set in a random order, that of being attacked.
    pub(super) shuffled: Vec<JudgedQuery>,
    /// Position in the corpus by id.
    pub(super) at: HashMap<String, usize>,
    /// Splits texts into terms.
    pub(super) analyzer: Analyzer,
    answers: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct QueryLine {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    metadata: HashMap<String, Value>,
}

impl Source {
    /// Reads a set.
    pub(super) fn load(dir: &Path, seed: u64) -> Result<Source, EvalError> {
        let set = Dataset::load(dir)?;
        let mut shuffled = set.queries.clone();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let at = set
            .corpus
            .iter()
            .enumerate()
            .map(|(i, entry)| (entry.id.clone(), i))
            .collect();
        let mut source = Source {
            dir: dir.to_path_buf(),
            set,
            shuffled,
            at,
            analyzer: Analyzer::default(),
            answers: HashMap::new(),
        };
        // Metadata is free: what is no answer here is no mistake of the set.
        source.answers = source
            .text("queries.jsonl")?
            .lines()
            .filter_map(|line| serde_json::from_str::<QueryLine>(line).ok())
            .map(|line| (line.id, answers(&line.metadata)))
            .collect();
        Ok(source)
    }

    /// A file of the set.
    pub(super) fn text(&self, file: &str) -> Result<String, EvalError> {
        let path = self.dir.join(file);
        std::fs::read_to_string(&path).map_err(|source| EvalError::Read { path, source })
    }

    /// The answers to a query, in lower case, where the set's metadata has them.
    pub(super) fn answers(&self, query: &str) -> &[String] {
        self.answers.get(query).map_or(&[], Vec::as_slice)
    }

    /// Positions of a query's gold passages in the corpus, ascending.
    pub(super) fn gold(&self, query: &JudgedQuery) -> Vec<usize> {
        let mut gold: Vec<usize> = query
            .gold
            .iter()
            .filter_map(|id| self.at.get(id))
            .copied()
            .collect();
        gold.sort_unstable();
        gold
    }

    /// Terms of a text.
    pub(super) fn terms(&self, text: &str) -> HashSet<u32> {
        self.analyzer
            .terms(text)
            .into_iter()
            .map(|term| term.id)
            .collect()
    }

    /// `wanted`, or the next free name after it that no passage of the set has.
    pub(super) fn free_id(&self, wanted: String) -> String {
        let mut id = wanted;
        while self.at.contains_key(&id) {
            id.push('x');
        }
        id
    }
}

fn answers(metadata: &HashMap<String, Value>) -> Vec<String> {
    let listed = ["answer", "answers"]
        .into_iter()
        .filter_map(|key| metadata.get(key));
    listed
        .flat_map(|value| match value {
            Value::Array(values) => values.iter().collect(),
            one => vec![one],
        })
        .filter_map(Value::as_str)
        .filter(|answer| answer.len() >= ANSWER_BYTES || answer.bytes().any(|b| b.is_ascii_digit()))
        .map(str::to_lowercase)
        .collect()
}
