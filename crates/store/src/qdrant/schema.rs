//! How a collection lies on a server.
//!
//! `<prefix>~<name>` is an alias of the passages' collection `<prefix>~<name>~<id>`; its documents are in
//! `<prefix>~<name>~<id>~docs`, one point each, which is the commit mark. `<prefix>~~meta` has one point for
//! what is registered of a collection and one for its statistics. `~` is in no collection's name.
//!
//! A server reads a point's payload as a whole, whichever fields are asked for. So what searches do not
//! need, keys and text, lies in `<prefix>~<name>~<id>~details`, under the same ids.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    ListValue, NamedVectors, PointId, PointStruct, Value, Vector, Vectors,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::StoreError;
use crate::passage::{Passage, PassageRecord, point_id};
use crate::store::DocumentPut;
use crate::tags::{DOCUMENT_FIELD, TAGS_FIELD, tags};
use moerag_retrieve::CorpusStats;

pub(super) const DENSE: &str = "dense";
pub(super) const LEXICAL: &str = "lex";

pub(super) const ORDINAL: &str = "ordinal";
pub(super) const REVISION: &str = "revision";
/// Number of the write that put the point there; grows with every write of a document.
pub(super) const GENERATION: &str = "generation";
/// True once the document's commit mark was written.
pub(super) const LIVE: &str = "live";
/// The passage as base64 of postcard; in the details.
pub(super) const PASSAGE: &str = "passage";
/// The lexical block, likewise.
pub(super) const LEX: &str = "lex";
/// The keys, likewise; in the details.
pub(super) const KEYS: &str = "keys";
/// The distinct wordpieces, likewise: all that statistics need of the keys.
pub(super) const PIECES: &str = "pieces";

const NAMESPACE: Uuid = Uuid::from_u128(0x6d6f_6572_6167_5f71_6472_616e_745f_3031);

/// Names of one collection on the server.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Alias of `points`; the collection exists when this does.
    pub(super) alias: String,
    pub(super) points: String,
    pub(super) details: String,
    pub(super) documents: String,
}

/// Alias of a collection.
pub(super) fn alias(prefix: &str, name: &str) -> String {
    format!("{prefix}~{name}")
}

/// Name of the collection for specs and statistics.
pub(super) fn meta(prefix: &str) -> String {
    format!("{prefix}~~meta")
}

impl Names {
    /// Names that no collection had before.
    pub(super) fn fresh(prefix: &str, name: &str) -> Self {
        let id = Uuid::new_v4().simple();
        Self::of(prefix, name, format!("{prefix}~{name}~{id}"))
    }

    /// Names that collections got from their encoder's space, until they got fresh ones.
    pub(super) fn by_space(prefix: &str, name: &str, space: &str) -> Self {
        let digest = hex::encode(&Sha256::digest(space.as_bytes())[..4]);
        Self::of(prefix, name, format!("{prefix}~{name}~{digest}"))
    }

    /// Names that belong to what the alias stands for.
    pub(super) fn of(prefix: &str, name: &str, points: String) -> Self {
        Self {
            alias: alias(prefix, name),
            documents: format!("{points}~docs"),
            details: format!("{points}~details"),
            points,
        }
    }
}

/// A point id as the server takes it.
pub(super) fn server_id(id: Uuid) -> PointId {
    id.to_string().into()
}

/// Id of a point that is no passage: a document's commit mark, a spec, statistics.
pub(super) fn named_id(kind: &str, name: &str) -> PointId {
    server_id(Uuid::new_v5(
        &NAMESPACE,
        format!("{kind}\0{name}").as_bytes(),
    ))
}

/// The commit mark of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    pub(super) document_id: String,
    pub(super) revision: String,
    pub(super) passages: u32,
    pub(super) generation: i64,
    pub(super) state: MarkState,
}

/// How far the write of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkState {
    /// Its passages are there; those of older revisions may be too.
    Written,
    /// Nothing is left to do.
    Done,
    /// Its passages are being deleted.
    Deleting,
}

impl MarkState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Done => "done",
            Self::Deleting => "deleting",
        }
    }
}

pub(super) const STATE: &str = "state";
pub(super) const PASSAGES: &str = "passages";

impl Mark {
    pub(super) fn point(&self) -> PointStruct {
        let payload = HashMap::from([
            (DOCUMENT_FIELD.to_owned(), self.document_id.as_str().into()),
            (REVISION.to_owned(), self.revision.as_str().into()),
            (PASSAGES.to_owned(), i64::from(self.passages).into()),
            (GENERATION.to_owned(), self.generation.into()),
            (STATE.to_owned(), self.state.name().into()),
        ]);
        bare_point(named_id("document", &self.document_id), payload)
    }

    pub(super) fn parse(payload: &HashMap<String, Value>) -> Result<Self, StoreError> {
        let state = match text(payload, STATE)? {
            "done" => MarkState::Done,
            "deleting" => MarkState::Deleting,
            _ => MarkState::Written,
        };
        Ok(Self {
            document_id: text(payload, DOCUMENT_FIELD)?.to_owned(),
            revision: text(payload, REVISION)?.to_owned(),
            passages: u32::try_from(integer(payload, PASSAGES)?).unwrap_or_default(),
            generation: integer(payload, GENERATION)?,
            state,
        })
    }

    /// Ids of the points of its passages.
    pub(super) fn points(&self, collection: &str) -> impl Iterator<Item = PointId> + '_ {
        let collection = collection.to_owned();
        (0..self.passages).map(move |ordinal| {
            server_id(point_id(
                &collection,
                &self.document_id,
                &self.revision,
                ordinal,
            ))
        })
    }
}

/// A point without vectors.
pub(super) fn bare_point(id: PointId, payload: HashMap<String, Value>) -> PointStruct {
    let none = VectorsOptions::Vectors(NamedVectors::default());
    PointStruct {
        id: Some(id),
        payload,
        vectors: Some(Vectors {
            vectors_options: Some(none),
        }),
    }
}

/// A passage as the server keeps it: what searches read, not live yet, and its details.
pub(super) struct PassagePoint {
    pub(super) searched: PointStruct,
    pub(super) details: PointStruct,
}

/// The points of a document.
pub(super) fn passage_points(
    collection: &str,
    put: &DocumentPut,
    generation: i64,
    stats: &CorpusStats,
) -> Result<Vec<PassagePoint>, StoreError> {
    put.records
        .iter()
        .map(|record| {
            let PassageRecord { passage, features } = record;
            let id = point_id(collection, &put.document_id, &put.revision, passage.ordinal);
            let document: [(String, Value); 3] = [
                (DOCUMENT_FIELD.to_owned(), put.document_id.as_str().into()),
                (REVISION.to_owned(), put.revision.as_str().into()),
                (GENERATION.to_owned(), generation.into()),
            ];
            let mut details = HashMap::from(document.clone());
            details.insert(PASSAGE.to_owned(), packed(passage)?);
            details.insert(KEYS.to_owned(), packed(&features.keys)?);
            let mut payload = HashMap::from(document);
            payload.extend([
                (ORDINAL.to_owned(), i64::from(passage.ordinal).into()),
                (LIVE.to_owned(), false.into()),
                (TAGS_FIELD.to_owned(), strings(tags(&passage.metadata))),
                (LEX.to_owned(), packed(&features.lex)?),
                (PIECES.to_owned(), packed(&features.keys.wordpieces)?),
            ]);
            let mut vectors = vec![(DENSE, Vector::from(features.vector.clone()))];
            let weights = stats.bm25_weights(&features.lex);
            if !weights.is_empty() {
                vectors.push((LEXICAL, Vector::from(weights)));
            }
            let vectors = NamedVectors::from(vectors);
            let searched = PointStruct {
                id: Some(server_id(id)),
                payload,
                vectors: Some(vectors.into()),
            };
            Ok(PassagePoint {
                searched,
                details: bare_point(server_id(id), details),
            })
        })
        .collect()
}

/// A list of strings as a payload value.
pub(super) fn strings(values: Vec<String>) -> Value {
    let values = values.into_iter().map(Value::from).collect();
    Value {
        kind: Some(Kind::ListValue(ListValue { values })),
    }
}

/// Base64 of postcard as a payload value.
pub(super) fn packed<T: Serialize + ?Sized>(value: &T) -> Result<Value, StoreError> {
    let bytes = postcard::to_allocvec(value).map_err(|error| StoreError::InvalidInput {
        field: "record".into(),
        reason: format!("cannot be encoded: {error}"),
    })?;
    Ok(STANDARD.encode(bytes).into())
}

/// What [`packed`] made.
pub(super) fn unpack<T: DeserializeOwned>(
    payload: &HashMap<String, Value>,
    field: &str,
) -> Result<T, StoreError> {
    let bytes = STANDARD
        .decode(text(payload, field)?)
        .map_err(|e| corrupt(field, &e))?;
    postcard::from_bytes(&bytes).map_err(|error| corrupt(field, &error))
}

/// A passage from its payload.
pub(super) fn passage(payload: &HashMap<String, Value>) -> Result<Passage, StoreError> {
    unpack(payload, PASSAGE)
}

/// A string field.
pub(super) fn text<'a>(
    payload: &'a HashMap<String, Value>,
    field: &str,
) -> Result<&'a str, StoreError> {
    match payload.get(field).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Ok(text),
        _ => Err(corrupt(field, &"it is missing or not a string")),
    }
}

/// An integer field.
pub(super) fn integer(payload: &HashMap<String, Value>, field: &str) -> Result<i64, StoreError> {
    match payload.get(field).and_then(|value| value.kind.as_ref()) {
        Some(Kind::IntegerValue(value)) => Ok(*value),
        _ => Err(corrupt(field, &"it is missing or not an integer")),
    }
}

fn corrupt(field: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        what: format!("payload field {field:?}"),
        reason: error.to_string(),
    }
}

/// The uuid of a point.
pub(super) fn uuid(id: Option<PointId>) -> Option<Uuid> {
    use qdrant_client::qdrant::point_id::PointIdOptions;
    match id?.point_id_options? {
        PointIdOptions::Uuid(text) => text.parse().ok(),
        PointIdOptions::Num(_) => None,
    }
}
