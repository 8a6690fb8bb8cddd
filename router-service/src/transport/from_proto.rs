//! Requests from proto to domain.

use moerag_model::Routing;
use moerag_proto::v1;
use moerag_store::{Condition, Document, Filter, Format};

use crate::domain::limits::DEFAULT_TOP_K;
use crate::domain::violations::Violations;
use crate::domain::{AttendQuery, RouteQuery};

pub(super) fn attend_query(request: v1::AttendRequest, out: &mut Violations) -> AttendQuery {
    AttendQuery {
        routing: routing(request.routing, request.top_k_heads, out),
        text: request.query,
        collections: request.collections,
        top_k: request.top_k.unwrap_or(DEFAULT_TOP_K),
        filter: filter(request.filter),
        context_budget_tokens: request.context_budget_tokens,
        truncate: request.truncate,
        min_attn_weight: request.min_attn_weight,
        as_written: request.as_written,
    }
}

pub(super) fn route_query(request: v1::RouteRequest, out: &mut Violations) -> RouteQuery {
    RouteQuery {
        routing: routing(request.routing, request.top_k_heads, out),
        text: request.query,
        collections: request.collections,
        filter: filter(request.filter),
        truncate: request.truncate,
        as_written: request.as_written,
    }
}

/// The number of an enum comes from the client and may be anything.
fn routing(mode: i32, top_k_heads: Option<u32>, out: &mut Violations) -> Routing {
    let known = v1::RoutingMode::try_from(mode);
    out.check(known.is_ok(), "routing", || {
        format!("is {mode}, which is no routing mode")
    });
    let mode = known.unwrap_or(v1::RoutingMode::Unspecified);
    let is_top_k = mode == v1::RoutingMode::TopK;
    out.check(is_top_k || top_k_heads.is_none(), "top_k_heads", || {
        "is set, but is only for ROUTING_MODE_TOP_K".to_owned()
    });
    match mode {
        v1::RoutingMode::Unspecified | v1::RoutingMode::Soft => Routing::Soft,
        v1::RoutingMode::Hard => Routing::Hard,
        // An unset number becomes 0, which the check of the domain refuses.
        v1::RoutingMode::TopK => Routing::TopK(top_k_heads.unwrap_or(0) as usize),
    }
}

fn filter(filter: Option<v1::Filter>) -> Filter {
    let Some(filter) = filter else {
        return Filter::default();
    };
    let conditions = |conditions: Vec<v1::FilterCondition>| {
        conditions
            .into_iter()
            .map(|c| Condition {
                key: c.key,
                any_of: c.any_of,
            })
            .collect()
    };
    Filter {
        must: conditions(filter.must),
        must_not: conditions(filter.must_not),
        document_ids: Some(filter.document_ids).filter(|ids| !ids.is_empty()),
    }
}

/// A document, or why it cannot be one.
pub(super) fn document(document: v1::Document) -> Result<Document, (String, String)> {
    let format = match v1::DocumentFormat::try_from(document.format) {
        Ok(v1::DocumentFormat::Unspecified | v1::DocumentFormat::Plain) => Format::Plain,
        Ok(v1::DocumentFormat::Markdown) => Format::Markdown,
        Ok(v1::DocumentFormat::Html) => Format::Html,
        Err(_) => {
            let reason = format!(
                "format: is {}, which is no document format",
                document.format
            );
            return Err((document.id, reason));
        }
    };
    Ok(Document {
        id: document.id,
        title: document.title,
        text: document.text,
        format,
        metadata: document.metadata.into_iter().collect(),
        whole: document.whole,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::domain::{Limits, RouterError, validate};

    fn faults(request: v1::AttendRequest) -> Vec<String> {
        let mut out = Violations::new();
        let query = attend_query(request, &mut out);
        validate::attend(&query, &Limits::default(), &mut out);
        match out.finish() {
            Ok(()) => Vec::new(),
            Err(RouterError::Invalid(found)) => found.iter().map(ToString::to_string).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    fn request() -> v1::AttendRequest {
        v1::AttendRequest {
            query: "what?".into(),
            ..v1::AttendRequest::default()
        }
    }

    #[test]
    fn defaults_are_good() {
        assert!(faults(request()).is_empty());
        let query = attend_query(request(), &mut Violations::new());
        assert_eq!((query.top_k, query.routing), (10, Routing::Soft));
        assert_eq!(query.filter, Filter::default());
    }

    #[test]
    fn faults_of_transport_and_domain_come_together() {
        let found = faults(v1::AttendRequest {
            routing: 77,
            top_k: Some(0),
            min_attn_weight: Some(f64::NAN),
            top_k_heads: Some(2),
            ..request()
        });
        let fields: Vec<&str> = found.iter().map(|f| f.split(':').next().unwrap()).collect();
        assert_eq!(
            fields,
            ["routing", "top_k_heads", "top_k", "min_attn_weight"]
        );
    }

    #[test]
    fn sparse_routing_needs_its_number() {
        let top_k = |heads| v1::AttendRequest {
            routing: v1::RoutingMode::TopK.into(),
            top_k_heads: heads,
            ..request()
        };
        assert!(faults(top_k(Some(2))).is_empty());
        assert_eq!(faults(top_k(None)), ["top_k_heads: is 0, must be 1 to 8"]);
    }

    #[test]
    fn an_unknown_format_is_refused_by_id() {
        let sent = v1::Document {
            id: "a".into(),
            format: 9,
            ..v1::Document::default()
        };
        assert_eq!(document(sent).unwrap_err().0, "a");
    }
}
