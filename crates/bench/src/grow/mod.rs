//! `moerag-bench grow`: a larger embedded store made out of a real one, without encoding anything.
//!
//! The real passages come first. Each synthetic one mixes whole sentences of a real passage and of a
//! near neighbour of it, so clusters and the frequencies of words stay those of real text: what does
//! not grow is the vocabulary. Its vector is the mixture of the two with noise of the collection's own
//! covariance, as much of it as keeps the distance to the nearest neighbour what it was. Every passage
//! depends on the seed and on its number alone, so an interrupted run goes on where it ended.

mod keys;
mod mix;
mod sample;
mod source;
mod vectors;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use moerag_store::{CandidateQuery, EdgeOptions, EdgeStore, Filter, PassageStore};
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::sample::Sample;
use self::source::Source;
use self::vectors::{Noise, Pool, fit_noise};
use self::write::Grower;
use crate::args::Grow;
use crate::quantile::median;

/// Real passages that the noise is fitted to.
const PROBES: usize = 128;
/// Longer than the quiet time after which the store optimizes its index; an index of this size has
/// to have been optimized before the store is closed.
const SETTLE: Duration = Duration::from_secs(1);

/// Grows the store and prints what came of it.
pub(crate) async fn run(args: Grow) -> Result<()> {
    crate::output::line(&grow(args).await?.to_string())
}

async fn grow(args: Grow) -> Result<Value> {
    ensure!(
        args.from != args.to,
        "--from and --to are the same directory"
    );
    let started = Instant::now();
    let from = open(&args.from).await?;
    let to = open(&args.to).await?;
    let name = args.collection.as_str();
    let mut sampled = Sample::new(PROBES, args.seed);
    let mut source = write::copy(from, Arc::clone(&to), name, &mut sampled).await?;
    let real = source.len();
    ensure!(
        args.passages >= real,
        "--passages is {}, but the collection has {real} already",
        args.passages
    );
    tracing::info!(passages = real, "real passages copied");

    let synthetic = args.passages - real;
    let noise = Noise::new(&source);
    let (top1_real, sigma) = fit(&mut source, &noise, synthetic, args.seed).await?;
    tracing::info!(top1_real, sigma, "noise fitted");
    let grower = Grower::new(source, Arc::clone(&to), noise, sigma, args.seed).await?;
    let source = grower.grow(synthetic, &mut sampled).await?;
    tokio::time::sleep(SETTLE).await;

    let top1_grown = top1_of(&*to, name, &sampled).await?;
    let stats = [source.stats().await?, to.stats(name).await?];
    let report = json!({
        "passages": stats[1].n(),
        "real_passages": real,
        "top1_real": top1_real,
        "top1_grown": top1_grown,
        "noise": sigma,
        "terms_per_passage": [stats[0].avg_len(), stats[1].avg_len()],
        "vocabulary": [stats[0].vocabulary(), stats[1].vocabulary()],
        "seconds": started.elapsed().as_secs_f64(),
    });
    // Closing waits for the graph; the figures are to be believed only after it.
    tokio::task::spawn_blocking(move || drop((source, to)))
        .await
        .context("closing the stores")?;
    Ok(report)
}

async fn open(dir: &Path) -> Result<Arc<dyn PassageStore>> {
    let path = dir.to_owned();
    let options = EdgeOptions {
        build_wait: Duration::MAX,
        ..EdgeOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || EdgeStore::open(&path, options)).await?;
    Ok(Arc::new(opened.with_context(|| {
        format!("opening the store in {}", dir.display())
    })?))
}

/// The median cosine with the nearest neighbour in the real collection, and the noise that keeps it.
async fn fit(
    source: &mut Source,
    noise: &Noise,
    synthetic: usize,
    seed: u64,
) -> Result<(f64, f32)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX);
    let usable = source.usable().to_vec();
    let probes = index::sample(&mut rng, usable.len(), PROBES.min(usable.len()));
    let siblings = synthetic as f64 / usable.len() as f64;
    let (mut nearest, mut pools) = (Vec::new(), Vec::new());
    for probe in probes {
        let base = usable[probe];
        nearest.extend(source.top1(base).await?.map(f64::from));
        let mut pool = Pool::new(base);
        let cluster = [&[base], source.partners(base).await?.as_ref()].concat();
        for member in cluster {
            // As many as the grown store has, the fraction by chance.
            let count = siblings.trunc() as usize + usize::from(rng.random_bool(siblings.fract()));
            let partners = source.partners(member).await?;
            pool.add(member, partners, count, &mut rng);
        }
        pools.push(pool);
    }
    let target = median(&nearest).context("the collection has a single passage")?;
    Ok((target, fit_noise(source, noise, &pools, target, &mut rng)))
}

/// The median cosine with the nearest neighbour in the grown store, over the sampled passages.
async fn top1_of(store: &dyn PassageStore, name: &str, sampled: &Sample) -> Result<Option<f64>> {
    let mut nearest = Vec::new();
    for (document_id, vector) in sampled.passages() {
        let query = CandidateQuery {
            vector: vector.clone(),
            sparse: Vec::new(),
            n: 2,
            filter: Filter::default(),
        };
        let found = store.candidates(name, &query).await?;
        let others = found
            .iter()
            .filter(|candidate| candidate.at.document_id != *document_id)
            .map(|candidate| vectors::cosine(&candidate.vector, vector));
        nearest.extend(others.max_by(f32::total_cmp).map(f64::from));
    }
    Ok(median(&nearest))
}

#[cfg(test)]
mod tests;
