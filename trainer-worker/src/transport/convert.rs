//! Domain to proto and back. Nothing of `moerag_proto` leaves `transport`.

use std::time::{Duration, SystemTime};

use moerag_proto::v1;
use moerag_retrieve::{KeySpec, Language, TokenCode};
use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::progress::Stage;
use crate::worker::{Job, JobError, JobRequest, JobState, Source};

/// Most collections that one job may name.
const MAX_COLLECTIONS: usize = 1000;

pub(super) fn request(message: v1::StartTrainingRequest) -> Result<JobRequest, Status> {
    let mut violations = Vec::new();
    let mut refuse = |field: String, why: &str| violations.push(FieldViolation::new(field, why));
    if message.collections.len() > MAX_COLLECTIONS {
        refuse(
            "collections".into(),
            "name at most 1000 collections, or none for all",
        );
    }
    for (i, name) in message.collections.iter().enumerate().take(MAX_COLLECTIONS) {
        if moerag_store::check_collection_name(name).is_err() {
            refuse(
                format!("collections[{i}]"),
                "use 1 to 64 letters, digits, '-', '_' or '.'",
            );
        }
    }
    if message
        .synthetic_queries
        .is_some_and(|n| !(1..=1_000_000).contains(&n))
    {
        refuse(
            "synthetic_queries".into(),
            "use 1 to 1000000, or leave it unset",
        );
    }
    if !violations.is_empty() {
        let named: Vec<String> = violations
            .iter()
            .map(|v| format!("{}: {}", v.field, v.description))
            .collect();
        return Err(Status::with_error_details(
            Code::InvalidArgument,
            named.join("; "),
            ErrorDetails::with_bad_request(violations),
        ));
    }
    let mut collections = message.collections;
    collections.sort();
    collections.dedup();
    Ok(JobRequest {
        collections,
        seed: message.seed,
        synthetic_queries: message.synthetic_queries.map(|n| n as usize),
        force: message.force,
        background_reason: None,
    })
}

pub(super) fn status(error: &JobError) -> Status {
    let message = error.to_string();
    match error {
        JobError::QueueFull { .. } => Status::with_error_details(
            Code::ResourceExhausted,
            message,
            ErrorDetails::with_retry_info(Some(Duration::from_secs(30))),
        ),
        JobError::Stopping => Status::with_error_details(
            Code::Unavailable,
            message,
            ErrorDetails::with_retry_info(Some(Duration::from_secs(5))),
        ),
        JobError::Unknown { id } => Status::with_error_details(
            Code::NotFound,
            message.clone(),
            ErrorDetails::with_resource_info("job", id, "", message),
        ),
        JobError::None => Status::not_found(message),
    }
}

pub(super) fn job(job: Job) -> v1::TrainingJob {
    let progress = job.progress.as_ref();
    v1::TrainingJob {
        id: job.id,
        collections: job.request.collections,
        seed: job.seed,
        state: state(job.state).into(),
        stage: progress
            .map_or(v1::JobStage::Unspecified, |event| stage(event.stage))
            .into(),
        stage_collection: job.stage_collection,
        stage_done: progress.map_or(0, |event| event.done as u64),
        stage_total: progress.map_or(0, |event| event.total as u64),
        loss: job.loss.map(f64::from),
        examples_per_second: progress.map_or(0.0, |event| event.per_second),
        eta_seconds: job.eta.map(|eta| eta.as_secs_f64()),
        published_version: job.published_version,
        sources: job
            .sources
            .into_iter()
            .map(|(name, source)| (name, i32::from(model_source(source))))
            .collect(),
        metrics: job.metrics.into_iter().collect(),
        message: job.message,
        created_at: Some(timestamp(job.created_at)),
        started_at: job.started_at.map(timestamp),
        ended_at: job.ended_at.map(timestamp),
        device: job.device,
    }
}

fn state(state: JobState) -> v1::JobState {
    match state {
        JobState::Queued => v1::JobState::Queued,
        JobState::Running => v1::JobState::Running,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
    }
}

fn stage(stage: Stage) -> v1::JobStage {
    match stage {
        Stage::Snapshot => v1::JobStage::Snapshot,
        Stage::Synth => v1::JobStage::Synthesize,
        Stage::Encode => v1::JobStage::Encode,
        Stage::Views => v1::JobStage::Views,
        Stage::Train => v1::JobStage::Train,
        Stage::Evaluate => v1::JobStage::Evaluate,
        Stage::Publish => v1::JobStage::Publish,
    }
}

fn model_source(source: Source) -> v1::ModelSource {
    match source {
        Source::Trained => v1::ModelSource::Trained,
        Source::FallbackPrior => v1::ModelSource::FallbackPrior,
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// Reads [`KeySpec::id`] back; `None` for a spec that this build does not know.
pub(super) fn key_spec(id: &str) -> Option<KeySpec> {
    let mut parts = id.split('-');
    let spec = KeySpec {
        version: parts.next()?.strip_prefix('k')?.parse().ok()?,
        dims: parts.next()?.strip_prefix('d')?.parse().ok()?,
        code: match parts.next()? {
            "sign1" => TokenCode::Sign1,
            "f16" => TokenCode::F16,
            _ => return None,
        },
        pooling: parts.next()?.strip_prefix('p')?.parse().ok()?,
        rotation_seed: parts.next()?.strip_prefix('r')?.parse().ok()?,
    };
    (spec.id() == id && spec.version == KeySpec::default().version).then_some(spec)
}

/// A collection's language by code ("en") or English name ("english"); empty means English.
pub(super) fn language(name: &str) -> Option<Language> {
    let wanted = name.trim().to_lowercase();
    if wanted.is_empty() {
        return Some(Language::English);
    }
    let by_name = |l: &&Language| format!("{l:?}").to_lowercase() == wanted;
    wanted
        .parse()
        .ok()
        .or_else(|| Language::ALL.iter().find(by_name).copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn key_specs_read_back() {
        for code in [TokenCode::Sign1, TokenCode::F16] {
            let spec = KeySpec {
                code,
                rotation_seed: 9,
                ..KeySpec::default()
            };
            assert_eq!(key_spec(&spec.id()), Some(spec));
        }
        for bad in [
            "",
            "k1",
            "k9-d384-sign1-p15-r0",
            "k4-d384-int4-p15-r0",
            "k4-d384-sign1-p15-r0-x",
        ] {
            assert_eq!(key_spec(bad), None, "{bad}");
        }
    }

    #[test]
    fn languages_have_codes_and_names() {
        assert_eq!(language(""), Some(Language::English));
        assert_eq!(language("de"), Some(Language::German));
        assert_eq!(language("German"), Some(Language::German));
        assert_eq!(language("klingon"), None);
    }

    #[test]
    fn all_violations_come_at_once() {
        let refused = request(v1::StartTrainingRequest {
            collections: vec!["fine".into(), "../up".into()],
            synthetic_queries: Some(0),
            ..v1::StartTrainingRequest::default()
        })
        .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        let fields: Vec<&str> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, ["collections[1]", "synthetic_queries"]);
    }

    #[test]
    fn each_job_error_has_its_code() {
        let cases = [
            (JobError::QueueFull { waiting: 3 }, Code::ResourceExhausted),
            (JobError::Stopping, Code::Unavailable),
            (JobError::Unknown { id: "x".into() }, Code::NotFound),
            (JobError::None, Code::NotFound),
        ];
        for (error, code) in cases {
            assert_eq!(status(&error).code(), code, "{error}");
        }
    }
}
