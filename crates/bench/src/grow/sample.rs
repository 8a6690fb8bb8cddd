//! A fair sample of what was written, to measure the grown store by.

use moerag_store::DocumentPut;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Document ids and vectors of passages, each passage with the same chance.
pub(super) struct Sample {
    rng: ChaCha8Rng,
    size: usize,
    seen: usize,
    kept: Vec<(String, Vec<f32>)>,
}

impl Sample {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            size,
            seen: 0,
            kept: Vec::new(),
        }
    }

    pub(super) fn passages(&self) -> &[(String, Vec<f32>)] {
        &self.kept
    }

    /// Reservoir sampling: the n-th passage is kept with probability size / n.
    pub(super) fn offer(&mut self, put: &DocumentPut) {
        for record in &put.records {
            self.seen += 1;
            let place = self.rng.random_range(0..self.seen);
            if self.kept.len() < self.size || place < self.size {
                let entry = (put.document_id.clone(), record.features.vector.clone());
                if self.kept.len() < self.size {
                    self.kept.push(entry);
                } else {
                    self.kept[place] = entry;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use moerag_retrieve::PassageFeatures;
    use moerag_store::{Passage, PassageRecord};

    use super::*;

    fn put(number: usize) -> DocumentPut {
        let passage = Passage {
            document_id: number.to_string(),
            ordinal: 0,
            revision: "r".into(),
            title: String::new(),
            text: String::new(),
            start: 0,
            end: 0,
            sentences: Vec::new(),
            metadata: Default::default(),
        };
        DocumentPut {
            document_id: passage.document_id.clone(),
            revision: passage.revision.clone(),
            records: vec![PassageRecord {
                passage,
                features: PassageFeatures {
                    vector: vec![number as f32],
                    ..PassageFeatures::default()
                },
            }],
        }
    }

    #[test]
    fn late_passages_have_the_same_chance_as_early_ones() {
        let mut late = 0;
        for seed in 0..40 {
            let mut sample = Sample::new(10, seed);
            (0..100).for_each(|number| sample.offer(&put(number)));
            assert_eq!(sample.passages().len(), 10);
            late += sample
                .passages()
                .iter()
                .filter(|(_, v)| v[0] >= 50.0)
                .count();
        }
        assert!(
            (150..250).contains(&late),
            "{late} of 400 from the second half"
        );
    }
}
