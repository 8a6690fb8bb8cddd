//! `moerag-bench scale`: what the size of a collection costs, measured on stores of several sizes.
//!
//! For each store the real `router-service` is started over it, asked, and stopped; then the store is
//! opened in this process and its candidate lists are compared with an exact scan. A store's files are read
//! before, so that what is measured is the router and not when the disk was read last.

mod queries;
mod recall;
mod report;
mod router;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use moerag_encoder::{DeviceKind, Encoder};
use moerag_proto::v1::AttendRequest;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use serde::Serialize;

use self::recall::Recall;
use self::router::Router;
use crate::args::Scale;
use crate::connect::{MAX_MESSAGE_BYTES, connect, refusal};
use crate::drive::load::{add_stages, stage_medians};
use crate::proc;
use crate::quantile::quantile;

/// Queries before the measured ones: they fill pools and caches.
const WARM_UP: usize = 20;
/// Queries whose candidates are compared with an exact scan.
const RECALL_QUERIES: usize = 100;

/// The figures of one store.
#[derive(Debug, Serialize)]
struct Row {
    /// Name of the store's directory.
    store: String,
    passages: u64,
    /// From the start of the process to SERVING.
    start_s: f64,
    queries: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// Median of each stage of the replies, in milliseconds.
    stages_ms: BTreeMap<String, f64>,
    /// Resident memory of the router after the queries.
    rss_mb: f64,
    /// The same without mapped files.
    rss_anon_mb: f64,
    /// What the store takes on disk, less the texts, by passage.
    disk_bytes_per_passage: f64,
    /// Bytes of title and text of a passage.
    text_bytes_per_passage: f64,
    #[serde(flatten)]
    recall: Recall,
}

/// Measures every store, writes and prints the figures.
pub(crate) async fn run(args: Scale) -> Result<()> {
    fs_err::create_dir_all(&args.out)?;
    let queries = queries::read(&args.queries, WARM_UP + args.count)?;
    ensure!(
        queries.len() > WARM_UP,
        "{} has {} distinct queries, {} are needed to warm up alone",
        args.queries.display(),
        queries.len(),
        WARM_UP
    );
    let mut rows = Vec::new();
    for store in &args.stores {
        let row = measure(&args, store, &queries)
            .await
            .with_context(|| format!("measuring {}", store.display()))?;
        tracing::info!(store = row.store, p50_ms = row.p50_ms, "measured");
        rows.push(row);
        // After each, so that a long run that breaks off has not been in vain.
        rows.sort_by_key(|row| row.passages);
        report::write(&args.out, &rows)?;
    }
    crate::output::line(&report::table(&rows))
}

async fn measure(args: &Scale, store: &Path, queries: &[String]) -> Result<Row> {
    let name = store.file_name().unwrap_or(store.as_os_str());
    let before = store.to_owned();
    tokio::task::spawn_blocking(move || read_through(&before)).await??;
    let started = Instant::now();
    let router = Router::start(store, &args.encoder_dir, args.checkpoints.as_deref()).await?;
    let start_s = started.elapsed().as_secs_f64();
    let asked = ask(router.url(), &args.collection, queries).await?;
    let memory = proc::resources(router.pid())?;
    router.stop().await?;
    let disk = disk_bytes(store)?;

    let dir = args.encoder_dir.clone();
    let load = move || Encoder::load(&dir, DeviceKind::Flex);
    let encoder = Arc::new(tokio::task::spawn_blocking(load).await??);
    let sample = &queries[WARM_UP..];
    let sample = &sample[..sample.len().min(RECALL_QUERIES)];
    let compared = recall::compare(store, &args.collection, &encoder, sample).await?;
    let per_passage = |bytes: u64| bytes as f64 / compared.passages.max(1) as f64;
    let stages = stage_medians(&asked.stages).into_iter();
    Ok(Row {
        store: name.to_string_lossy().into_owned(),
        passages: compared.passages,
        start_s,
        queries: asked.ms.len(),
        p50_ms: quantile(&asked.ms, 0.5).context("no query was asked")?,
        p99_ms: quantile(&asked.ms, 0.99).context("no query was asked")?,
        stages_ms: stages
            .map(|(stage, micros)| (stage.to_owned(), micros / 1e3))
            .collect(),
        rss_mb: memory.rss_mb,
        rss_anon_mb: memory.rss_anon_mb,
        disk_bytes_per_passage: per_passage(disk.saturating_sub(compared.text_bytes)),
        text_bytes_per_passage: per_passage(compared.text_bytes),
        recall: compared.recall,
    })
}

/// Times of the replies in milliseconds, and of their stages in microseconds.
struct Asked {
    ms: Vec<f64>,
    stages: BTreeMap<String, Vec<f64>>,
}

/// Asks one query after the other; the first ones only warm up.
async fn ask(url: &str, collection: &str, queries: &[String]) -> Result<Asked> {
    let channel = connect(url).await?;
    let mut client = RouterServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut asked = Asked {
        ms: Vec::new(),
        stages: BTreeMap::new(),
    };
    for (number, query) in queries.iter().enumerate() {
        let request = AttendRequest {
            query: query.clone(),
            collections: vec![collection.to_owned()],
            truncate: true,
            ..AttendRequest::default()
        };
        let started = Instant::now();
        let reply = client.attend(request).await;
        let elapsed = started.elapsed();
        let reply = reply.map_err(|status| refusal("cannot attend", &status))?;
        if number >= WARM_UP {
            asked.ms.push(elapsed.as_secs_f64() * 1e3);
            add_stages(&mut asked.stages, reply.get_ref());
        }
    }
    Ok(asked)
}

/// What a directory takes on disk, as `du` counts it: blocks, not lengths, as logs are allocated in
/// advance and files have holes.
fn disk_bytes(dir: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    walk(dir, &mut |_, metadata| {
        bytes += metadata.blocks() * BLOCK;
        Ok(())
    })?;
    Ok(bytes)
}

/// Reads all files of a directory, which leaves them in the page cache where there is room.
fn read_through(dir: &Path) -> Result<()> {
    walk(dir, &mut |path, metadata| {
        if metadata.is_file() {
            std::io::copy(&mut fs_err::File::open(path)?, &mut std::io::sink())?;
        }
        Ok(())
    })
}

/// Calls `visit` for everything below a directory.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn disk_use_counts_what_lies_below() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("sub")).unwrap();
        let before = disk_bytes(dir.path()).unwrap();
        let file = dir.path().join("sub/data");
        fs_err::write(&file, vec![7u8; 100_000]).unwrap();
        // Delayed allocation: blocks are counted once they are written.
        fs_err::File::open(&file).unwrap().sync_all().unwrap();
        let after = disk_bytes(dir.path()).unwrap();
        assert!(
            (100_000..200_000).contains(&(after - before)),
            "{before} {after}"
        );
    }
}
