//! The search index of a collection: a qdrant-edge shard, which can be rebuilt from the truth.
//!
//! Version 0.7.2 panics where one would expect an error (`flush` beside an update, several `expect`s),
//! so every call is run behind `catch_unwind` and a panic is an error like any other. Only the owner
//! thread calls what changes a shard.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use moerag_retrieve::{CorpusStats, LexBlock};
use qdrant_edge::{
    CountRequest, CreateIndex, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard,
    EdgeSparseVectorParams, EdgeVectorParams, FieldIndexOperations, Filter, NamedQuery,
    OperationResult, PayloadFieldSchema, PayloadSchemaType, PointId, PointInsertOperations,
    PointOperations, PointStruct, QueryEnum, SearchParams, SearchRequest, SparseVector,
    UpdateOperation, Vector, VectorInternal, VectorStorageDatatype, Vectors, WalOptions,
};
use serde_json::json;
use uuid::Uuid;

use super::bytes::ByteSpace;
use super::disk::prune_wal;
use super::filter::path;
use super::rows::Point;
use crate::error::StoreError;
use crate::tags::TAGS_FIELD;

const DENSE: &str = "dense";
const LEXICAL: &str = "lex";

/// Bytes of one segment of the shard's log. It is allocated at once, for every collection.
const WAL_SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// Share of deleted points above which `optimize` rewrites a segment.
pub(super) const VACUUM_SHARE: f64 = 0.2;
/// Segments with fewer points are not worth rewriting.
pub(super) const VACUUM_POINTS: usize = 1_000;

/// Points from which on a graph is searched more widely.
const LARGE_GRAPH: f64 = 200_000.0;

/// One point as the index takes it.
pub(super) struct Entry<'a> {
    pub(super) point: &'a Point,
    pub(super) tags: Vec<String>,
}

/// One result of a search: point id and score.
pub(super) type Hit = (u128, f32);

/// An open shard.
pub(super) struct Index {
    dir: PathBuf,
    space: ByteSpace,
    // An option only so that `Drop` can take it out and close it behind `catch_unwind`.
    shard: Option<EdgeShard>,
}

impl Index {
    /// Makes an empty shard in `dir`, which must not exist.
    pub(super) fn create(dir: &Path, dim: usize, hnsw_from: usize) -> Result<Self, StoreError> {
        fs_err::create_dir_all(dir)?;
        let shard = guarded(dir, || EdgeShard::new(dir, config(dim, hnsw_from)))?;
        let index = Self {
            dir: dir.to_owned(),
            space: ByteSpace::new(dim),
            shard: Some(shard),
        };
        index.update(|| {
            UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(CreateIndex {
                field_name: path(TAGS_FIELD),
                field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)),
            }))
        })?;
        Ok(index)
    }

    /// Opens the shard in `dir`.
    pub(super) fn load(dir: &Path, dim: usize, hnsw_from: usize) -> Result<Self, StoreError> {
        let wal = dir.join("wal");
        if wal.is_dir() {
            prune_wal(&wal)?;
        }
        let shard = guarded(dir, || EdgeShard::load(dir, Some(config(dim, hnsw_from))))?;
        Ok(Self {
            dir: dir.to_owned(),
            space: ByteSpace::new(dim),
            shard: Some(shard),
        })
    }

    fn shard(&self) -> Result<&EdgeShard, StoreError> {
        self.shard
            .as_ref()
            .ok_or_else(|| StoreError::index(&self.dir, "it is closed"))
    }

    fn update(&self, operation: impl FnOnce() -> UpdateOperation) -> Result<(), StoreError> {
        let shard = self.shard()?;
        guarded(&self.dir, || shard.update(operation()))
    }

    /// Inserts or replaces points; `stats` give the BM25 weights.
    pub(super) fn insert(
        &self,
        entries: &[Entry<'_>],
        stats: &CorpusStats,
    ) -> Result<(), StoreError> {
        self.update(|| {
            let points = entries
                .iter()
                .map(|entry| point_struct(entry, &self.space, stats).into())
                .collect();
            UpdateOperation::PointOperation(PointOperations::UpsertPoints(
                PointInsertOperations::PointsList(points),
            ))
        })
    }

    /// Removes points; unknown ones are passed over.
    pub(super) fn remove(&self, points: &[u128]) -> Result<(), StoreError> {
        let ids = points
            .iter()
            .map(|point| PointId::Uuid(Uuid::from_u128(*point)))
            .collect();
        self.update(|| UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }))
    }

    /// The `limit` points nearest to a vector among `points`, with their cosines, best first. Exact but for
    /// [`dense_error`](Self::dense_error) unless an HNSW index was built; then so many are looked at that
    /// the first `wanted` are nearly the exact ones (docs/scaling.md).
    pub(super) fn dense(
        &self,
        vector: &[f32],
        wanted: usize,
        limit: usize,
        points: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>, StoreError> {
        let query = VectorInternal::Dense(self.space.bytes(vector));
        let params = SearchParams {
            hnsw_ef: Some(width(wanted, points).max(limit)),
            ..SearchParams::default()
        };
        let mut hits = self.search(query, DENSE, limit, filter, Some(params))?;
        for (_, score) in &mut hits {
            *score = self.space.cosine(*score);
        }
        Ok(hits)
    }

    /// How far the score of a dense hit is off.
    pub(super) fn dense_error(&self) -> f32 {
        self.space.error()
    }

    /// The `limit` points with the largest product with a sparse vector, best first.
    pub(super) fn lexical(
        &self,
        sparse: &[(u32, f32)],
        limit: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>, StoreError> {
        let (indices, values): (Vec<_>, Vec<_>) = sparse.iter().copied().unzip();
        let vector =
            SparseVector::new(indices, values).map_err(|error| StoreError::InvalidInput {
                field: "sparse".into(),
                reason: error.to_string(),
            })?;
        self.search(VectorInternal::Sparse(vector), LEXICAL, limit, filter, None)
    }

    fn search(
        &self,
        query: VectorInternal,
        using: &str,
        limit: usize,
        filter: Option<&Filter>,
        params: Option<SearchParams>,
    ) -> Result<Vec<Hit>, StoreError> {
        let shard = self.shard()?;
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery::new(query, using)),
            filter: filter.cloned(),
            params,
            limit,
            offset: 0,
            with_payload: None,
            with_vector: None,
            score_threshold: None,
        };
        let found = guarded(&self.dir, || shard.search(request))?;
        Ok(found
            .into_iter()
            .filter_map(|hit| match hit.id {
                PointId::Uuid(id) => Some((id.as_u128(), hit.score)),
                PointId::NumId(_) => None,
            })
            .collect())
    }

    /// Number of points.
    pub(super) fn count(&self) -> Result<usize, StoreError> {
        let shard = self.shard()?;
        guarded(&self.dir, || {
            shard.count(CountRequest {
                filter: None,
                exact: true,
            })
        })
    }

    /// Writes everything to disk and shortens the log.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let shard = self.shard()?;
        guarded(&self.dir, || {
            shard.flush();
            Ok(())
        })?;
        self.shorten_log()
    }

    /// Removes what nobody will read of the shard's log.
    pub(super) fn shorten_log(&self) -> Result<(), StoreError> {
        prune_wal(&self.dir.join("wal"))
    }

    /// Rewrites segments with many deleted points and builds HNSW above the threshold. May take long.
    pub(super) fn optimize(&self) -> Result<bool, StoreError> {
        let shard = self.shard()?;
        guarded(&self.dir, || shard.optimize())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // Dropping a shard flushes it, which panics if a file is gone.
        let shard = self.shard.take();
        if let Err(error) = guarded(&self.dir, || {
            drop(shard);
            Ok(())
        }) {
            tracing::warn!(%error, "search index did not close cleanly; it is rebuilt when needed");
        }
    }
}

/// Points that a search of a graph keeps in view for the `wanted` nearest of `points`: eight times as many, and
/// more in a large graph, where eight times find fewer of them.
fn width(wanted: usize, points: usize) -> usize {
    let large = (points as f64 / LARGE_GRAPH).powf(2.0 / 3.0);
    ((wanted as f64 * 8.0 * large.clamp(1.0, 5.0)) as usize).max(256)
}

fn point_struct(entry: &Entry<'_>, space: &ByteSpace, stats: &CorpusStats) -> PointStruct {
    let Point {
        at, vector, lex, ..
    } = entry.point;
    let mut vectors = vec![(DENSE, Vector::new_dense(space.bytes(vector)))];
    vectors.extend(lexical_vector(lex, stats).map(|sparse| (LEXICAL, sparse)));
    let id = PointId::Uuid(at.point);
    let payload = json!({ TAGS_FIELD: entry.tags });
    let mut point = PointStruct::new(id, Vectors::new_named(vectors), payload);
    if entry.tags.is_empty() {
        // An empty one would take a block of 128 bytes.
        point.0.payload = None;
    }
    point
}

/// `None` for a passage without terms.
fn lexical_vector(lex: &LexBlock, stats: &CorpusStats) -> Option<Vector> {
    let weights = stats.bm25_weights(lex);
    (!weights.is_empty()).then(|| Vector::try_from(weights).ok())?
}

fn config(dim: usize, hnsw_from: usize) -> EdgeConfig {
    let kilobytes = (hnsw_from.saturating_mul(dim) / 1024).max(1);
    EdgeConfig::builder()
        .vector(
            DENSE,
            EdgeVectorParams::builder(dim, Distance::Euclid)
                .datatype(VectorStorageDatatype::Uint8)
                .build(),
        )
        // No IDF modifier: the query carries the IDF of the whole collection (`CandidateQuery`).
        .sparse_vector(LEXICAL, EdgeSparseVectorParams::builder().build())
        .optimizers(EdgeOptimizersConfig {
            deleted_threshold: Some(VACUUM_SHARE),
            vacuum_min_vector_number: Some(VACUUM_POINTS),
            default_segment_number: Some(1),
            max_segment_size: Some(usize::MAX / 1024),
            indexing_threshold: Some(kilobytes),
            prevent_unoptimized: None,
        })
        .wal_options(WalOptions {
            segment_capacity: WAL_SEGMENT_BYTES,
            ..WalOptions::default()
        })
        .build()
}

/// Runs a call into the shard; a panic in it becomes an error.
fn guarded<T>(dir: &Path, call: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::index(dir, error.to_string())),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked");
            Err(StoreError::index(dir, message))
        }
    }
}
