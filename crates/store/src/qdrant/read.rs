//! Searching and reading.
//!
//! A search asks for live points only. While a document is being replaced both of its revisions may
//! be live for a moment: of such a document only the points of its latest generation's revision count.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use moerag_retrieve::{KeyBlock, LexBlock};
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::{Condition, Filter, PointId, Query, QueryPoints, ScoredPoint};
use uuid::Uuid;

use super::handle::Handle;
use super::schema::{
    self, DENSE, GENERATION, KEYS, LEX, LEXICAL, LIVE, Mark, MarkState, ORDINAL, PASSAGE, REVISION,
};
use super::{MARK_FIELDS, QdrantStore, ops};
use crate::edge::snapshot::{cursor, parse_cursor};
use crate::error::StoreError;
use crate::passage::{Passage, PassageRef, point_id};
use crate::rank::{by_score, rounded};
use crate::store::{Candidate, CandidateQuery, ScrollPage, ScrollQuery};
use crate::tags::{Clause, Clauses, DOCUMENT_FIELD, clauses};
use moerag_retrieve::PassageFeatures;

/// Most results asked for in one list, however many ties there are.
const MAX_FETCH: u64 = 20_000;

/// One result with what is needed to judge it.
struct Hit {
    score: f32,
    revision: String,
    generation: i64,
    candidate: Candidate,
}

impl QdrantStore {
    pub(super) async fn search(
        &self,
        handle: &Handle,
        query: &CandidateQuery,
    ) -> Result<Vec<Candidate>, StoreError> {
        let Some(clauses) = clauses(&query.filter) else {
            return Ok(Vec::new());
        };
        if query.n == 0 {
            return Ok(Vec::new());
        }
        let filter = server_filter(&clauses);
        let mut limit = (query.n + query.n / 8 + 16) as u64;
        loop {
            // Not through the alias: it may stand for something newer by now, of which nothing is known.
            let points = handle.names.points.as_str();
            let mut queries = vec![request(
                points,
                query.vector.clone().into(),
                DENSE,
                &filter,
                limit,
            )];
            if !query.sparse.is_empty() {
                queries.push(request(
                    points,
                    query.sparse.clone().into(),
                    LEXICAL,
                    &filter,
                    limit,
                ));
            }
            // In one round trip for both lists.
            let lists = self.remote.query(points, &queries).await?;
            let lists = lists.ok_or_else(|| self.forget(&handle.name))?;
            let mut clear = true;
            let mut found = Vec::new();
            for (list, at) in lists.into_iter().zip(0..) {
                let fetched = list.len() as u64;
                let last = list.last().map(|point| point.score);
                let mut hits = list.into_iter().map(hit).collect::<Result<Vec<_>, _>>()?;
                // The dense list has any score, the lexical one only matches.
                hits.retain(|hit| at == 0 || hit.score > 0.0);
                let mut hits = newest(hits);
                hits.sort_unstable_by(|a, b| {
                    by_score((a.score, &a.candidate.at), (b.score, &b.candidate.at))
                });
                let cut_is_clear = match (hits.get(query.n - 1), last) {
                    (Some(hit), Some(last)) => rounded(hit.score) > rounded(last),
                    _ => false,
                };
                clear &= fetched < limit || cut_is_clear;
                hits.truncate(query.n);
                found.extend(hits);
            }
            if clear || limit >= MAX_FETCH {
                // A document may be in one list in its old revision and in the other in its new one.
                let mut all: Vec<_> = newest(found).into_iter().map(|hit| hit.candidate).collect();
                all.sort_unstable_by(|a, b| a.at.cmp(&b.at));
                all.dedup_by(|a, b| a.at == b.at);
                return Ok(all);
            }
            limit = (limit * 4).min(MAX_FETCH);
        }
    }

    pub(super) async fn fetch_keys(
        &self,
        handle: &Handle,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Arc<KeyBlock>>>, StoreError> {
        let mut found: Vec<_> = refs
            .iter()
            .map(|at| handle.keys.get(&at.point.as_u128()))
            .collect();
        let missing: Vec<PointId> = refs
            .iter()
            .zip(&found)
            .filter(|(_, keys)| keys.is_none())
            .map(|(at, _)| schema::server_id(at.point))
            .collect();
        let mut fetched: HashMap<Uuid, Arc<KeyBlock>> = HashMap::new();
        for point in self
            .remote
            .get(&handle.names.details, missing, &[KEYS])
            .await?
        {
            let keys: Arc<KeyBlock> = Arc::new(schema::unpack(&point.payload, KEYS)?);
            if let Some(id) = schema::uuid(point.id) {
                handle.keys.insert(id.as_u128(), keys.clone());
                fetched.insert(id, keys);
            }
        }
        for (slot, at) in found.iter_mut().zip(refs) {
            if slot.is_none() {
                *slot = fetched.get(&at.point).cloned();
            }
        }
        Ok(found)
    }

    pub(super) async fn fetch_passages(
        &self,
        handle: &Handle,
        refs: &[PassageRef],
    ) -> Result<Vec<Option<Passage>>, StoreError> {
        let ids = refs.iter().map(|at| schema::server_id(at.point)).collect();
        let mut fetched: HashMap<Uuid, Passage> = HashMap::new();
        for point in self
            .remote
            .get(&handle.names.details, ids, &[PASSAGE])
            .await?
        {
            let passage = schema::passage(&point.payload)?;
            fetched.extend(schema::uuid(point.id).map(|id| (id, passage)));
        }
        Ok(refs.iter().map(|at| fetched.remove(&at.point)).collect())
    }

    /// All commit marks but those of documents that are being deleted, sorted by document.
    pub(super) async fn all_marks(&self, handle: &Handle) -> Result<Vec<Mark>, StoreError> {
        let mut marks = Vec::new();
        self.remote
            .each(&handle.names.documents, None, MARK_FIELDS, |point| {
                marks.push(Mark::parse(&point.payload)?);
                Ok(())
            })
            .await?;
        marks.retain(|mark| mark.state != MarkState::Deleting);
        marks.sort_unstable_by(|a, b| a.document_id.cmp(&b.document_id));
        Ok(marks)
    }

    /// Passages by document, documents in the order of their marks' ids.
    pub(super) async fn walk(
        &self,
        handle: &Handle,
        query: &ScrollQuery,
    ) -> Result<ScrollPage, StoreError> {
        let after = query.after.as_deref().map(parse_cursor).transpose()?;
        let from = after
            .as_ref()
            .map(|(id, _)| schema::named_id("document", id));
        let limit = query.limit.clamp(1, 2_048);
        // Enough documents for a page, as far as one call gives them.
        let page_limit = ((limit + 1) as f64 / query.share.get()) as u32;
        let documents = &handle.names.documents;
        let (marks, next_mark) = self
            .remote
            .page(documents, None, from, MARK_FIELDS, &[], page_limit)
            .await?;
        let mut wanted: Vec<(String, u32, Uuid)> = Vec::new();
        // Behind all the documents of this page, unless the limit is reached before.
        let mut next = match marks.last() {
            Some(point) if next_mark.is_some() => {
                let last = Mark::parse(&point.payload)?.document_id;
                Some(cursor(&last, u32::MAX - 1))
            }
            _ => None,
        };
        'documents: for point in &marks {
            let mark = Mark::parse(&point.payload)?;
            if mark.state == MarkState::Deleting {
                continue;
            }
            let first = match &after {
                Some((id, ordinal)) if *id == mark.document_id => ordinal.saturating_add(1),
                _ => 0,
            };
            for ordinal in first..mark.passages {
                if !query.share.has(&mark.document_id, ordinal) {
                    continue;
                }
                if wanted.len() == limit {
                    next = wanted.last().map(|(id, ordinal, _)| cursor(id, *ordinal));
                    break 'documents;
                }
                let id = point_id(&handle.name, &mark.document_id, &mark.revision, ordinal);
                wanted.push((mark.document_id.clone(), ordinal, id));
            }
        }
        let records = self.records(handle, &wanted, query.with_features).await?;
        Ok(ScrollPage { records, next })
    }

    async fn records(
        &self,
        handle: &Handle,
        wanted: &[(String, u32, Uuid)],
        with_features: bool,
    ) -> Result<Vec<(Passage, Option<PassageFeatures>)>, StoreError> {
        let details: &[&str] = if with_features {
            &[PASSAGE, KEYS]
        } else {
            &[PASSAGE]
        };
        let mut found: HashMap<Uuid, (Passage, Option<PassageFeatures>)> = HashMap::new();
        for chunk in wanted.chunks(128) {
            let ids: Vec<PointId> = chunk
                .iter()
                .map(|(_, _, id)| schema::server_id(*id))
                .collect();
            let mut searched = HashMap::new();
            if with_features {
                let points = &handle.names.points;
                for point in self
                    .remote
                    .get_with(points, ids.clone(), &[LEX], &[DENSE])
                    .await?
                {
                    let vector = dense(point.vectors.as_ref())?;
                    let lex: LexBlock = schema::unpack(&point.payload, LEX)?;
                    searched.extend(schema::uuid(point.id).map(|id| (id, (vector, lex))));
                }
            }
            for point in self.remote.get(&handle.names.details, ids, details).await? {
                let passage = schema::passage(&point.payload)?;
                let Some(id) = schema::uuid(point.id) else {
                    continue;
                };
                let features = match searched.remove(&id) {
                    Some((vector, lex)) => Some(PassageFeatures {
                        vector,
                        lex,
                        keys: schema::unpack(&point.payload, KEYS)?,
                    }),
                    // Deleted between the two reads.
                    None if with_features => continue,
                    None => None,
                };
                found.insert(id, (passage, features));
            }
        }
        Ok(wanted
            .iter()
            .filter_map(|(_, _, id)| found.remove(id))
            .collect())
    }
}

/// One list of a search.
fn request(
    collection: &str,
    query: Query,
    using: &str,
    filter: &Filter,
    limit: u64,
) -> QueryPoints {
    QueryPoints {
        collection_name: collection.to_owned(),
        query: Some(query),
        using: Some(using.to_owned()),
        filter: Some(filter.clone()),
        limit: Some(limit),
        with_payload: Some(ops::fields(&[
            DOCUMENT_FIELD,
            ORDINAL,
            REVISION,
            GENERATION,
            LEX,
        ])),
        with_vectors: Some(ops::vectors(&[DENSE])),
        ..QueryPoints::default()
    }
}

fn server_filter(clauses: &Clauses) -> Filter {
    let condition = |clause: &Clause| Condition::matches(clause.field, clause.any_of.clone());
    let mut must: Vec<Condition> = clauses.must.iter().map(condition).collect();
    must.push(Condition::matches(LIVE, true));
    let must_not = clauses.must_not.iter().map(condition).collect();
    Filter {
        must,
        must_not,
        ..Filter::default()
    }
}

fn hit(point: ScoredPoint) -> Result<Hit, StoreError> {
    let payload = &point.payload;
    let ordinal = u32::try_from(schema::integer(payload, ORDINAL)?).unwrap_or(u32::MAX);
    let lex: LexBlock = schema::unpack(payload, LEX)?;
    let at = PassageRef {
        document_id: schema::text(payload, DOCUMENT_FIELD)?.to_owned(),
        ordinal,
        point: schema::uuid(point.id).unwrap_or_default(),
    };
    Ok(Hit {
        score: point.score,
        revision: schema::text(payload, REVISION)?.to_owned(),
        generation: schema::integer(payload, GENERATION)?,
        candidate: Candidate {
            at,
            vector: dense(point.vectors.as_ref())?.into(),
            lex: Arc::new(lex),
        },
    })
}

/// Of each document the hits of one revision: that of its latest generation.
fn newest(hits: Vec<Hit>) -> Vec<Hit> {
    let mut latest: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for hit in &hits {
        let found = (hit.generation, hit.revision.clone());
        let entry = latest
            .entry(hit.candidate.at.document_id.clone())
            .or_insert(found.clone());
        if found > *entry {
            *entry = found;
        }
    }
    let is_latest = |hit: &Hit| {
        latest
            .get(&hit.candidate.at.document_id)
            .is_some_and(|(_, r)| *r == hit.revision)
    };
    hits.into_iter().filter(is_latest).collect()
}

fn dense(vectors: Option<&qdrant_client::qdrant::VectorsOutput>) -> Result<Vec<f32>, StoreError> {
    match vectors.and_then(|vectors| vectors.get_vector_by_name(DENSE)) {
        Some(Vector::Dense(dense)) => Ok(dense.data),
        _ => Err(StoreError::Corrupt {
            what: format!("vector {DENSE:?}"),
            reason: "it is missing".into(),
        }),
    }
}
