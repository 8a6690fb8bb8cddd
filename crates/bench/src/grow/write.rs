//! Writes the real passages and then the synthetic ones, group by group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use moerag_retrieve::lex::lex_block;
use moerag_retrieve::{Analyzer, PassageFeatures, TokenCodec};
use moerag_store::{
    Document, DocumentPut, DocumentWalk, Passage, PassageRecord, PassageStore, revision,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::keys;
use super::mix;
use super::sample::Sample;
use super::source::{Parts, Source};
use super::vectors::{Noise, mixture, noisy};

/// Documents in one durable write: some 8 MB, and a write of the statistics only for so many.
const GROUP: usize = 512;
/// Groups between two lines of progress.
const PROGRESS_EVERY: usize = 10;

/// Copies the collection and takes note of its passages.
pub(super) async fn copy(
    from: Arc<dyn PassageStore>,
    to: Arc<dyn PassageStore>,
    name: &str,
    sample: &mut Sample,
) -> Result<Source> {
    let mut source = Source::new(Arc::clone(&from), name).await?;
    to.ensure_collection(name, source.spec()).await?;
    let mut walk = DocumentWalk::new(&*from, name, GROUP);
    while let Some(documents) = walk.documents().await? {
        for record in documents.iter().flat_map(|put| &put.records) {
            source.add(&record.passage, &record.features)?;
        }
        documents.iter().for_each(|put| sample.offer(put));
        to.put_documents(name, documents).await?;
    }
    Ok(source)
}

/// Makes and writes synthetic passages.
pub(super) struct Grower {
    source: Source,
    to: Arc<dyn PassageStore>,
    noise: Noise,
    sigma: f32,
    seed: u64,
    analyzer: Analyzer,
    codec: TokenCodec,
}

/// A synthetic passage to make: its number, its base and the base's partner.
struct Plan {
    number: usize,
    of: [u32; 2],
    rng: ChaCha8Rng,
}

impl Grower {
    pub(super) async fn new(
        source: Source,
        to: Arc<dyn PassageStore>,
        noise: Noise,
        sigma: f32,
        seed: u64,
    ) -> Result<Self> {
        Ok(Self {
            analyzer: Analyzer::new(source.spec().language),
            codec: TokenCodec::new(&source.spec().key_spec),
            source,
            to,
            noise,
            sigma,
            seed,
        })
    }

    /// Writes `count` synthetic passages; those that an earlier run wrote are passed over.
    pub(super) async fn grow(mut self, count: usize, sample: &mut Sample) -> Result<Source> {
        let (started, mut made) = (Instant::now(), 0);
        for (group, first) in (0..count).step_by(GROUP).enumerate() {
            let numbers = first..(first + GROUP).min(count);
            let ids: Vec<String> = numbers.clone().map(document_id).collect();
            let there = self.to.revisions(self.source.collection(), &ids).await?;
            let mut plans = Vec::with_capacity(ids.len());
            for (number, id) in numbers.clone().zip(&ids) {
                if !there.contains_key(id) {
                    plans.push(self.plan(number).await?);
                }
            }
            let mut needed: Vec<u32> = plans.iter().flat_map(|plan| plan.of).collect();
            needed.sort_unstable();
            needed.dedup();
            let parts = self.source.parts(&needed).await?;
            let puts = plans.into_par_iter().map(|plan| self.make(plan, &parts));
            let puts = puts.collect::<Result<Vec<DocumentPut>>>()?;
            puts.iter().for_each(|put| sample.offer(put));
            made += puts.len();
            self.to
                .put_documents(self.source.collection(), puts)
                .await?;
            if group % PROGRESS_EVERY == 0 && made > 0 {
                let per_s = made as f64 / started.elapsed().as_secs_f64();
                tracing::info!(done = numbers.end, of = count, per_s, "growing");
            }
        }
        Ok(self.source)
    }

    async fn plan(&mut self, number: usize) -> Result<Plan> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number as u64);
        let usable = self.source.usable();
        let base = usable[rng.random_range(0..usable.len())];
        let partners = self.source.partners(base).await?;
        let partner = partners[rng.random_range(0..partners.len())];
        Ok(Plan {
            number,
            of: [base, partner],
            rng,
        })
    }

    fn make(&self, mut plan: Plan, parts: &HashMap<u32, Parts>) -> Result<DocumentPut> {
        let [a, b] = plan.of;
        let base = parts.get(&a).context("the base was not read")?;
        let partner = parts.get(&b).context("the partner was not read")?;
        let lengths = [base, partner].map(|(passage, keys)| {
            let sentences = passage.sentences.iter().take(keys::pickable(keys));
            sentences
                .map(ExactSizeIterator::len)
                .collect::<Vec<usize>>()
        });
        let lengths = [&lengths[0][..], &lengths[1][..]];
        let picks = mix::choose(&mut plan.rng, lengths);
        let (text, sentences) = mix::text([&base.0, &partner.0], &picks);
        let mixed = mixture(
            self.source.vector(a),
            self.source.vector(b),
            mix::share(lengths, &picks),
        );
        let noise = self.noise.draw(&self.source, &mut plan.rng);
        let title = base.0.title.clone();
        let vector = noisy(&mixed, &noise, self.sigma);
        let features = PassageFeatures {
            lex: lex_block(&self.analyzer, &title, &text, &sentences),
            keys: keys::assemble(&self.codec, &vector, [&base.1, &partner.1], &picks),
            vector,
        };
        let document = Document {
            id: document_id(plan.number),
            title,
            text,
            metadata: base.0.metadata.clone(),
            whole: true,
            ..Document::default()
        };
        let passage = Passage {
            document_id: document.id.clone(),
            ordinal: 0,
            revision: revision(&document, self.codec.spec()),
            title: document.title,
            start: 0,
            end: document.text.len(),
            text: document.text,
            sentences,
            metadata: document.metadata,
        };
        Ok(DocumentPut {
            document_id: document.id,
            revision: passage.revision.clone(),
            records: vec![PassageRecord { passage, features }],
        })
    }
}

fn document_id(number: usize) -> String {
    format!("grown-{number:09}")
}
