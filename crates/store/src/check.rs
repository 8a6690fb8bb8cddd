//! What may be stored or asked for, checked alike by both stores before anything is sent or written.

use crate::error::StoreError;
use crate::spec::CollectionSpec;
use crate::store::{CandidateQuery, DocumentPut};

/// Longest document id in bytes.
const MAX_ID_BYTES: usize = 1_024;
/// Longest candidate list; the views of more passages than this would not be computed anyway.
const MAX_CANDIDATES: usize = 10_000;

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> StoreError {
    StoreError::InvalidInput {
        field: field.into(),
        reason: reason.into(),
    }
}

/// Checks that a document's records belong to it and fit the collection.
pub(crate) fn document(put: &DocumentPut, spec: &CollectionSpec) -> Result<(), StoreError> {
    if put.document_id.is_empty() || put.document_id.len() > MAX_ID_BYTES {
        return Err(invalid(
            "document_id",
            format!("has to have 1 to {MAX_ID_BYTES} bytes"),
        ));
    }
    if put.revision.is_empty() {
        return Err(invalid("revision", "is empty; use the one of revision()"));
    }
    for (record, ordinal) in put.records.iter().zip(0u32..) {
        let at = |field: &str| format!("document {:?} passage {ordinal} {field}", put.document_id);
        let passage = &record.passage;
        if passage.document_id != put.document_id || passage.revision != put.revision {
            return Err(invalid(
                at("identity"),
                "is not that of the document it is put under",
            ));
        }
        if passage.ordinal != ordinal {
            return Err(invalid(
                at("ordinal"),
                format!("is {} but has to count up", passage.ordinal),
            ));
        }
        vector(&at("vector"), &record.features.vector, spec)?;
        record
            .features
            .keys
            .validate(&spec.key_spec)
            .map_err(|error| invalid(at("keys"), error.to_string()))?;
    }
    Ok(())
}

fn vector(field: &str, vector: &[f32], spec: &CollectionSpec) -> Result<(), StoreError> {
    if vector.len() != spec.dim as usize {
        let reason = format!(
            "has {} dimensions, the collection {}",
            vector.len(),
            spec.dim
        );
        return Err(invalid(field, reason));
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(invalid(field, "has a value that is not finite"));
    }
    Ok(())
}

/// Checks a query.
pub(crate) fn query(query: &CandidateQuery, spec: &CollectionSpec) -> Result<(), StoreError> {
    vector("vector", &query.vector, spec)?;
    if query.sparse.iter().any(|(_, weight)| !weight.is_finite()) {
        return Err(invalid("sparse", "has a weight that is not finite"));
    }
    if query.n > MAX_CANDIDATES {
        return Err(invalid(
            "n",
            format!("is {} but at most {MAX_CANDIDATES}", query.n),
        ));
    }
    Ok(())
}

/// Compares the spec that a collection is bound to with another one.
pub(crate) fn same_spec(
    name: &str,
    stored: &CollectionSpec,
    given: &CollectionSpec,
) -> Result<(), StoreError> {
    let fields = [
        ("embedding space", stored.space.clone(), given.space.clone()),
        ("dimension", stored.dim.to_string(), given.dim.to_string()),
        ("key spec", stored.key_spec.id(), given.key_spec.id()),
        (
            "language",
            stored.language.code().into(),
            given.language.code().into(),
        ),
    ];
    match fields
        .into_iter()
        .find(|(_, stored, given)| stored != given)
    {
        None => Ok(()),
        Some((field, stored, given)) => Err(StoreError::SpecMismatch {
            name: name.to_owned(),
            field,
            stored,
            given,
        }),
    }
}

/// Rough number of bytes that a document takes.
pub(crate) fn size(put: &DocumentPut) -> u64 {
    let bytes = put.records.iter().map(|record| {
        let features = &record.features;
        let keys = &features.keys;
        let words =
            features.vector.len() + features.lex.terms.len() * 2 + keys.wordpieces.len() * 2;
        let passage = &record.passage;
        words * 4
            + keys.tokens.codes.len()
            + keys.seq() * 3
            + keys.sentences.codes.len()
            + passage.text.len() * 2
            + 512
    });
    bytes.map(|bytes| bytes as u64).sum::<u64>() + 512
}
