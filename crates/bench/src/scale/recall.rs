//! The store's candidate lists against an exact scan of its vectors.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use moerag_encoder::{EncodeOptions, Encoder};
use moerag_retrieve::linalg::dot;
use moerag_retrieve::{Analyzer, QueryFeatures, ViewConfig};
use moerag_store::{
    CandidateQuery, EdgeOptions, EdgeStore, Filter, PassageStore, ScrollQuery, Walk,
};
use ndarray::Array2;
use rayon::prelude::*;
use serde::Serialize;

/// Passages read at a time.
const PAGE: usize = 1024;

/// Mean share of the exact list that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Recall {
    /// In the dense list.
    pub(super) recall_dense: f64,
    /// In the dense and the lexical list together.
    pub(super) recall_union: f64,
    /// Length of the lists.
    pub(super) recall_at: usize,
}

/// What the scan of a store says.
pub(super) struct Compared {
    pub(super) recall: Recall,
    pub(super) passages: u64,
    /// Bytes of all titles and texts.
    pub(super) text_bytes: u64,
}

/// Opens the store, walks over all of it once, and asks it for candidates.
pub(super) async fn compare(
    dir: &Path,
    collection: &str,
    encoder: &Arc<Encoder>,
    queries: &[String],
) -> Result<Compared> {
    let path = dir.to_owned();
    let open = move || EdgeStore::open(&path, EdgeOptions::default());
    let store: Arc<dyn PassageStore> = Arc::new(tokio::task::spawn_blocking(open).await??);
    let result = compare_open(&*store, collection, encoder, queries).await;
    tokio::task::spawn_blocking(move || drop(store)).await?;
    result
}

async fn compare_open(
    store: &dyn PassageStore,
    collection: &str,
    encoder: &Arc<Encoder>,
    queries: &[String],
) -> Result<Compared> {
    let n = ViewConfig::default().candidates_per_list;
    let analyzer = Analyzer::new(store.collection(collection).await?.spec.language);
    let stats = store.stats(collection).await?;
    let (encoder, texts) = (Arc::clone(encoder), queries.to_vec());
    let encode = move || encoder.encode(&texts, &EncodeOptions::query().without_tokens());
    let encodings = tokio::task::spawn_blocking(encode).await??;
    let mut scans: Vec<Scan> = encodings
        .into_iter()
        .map(|encoding| Scan::new(encoding.vector, n))
        .collect();

    let (mut passages, mut text_bytes) = (0, 0);
    let mut walk = Walk::new(store, collection, ScrollQuery::new(None, PAGE, true));
    while let Some(page) = walk.page().await? {
        passages += page.records.len() as u64;
        let texts = page
            .records
            .iter()
            .map(|(p, _)| p.title.len() + p.text.len());
        text_bytes += texts.sum::<usize>() as u64;
        scans.par_iter_mut().for_each(|scan| {
            for (passage, features) in &page.records {
                if let Some(features) = features {
                    scan.see(&features.vector, &passage.document_id, passage.ordinal);
                }
            }
        });
    }

    let (mut dense, mut union) = (0.0, 0.0);
    for (scan, text) in scans.into_iter().zip(queries) {
        let none = Array2::zeros((0, 0));
        let vector = scan.query.clone();
        let features = QueryFeatures::new(&analyzer, text, vector, none, Vec::new());
        let both = CandidateQuery::new(&features, &stats, n, Filter::default());
        let vectors_alone = CandidateQuery {
            sparse: Vec::new(),
            ..both.clone()
        };
        let exact = scan.best();
        dense += found(store, collection, &vectors_alone, &exact).await?;
        union += found(store, collection, &both, &exact).await?;
    }
    let count = queries.len().max(1) as f64;
    Ok(Compared {
        recall: Recall {
            recall_dense: dense / count,
            recall_union: union / count,
            recall_at: n,
        },
        passages,
        text_bytes,
    })
}

/// Share of `exact` among the store's candidates.
async fn found(
    store: &dyn PassageStore,
    collection: &str,
    query: &CandidateQuery,
    exact: &[Scored],
) -> Result<f64> {
    let candidates = store.candidates(collection, query).await;
    let candidates = candidates.context("asking the store for candidates")?;
    let found: HashSet<(&str, u32)> = candidates
        .iter()
        .map(|c| (c.at.document_id.as_str(), c.at.ordinal))
        .collect();
    let hits = exact
        .iter()
        .filter(|s| found.contains(&(s.id.as_str(), s.ordinal)));
    Ok(hits.count() as f64 / exact.len().max(1) as f64)
}

/// A passage with its cosine.
#[derive(Debug, Clone, PartialEq)]
struct Scored {
    score: f32,
    id: String,
    ordinal: u32,
}

/// The best passages of one query among those seen so far.
struct Scan {
    query: Vec<f32>,
    n: usize,
    /// Twice as many as wanted at most, cut back from time to time.
    seen: Vec<Scored>,
    /// Scores below this one are not among the best any more.
    floor: f32,
}

impl Scan {
    fn new(query: Vec<f32>, n: usize) -> Self {
        Self {
            query,
            n,
            seen: Vec::with_capacity(2 * n),
            floor: f32::MIN,
        }
    }

    fn see(&mut self, vector: &[f32], id: &str, ordinal: u32) {
        let score = dot(vector, &self.query);
        if score < self.floor {
            return;
        }
        self.seen.push(Scored {
            score,
            id: id.to_owned(),
            ordinal,
        });
        if self.seen.len() >= 2 * self.n {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.seen.sort_unstable_by(|a, b| {
            let place = |s: &Scored| (s.id.clone(), s.ordinal);
            b.score
                .total_cmp(&a.score)
                .then_with(|| place(a).cmp(&place(b)))
        });
        self.seen.truncate(self.n);
        if self.seen.len() == self.n {
            self.floor = self.seen.last().map_or(f32::MIN, |last| last.score);
        }
    }

    fn best(mut self) -> Vec<Scored> {
        self.cut();
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_keeps_the_best_in_whatever_order_they_come() {
        let mut scan = Scan::new(vec![1.0], 3);
        for i in 0..100u32 {
            let score = ((i * 37) % 100) as f32;
            scan.see(&[score], &format!("d{score}"), 0);
        }
        let best: Vec<f32> = scan.best().iter().map(|s| s.score).collect();
        assert_eq!(best, [99.0, 98.0, 97.0]);
        let mut ties = Scan::new(vec![1.0], 2);
        for id in ["c", "a", "b", "d", "e"] {
            ties.see(&[0.5], id, 0);
        }
        let ids: Vec<String> = ties.best().into_iter().map(|s| s.id).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
