//! Points from the truth into a shard: those of a journal, or all of them into a new one.

use std::time::Instant;

use uuid::Uuid;

use super::disk::require_room;
use super::index::{Entry, Index};
use super::rows::{IndexMark, Point};
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::error::StoreError;
use crate::tags::tags;

/// Names of shard directories start with this.
pub(super) const INDEX_PREFIX: &str = "index-";
/// Points in one operation of the shard.
pub(super) const BATCH: usize = 256;
/// Changes after which the shard is flushed although writes go on. Bounds its log and the journal.
pub(super) const FLUSH_AFTER: usize = 8_192;
/// Room that a point takes in a new shard beside its vector, log included.
const BYTES_PER_POINT: u64 = 2_048;

/// A new shard and the state of the truth that it has.
pub(super) struct Filled {
    pub(super) index: Index,
    pub(super) mark: IndexMark,
}

/// Builds a shard from the newest committed state. A large one gets its graph on the way: a point
/// costs the more, the more there are without (the shard's sparse index is fast to add to while it is
/// small).
pub(super) fn fill(shared: &Shared) -> Result<Filled, StoreError> {
    let started = Instant::now();
    let target = shared.truth.committed();
    let points = target.passage_count()?;
    let (dim, hnsw_from) = shared.shape();
    let incoming = points.saturating_mul(BYTES_PER_POINT + dim as u64 * 8);
    require_room(&shared.dir, shared.options.reserve_bytes / 2, incoming)?;
    let name = format!("{INDEX_PREFIX}{}", Uuid::new_v4().simple());
    let index = Index::create(&shared.dir.join(&name), dim, hnsw_from)?;
    let mut batch = Vec::with_capacity(BATCH);
    let (mut unflushed, mut unoptimized) = (0, 0);
    for point in target.points()? {
        batch.push(point?);
        if batch.len() == BATCH {
            insert_points(&index, &target, &batch)?;
            unflushed += batch.len();
            unoptimized += batch.len();
            batch.clear();
        }
        if unflushed >= FLUSH_AFTER {
            index.flush()?;
            unflushed = 0;
            if unoptimized >= hnsw_from && index.optimize()? {
                unoptimized = 0;
            }
        }
    }
    insert_points(&index, &target, &batch)?;
    unoptimized += batch.len();
    index.flush()?;
    tracing::info!(
        collection = shared.name,
        points,
        seconds = started.elapsed().as_secs_f32(),
        "search index built"
    );
    let mark = IndexMark {
        dir: name,
        seq: target.seq,
        avg_len: target.stats.avg_len(),
        unoptimized: unoptimized as u64,
    };
    Ok(Filled { index, mark })
}

/// Inserts those of `points` that are live in `target`.
pub(super) fn insert(index: &Index, target: &Snapshot, points: &[u128]) -> Result<(), StoreError> {
    for batch in points.chunks(BATCH) {
        let mut live = Vec::with_capacity(batch.len());
        for point in batch {
            live.extend(target.point(*point)?);
        }
        insert_points(index, target, &live)?;
    }
    Ok(())
}

fn insert_points(index: &Index, target: &Snapshot, points: &[Point]) -> Result<(), StoreError> {
    if points.is_empty() {
        return Ok(());
    }
    let mut entries = Vec::with_capacity(points.len());
    for point in points {
        let tags = tags(&target.metadata(point.number)?);
        entries.push(Entry { point, tags });
    }
    index.insert(&entries, &target.stats)
}

/// Removes points; unknown ones are passed over.
pub(super) fn remove(index: &Index, points: &[u128]) -> Result<(), StoreError> {
    points
        .chunks(BATCH)
        .try_for_each(|batch| index.remove(batch))
}
