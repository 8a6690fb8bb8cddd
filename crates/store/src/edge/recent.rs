//! Rows of a collection read recently, decoded: points and keys within one budget, so that a small
//! collection has both in memory, and of a large one each takes as much as queries read of it.

use std::sync::Arc;

use moerag_retrieve::KeyBlock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::rows::Point;

/// What a row takes on average, for the size of the tables.
const ROW_BYTES: u64 = 4_000;

/// The cache. A row in it never goes stale: a point id stands for one revision of one passage.
pub(super) struct RecentRows(Cache<(Kind, u128), Row, Bytes>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Point,
    Keys,
}

#[derive(Clone)]
enum Row {
    Point(Arc<Point>),
    Keys(Arc<KeyBlock>),
}

#[derive(Clone)]
struct Bytes;

impl Weighter<(Kind, u128), Row> for Bytes {
    fn weight(&self, _: &(Kind, u128), row: &Row) -> u64 {
        let bytes = match row {
            Row::Point(point) => {
                let lex = point.lex.terms.len() + point.lex.sentence_ends.len();
                (point.vector.len() + lex) * 4 + point.at.document_id.len() + 160
            }
            Row::Keys(keys) => keys.bytes(),
        };
        bytes as u64
    }
}

impl RecentRows {
    pub(super) fn new(bytes: u64) -> Self {
        let rows = usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(rows, bytes, Bytes))
    }

    pub(super) fn point(&self, point: u128) -> Option<Arc<Point>> {
        match self.0.get(&(Kind::Point, point))? {
            Row::Point(point) => Some(point),
            Row::Keys(_) => None,
        }
    }

    pub(super) fn keys(&self, point: u128) -> Option<Arc<KeyBlock>> {
        match self.0.get(&(Kind::Keys, point))? {
            Row::Keys(keys) => Some(keys),
            Row::Point(_) => None,
        }
    }

    pub(super) fn put_point(&self, id: u128, point: &Arc<Point>) {
        self.0
            .insert((Kind::Point, id), Row::Point(Arc::clone(point)));
    }

    pub(super) fn put_keys(&self, id: u128, keys: &Arc<KeyBlock>) {
        self.0.insert((Kind::Keys, id), Row::Keys(Arc::clone(keys)));
    }

    /// Drops what is remembered of a passage.
    pub(super) fn forget(&self, point: u128) {
        self.0.remove(&(Kind::Point, point));
        self.0.remove(&(Kind::Keys, point));
    }
}

#[cfg(test)]
mod tests {
    use moerag_retrieve::LexBlock;
    use uuid::Uuid;

    use super::*;
    use crate::passage::PassageRef;

    fn point(id: u128) -> Arc<Point> {
        Arc::new(Point {
            at: PassageRef {
                document_id: id.to_string(),
                ordinal: 0,
                point: Uuid::from_u128(id),
            },
            number: 0,
            vector: vec![0.0; 384].into(),
            lex: Arc::new(LexBlock::default()),
        })
    }

    #[test]
    fn points_and_keys_share_the_budget_and_are_forgotten_together() {
        let rows = RecentRows::new(1 << 20);
        for id in 0..5_000 {
            rows.put_point(id, &point(id));
            rows.put_keys(id, &Arc::default());
        }
        assert!(rows.0.weight() <= 1 << 20);
        let kept = |id: &u128| rows.point(*id).is_some() && rows.keys(*id).is_some();
        let last = (0..5_000).rev().find(kept).unwrap();
        assert_eq!(rows.point(last).unwrap().at.document_id, last.to_string());
        rows.forget(last);
        assert!(rows.point(last).is_none() && rows.keys(last).is_none());
    }
}
