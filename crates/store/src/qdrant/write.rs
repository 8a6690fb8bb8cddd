//! Writing documents to a server without transactions.
//!
//! Order for a changed document: its new passages, not live yet; its commit mark; the new passages made
//! live; those of older revisions deleted; the mark made `done`. Each step waits for the server. A write
//! that stops between two steps leaves the old revision or the new one, both of them for a search to
//! choose from by generation, and a mark that is not `done`, which the next write of the document or the
//! next [`QdrantStore::finish_interrupted`] carries to its end. An acknowledgement follows the last step.
//!
//! Two routers may write at the same time. For one document the later generation wins; a step never
//! deletes passages of the revision that it writes itself.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use qdrant_client::qdrant::{Condition, Filter, PointId, PointsSelector, Range};

use super::handle::Handle;
use super::schema::{
    GENERATION, LEX, LIVE, Mark, MarkState, PIECES, REVISION, STATE, named_id, passage_points,
};
use super::stats::{Change, State, countable};
use super::{MARK_FIELDS, QdrantStore, ops};
use crate::check;
use crate::error::StoreError;
use crate::store::DocumentPut;
use crate::tags::DOCUMENT_FIELD;

/// Documents in one round of steps.
const ROUND: usize = 64;
/// What has no mark after so many microseconds never gets one: longer than all tries of a step take.
const STOPPED: i64 = 600_000_000;
/// Points in one change of payload.
const LIVE_CHUNK: usize = 2_048;

impl QdrantStore {
    pub(super) async fn put(
        &self,
        handle: &Handle,
        documents: Vec<DocumentPut>,
    ) -> Result<(), StoreError> {
        // The last of several puts of one document counts.
        let mut latest: HashMap<String, DocumentPut> = HashMap::new();
        for document in documents {
            check::document(&document, &handle.spec)?;
            latest.insert(document.document_id.clone(), document);
        }
        let mut documents: Vec<_> = latest.into_values().collect();
        documents.sort_unstable_by(|a, b| a.document_id.cmp(&b.document_id));
        let mut stats = handle.stats.lock().await;
        while !documents.is_empty() {
            let rest = documents.split_off(documents.len().min(ROUND));
            let round = std::mem::replace(&mut documents, rest);
            self.put_round(handle, &mut stats, round).await?;
        }
        Ok(())
    }

    async fn put_round(
        &self,
        handle: &Handle,
        stats: &mut State,
        mut documents: Vec<DocumentPut>,
    ) -> Result<(), StoreError> {
        let ids: Vec<&str> = documents.iter().map(|d| d.document_id.as_str()).collect();
        let marks = self.marks(handle, &ids).await?;
        documents.retain(|document| {
            marks.get(&document.document_id).is_none_or(|mark| {
                mark.revision != document.revision || mark.state != MarkState::Done
            })
        });
        if documents.is_empty() {
            return Ok(());
        }
        let book = self.book(handle);
        let weights = book.rough(stats).await?;
        let before = stats.begin_write();
        let mut change = Change::default();
        let mut repeated = false;
        for document in &documents {
            let old = marks
                .get(&document.document_id)
                .filter(|m| m.state != MarkState::Deleting);
            if old.is_some_and(|mark| mark.revision == document.revision) {
                // An interrupted write; whether it was counted is not known.
                repeated = true;
                continue;
            }
            if let Some(mark) = old {
                change.removed.extend(self.countables(handle, mark).await?);
                change
                    .toggled
                    .push((mark.document_id.clone(), mark.revision.clone()));
            }
            change.added.extend(
                document
                    .records
                    .iter()
                    .map(|record| record.features.clone()),
            );
            change
                .toggled
                .push((document.document_id.clone(), document.revision.clone()));
        }

        let newest = marks
            .values()
            .map(|mark| mark.generation + 1)
            .max()
            .unwrap_or_default();
        let generation = newest.max(now_micros());
        let (mut points, mut deleted, mut details) = (Vec::new(), Vec::new(), Vec::new());
        let mut replaced = Vec::new();
        for document in &documents {
            let mark = marks.get(&document.document_id);
            let points = match mark.is_some_and(|mark| mark.state == MarkState::Deleting) {
                true => &mut deleted,
                false => &mut points,
            };
            replaced.extend(mark.map(|mark| Condition::from(until(mark, mark.generation))));
            for point in passage_points(&handle.name, document, generation, &weights)? {
                points.push(point.searched);
                details.push(point.details);
            }
        }
        let names = &handle.names;
        self.remote.upsert(&names.details, &details, None).await?;
        // Points of this very revision that are live and later than what has been read stay so: another router
        // has just written them. Others become of this generation, or who writes the document meanwhile, or
        // deletes it, would take them for superseded.
        replaced.push(Filter::must_not([Condition::matches(LIVE, true)]).into());
        let replaced = Filter::should(replaced);
        self.remote
            .upsert(&names.points, &points, Some(&replaced))
            .await?;
        self.remote.upsert(&names.points, &deleted, None).await?;

        let new_marks: Vec<Mark> = documents
            .iter()
            .map(|document| Mark {
                document_id: document.document_id.clone(),
                revision: document.revision.clone(),
                passages: u32::try_from(document.records.len()).unwrap_or(u32::MAX),
                generation,
                state: MarkState::Written,
            })
            .collect();
        let older = Filter::must([Condition::range(
            GENERATION,
            Range {
                lt: Some(generation as f64),
                ..Range::default()
            },
        )]);
        let mark_points: Vec<_> = new_marks.iter().map(Mark::point).collect();
        self.remote
            .upsert(&handle.names.documents, &mark_points, Some(&older))
            .await?;

        let ids: Vec<&str> = new_marks
            .iter()
            .map(|mark| mark.document_id.as_str())
            .collect();
        let written = self.marks(handle, &ids).await?;
        let (mine, lost): (Vec<_>, Vec<_>) = new_marks.into_iter().partition(|mark| {
            written
                .get(&mark.document_id)
                .is_some_and(|m| m.generation == generation)
        });
        self.forget_lost(handle, &lost, &written).await?;
        self.finish(handle, &mine).await?;
        if lost.is_empty() && !repeated {
            book.record(stats, before, change).await
        } else {
            book.invalidate().await
        }
    }

    /// Removes the passages of marks that a later write of another router replaced.
    async fn forget_lost(
        &self,
        handle: &Handle,
        lost: &[Mark],
        written: &HashMap<String, Mark>,
    ) -> Result<(), StoreError> {
        for mark in lost {
            let winner = written.get(&mark.document_id);
            if winner.is_none_or(|winner| winner.revision != mark.revision) {
                // Not what a third router writes of this revision by now.
                let mut mine = until(mark, mark.generation);
                mine.must.push(Condition::has_id(mark.points(&handle.name)));
                self.delete_passages(handle, ops::by_filter(mine)).await?;
            }
        }
        Ok(())
    }

    /// The steps after the commit mark; `marks` are of one generation.
    async fn finish(&self, handle: &Handle, marks: &[Mark]) -> Result<(), StoreError> {
        if marks.is_empty() {
            return Ok(());
        }
        let points = &handle.names.points;
        let ids: Vec<PointId> = marks
            .iter()
            .flat_map(|mark| mark.points(&handle.name))
            .collect();
        for chunk in ids.chunks(LIVE_CHUNK) {
            let live = HashMap::from([(LIVE.to_owned(), true.into())]);
            // By ids alone, one that a later write has taken away would be an error.
            let these = Filter::must([Condition::has_id(chunk.to_vec())]);
            self.remote
                .set_payload(points, ops::by_filter(these), live)
                .await?;
        }
        let superseded = marks.iter().map(|mark| {
            let older = Range {
                lt: Some(mark.generation as f64),
                ..Range::default()
            };
            Condition::from(Filter {
                must: vec![
                    Condition::matches(DOCUMENT_FIELD, mark.document_id.clone()),
                    Condition::range(GENERATION, older),
                ],
                must_not: vec![Condition::matches(REVISION, mark.revision.clone())],
                ..Filter::default()
            })
        });
        let superseded = ops::by_filter(Filter::should(superseded));
        self.delete_passages(handle, superseded).await?;
        let ids = marks
            .iter()
            .map(|mark| named_id("document", &mark.document_id));
        let mine = Filter::must([
            Condition::has_id(ids),
            Condition::matches(GENERATION, marks[0].generation),
        ]);
        let done = HashMap::from([(STATE.to_owned(), MarkState::Done.name().into())]);
        self.remote
            .set_payload(&handle.names.documents, ops::by_filter(mine), done)
            .await
    }

    pub(super) async fn delete_marked(
        &self,
        handle: &Handle,
        document_ids: &[String],
    ) -> Result<usize, StoreError> {
        let mut stats = handle.stats.lock().await;
        let mut deleted = 0;
        for round in document_ids.chunks(ROUND) {
            let ids: Vec<&str> = round.iter().map(String::as_str).collect();
            let marks: Vec<Mark> = self.marks(handle, &ids).await?.into_values().collect();
            if marks.is_empty() {
                continue;
            }
            let mut change = Change::default();
            for mark in marks
                .iter()
                .filter(|mark| mark.state != MarkState::Deleting)
            {
                change.removed.extend(self.countables(handle, mark).await?);
                change
                    .toggled
                    .push((mark.document_id.clone(), mark.revision.clone()));
                deleted += 1;
            }
            let before = stats.begin_write();
            self.delete_steps(handle, &marks).await?;
            self.book(handle).record(&mut stats, before, change).await?;
        }
        Ok(deleted)
    }

    /// Marks first say that their passages go, so that an interrupted deletion goes on. What another router
    /// writes of a document meanwhile is of a later generation and stays.
    async fn delete_steps(&self, handle: &Handle, marks: &[Mark]) -> Result<(), StoreError> {
        let of_mark = |mark: &Mark| {
            Filter::must([
                Condition::has_id([named_id("document", &mark.document_id)]),
                Condition::matches(GENERATION, mark.generation),
            ])
        };
        let these = ops::by_filter(Filter::should(
            marks.iter().map(|mark| Condition::from(of_mark(mark))),
        ));
        let deleting = HashMap::from([(STATE.to_owned(), MarkState::Deleting.name().into())]);
        let documents = &handle.names.documents;
        self.remote
            .set_payload(documents, these.clone(), deleting)
            .await?;
        // With what is left of a write that stopped before its mark, long enough ago.
        let stopped = now_micros() - STOPPED;
        let passages = marks
            .iter()
            .map(|mark| Condition::from(until(mark, mark.generation.max(stopped))));
        self.delete_passages(handle, ops::by_filter(Filter::should(passages)))
            .await?;
        self.remote.delete(documents, these).await
    }

    /// Deletes passages, and then their details: a search never finds one without.
    async fn delete_passages(
        &self,
        handle: &Handle,
        which: PointsSelector,
    ) -> Result<(), StoreError> {
        self.remote
            .delete(&handle.names.points, which.clone())
            .await?;
        self.remote.delete(&handle.names.details, which).await
    }

    /// Carries writes and deletions to their end that a router did not finish.
    pub(super) async fn finish_interrupted(
        &self,
        handle: &Handle,
        stats: &mut State,
    ) -> Result<(), StoreError> {
        let open = Filter::must_not([Condition::matches(STATE, MarkState::Done.name().to_owned())]);
        let mut marks = Vec::new();
        self.remote
            .each(&handle.names.documents, Some(&open), MARK_FIELDS, |point| {
                marks.push(Mark::parse(&point.payload)?);
                Ok(())
            })
            .await?;
        if marks.is_empty() {
            return Ok(());
        }
        stats.begin_write();
        for mark in marks {
            tracing::info!(
                document = mark.document_id,
                "an interrupted write is finished"
            );
            match mark.state {
                MarkState::Deleting => self.delete_steps(handle, &[mark]).await?,
                MarkState::Written | MarkState::Done => self.finish(handle, &[mark]).await?,
            }
        }
        self.book(handle).invalidate().await
    }

    /// The commit marks of documents, by document id.
    pub(super) async fn marks(
        &self,
        handle: &Handle,
        document_ids: &[&str],
    ) -> Result<HashMap<String, Mark>, StoreError> {
        let ids = document_ids
            .iter()
            .map(|id| named_id("document", id))
            .collect();
        let found = self
            .remote
            .get(&handle.names.documents, ids, MARK_FIELDS)
            .await?;
        found
            .iter()
            .map(|point| Mark::parse(&point.payload).map(|mark| (mark.document_id.clone(), mark)))
            .collect()
    }

    /// What statistics counted of a document.
    async fn countables(
        &self,
        handle: &Handle,
        mark: &Mark,
    ) -> Result<Vec<moerag_retrieve::PassageFeatures>, StoreError> {
        let ids: Vec<PointId> = mark.points(&handle.name).collect();
        let found = self
            .remote
            .get(&handle.names.points, ids, &[LEX, PIECES])
            .await?;
        found
            .iter()
            .map(|point| countable(&point.payload))
            .collect()
    }
}

/// Points of a document up to a generation.
fn until(mark: &Mark, generation: i64) -> Filter {
    let until = Range {
        lte: Some(generation as f64),
        ..Range::default()
    };
    Filter::must([
        Condition::matches(DOCUMENT_FIELD, mark.document_id.clone()),
        Condition::range(GENERATION, until),
    ])
}

/// Microseconds since 1970: exact as a float until the year 2255, which range filters need.
fn now_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
