//! Queries to vectors.

use std::sync::Arc;

use moerag_retrieve::{Analyzer, QueryFeatures};
use ndarray::Array2;

use super::engine::RouterEngine;
use crate::domain::{RouteQuery, RouterError, Stage, Stages};

/// A query as the encoder sees it, the same for all collections.
#[derive(Clone, Debug)]
pub struct EncodedQuery {
    /// The text that was read.
    pub text: String,
    /// Whether it has words that the query does not have.
    pub respelled: bool,
    /// Unit pooled vector, `[d]`.
    pub vector: Vec<f32>,
    /// Unit token states, `[nq, d]`.
    pub tokens: Array2<f32>,
    /// Wordpiece ids, `[nq]`.
    pub token_ids: Vec<u32>,
    /// Length in wordpieces before truncation.
    pub token_count: usize,
    /// Whether something was cut.
    pub truncated: bool,
}

impl EncodedQuery {
    /// Adds the terms that a collection's analyzer finds.
    pub(super) fn features(&self, analyzer: &Analyzer) -> QueryFeatures {
        QueryFeatures::new(
            analyzer,
            self.text.clone(),
            self.vector.clone(),
            self.tokens.clone(),
            self.token_ids.clone(),
        )
    }
}

impl RouterEngine {
    /// Reads a query that is asked of the collections `names`: mends its spelling and encodes it.
    ///
    /// The rule for long texts: at most `limits.query_bytes` are read at all, and at most as many
    /// wordpieces as the encoder takes are encoded. What is longer is cut if `truncate` is set
    /// and refused otherwise. The lexical views read all the text that is read.
    ///
    /// # Errors
    /// A text that is too long without `truncate`.
    pub(super) async fn read_query(
        &self,
        query: &RouteQuery,
        names: &[Arc<str>],
        stages: &Stages,
    ) -> Result<EncodedQuery, RouterError> {
        let _guard = stages.enter(Stage::Encode);
        let truncate = query.truncate;
        let (text, cut) = cut_text(&query.text, self.limits().query_bytes, truncate)?;
        let respelled = match query.as_written {
            true => None,
            false => self.respelled(text, names, &query.filter).await,
        };
        let text = respelled.as_deref().unwrap_or(text);
        let handle = &self.inner.encoder;
        let encoding = handle
            .encode_query(text)
            .await
            .map_err(|error| RouterError::internal("encoding the query", error))?;
        if encoding.truncated && !truncate {
            return Err(RouterError::invalid(
                "query",
                format!(
                    "has {} wordpieces, at most {} are encoded; shorten it or set truncate",
                    encoding.token_count,
                    encoding.token_ids.len()
                ),
            ));
        }
        let shape = (encoding.token_ids.len(), handle.encoder().dim());
        let tokens = Array2::from_shape_vec(shape, encoding.states)
            .map_err(|error| RouterError::internal("shaping the query's token states", error))?;
        Ok(EncodedQuery {
            text: text.to_owned(),
            respelled: respelled.is_some(),
            vector: encoding.vector,
            tokens,
            token_ids: encoding.token_ids,
            token_count: encoding.token_count,
            truncated: encoding.truncated || cut,
        })
    }
}

/// The part of a text that is read at all, and whether that is less than all of it.
fn cut_text(text: &str, limit: usize, truncate: bool) -> Result<(&str, bool), RouterError> {
    match text.len() {
        length if length <= limit => Ok((text, false)),
        _ if truncate => Ok((&text[..text.floor_char_boundary(limit)], true)),
        length => Err(RouterError::invalid(
            "query",
            format!("has {length} bytes, at most {limit} are read; shorten it or set truncate"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_only_if_asked() {
        assert_eq!(cut_text("abc", 3, false).unwrap(), ("abc", false));
        assert_eq!(cut_text("aé", 2, true).unwrap(), ("a", true));
        assert!(cut_text("abcd", 3, false).is_err());
    }
}
