//! A bounded sample of a stream of passages that does not depend on its order.

use std::collections::BinaryHeap;

use moerag_store::passage_hash;

use super::TrainingPassage;

/// Keeps the passages with the smallest hashes.
pub(crate) struct Sampler {
    limit: usize,
    kept: BinaryHeap<Entry>,
}

struct Entry {
    hash: [u8; 32],
    passage: TrainingPassage,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl Sampler {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: BinaryHeap::new(),
        }
    }

    pub(crate) fn push(&mut self, passage: TrainingPassage) {
        let hash = passage_hash(&passage.document_id, passage.ordinal);
        if self.kept.len() < self.limit {
            self.kept.push(Entry { hash, passage });
        } else if self.kept.peek().is_some_and(|largest| hash < largest.hash) {
            self.kept.pop();
            self.kept.push(Entry { hash, passage });
        }
    }

    pub(crate) fn into_passages(self) -> Vec<TrainingPassage> {
        self.kept.into_iter().map(|entry| entry.passage).collect()
    }
}
