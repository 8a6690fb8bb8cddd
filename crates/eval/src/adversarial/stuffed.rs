//! Passages that hold every word of a query again and again and answer nothing.

use std::collections::HashSet;

use rand::seq::SliceRandom;

use super::fillers::Fillers;
use super::source::Source;
use super::{Attacked, QUERIES, rng};
use crate::dataset::{Entry, JudgedQuery};

/// How often each word of the query stands in the passage.
pub(super) const REPEATS: usize = 4;

/// Adds one such passage for each query, up to a limit.
pub(super) fn attack(source: &Source, seed: u64) -> Attacked {
    let fillers = Fillers::new(source);
    let mut attacked = Attacked {
        corpus: source.set.corpus.clone(),
        ..Attacked::default()
    };
    let mut kept = Vec::new();
    for query in &source.shuffled {
        if kept.len() == QUERIES {
            break;
        }
        if let Some(text) = stuffed(source, &fillers, query, seed) {
            attacked.added.push(Entry {
                id: source.free_id(format!("stuffed-{}", query.id)),
                title: String::new(),
                text,
            });
            kept.push(query.id.clone());
        }
    }
    attacked.queries = Some(kept);
    attacked
}

/// The query's words in a new order before each of some sentences that have nothing to do with it.
fn stuffed(
    source: &Source,
    fillers: &Fillers<'_>,
    query: &JudgedQuery,
    seed: u64,
) -> Option<String> {
    let mut rng = rng(seed, &query.id);
    let mut terms = HashSet::new();
    let found = source.analyzer.terms(&query.text).into_iter();
    let mut words: Vec<&str> = found
        .filter(|term| terms.insert(term.id))
        .map(|term| &query.text[term.start..term.end])
        .collect();
    let gold: HashSet<usize> = source.gold(query).into_iter().collect();
    let mut parts = Vec::with_capacity(2 * REPEATS);
    for _ in 0..REPEATS {
        words.shuffle(&mut rng);
        parts.push(format!("{}.", words.join(" ")));
        let related = |at: usize, sentence: &str| {
            gold.contains(&at) || !source.terms(sentence).is_disjoint(&terms)
        };
        parts.push(fillers.choose(&mut rng, related)?.to_owned());
    }
    (!words.is_empty()).then(|| parts.join(" "))
}
