//! Harder versions of a data set: passages that are longer, nearly right or made to please word
//! counts, queries that are misspelt, written in the same BEIR layout as the set they come from.
//!
//! Queries and judgements are read here for one purpose only: to build a test set. Training never
//! sees them, neither those of the original nor those of what is written; a set from here is
//! evaluated like any other, on a model that learned from its documents alone.

mod buried;
mod facts;
mod fillers;
mod misspelt;
mod near;
mod source;
mod stuffed;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dataset::Entry;
use crate::error::EvalError;
use source::Source;

/// Queries that are attacked at most; a random choice of a larger set.
const QUERIES: usize = 500;

/// What makes a set harder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Every gold passage in the middle of a passage about three times as long, the rest of which are
    /// sentences of other passages.
    Buried,
    /// Beside the gold passages, copies of them under new ids in which numbers and names are others.
    NearDuplicates,
    /// Beside the gold passages, new ones that repeat the words of a query and say nothing.
    Stuffed,
    /// In every query, a slip of the fingers in one word.
    Misspelt,
}

impl Attack {
    /// The name in flags and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Attack::Buried => "buried",
            Attack::NearDuplicates => "near-duplicates",
            Attack::Stuffed => "stuffed",
            Attack::Misspelt => "misspelt",
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// What made the set harder.
    pub attack: Attack,
    /// Name of the set it comes from.
    pub from: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Passages of the new set.
    pub passages: usize,
    /// Passages among them whose text was changed.
    pub changed: usize,
    /// Passages among them that the original does not have.
    pub added: usize,
    /// Judged queries of the new set.
    pub queries: usize,
    /// Queries among them whose text was changed.
    pub changed_queries: usize,
    /// Judged queries of the original that were not attacked and left out.
    pub left_out: usize,
}

/// What an attack does to a corpus.
#[derive(Default)]
struct Attacked {
    /// The corpus as it was, but for the passages that were changed.
    corpus: Vec<Entry>,
    changed: usize,
    added: Vec<Entry>,
    /// New texts of queries by their ids.
    changed_queries: HashMap<String, String>,
    /// Ids of the queries to keep; none means that all files of queries stay as they are.
    queries: Option<Vec<String>>,
}

/// Reads the set in `from` and writes a harder one into `out`, a directory that is empty or is not
/// there yet. The same seed gives the same files.
///
/// # Errors
/// [`EvalError::NotEmpty`], [`EvalError::Write`], and those of [`crate::Dataset::load`].
pub fn build(from: &Path, attack: Attack, out: &Path, seed: u64) -> Result<Written, EvalError> {
    write::require_empty(out)?;
    let source = Source::load(from, seed)?;
    let mut attacked = match attack {
        Attack::Buried => buried::attack(&source, seed),
        Attack::NearDuplicates => near::attack(&source, seed),
        Attack::Stuffed => stuffed::attack(&source, seed),
        Attack::Misspelt => misspelt::attack(&source, seed),
    };
    // In an order that does not tell which query was attacked when.
    attacked.added.sort_by(|a, b| a.id.cmp(&b.id));
    let judged = source.set.queries.len();
    let queries = attacked.queries.as_ref().map_or(judged, Vec::len);
    let written = Written {
        attack,
        from: source.set.name.clone(),
        seed,
        passages: attacked.corpus.len() + attacked.added.len(),
        changed: attacked.changed,
        added: attacked.added.len(),
        queries,
        changed_queries: attacked.changed_queries.len(),
        left_out: judged - queries,
    };
    if queries == 0 || (attack == Attack::Misspelt && written.changed_queries == 0) {
        return Err(EvalError::Empty {
            path: from.to_path_buf(),
            reason: "no query could be attacked",
        });
    }
    write::set(&source, &attacked, &written, out)?;
    Ok(written)
}

/// Randomness of one item, whatever else the set holds.
fn rng(seed: u64, id: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(id.as_bytes(), seed))
}
