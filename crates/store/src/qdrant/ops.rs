//! The few calls that the store makes, typed.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    DeletePoints, Filter, GetPoints, PayloadIncludeSelector, PointId, PointStruct, PointsIdsList,
    PointsSelector, QueryBatchPoints, QueryPoints, RetrievedPoint, ScoredPoint, ScrollPoints,
    SetPayloadPoints, UpsertPoints, Value, VectorsSelector, WithPayloadSelector,
    WithVectorsSelector, points_selector::PointsSelectorOneOf,
};

use super::remote::Remote;
use crate::error::StoreError;

/// Points in one message; with their keys about 2 MB.
const CHUNK: usize = 96;
/// Points in one page of a walk over small payloads.
const PAGE: u32 = 2_048;

/// Payload fields to return; an empty list returns none.
pub(super) fn fields(names: &[&str]) -> WithPayloadSelector {
    if names.is_empty() {
        return false.into();
    }
    let fields = names.iter().map(|name| (*name).to_owned()).collect();
    WithPayloadSelector {
        selector_options: Some(PayloadIncludeSelector { fields }.into()),
    }
}

/// Vectors to return by name; an empty list returns none.
pub(super) fn vectors(names: &[&str]) -> WithVectorsSelector {
    if names.is_empty() {
        return false.into();
    }
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    WithVectorsSelector {
        selector_options: Some(VectorsSelector { names }.into()),
    }
}

/// Points chosen by id.
pub(super) fn by_ids(ids: Vec<PointId>) -> PointsSelector {
    let chosen = PointsSelectorOneOf::Points(PointsIdsList { ids });
    PointsSelector {
        points_selector_one_of: Some(chosen),
    }
}

/// Points chosen by a filter.
pub(super) fn by_filter(filter: Filter) -> PointsSelector {
    PointsSelector {
        points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)),
    }
}

impl Remote {
    /// Writes points and waits until they are applied. With `only_if`, a point that is there already is
    /// replaced only if it matches (servers before 1.16 replace it always).
    pub(super) async fn upsert(
        &self,
        collection: &str,
        points: &[PointStruct],
        only_if: Option<&Filter>,
    ) -> Result<(), StoreError> {
        for chunk in points.chunks(CHUNK) {
            self.known(collection, "upsert", || {
                self.client.upsert_points(UpsertPoints {
                    collection_name: collection.to_owned(),
                    wait: Some(true),
                    points: chunk.to_vec(),
                    update_filter: only_if.cloned(),
                    ..UpsertPoints::default()
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Sets payload fields of points and waits until they are applied.
    pub(super) async fn set_payload(
        &self,
        collection: &str,
        points: PointsSelector,
        payload: HashMap<String, Value>,
    ) -> Result<(), StoreError> {
        self.known(collection, "set_payload", || {
            self.client.set_payload(SetPayloadPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                payload: payload.clone(),
                points_selector: Some(points.clone()),
                ..SetPayloadPoints::default()
            })
        })
        .await
        .map(drop)
    }

    /// Deletes points and waits until they are gone.
    pub(super) async fn delete(
        &self,
        collection: &str,
        points: PointsSelector,
    ) -> Result<(), StoreError> {
        self.known(collection, "delete", || {
            self.client.delete_points(DeletePoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: Some(points.clone()),
                ..DeletePoints::default()
            })
        })
        .await
        .map(drop)
    }

    /// Points by id, in any order; unknown ids are left out, so is an unknown collection.
    pub(super) async fn get(
        &self,
        collection: &str,
        ids: Vec<PointId>,
        payload: &[&str],
    ) -> Result<Vec<RetrievedPoint>, StoreError> {
        self.get_with(collection, ids, payload, &[]).await
    }

    /// The same with vectors.
    pub(super) async fn get_with(
        &self,
        collection: &str,
        ids: Vec<PointId>,
        payload: &[&str],
        with_vectors: &[&str],
    ) -> Result<Vec<RetrievedPoint>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .find("get", || {
                self.client.get_points(GetPoints {
                    collection_name: collection.to_owned(),
                    ids: ids.clone(),
                    with_payload: Some(fields(payload)),
                    with_vectors: Some(vectors(with_vectors)),
                    ..GetPoints::default()
                })
            })
            .await?;
        Ok(found.map(|response| response.result).unwrap_or_default())
    }

    /// One page of all points in the order of their ids, and the id that the next page starts with.
    pub(super) async fn page(
        &self,
        collection: &str,
        filter: Option<&Filter>,
        from: Option<PointId>,
        payload: &[&str],
        with_vectors: &[&str],
        limit: u32,
    ) -> Result<(Vec<RetrievedPoint>, Option<PointId>), StoreError> {
        let response = self
            .known(collection, "scroll", || {
                self.client.scroll(ScrollPoints {
                    collection_name: collection.to_owned(),
                    filter: filter.cloned(),
                    offset: from.clone(),
                    limit: Some(limit.clamp(1, PAGE)),
                    with_payload: Some(fields(payload)),
                    with_vectors: Some(vectors(with_vectors)),
                    ..ScrollPoints::default()
                })
            })
            .await?;
        Ok((response.result, response.next_page_offset))
    }

    /// Visits all points in the order of their ids.
    pub(super) async fn each(
        &self,
        collection: &str,
        filter: Option<&Filter>,
        payload: &[&str],
        mut visit: impl FnMut(&RetrievedPoint) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let (points, next) = self
                .page(collection, filter, from, payload, &[], PAGE)
                .await?;
            points.iter().try_for_each(&mut visit)?;
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    /// Runs several searches in one round trip; `None` if the collection does not exist.
    pub(super) async fn query(
        &self,
        collection: &str,
        queries: &[QueryPoints],
    ) -> Result<Option<Vec<Vec<ScoredPoint>>>, StoreError> {
        let found = self
            .find("query_batch", || {
                self.client.query_batch(QueryBatchPoints {
                    collection_name: collection.to_owned(),
                    query_points: queries.to_vec(),
                    ..QueryBatchPoints::default()
                })
            })
            .await?;
        Ok(found.map(|response| {
            response
                .result
                .into_iter()
                .map(|batch| batch.result)
                .collect()
        }))
    }
}
