//! Filters as a search engine sees them: one list of tags a point.
//!
//! A metadata pair becomes one string, so that one keyword index serves every key and a key may hold
//! any character (dots and quotes mean something in a payload path).

use std::collections::BTreeMap;

use crate::filter::Filter;

/// Payload field with the document's id.
pub(crate) const DOCUMENT_FIELD: &str = "document_id";
/// Payload field with the tags.
pub(crate) const TAGS_FIELD: &str = "tags";

/// One metadata pair; the length keeps `("a", "b=c")` and `("a=b", "c")` apart.
pub(crate) fn tag(key: &str, value: &str) -> String {
    format!("{}:{key}={value}", key.len())
}

/// Tags of a passage.
pub(crate) fn tags(metadata: &BTreeMap<String, String>) -> Vec<String> {
    metadata
        .iter()
        .map(|(key, value)| tag(key, value))
        .collect()
}

/// A field that has, or has not, one of some values.
pub(crate) struct Clause {
    pub(crate) field: &'static str,
    pub(crate) any_of: Vec<String>,
}

/// A filter as clauses over the two payload fields.
pub(crate) struct Clauses {
    pub(crate) must: Vec<Clause>,
    pub(crate) must_not: Vec<Clause>,
}

/// Clauses of a filter; `None` if it can match nothing.
pub(crate) fn clauses(filter: &Filter) -> Option<Clauses> {
    let clause = |condition: &crate::Condition| Clause {
        field: TAGS_FIELD,
        any_of: condition
            .any_of
            .iter()
            .map(|value| tag(&condition.key, value))
            .collect(),
    };
    let mut must: Vec<Clause> = filter.must.iter().map(clause).collect();
    if let Some(ids) = &filter.document_ids {
        must.push(Clause {
            field: DOCUMENT_FIELD,
            any_of: ids.clone(),
        });
    }
    if must.iter().any(|clause| clause.any_of.is_empty()) {
        return None;
    }
    let must_not = filter
        .must_not
        .iter()
        .map(clause)
        .filter(|c| !c.any_of.is_empty())
        .collect();
    Some(Clauses { must, must_not })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_different_pairs_differ() {
        assert_ne!(tag("a", "b=c"), tag("a=b", "c"));
        assert_ne!(tag("", "x"), tag("x", ""));
    }

    #[test]
    fn an_empty_choice_matches_nothing() {
        let none = Filter {
            document_ids: Some(Vec::new()),
            ..Filter::default()
        };
        assert!(clauses(&none).is_none());
        assert!(clauses(&Filter::default()).is_some_and(|c| c.must.is_empty()));
    }
}
