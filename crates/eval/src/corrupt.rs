//! Fixed corruptions of a collection, for evaluation only: one side of the retrieval becomes useless,
//! and the gate has to notice from the distributions of the views alone.
//!
//! The ingested collection is copied into another store with one part of every passage's features
//! replaced. Training reads its passages and features from that store, and serving searches it, so
//! both see the same damage. What is written of queries is not touched. A corruption depends on the
//! passages alone and not on the seed of a run, so that runs stay comparable.

use std::collections::{BTreeSet, HashMap};

use moerag_retrieve::PassageFeatures;
use moerag_store::{Passage, PassageStore, StoreError};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::copy::{self, walk};

/// Seed of all corruptions.
const SEED: u64 = 0x636f_7272_7570_7431;
/// Norm of the noise beside the mean direction, whose norm is 1.
const NOISE: f32 = 0.05;

/// What is made useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Every passage's pooled vector is the mean direction of all of them with a little noise: dense
    /// scores, and what follows from them, say nothing. Token codes are as they were, but since KeySpec
    /// 3 they are of what is left without the passage's own vector: late interaction breaks as well.
    Dense,
    /// Every term of the passages stands for another one, while those of the queries do not: lexical
    /// scores mislead. Statistics follow the new terms, also where training weighs words by them to
    /// write its synthetic queries. Vectors and token states are intact.
    Lexical,
}

impl Corruption {
    /// The name in flags and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Corruption::Dense => "dense",
            Corruption::Lexical => "lexical",
        }
    }
}

/// Copies a collection of `from` into `to`, which must not have it yet, corrupted.
pub(crate) async fn copy(
    from: &dyn PassageStore,
    to: &dyn PassageStore,
    collection: &str,
    corruption: Corruption,
) -> Result<(), StoreError> {
    let change = Change::find(from, collection, corruption).await?;
    let apply = |passage: &Passage, features: &mut PassageFeatures| change.apply(passage, features);
    copy::copy((from, collection), (to, collection), apply).await
}

/// What happens to each passage; known once all have been read.
enum Change {
    /// The mean direction `[d]` of the vectors, of norm 1 (0 for vectors that cancel out).
    Vector(Vec<f32>),
    /// The term that each term becomes.
    Terms(HashMap<u32, u32>),
}

impl Change {
    async fn find(
        from: &dyn PassageStore,
        collection: &str,
        corruption: Corruption,
    ) -> Result<Change, StoreError> {
        let mut walk = walk(from, collection);
        match corruption {
            Corruption::Dense => {
                let mut sum: Vec<f64> = Vec::new();
                while let Some(documents) = walk.documents().await? {
                    for record in documents.into_iter().flat_map(|put| put.records) {
                        let features = record.features;
                        sum.resize(features.vector.len(), 0.0);
                        for (sum, value) in sum.iter_mut().zip(&features.vector) {
                            *sum += f64::from(*value);
                        }
                    }
                }
                let norm = sum
                    .iter()
                    .map(|v| v * v)
                    .sum::<f64>()
                    .sqrt()
                    .max(f64::MIN_POSITIVE);
                Ok(Change::Vector(
                    sum.iter().map(|v| (v / norm) as f32).collect(),
                ))
            }
            Corruption::Lexical => {
                let mut vocabulary = BTreeSet::new();
                while let Some(documents) = walk.documents().await? {
                    for record in documents.into_iter().flat_map(|put| put.records) {
                        vocabulary.extend(record.features.lex.terms);
                    }
                }
                let mut terms: Vec<u32> = vocabulary.into_iter().collect();
                terms.shuffle(&mut ChaCha8Rng::seed_from_u64(SEED));
                // One cycle through all terms: a permutation that leaves none in its place.
                let next = terms.iter().cycle().skip(1);
                Ok(Change::Terms(
                    terms.iter().copied().zip(next.copied()).collect(),
                ))
            }
        }
    }

    fn apply(&self, passage: &Passage, features: &mut PassageFeatures) {
        match self {
            Change::Vector(mean) => {
                let seed = SEED.wrapping_add(u64::from(passage.ordinal));
                let seed = xxh3_64_with_seed(passage.document_id.as_bytes(), seed);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let noise: Vec<f32> = mean.iter().map(|_| rng.random_range(-1.0..=1.0)).collect();
                let noise = unit(noise);
                features.vector =
                    unit(mean.iter().zip(noise).map(|(m, n)| m + NOISE * n).collect());
            }
            Change::Terms(becomes) => {
                for term in &mut features.lex.terms {
                    *term = becomes.get(term).copied().unwrap_or(*term);
                }
            }
        }
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector
        .iter_mut()
        .for_each(|v| *v /= norm.max(f32::MIN_POSITIVE));
    vector
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use moerag_retrieve::{KeyBlock, KeySpec, Language, LexBlock};
    use moerag_store::{CollectionSpec, DocumentPut, EdgeOptions, EdgeStore, PassageRecord};

    use super::*;

    const DIM: usize = 64;

    /// Document `d` has `d % 3 + 1` passages, so that pages end within documents.
    fn documents() -> Vec<DocumentPut> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut record = |document: &str, ordinal: u32| PassageRecord {
            passage: Passage {
                document_id: document.to_owned(),
                ordinal,
                revision: "r".to_owned(),
                title: String::new(),
                text: format!("{document} {ordinal}"),
                start: 0,
                end: 1,
                sentences: Vec::new(),
                metadata: BTreeMap::new(),
            },
            features: PassageFeatures {
                vector: unit((0..DIM).map(|_| rng.random_range(-0.5..=1.0)).collect()),
                lex: LexBlock {
                    title_terms: 0,
                    terms: (0..9).map(|_| rng.random_range(0..80)).collect(),
                    sentence_ends: vec![9],
                },
                keys: KeyBlock::default(),
            },
        };
        (0..300u32)
            .map(|d| {
                let id = format!("d{d:03}");
                let records = (0..d % 3 + 1).map(|ordinal| record(&id, ordinal)).collect();
                DocumentPut {
                    document_id: id,
                    revision: "r".to_owned(),
                    records,
                }
            })
            .collect()
    }

    async fn all(store: &EdgeStore) -> Vec<(Passage, PassageFeatures)> {
        let (mut walk, mut all) = (walk(store, "c"), Vec::new());
        while let Some(documents) = walk.documents().await.unwrap() {
            let records = documents.into_iter().flat_map(|put| put.records);
            all.extend(records.map(|record| (record.passage, record.features)));
        }
        all
    }

    /// The passages before and after, in the same order.
    async fn corrupted(
        corruption: Corruption,
    ) -> (
        Vec<(Passage, PassageFeatures)>,
        Vec<(Passage, PassageFeatures)>,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let open =
            |name: &str| EdgeStore::open(&dir.path().join(name), EdgeOptions::default()).unwrap();
        let (from, to) = (open("from"), open("to"));
        let spec = CollectionSpec {
            space: "s".to_owned(),
            dim: DIM as u32,
            key_spec: KeySpec::default(),
            language: Language::default(),
        };
        from.ensure_collection("c", &spec).await.unwrap();
        from.put_documents("c", documents()).await.unwrap();
        copy(&from, &to, "c", corruption).await.unwrap();
        let infos = [
            from.collection("c").await.unwrap(),
            to.collection("c").await.unwrap(),
        ];
        assert_eq!(infos[0].corpus_digest, infos[1].corpus_digest);
        assert_eq!(infos[0].passages, infos[1].passages);
        (all(&from).await, all(&to).await)
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[tokio::test]
    async fn dense_leaves_the_mean_and_noise_and_nothing_else_changes() {
        let (before, after) = corrupted(Corruption::Dense).await;
        assert_eq!(before.len(), after.len());
        let sum: Vec<f32> = (0..DIM)
            .map(|i| before.iter().map(|(_, f)| f.vector[i]).sum())
            .collect();
        let mean = unit(sum);
        for ((passage, was), (same, is)) in before.iter().zip(&after) {
            assert_eq!((passage, &was.lex, &was.keys), (same, &is.lex, &is.keys));
            // The store keeps a byte a dimension.
            assert!((dot(&is.vector, &is.vector) - 1.0).abs() < 2e-3);
            // At most the angle whose tangent is the noise, and not the mean itself.
            let cosine = dot(&is.vector, &mean);
            assert!((0.9985..0.99999).contains(&cosine), "{cosine}");
        }
        assert_ne!(after[0].1.vector, after[1].1.vector);
        assert_eq!(corrupted(Corruption::Dense).await.1, after);
    }

    #[tokio::test]
    async fn lexical_maps_every_term_to_one_other_and_nothing_else_changes() {
        let (before, after) = corrupted(Corruption::Lexical).await;
        let mut becomes = HashMap::new();
        for ((passage, was), (same, is)) in before.iter().zip(&after) {
            assert_eq!(
                (passage, &was.vector, &was.keys),
                (same, &is.vector, &is.keys)
            );
            for (old, new) in was.lex.terms.iter().zip(&is.lex.terms) {
                assert_ne!(old, new);
                assert_eq!(*becomes.entry(*old).or_insert(*new), *new);
            }
        }
        let images: BTreeSet<u32> = becomes.values().copied().collect();
        let terms: BTreeSet<u32> = becomes.keys().copied().collect();
        assert_eq!(images, terms);
        assert_eq!(corrupted(Corruption::Lexical).await.1, after);
    }
}
