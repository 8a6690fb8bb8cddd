//! Metadata filters, the same on both stores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One condition: the metadata value under `key` is one of `any_of`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// Metadata key.
    pub key: String,
    /// Accepted values; an empty list accepts nothing.
    pub any_of: Vec<String>,
}

/// Which passages a search may return. The default lets everything through.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Every one of these has to hold.
    pub must: Vec<Condition>,
    /// None of these may hold.
    pub must_not: Vec<Condition>,
    /// Only these documents; `None`: all of them, an empty list: none.
    pub document_ids: Option<Vec<String>>,
}

impl Condition {
    /// True if `metadata` has the key with an accepted value.
    #[must_use]
    pub fn holds(&self, metadata: &BTreeMap<String, String>) -> bool {
        metadata
            .get(&self.key)
            .is_some_and(|value| self.any_of.contains(value))
    }
}

impl Filter {
    /// True if nothing is filtered out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.must.is_empty() && self.must_not.is_empty() && self.document_ids.is_none()
    }

    /// The meaning of a filter, against which both stores are tested.
    #[must_use]
    pub fn matches(&self, document_id: &str, metadata: &BTreeMap<String, String>) -> bool {
        self.must.iter().all(|condition| condition.holds(metadata))
            && !self
                .must_not
                .iter()
                .any(|condition| condition.holds(metadata))
            && self
                .document_ids
                .as_ref()
                .is_none_or(|ids| ids.iter().any(|id| id == document_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn must_must_not_and_any_of() {
        let metadata: BTreeMap<_, _> = [("lang".to_owned(), "en".to_owned())].into();
        let condition = |key: &str, values: &[&str]| Condition {
            key: key.to_owned(),
            any_of: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        let must = |c| Filter {
            must: vec![c],
            ..Filter::default()
        };
        let must_not = |c| Filter {
            must_not: vec![c],
            ..Filter::default()
        };
        assert!(Filter::default().matches("a", &metadata));
        assert!(must(condition("lang", &["de", "en"])).matches("a", &metadata));
        assert!(!must(condition("lang", &[])).matches("a", &metadata));
        assert!(!must(condition("year", &["en"])).matches("a", &metadata));
        assert!(!must_not(condition("lang", &["en"])).matches("a", &metadata));
        assert!(must_not(condition("year", &["en"])).matches("a", &metadata));
        let only = Filter {
            document_ids: Some(vec!["b".into()]),
            ..Filter::default()
        };
        assert!(!only.matches("a", &metadata) && only.matches("b", &metadata));
    }
}
