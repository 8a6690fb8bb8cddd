//! Checks of requests. Each finds everything that is wrong, not only the first thing.

use moerag_model::{FIRST_STAGE_HEADS, Routing};
use moerag_store::{Condition, Document, Filter, check_collection_name};

use super::error::RouterError;
use super::limits::{
    Limits, MAX_DELETE, MAX_DOCUMENT_ID_BYTES, MAX_METADATA_KEY_BYTES, MAX_METADATA_VALUE_BYTES,
    MAX_TOP_K,
};
use super::query::{AttendQuery, RouteQuery};
use super::violations::Violations;

/// Checks a query for passages.
pub fn attend(query: &AttendQuery, limits: &Limits, out: &mut Violations) {
    query_text(&query.text, query.truncate, limits, out);
    collections(&query.collections, limits, out);
    routing(query.routing, out);
    filter(&query.filter, limits, out);
    out.check((1..=MAX_TOP_K).contains(&query.top_k), "top_k", || {
        format!("is {}, must be 1 to {MAX_TOP_K}", query.top_k)
    });
    out.check(
        query.context_budget_tokens != Some(0),
        "context_budget_tokens",
        || "is 0, must be at least 1 wordpiece or unset".to_owned(),
    );
    if let Some(weight) = query.min_attn_weight {
        out.check((0.0..=1.0).contains(&weight), "min_attn_weight", || {
            format!("is {weight}, must be 0 to 1")
        });
    }
}

/// Checks a query for decisions.
pub fn route(query: &RouteQuery, limits: &Limits, out: &mut Violations) {
    query_text(&query.text, query.truncate, limits, out);
    collections(&query.collections, limits, out);
    routing(query.routing, out);
    filter(&query.filter, limits, out);
}

/// Checks the name of a collection.
pub fn collection(name: &str, out: &mut Violations) {
    collection_field("collection", name, out);
}

/// Checks the ids of documents to delete.
pub fn delete(collection_name: &str, document_ids: &[String], out: &mut Violations) {
    collection(collection_name, out);
    out.check(
        (1..=MAX_DELETE).contains(&document_ids.len()),
        "document_ids",
        || {
            format!(
                "has {} entries, must have 1 to {MAX_DELETE}",
                document_ids.len()
            )
        },
    );
    for (i, id) in document_ids.iter().take(MAX_DELETE).enumerate() {
        length(
            id.len(),
            1,
            MAX_DOCUMENT_ID_BYTES,
            format!("document_ids[{i}]"),
            out,
        );
    }
}

/// Checks a document that is to be ingested.
///
/// # Errors
/// Everything that is wrong with it.
pub fn document(document: &Document, limits: &Limits) -> Result<(), RouterError> {
    let mut out = Violations::new();
    length(document.id.len(), 1, MAX_DOCUMENT_ID_BYTES, "id", &mut out);
    length(
        document.title.len(),
        0,
        limits.title_bytes,
        "title",
        &mut out,
    );
    length(
        document.text.len(),
        0,
        limits.document_bytes,
        "text",
        &mut out,
    );
    // An entry that is taken as it is may have nothing but a title.
    let title_alone = document.whole && !document.title.trim().is_empty();
    out.check(
        title_alone || !document.text.trim().is_empty(),
        "text",
        || {
            "is empty, must have at least one visible character; delete the document instead"
                .to_owned()
        },
    );
    for (field, text) in [
        ("id", &document.id),
        ("title", &document.title),
        ("text", &document.text),
    ] {
        out.check(!text.contains('\0'), field, || {
            "has a NUL character, so it is not text".to_owned()
        });
    }
    length(
        document.metadata.len(),
        0,
        limits.metadata_entries,
        "metadata entries",
        &mut out,
    );
    for (key, value) in &document.metadata {
        length(
            key.len(),
            1,
            MAX_METADATA_KEY_BYTES,
            "metadata key",
            &mut out,
        );
        let field = || format!("metadata[{}]", key.chars().take(64).collect::<String>());
        length(value.len(), 0, MAX_METADATA_VALUE_BYTES, field(), &mut out);
    }
    out.finish()
}

fn query_text(text: &str, truncate: bool, limits: &Limits, out: &mut Violations) {
    out.check(!text.trim().is_empty(), "query", || {
        "is empty, must have at least one visible character".to_owned()
    });
    out.check(
        truncate || text.len() <= limits.query_bytes,
        "query",
        || {
            format!(
                "has {} bytes, at most {} are read; shorten it or set truncate",
                text.len(),
                limits.query_bytes
            )
        },
    );
}

fn collections(names: &[String], limits: &Limits, out: &mut Violations) {
    out.check(names.len() <= limits.collections, "collections", || {
        format!(
            "has {} entries, at most {} are allowed",
            names.len(),
            limits.collections
        )
    });
    for (i, name) in names.iter().take(limits.collections).enumerate() {
        collection_field(&format!("collections[{i}]"), name, out);
        out.check(
            !names[..i].contains(name),
            format!("collections[{i}]"),
            || "is named twice".to_owned(),
        );
    }
}

fn collection_field(field: &str, name: &str, out: &mut Violations) {
    if let Err(error) = check_collection_name(name) {
        out.add(field, error.to_string());
    }
}

fn routing(routing: Routing, out: &mut Violations) {
    if let Routing::TopK(k) = routing {
        out.check((1..=FIRST_STAGE_HEADS).contains(&k), "top_k_heads", || {
            format!("is {k}, must be 1 to {FIRST_STAGE_HEADS}")
        });
    }
}

fn filter(filter: &Filter, limits: &Limits, out: &mut Violations) {
    let ids = filter.document_ids.as_deref().unwrap_or_default();
    let entries = |conditions: &[Condition]| -> usize {
        conditions.iter().map(|c| c.any_of.len().max(1)).sum()
    };
    let total = ids.len() + entries(&filter.must) + entries(&filter.must_not);
    if total > limits.filter_entries {
        out.add(
            "filter",
            format!(
                "has {total} values, at most {} are allowed",
                limits.filter_entries
            ),
        );
        return;
    }
    for (list, conditions) in [("must", &filter.must), ("must_not", &filter.must_not)] {
        for (i, condition) in conditions.iter().enumerate() {
            let at = format!("filter.{list}[{i}]");
            length(
                condition.key.len(),
                1,
                MAX_METADATA_KEY_BYTES,
                format!("{at}.key"),
                out,
            );
            out.check(!condition.any_of.is_empty(), format!("{at}.any_of"), || {
                "is empty, must have at least one value".to_owned()
            });
            for (j, value) in condition.any_of.iter().enumerate() {
                let field = format!("{at}.any_of[{j}]");
                length(value.len(), 0, MAX_METADATA_VALUE_BYTES, field, out);
            }
        }
    }
    for (i, id) in ids.iter().enumerate() {
        length(
            id.len(),
            1,
            MAX_DOCUMENT_ID_BYTES,
            format!("filter.document_ids[{i}]"),
            out,
        );
    }
}

fn length(found: usize, min: usize, max: usize, field: impl AsRef<str>, out: &mut Violations) {
    out.check((min..=max).contains(&found), field, || {
        let unit = "bytes or entries";
        format!("has length {found}, must have {min} to {max} {unit}")
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fields(query: &AttendQuery) -> Vec<String> {
        let mut out = Violations::new();
        attend(query, &Limits::default(), &mut out);
        match out.finish() {
            Ok(()) => Vec::new(),
            Err(RouterError::Invalid(found)) => found.into_iter().map(|v| v.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    fn condition(key: &str, any_of: &[&str]) -> Condition {
        Condition {
            key: key.to_owned(),
            any_of: any_of.iter().map(|v| (*v).to_owned()).collect(),
        }
    }

    #[test]
    fn table_of_single_faults() {
        let base = || AttendQuery::new("what is it?");
        let must = |c: Condition| Filter {
            must: vec![c],
            ..Filter::default()
        };
        let ids = |ids: Vec<String>| Filter {
            document_ids: Some(ids),
            ..Filter::default()
        };
        let cases: Vec<(AttendQuery, &str)> = vec![
            (AttendQuery::new(""), "query"),
            (AttendQuery::new(" \n\t\u{3000}"), "query"),
            (AttendQuery::new("x".repeat(1 << 20)), "query"),
            (AttendQuery { top_k: 0, ..base() }, "top_k"),
            (
                AttendQuery {
                    top_k: 1_000_000_000,
                    ..base()
                },
                "top_k",
            ),
            (
                AttendQuery {
                    collections: vec!["../etc".into()],
                    ..base()
                },
                "collections[0]",
            ),
            (
                AttendQuery {
                    collections: vec!["a".into(), "a".into()],
                    ..base()
                },
                "collections[1]",
            ),
            (
                AttendQuery {
                    collections: vec!["a".repeat(65)],
                    ..base()
                },
                "collections[0]",
            ),
            (
                AttendQuery {
                    routing: Routing::TopK(0),
                    ..base()
                },
                "top_k_heads",
            ),
            (
                AttendQuery {
                    routing: Routing::TopK(9),
                    ..base()
                },
                "top_k_heads",
            ),
            (
                AttendQuery {
                    min_attn_weight: Some(f64::NAN),
                    ..base()
                },
                "min_attn_weight",
            ),
            (
                AttendQuery {
                    min_attn_weight: Some(f64::INFINITY),
                    ..base()
                },
                "min_attn_weight",
            ),
            (
                AttendQuery {
                    min_attn_weight: Some(-0.1),
                    ..base()
                },
                "min_attn_weight",
            ),
            (
                AttendQuery {
                    context_budget_tokens: Some(0),
                    ..base()
                },
                "context_budget_tokens",
            ),
            (
                AttendQuery {
                    filter: must(condition("", &["v"])),
                    ..base()
                },
                "filter.must[0].key",
            ),
            (
                AttendQuery {
                    filter: must(condition("k", &[])),
                    ..base()
                },
                "filter.must[0].any_of",
            ),
            (
                AttendQuery {
                    filter: ids(vec![String::new()]),
                    ..base()
                },
                "filter.document_ids[0]",
            ),
            (
                AttendQuery {
                    filter: ids(vec!["x".into(); 1001]),
                    ..base()
                },
                "filter",
            ),
        ];
        for (query, field) in cases {
            assert_eq!(fields(&query), [field]);
        }
    }

    #[test]
    fn good_queries_pass() {
        let long = AttendQuery {
            truncate: true,
            ..AttendQuery::new("x".repeat(1 << 20))
        };
        let filtered = AttendQuery {
            filter: Filter {
                must: vec![condition("k", &["NaN"])],
                ..Filter::default()
            },
            min_attn_weight: Some(0.0),
            top_k: 1000,
            collections: vec!["a".into(), "b-2".into()],
            ..AttendQuery::new("?")
        };
        assert!(fields(&long).is_empty());
        assert!(fields(&filtered).is_empty());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let query = AttendQuery {
            top_k: 0,
            collections: vec!["a b".into()],
            min_attn_weight: Some(2.0),
            ..AttendQuery::new("")
        };
        assert_eq!(
            fields(&query),
            ["query", "collections[0]", "top_k", "min_attn_weight"]
        );
    }

    #[test]
    fn documents_are_checked() {
        let limits = Limits::default();
        let good = Document {
            id: "a".into(),
            text: "x".into(),
            ..Document::default()
        };
        assert!(document(&good, &limits).is_ok());
        let blank = Document {
            title: "A title".into(),
            text: " \n".into(),
            ..good.clone()
        };
        assert!(document(&blank, &limits).is_err());
        let entry = Document {
            whole: true,
            ..blank
        };
        assert!(document(&entry, &limits).is_ok());
        let bad = Document {
            id: String::new(),
            text: "%PDF-1.4\0".into(),
            metadata: [("k".to_owned(), "v".repeat(2000))].into(),
            ..Document::default()
        };
        let message = document(&bad, &limits).unwrap_err().to_string();
        for part in ["id: ", "text: has a NUL", "metadata[k]: "] {
            assert!(message.contains(part), "{message}");
        }
    }
}
