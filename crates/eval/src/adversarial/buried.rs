//! Gold passages in the middle of long ones.

use std::collections::{BTreeMap, HashSet};

use rand_chacha::ChaCha8Rng;

use super::fillers::Fillers;
use super::source::Source;
use super::{Attacked, rng};

/// Bytes of other sentences on each side at most.
const SIDE_BYTES: usize = 4_000;
/// Half the bytes of a usual sentence.
const HALF_SENTENCE: usize = 60;

/// Puts about as much text as it has before and behind every gold passage.
pub(super) fn attack(source: &Source, seed: u64) -> Attacked {
    let fillers = Fillers::new(source);
    // Passages that answer one of its queries as well must not lend a gold passage their sentences.
    let mut judged_with: BTreeMap<usize, HashSet<usize>> = BTreeMap::new();
    for query in &source.set.queries {
        let gold = source.gold(query);
        for at in &gold {
            judged_with.entry(*at).or_default().extend(&gold);
        }
    }
    let mut attacked = Attacked {
        corpus: source.set.corpus.clone(),
        ..Attacked::default()
    };
    for (at, refused) in judged_with {
        let entry = &mut attacked.corpus[at];
        let mut rng = rng(seed, &entry.id);
        let length = entry.text.len().min(SIDE_BYTES);
        let before = side(&fillers, &mut rng, &refused, length);
        let behind = side(&fillers, &mut rng, &refused, length);
        if !before.is_empty() && !behind.is_empty() {
            entry.text = format!("{before} {} {behind}", entry.text);
            attacked.changed += 1;
        }
    }
    attacked
}

/// Sentences until they have about `length` bytes: half of a sentence more or less.
fn side(
    fillers: &Fillers<'_>,
    rng: &mut ChaCha8Rng,
    refused: &HashSet<usize>,
    length: usize,
) -> String {
    let mut text = String::new();
    while text.is_empty() || text.len() + HALF_SENTENCE < length {
        let Some(sentence) = fillers.choose(rng, |at, _| refused.contains(&at)) else {
            break;
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(sentence);
    }
    text
}
