//! Copies of gold passages that say the same of others: distractors that only the facts tell apart.

use std::collections::{HashMap, HashSet};

use rand_chacha::ChaCha8Rng;

use super::facts::Facts;
use super::source::Source;
use super::{Attacked, QUERIES, rng};
use crate::dataset::Entry;

/// Copies of one gold passage for one query.
const COPIES: usize = 2;
/// Gold passages of one query that are copied.
const GOLD: usize = 3;
/// Facts that have to differ at least, so that the one that answers is likely among them.
pub(super) const CHANGES: usize = 2;

/// Adds the copies for each query, up to a limit. What the query itself names stays as it is, so that a copy
/// still seems to answer it; every other number and name is swapped.
pub(super) fn attack(source: &Source, seed: u64) -> Attacked {
    let facts = Facts::new(&source.set.corpus);
    let mut attacked = Attacked {
        corpus: source.set.corpus.clone(),
        ..Attacked::default()
    };
    let mut kept = Vec::new();
    for query in &source.shuffled {
        if kept.len() == QUERIES {
            break;
        }
        let asked = source.terms(&query.text);
        let answers = source.answers(&query.id);
        let before = attacked.added.len();
        for at in source.gold(query).into_iter().take(GOLD) {
            let gold = &source.set.corpus[at];
            for copy in 0..COPIES {
                let id = format!("near-{copy}-{}-{}", gold.id, query.id);
                let mut rng = rng(seed, &id);
                let text = swapped(source, &facts, &gold.text, &asked, &mut rng);
                let Some(text) = text.filter(|text| !answered(&gold.title, text, answers)) else {
                    continue;
                };
                attacked.added.push(Entry {
                    id: source.free_id(id),
                    title: gold.title.clone(),
                    text,
                });
            }
        }
        if attacked.added.len() > before {
            kept.push(query.id.clone());
        }
    }
    attacked.queries = Some(kept);
    attacked
}

/// The text with others of the same kind for its facts, the same one each time that a fact is named
/// again; none if too few can be changed.
fn swapped(
    source: &Source,
    facts: &Facts,
    text: &str,
    asked: &HashSet<u32>,
    rng: &mut ChaCha8Rng,
) -> Option<String> {
    let mut instead: HashMap<&str, &str> = HashMap::new();
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for fact in facts.of(text) {
        let was = &text[fact.range.clone()];
        if !source.terms(was).is_disjoint(asked) {
            continue;
        }
        let new = match instead.get(was) {
            Some(new) => Some(*new),
            None => facts.other(fact.kind, rng, |new| {
                !text.contains(new) && source.terms(new).is_disjoint(asked)
            }),
        };
        if let Some(new) = new {
            instead.insert(was, new);
            out.push_str(&text[end..fact.range.start]);
            out.push_str(new);
            end = fact.range.end;
        }
    }
    out.push_str(&text[end..]);
    (instead.len() >= CHANGES).then_some(out)
}

/// Whether a passage still has one of the answers, where these are known.
fn answered(title: &str, text: &str, answers: &[String]) -> bool {
    let (title, text) = (title.to_lowercase(), text.to_lowercase());
    answers
        .iter()
        .any(|answer| text.contains(answer) || title.contains(answer))
}
