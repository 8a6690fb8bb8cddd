//! Figures of the embedded store on made-up passages of real size (384 dimensions, 170 tokens).
//!
//! `cargo run -p moerag-store --example figures -- [PASSAGES] [DIRECTORY]`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use moerag_retrieve::keys::window_count;
use moerag_retrieve::{
    KeyBlock, KeySpec, Language, LexBlock, PassageFeatures, SentenceCodes, TokenCodes,
};
use moerag_store::{
    CandidateQuery, CollectionSpec, DocumentPut, EdgeOptions, EdgeStore, Filter, Passage,
    PassageRecord, PassageStore,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOKENS: usize = 170;
/// Codes of a passage: one and a half tokens share one.
const CODES: usize = 114;
const TERMS: usize = 90;
const PER_DOCUMENT: u32 = 5;
const BATCH: usize = 40;
const NAME: &str = "figures";

fn unit(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x / norm).collect()
}

/// Terms as skewed as words are.
fn term(rng: &mut ChaCha8Rng) -> u32 {
    (60_000.0 * rng.random_range(0.0f32..1.0).powi(4)) as u32
}

fn document(rng: &mut ChaCha8Rng, spec: &CollectionSpec, number: usize) -> DocumentPut {
    let dim = spec.dim as usize;
    let (document_id, revision) = (format!("file-{number}.md"), format!("{number:064x}"));
    let records = (0..PER_DOCUMENT)
        .map(|ordinal| PassageRecord {
            passage: Passage {
                document_id: document_id.clone(),
                ordinal,
                revision: revision.clone(),
                title: "A title > a heading".into(),
                text: "word ".repeat(160),
                start: 0,
                end: 800,
                sentences: (0..8).map(|i| i * 100..i * 100 + 99).collect(),
                metadata: [("path".to_owned(), document_id.clone())].into(),
            },
            features: PassageFeatures {
                vector: unit(rng, dim),
                lex: LexBlock {
                    title_terms: 3,
                    terms: (0..TERMS).map(|_| term(rng)).collect(),
                    sentence_ends: vec![TERMS as u32],
                },
                keys: KeyBlock {
                    wordpieces: (0..TOKENS as u32).map(|i| i * 250).collect(),
                    tokens: TokenCodes {
                        slots: (0..TOKENS).map(|j| (j * CODES / TOKENS) as u8).collect(),
                        codes: vec![0x5a; CODES * spec.key_spec.bytes_per_code()],
                        gains: vec![128; CODES],
                        centre: 0.5,
                    },
                    smooth_norms: vec![1; TOKENS],
                    window_norms: vec![1; window_count(TOKENS)],
                    mean_norm: 0.5,
                    sentence_tokens: vec![(0, 20); 8],
                    sentences: SentenceCodes {
                        codes: vec![1; 8 * spec.key_spec.bytes_per_sentence()],
                        steps: vec![100; 8],
                        centres: vec![40_000; 8],
                    },
                },
            },
        })
        .collect();
    DocumentPut {
        document_id,
        revision,
        records,
    }
}

/// Bytes on disk below a directory: of the whole, and of its databases alone.
fn disk_bytes(dir: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let (mut all, mut databases) = (0, 0);
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.path().is_dir() {
            let below = disk_bytes(&entry.path())?;
            (all, databases) = (all + below.0, databases + below.1);
        } else {
            let bytes = entry.metadata()?.blocks() * 512;
            all += bytes;
            databases += if entry.path().extension().is_some_and(|e| e == "redb") {
                bytes
            } else {
                0
            };
        }
    }
    Ok((all, databases))
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let passages: usize = args.next().map_or(Ok(10_000), |text| text.parse())?;
    let keep = args.next().map(PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let dir = keep.unwrap_or_else(|| temporary.path().to_owned());
    let spec = CollectionSpec {
        space: "figures".into(),
        dim: 384,
        key_spec: KeySpec::default(),
        language: Language::English,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let store = EdgeStore::open(&dir, EdgeOptions::default())?;
    store.ensure_collection(NAME, &spec).await?;
    println!(
        "empty collection: {} MiB on disk",
        disk_bytes(&dir)?.0 >> 20
    );

    let documents = passages / PER_DOCUMENT as usize;
    let (mut spent, mut slowest) = (0.0, 0.0f64);
    for from in (0..documents).step_by(BATCH) {
        let end = documents.min(from + BATCH);
        let batch = (from..end).map(|n| document(&mut rng, &spec, n)).collect();
        let start = Instant::now();
        store.put_documents(NAME, batch).await?;
        let seconds = start.elapsed().as_secs_f64();
        spent += seconds;
        slowest = slowest.max(seconds);
    }
    println!(
        "ingest: {:.0} passages/s, searchable and durable, in writes of {} documents; slowest {:.0} ms",
        passages as f64 / spent,
        BATCH,
        slowest * 1e3
    );
    let single = document(&mut rng, &spec, documents);
    let start = Instant::now();
    store.put_documents(NAME, vec![single]).await?;
    println!(
        "one document of {PER_DOCUMENT} passages: {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );

    let stats = store.stats(NAME).await?;
    let mut stages = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..300 {
        let mut terms: Vec<u32> = (0..8).map(|_| term(&mut rng)).collect();
        terms.sort_unstable();
        terms.dedup();
        let sparse = terms
            .iter()
            .filter_map(|t| Some((*t, stats.idf(*t)?)))
            .collect();
        let vector = unit(&mut rng, 384);
        let query = CandidateQuery {
            vector,
            sparse,
            n: 100,
            filter: Filter::default(),
        };
        let start = Instant::now();
        let found = store.candidates(NAME, &query).await?;
        stages[0].push(start.elapsed().as_secs_f64() * 1e3);
        let refs: Vec<_> = found.into_iter().take(128).map(|c| c.at).collect();
        let start = Instant::now();
        store.keys(NAME, &refs).await?;
        stages[1].push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        store.passages(NAME, &refs[..refs.len().min(10)]).await?;
        stages[2].push(start.elapsed().as_secs_f64() * 1e3);
    }
    for (name, times) in ["candidates, n = 100", "keys of 128", "10 passages"]
        .iter()
        .zip(&mut stages)
    {
        times.sort_by(f64::total_cmp);
        println!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms",
            quantile(times, 0.5),
            quantile(times, 0.99)
        );
    }
    let start = Instant::now();
    drop(store);
    println!("close: {:.2} s", start.elapsed().as_secs_f64());
    let (all, databases) = disk_bytes(&dir)?;
    println!("disk: {} MiB, databases {} MiB", all >> 20, databases >> 20);
    let start = Instant::now();
    let store = EdgeStore::open(&dir, EdgeOptions::default())?;
    println!("reopen: {:.2} s", start.elapsed().as_secs_f64());
    drop(store);
    for entry in fs_err::read_dir(dir.join("collections").join(NAME))? {
        let path = entry?.path();
        if path.is_dir() {
            fs_err::remove_dir_all(path)?;
        }
    }
    let start = Instant::now();
    let store = EdgeStore::open(&dir, EdgeOptions::default())?;
    println!(
        "reopen with the index gone: {:.2} s",
        start.elapsed().as_secs_f64()
    );
    store.health().await?;
    Ok(())
}
