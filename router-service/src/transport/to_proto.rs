//! Replies from domain to proto.

use std::collections::HashMap;
use std::ops::Range;
use std::time::SystemTime;

use moerag_model::{HEADS, QUERY_TYPES};
use moerag_proto::v1;
use moerag_retrieve::{CorpusStats, PassageFeatures, VIEWS};
use moerag_store::{CollectionInfo, Passage};
use prost_types::Timestamp;

use crate::domain::{
    Attended, AttendedPassage, CollectionRoute, Routed, RouterError, ServedModel, Source,
    StageTiming, TypePrediction,
};
use crate::service::{
    ActiveModel, DocumentOutcome, DocumentStatus, IngestProgress, ModelVersion, PassagePage,
};

pub(super) fn attend_response(request_id: &str, attended: Attended) -> v1::AttendResponse {
    let Attended {
        passages,
        route,
        attn_mass_returned,
    } = attended;
    v1::AttendResponse {
        request_id: request_id.to_owned(),
        passages: passages.into_iter().map(attended_passage).collect(),
        heads: head_weights(&route.heads),
        query_type: Some(query_type(&route.query_type)),
        model: Some(served_model(&route.model)),
        collections: route.collections.iter().map(collection_route).collect(),
        attn_mass_returned,
        token_count: saturate(route.token_count),
        truncated: route.truncated,
        timings: timings(&route.timings),
        searched_for: route.searched_for.clone().unwrap_or_default(),
    }
}

pub(super) fn route_response(request_id: &str, route: &Routed) -> v1::RouteResponse {
    v1::RouteResponse {
        request_id: request_id.to_owned(),
        heads: head_weights(&route.heads),
        query_type: Some(query_type(&route.query_type)),
        model: Some(served_model(&route.model)),
        collections: route.collections.iter().map(collection_route).collect(),
        token_count: saturate(route.token_count),
        truncated: route.truncated,
        timings: timings(&route.timings),
        searched_for: route.searched_for.clone().unwrap_or_default(),
    }
}

pub(super) fn served_model(model: &ServedModel) -> v1::ServedModel {
    v1::ServedModel {
        version: model.version,
        source: source(model.source).into(),
        weights_digest: model.weights_digest.clone(),
        embedding_space_id: model.space.clone(),
        key_spec: model.key_spec.clone(),
    }
}

pub(super) fn active_model(active: ActiveModel) -> v1::GetActiveModelResponse {
    v1::GetActiveModelResponse {
        model: Some(served_model(&active.model)),
        collections: sources(active.collections),
        live_generations: saturate(active.live_generations),
        swaps: active.swaps,
        failed_loads: active.failed_loads,
        last_load_error: active.last_load_error.unwrap_or_default(),
        loaded_at: timestamp(active.loaded_at),
        reasons: active.reasons.into_iter().collect(),
    }
}

pub(super) fn model_version(version: ModelVersion) -> v1::ModelVersion {
    let manifest = version.manifest;
    // What this very version learned; the others came along from earlier ones.
    let own: Vec<_> = manifest
        .collections
        .iter()
        .filter(|(_, collection)| collection.published_in == manifest.version)
        .collect();
    let metrics = own.iter().flat_map(|(name, collection)| {
        collection
            .metrics
            .iter()
            .map(move |(metric, value)| (format!("{name}/{metric}"), *value))
    });
    v1::ModelVersion {
        version: manifest.version,
        created_at: manifest.created_at.parse::<Timestamp>().ok(),
        weights_digest: manifest.weights_digest.clone(),
        embedding_space_id: manifest.embedding_space_id.clone(),
        key_spec: manifest.view_config.key_spec.id(),
        corpus_digest: own
            .first()
            .map(|(_, c)| c.corpus_digest.clone())
            .unwrap_or_default(),
        seed: own.first().map_or(0, |(_, c)| c.seed),
        collections: sources(version.collections),
        metrics: metrics.collect(),
        size_bytes: manifest.files.values().map(|file| file.size).sum(),
        active: version.active,
    }
}

pub(super) fn collection((info, from): (CollectionInfo, Source)) -> v1::Collection {
    v1::Collection {
        name: info.name,
        documents: info.documents,
        passages: info.passages,
        embedding_space_id: info.spec.space,
        key_spec: info.spec.key_spec.id(),
        language: info.spec.language.to_string(),
        corpus_digest: info.corpus_digest,
        stats_digest: info.stats_digest,
        source: source(from).into(),
    }
}

pub(super) fn ingest_response(
    outcomes: Vec<DocumentOutcome>,
    progress: IngestProgress,
) -> v1::IngestResponse {
    v1::IngestResponse {
        outcomes: outcomes.into_iter().map(outcome).collect(),
        progress: Some(v1::IngestProgress {
            received: progress.received,
            written: progress.written,
            unchanged: progress.unchanged,
            refused: progress.refused,
            passages: progress.passages,
            pruned: progress.pruned,
            passages_encoded: progress.passages_encoded,
        }),
    }
}

/// A page with its features encoded; CPU work.
pub(super) fn passages_response(
    page: PassagePage,
) -> Result<v1::StreamPassagesResponse, RouterError> {
    let passages = page
        .records
        .into_iter()
        .map(|(passage, features)| {
            let features = features.map(|f| passage_features(&f)).transpose()?;
            Ok(stored_passage(passage, features))
        })
        .collect::<Result<_, RouterError>>()?;
    Ok(v1::StreamPassagesResponse {
        passages,
        next_cursor: page.next.unwrap_or_default(),
        corpus_digest: page.corpus_digest,
        total_passages: page.total_passages,
    })
}

pub(super) fn stats(stats: &CorpusStats) -> Result<Vec<u8>, RouterError> {
    let failed = |error| RouterError::internal("encoding a collection's statistics", error);
    stats.to_bytes().map_err(failed)
}

fn passage_features(features: &PassageFeatures) -> Result<v1::PassageFeatures, RouterError> {
    let failed = |error| RouterError::internal("encoding a passage's features", error);
    Ok(v1::PassageFeatures {
        vector: features
            .vector
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        lex: postcard::to_stdvec(&features.lex).map_err(failed)?,
        keys: postcard::to_stdvec(&features.keys).map_err(failed)?,
    })
}

fn stored_passage(passage: Passage, features: Option<v1::PassageFeatures>) -> v1::StoredPassage {
    v1::StoredPassage {
        document_id: passage.document_id,
        ordinal: passage.ordinal,
        revision: passage.revision,
        title: passage.title,
        text: passage.text,
        document_range: Some(byte_range(&(passage.start..passage.end))),
        sentences: passage.sentences.iter().map(byte_range).collect(),
        metadata: passage.metadata.into_iter().collect(),
        features,
    }
}

fn attended_passage(attended: AttendedPassage) -> v1::AttendedPassage {
    let passage = attended.passage;
    v1::AttendedPassage {
        collection: attended.collection.to_string(),
        document_id: passage.document_id,
        ordinal: passage.ordinal,
        revision: passage.revision,
        title: passage.title,
        text: passage.text,
        document_range: Some(byte_range(&(passage.start..passage.end))),
        metadata: passage.metadata.into_iter().collect(),
        attn_weight: attended.attn_weight,
        title_named: attended.title_named,
        heads: HEADS
            .iter()
            .zip(attended.heads)
            .map(|(head, share)| v1::HeadContribution {
                head: (*head).to_owned(),
                share: share.share,
                attention: share.attention,
            })
            .collect(),
        views: VIEWS
            .iter()
            .zip(attended.views)
            .map(|(view, share)| v1::ViewContribution {
                view: (*view).to_owned(),
                raw: share.raw,
                z: share.z,
                contribution: share.contribution,
            })
            .collect(),
        sentences: attended
            .sentences
            .iter()
            .map(|(range, weight)| v1::SentenceWeight {
                range: Some(byte_range(range)),
                weight: *weight,
            })
            .collect(),
        token_count: saturate(attended.token_count),
    }
}

fn collection_route(route: &CollectionRoute) -> v1::CollectionRoute {
    v1::CollectionRoute {
        collection: route.collection.clone(),
        weight: route.weight,
        source: source(route.source).into(),
        heads: head_weights(&route.heads),
        candidates: saturate(route.candidates),
        scored: saturate(route.scored),
        stats_digest: route.stats_digest.clone(),
        query_type: Some(query_type(&route.query_type)),
        source_reason: route.source_reason.clone(),
    }
}

fn outcome(outcome: DocumentOutcome) -> v1::DocumentOutcome {
    let (status, passages, truncated, reason) = match outcome.status {
        DocumentStatus::Written {
            passages,
            truncated,
        } => (
            v1::DocumentStatus::Written,
            passages,
            truncated,
            String::new(),
        ),
        DocumentStatus::Unchanged => (v1::DocumentStatus::Unchanged, 0, 0, String::new()),
        DocumentStatus::Refused { reason } => (v1::DocumentStatus::Refused, 0, 0, reason),
    };
    v1::DocumentOutcome {
        index: outcome.index,
        document_id: outcome.document_id,
        status: status.into(),
        passages: saturate(passages),
        truncated_passages: saturate(truncated),
        reason,
    }
}

fn head_weights(weights: &[f32]) -> Vec<v1::HeadWeight> {
    HEADS
        .iter()
        .zip(weights)
        .map(|(head, weight)| v1::HeadWeight {
            head: (*head).to_owned(),
            weight: *weight,
        })
        .collect()
}

fn query_type(prediction: &TypePrediction) -> v1::QueryTypePrediction {
    let name = |at: usize| {
        QUERY_TYPES
            .get(at)
            .map_or_else(String::new, |t| (*t).to_owned())
    };
    v1::QueryTypePrediction {
        query_type: prediction.best().map(name).unwrap_or_default(),
        posterior: prediction
            .posterior
            .iter()
            .enumerate()
            .map(|(at, probability)| v1::QueryTypeProbability {
                query_type: name(at),
                probability: *probability,
            })
            .collect(),
    }
}

fn timings(timings: &[StageTiming]) -> Vec<v1::StageTiming> {
    timings
        .iter()
        .map(|t| v1::StageTiming {
            stage: t.stage.to_owned(),
            micros: t.micros,
        })
        .collect()
}

fn sources(sources: impl IntoIterator<Item = (String, Source)>) -> HashMap<String, i32> {
    sources
        .into_iter()
        .map(|(name, from)| (name, source(from).into()))
        .collect()
}

fn source(from: Source) -> v1::ModelSource {
    match from {
        Source::Prior => v1::ModelSource::Prior,
        Source::FallbackPrior => v1::ModelSource::FallbackPrior,
        Source::Trained => v1::ModelSource::Trained,
    }
}

fn byte_range(range: &Range<usize>) -> v1::ByteRange {
    v1::ByteRange {
        start: range.start as u64,
        end: range.end as u64,
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(Timestamp::from(time))
}

fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
