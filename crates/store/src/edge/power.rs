//! Power loss: nothing is acknowledged before it is on disk.
//!
//! The database runs on a made-up disk that loses, at a random moment, any part of what was written
//! since the last sync, in 512-byte sectors and in any order. Then it is opened again from what is left.
//! The same disk, running full instead, shows that a failed write costs nothing but itself.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use moerag_retrieve::{
    CorpusStats, KeyBlock, KeySpec, Language, LexBlock, PassageFeatures, TokenCode,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::{Database, StorageBackend};

use super::truth::{Opener, Truth};
use crate::error::StoreError;
use crate::passage::{Passage, PassageRecord};
use crate::spec::CollectionSpec;
use crate::store::DocumentPut;

const SECTOR: usize = 512;

/// What is on the disk, what was written since the last sync, and when the power goes.
#[derive(Default)]
struct Disk {
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Sectors written since the last sync, and lengths set.
    pending: Vec<Pending>,
    operations_left: usize,
    syncs: usize,
}

enum Pending {
    Sector(usize, Vec<u8>),
    Length(usize),
}

impl Disk {
    fn tick(&mut self) -> Result<()> {
        // The error of a full disk; a lost power is the same to the database, which sees no more.
        let full = || Error::from(ErrorKind::StorageFull);
        self.operations_left = self.operations_left.checked_sub(1).ok_or_else(full)?;
        Ok(())
    }

    /// What is left after the power went: of the pending changes any subset.
    fn after_power_loss(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut left = self.durable.clone();
        for change in &self.pending {
            match change {
                _ if rng.random_bool(0.5) => {}
                Pending::Length(length) => left.resize((*length).max(left.len()), 0),
                Pending::Sector(at, bytes) => {
                    left.resize(left.len().max(at + bytes.len()), 0);
                    left[*at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        left
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Disk>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("made-up disk")
    }
}

impl Shared {
    fn holding(image: Vec<u8>, operations_left: usize) -> Self {
        let disk = Disk {
            durable: image.clone(),
            current: image,
            operations_left,
            ..Disk::default()
        };
        Self(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    fn opener(&self) -> Opener {
        let disk = self.clone();
        Box::new(move || Database::builder().create_with_backend(disk.clone()))
    }
}

impl StorageBackend for Shared {
    fn len(&self) -> Result<u64> {
        Ok(self.disk().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let disk = self.disk();
        let from = offset as usize;
        let source = disk.current.get(from..from + out.len());
        out.copy_from_slice(source.ok_or(Error::other("read behind the end"))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        let mut disk = self.disk();
        disk.tick()?;
        disk.current.resize(length as usize, 0);
        disk.pending.push(Pending::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut disk = self.disk();
        disk.tick()?;
        disk.durable = disk.current.clone();
        disk.pending.clear();
        disk.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut disk = self.disk();
        disk.tick()?;
        let from = offset as usize;
        disk.current[from..from + data.len()].copy_from_slice(data);
        let mut at = from;
        while at < from + data.len() {
            let end = ((at / SECTOR + 1) * SECTOR).min(from + data.len());
            disk.pending
                .push(Pending::Sector(at, data[at - from..end - from].to_vec()));
            at = end;
        }
        Ok(())
    }
}

fn spec() -> CollectionSpec {
    let key_spec = KeySpec {
        version: 1,
        dims: 8,
        code: TokenCode::Sign1,
        pooling: 15,
        rotation_seed: 0,
    };
    CollectionSpec {
        space: "test".into(),
        dim: 8,
        key_spec,
        language: Language::English,
    }
}

fn put(id: u32, version: u32) -> DocumentPut {
    let (document_id, revision) = (format!("d{id}"), format!("r{version}"));
    let record = |ordinal: u32| PassageRecord {
        passage: Passage {
            document_id: document_id.clone(),
            ordinal,
            revision: revision.clone(),
            title: String::new(),
            text: format!("text {version} ").repeat(50),
            start: 0,
            end: 1,
            sentences: vec![],
            metadata: BTreeMap::new(),
        },
        features: PassageFeatures {
            vector: vec![version as f32; 8],
            lex: LexBlock {
                title_terms: 0,
                terms: vec![version % 50, id],
                sentence_ends: vec![2],
            },
            keys: KeyBlock::default(),
        },
    };
    DocumentPut {
        records: (0..1 + version % 4).map(record).collect(),
        document_id,
        revision,
    }
}

/// Opens what is left and compares it with what was acknowledged; returns it closed.
fn check(path: &Path, image: Vec<u8>, acknowledged: &BTreeMap<u32, u32>) -> Vec<u8> {
    let disk = Shared::holding(image, usize::MAX);
    let truth = Truth::open(path, disk.opener(), "c").unwrap().unwrap();
    let snapshot = truth.committed();
    let mut stats = CorpusStats::default();
    for (id, version) in acknowledged {
        let expected = put(*id, *version);
        let row = snapshot.document(&expected.document_id).unwrap().unwrap();
        assert_eq!(row.revision, expected.revision);
        assert_eq!(row.passages as usize, expected.records.len());
        for record in &expected.records {
            let found = snapshot.passage(&expected.document_id, record.passage.ordinal);
            assert_eq!(found.unwrap().as_ref(), Some(&record.passage));
            stats.add(&record.features);
        }
    }
    assert_eq!(snapshot.stats.digest(), stats.digest());
    assert_eq!(snapshot.passage_count().unwrap(), stats.n());
    drop(snapshot);
    drop(truth);
    disk.disk().durable.clone()
}

#[test]
fn what_was_acknowledged_survives_power_loss() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let path = Path::new("made-up disk");
    let first = Shared::holding(Vec::new(), usize::MAX);
    Truth::create(path, &first.opener(), &spec()).unwrap();
    let mut image = first.disk().durable.clone();
    // Document -> version last acknowledged, and versions that a lost power cut off.
    let mut acknowledged: BTreeMap<u32, u32> = BTreeMap::new();
    let mut version = 0;
    let mut interrupted = 0;
    for _ in 0..60 {
        let disk = Shared::holding(image, rng.random_range(20..400));
        let mut open: BTreeMap<u32, u32> = BTreeMap::new();
        if let Ok(Some(truth)) = Truth::open(path, disk.opener(), "c") {
            loop {
                let batch: BTreeMap<u32, u32> = (0..rng.random_range(1..4))
                    .map(|_| {
                        version += 1;
                        (rng.random_range(0..12), version)
                    })
                    .collect();
                let documents: Vec<_> = batch.iter().map(|(id, v)| put(*id, *v)).collect();
                let syncs = disk.disk().syncs;
                if truth.put(&documents).is_err() {
                    open = batch;
                    interrupted += 1;
                    break;
                }
                assert!(disk.disk().syncs > syncs, "acknowledged without a sync");
                acknowledged.extend(batch);
                if rng.random_bool(0.1) {
                    // The power may as well go right after the acknowledgement.
                    let left = disk.disk().after_power_loss(&mut rng);
                    check(path, left, &acknowledged);
                }
            }
        }
        image = disk.disk().after_power_loss(&mut rng);

        let rest = Shared::holding(image.clone(), usize::MAX);
        let truth = Truth::open(path, rest.opener(), "c").unwrap().unwrap();
        let snapshot = truth.committed();
        let whole = open.iter().map(|(id, v)| {
            snapshot
                .document(&format!("d{id}"))
                .unwrap()
                .is_some_and(|r| r.revision == format!("r{v}"))
        });
        let landed: Vec<bool> = whole.collect();
        assert!(
            landed.iter().all(|l| *l == landed[0]),
            "one transaction is there by halves"
        );
        if landed.first() == Some(&true) {
            acknowledged.extend(open);
        }
        drop(snapshot);
        drop(truth);
        image = check(path, image, &acknowledged);
    }
    assert!(interrupted > 30 && acknowledged.len() == 12);
}

#[test]
fn a_full_disk_fails_the_write_and_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let path = Path::new("made-up disk");
    let disk = Shared::holding(Vec::new(), usize::MAX);
    Truth::create(path, &disk.opener(), &spec()).unwrap();
    let truth = Truth::open(path, disk.opener(), "c").unwrap().unwrap();
    let mut acknowledged: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut version, mut refused) = (0, 0);
    for _ in 0..150 {
        version += 1;
        let id = rng.random_range(0..12);
        disk.disk().operations_left = rng.random_range(0..60);
        match truth.put(&[put(id, version)]) {
            Ok(()) => {
                acknowledged.insert(id, version);
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Database { .. }), "{error}");
                refused += 1;
            }
        }
        // Room again: what was committed reads, whether or not the failed write has landed.
        disk.disk().operations_left = usize::MAX;
        truth.heal().unwrap();
        let row = truth.committed().document(&format!("d{id}")).unwrap();
        if row.is_some_and(|row| row.revision == format!("r{version}")) {
            acknowledged.insert(id, version);
        }
        for (id, version) in &acknowledged {
            let row = truth
                .committed()
                .document(&format!("d{id}"))
                .unwrap()
                .unwrap();
            assert_eq!(row.revision, format!("r{version}"));
        }
    }
    assert!(
        refused > 30 && refused < 140,
        "{refused} of 150 writes refused"
    );
    drop(truth);
    let image = disk.disk().current.clone();
    check(path, image, &acknowledged);
}
