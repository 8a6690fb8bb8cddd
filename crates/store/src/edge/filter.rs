//! Filters as the shard takes them.
//!
//! The shard knows a point's tags and nothing of documents: a payload takes 128 bytes, and the database
//! can tell what the points of a document are.

use qdrant_edge::{
    AnyVariants, Condition, FieldCondition, Filter, HasIdCondition, JsonPath, Match, PointId,
};
use uuid::Uuid;

use super::snapshot::Snapshot;
use crate::error::StoreError;
use crate::tags::{Clause, Clauses, DOCUMENT_FIELD};

/// The filter of `clauses` over the points of `snapshot`; `None` if nothing is filtered.
pub(super) fn edge_filter(
    collection: &str,
    clauses: &Clauses,
    snapshot: &Snapshot,
) -> Result<Option<Filter>, StoreError> {
    let condition = |clause: &Clause| -> Result<Condition, StoreError> {
        match clause.field {
            DOCUMENT_FIELD => {
                let points = snapshot.points_of(collection, &clause.any_of)?;
                let ids = points
                    .into_iter()
                    .map(|id| PointId::Uuid(Uuid::from_u128(id)));
                Ok(Condition::HasId(ids.collect::<HasIdCondition>()))
            }
            field => {
                let any = AnyVariants::Strings(clause.any_of.iter().cloned().collect());
                let key = path(field);
                Ok(Condition::Field(FieldCondition::new_match(
                    key,
                    Match::from(any),
                )))
            }
        }
    };
    let conditions = |clauses: &[Clause]| -> Result<Option<Vec<Condition>>, StoreError> {
        let all: Vec<_> = clauses.iter().map(condition).collect::<Result<_, _>>()?;
        Ok((!all.is_empty()).then_some(all))
    };
    let (must, must_not) = (conditions(&clauses.must)?, conditions(&clauses.must_not)?);
    if must.is_none() && must_not.is_none() {
        return Ok(None);
    }
    Ok(Some(Filter {
        should: None,
        min_should: None,
        must,
        must_not,
    }))
}

/// A payload field at the top level.
pub(super) fn path(field: &str) -> JsonPath {
    JsonPath {
        first_key: field.to_owned(),
        rest: Vec::new(),
    }
}
