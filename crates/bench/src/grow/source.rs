//! The real collection: its vectors in memory, everything else in its store.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use moerag_retrieve::{CorpusStats, KeyBlock, PassageFeatures};
use moerag_store::{
    CandidateQuery, CollectionSpec, Filter, Passage, PassageRef, PassageStore, point_id,
};
use uuid::Uuid;

use super::keys::pickable;
use super::vectors::cosine;

/// Nearest neighbours that a passage is mixed with.
const NEIGHBOURS: usize = 12;
/// Passages before and after it in its document that it is mixed with, too.
const BESIDE: usize = 2;

/// A passage and its keys.
pub(super) type Parts = (Passage, Arc<KeyBlock>);

/// Passages with their cosines, the nearest first.
type Near = Arc<[(u32, f32)]>;

/// The real collection. Passages are numbered in the order of the store.
pub(super) struct Source {
    store: Arc<dyn PassageStore>,
    collection: String,
    spec: CollectionSpec,
    dim: usize,
    at: Vec<PassageRef>,
    vectors: Vec<f32>,
    numbers: HashMap<Uuid, u32>,
    usable: Vec<u32>,
    /// Neighbours; looked for when they are first needed.
    near: Vec<Option<Near>>,
    partners: Vec<Option<Arc<[u32]>>>,
}

impl Source {
    pub(super) async fn new(store: Arc<dyn PassageStore>, collection: &str) -> Result<Self> {
        let spec = store.collection(collection).await?.spec;
        Ok(Self {
            store,
            collection: collection.to_owned(),
            dim: spec.dim as usize,
            spec,
            at: Vec::new(),
            vectors: Vec::new(),
            numbers: HashMap::new(),
            usable: Vec::new(),
            near: Vec::new(),
            partners: Vec::new(),
        })
    }

    /// Takes note of the next passage.
    pub(super) fn add(&mut self, passage: &Passage, features: &PassageFeatures) -> Result<()> {
        let (id, ordinal) = (&passage.document_id, passage.ordinal);
        let point = point_id(&self.collection, id, &passage.revision, ordinal);
        let number = u32::try_from(self.at.len()).context("more passages than are numbered")?;
        ensure!(
            features.vector.len() == self.dim,
            "{id} has {} dimensions, the collection {}",
            features.vector.len(),
            self.dim
        );
        self.at.push(PassageRef {
            document_id: id.clone(),
            ordinal,
            point,
        });
        self.vectors.extend_from_slice(&features.vector);
        self.numbers.insert(point, number);
        if pickable(&features.keys) > 0 {
            self.usable.push(number);
        }
        self.near.push(None);
        self.partners.push(None);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn collection(&self) -> &str {
        &self.collection
    }

    pub(super) fn spec(&self) -> &CollectionSpec {
        &self.spec
    }

    /// Passages with a sentence to pick.
    pub(super) fn usable(&self) -> &[u32] {
        &self.usable
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn vector(&self, number: u32) -> &[f32] {
        let at = number as usize * self.dim;
        &self.vectors[at..at + self.dim]
    }

    pub(super) async fn stats(&self) -> Result<Arc<CorpusStats>> {
        Ok(self.store.stats(&self.collection).await?)
    }

    /// What a passage can be mixed with: its nearest neighbours and those beside it in its document.
    /// Itself where it has neither.
    pub(super) async fn partners(&mut self, number: u32) -> Result<Arc<[u32]>> {
        let at = number as usize;
        if let Some(known) = &self.partners[at] {
            return Ok(Arc::clone(known));
        }
        let near = self.near(number).await?;
        let mut partners: Vec<u32> = near.iter().map(|(number, _)| *number).collect();
        let same = |other: &usize| self.at[*other].document_id == self.at[at].document_id;
        let beside = at.saturating_sub(BESIDE)..(at + BESIDE + 1).min(self.at.len());
        partners.extend(beside.filter(same).map(|other| other as u32));
        partners.sort_unstable();
        partners.dedup();
        partners.retain(|other| *other != number && self.usable.binary_search(other).is_ok());
        if partners.is_empty() {
            partners.push(number);
        }
        Ok(Arc::clone(self.partners[at].insert(partners.into())))
    }

    /// Cosine with the nearest neighbour, if there is another passage.
    pub(super) async fn top1(&mut self, number: u32) -> Result<Option<f32>> {
        Ok(self.near(number).await?.first().map(|(_, cosine)| *cosine))
    }

    async fn near(&mut self, number: u32) -> Result<Near> {
        if let Some(known) = &self.near[number as usize] {
            return Ok(Arc::clone(known));
        }
        let query = CandidateQuery {
            vector: self.vector(number).to_vec(),
            sparse: Vec::new(),
            n: NEIGHBOURS + 1,
            filter: Filter::default(),
        };
        let found = self.store.candidates(&self.collection, &query).await?;
        let mut near: Vec<(u32, f32)> = found
            .iter()
            .filter_map(|candidate| self.numbers.get(&candidate.at.point).copied())
            .filter(|other| *other != number)
            .map(|other| (other, cosine(self.vector(other), &query.vector)))
            .collect();
        near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(Arc::clone(self.near[number as usize].insert(near.into())))
    }

    /// Texts and keys of passages.
    pub(super) async fn parts(&self, numbers: &[u32]) -> Result<HashMap<u32, Parts>> {
        let refs = numbers
            .iter()
            .map(|number| self.at[*number as usize].clone());
        let refs: Vec<PassageRef> = refs.collect();
        let passages = self.store.passages(&self.collection, &refs).await?;
        let keys = self.store.keys(&self.collection, &refs).await?;
        let parts = passages.into_iter().zip(keys);
        numbers
            .iter()
            .zip(parts)
            .map(|(number, parts)| match parts {
                (Some(passage), Some(keys)) => Ok((*number, (passage, keys))),
                _ => anyhow::bail!(
                    "passage {} of {} went away meanwhile",
                    self.at[*number as usize].ordinal,
                    self.at[*number as usize].document_id
                ),
            })
            .collect()
    }
}
