//! Queries as the service takes them.

use moerag_model::Routing;
use moerag_store::Filter;

use super::limits::DEFAULT_TOP_K;

/// A query for passages.
#[derive(Clone, Debug)]
pub struct AttendQuery {
    /// The query text.
    pub text: String,
    /// Collections to attend over; empty means all.
    pub collections: Vec<String>,
    /// Number of passages to return.
    pub top_k: u32,
    /// How head weights are used.
    pub routing: Routing,
    /// Which documents may be returned.
    pub filter: Filter,
    /// Largest total length of the returned passages in wordpieces.
    pub context_budget_tokens: Option<u32>,
    /// Cut an over-long query instead of refusing it.
    pub truncate: bool,
    /// Leave out passages with a lower weight, 0 to 1.
    pub min_attn_weight: Option<f64>,
    /// Search for misspelt words as they are.
    pub as_written: bool,
}

impl AttendQuery {
    /// A query over all collections with every choice at its default.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            collections: Vec::new(),
            top_k: DEFAULT_TOP_K,
            routing: Routing::Soft,
            filter: Filter::default(),
            context_budget_tokens: None,
            truncate: false,
            min_attn_weight: None,
            as_written: false,
        }
    }

    /// The part that decides, without what cuts the reply.
    pub fn route(&self) -> RouteQuery {
        RouteQuery {
            text: self.text.clone(),
            collections: self.collections.clone(),
            routing: self.routing,
            filter: self.filter.clone(),
            truncate: self.truncate,
            as_written: self.as_written,
        }
    }
}

/// A query for decisions only.
#[derive(Clone, Debug)]
pub struct RouteQuery {
    /// The query text.
    pub text: String,
    /// Collections to look at; empty means all.
    pub collections: Vec<String>,
    /// How head weights are used.
    pub routing: Routing,
    /// Which documents are looked at.
    pub filter: Filter,
    /// Cut an over-long query instead of refusing it.
    pub truncate: bool,
    /// Look at misspelt words as they are.
    pub as_written: bool,
}
