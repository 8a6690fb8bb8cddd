//! `moerag status`: what runs, what it holds, what serves and why.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use console::style;
use moerag_proto::v1::{
    GetActiveModelRequest, GetActiveModelResponse, GetJobRequest, ListCollectionsRequest,
    ListCollectionsResponse, ListVersionsRequest, ListVersionsResponse, TrainingJob,
};
use serde_json::{Value, json};
use tonic::Code;

use super::train::{job_json, job_text};
use super::{model_json, short, source_reason, source_word, sources_json, time_text};
use crate::client::{Addresses, Health, health};
use crate::failure::{EXIT_FAILURE, rpc};
use crate::ui;

#[derive(Default)]
struct Seen {
    active: Option<GetActiveModelResponse>,
    collections: Option<ListCollectionsResponse>,
    versions: Option<ListVersionsResponse>,
    job: Option<TrainingJob>,
    /// What was asked and refused.
    problems: Vec<String>,
}

/// Shows everything that answers; exit 1 if a service does not serve.
pub(crate) async fn run(addresses: &Addresses, json: bool) -> Result<ExitCode> {
    let router = health(&addresses.router, "").await?;
    let trainer = health(&addresses.trainer, "").await?;
    let mut seen = Seen::default();
    if router != Health::Unreachable {
        ask_router(addresses, &mut seen).await;
    }
    if trainer != Health::Unreachable {
        ask_trainer(addresses, &mut seen).await;
    }
    if json {
        ui::json(&status_json(addresses, router, trainer, &seen))?;
    } else {
        ui::print(&status_text(addresses, router, trainer, &seen))?;
    }
    let all = router == Health::Serving && trainer == Health::Serving;
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILURE)
    })
}

async fn ask_router(addresses: &Addresses, seen: &mut Seen) {
    let clients = async { anyhow::Ok((addresses.models().await?, addresses.corpus().await?)) };
    let (mut models, mut corpus) = match clients.await {
        Ok(clients) => clients,
        Err(error) => return seen.problems.push(format!("{error:#}")),
    };
    match models.get_active_model(GetActiveModelRequest {}).await {
        Ok(reply) => seen.active = Some(reply.into_inner()),
        Err(status) => seen.problems.push(format!(
            "{:#}",
            rpc("cannot ask for the live model", &status)
        )),
    }
    match models.list_versions(ListVersionsRequest {}).await {
        Ok(reply) => seen.versions = Some(reply.into_inner()),
        Err(status) => seen
            .problems
            .push(format!("{:#}", rpc("cannot list the versions", &status))),
    }
    match corpus.list_collections(ListCollectionsRequest {}).await {
        Ok(reply) => seen.collections = Some(reply.into_inner()),
        Err(status) => seen
            .problems
            .push(format!("{:#}", rpc("cannot list the collections", &status))),
    }
}

async fn ask_trainer(addresses: &Addresses, seen: &mut Seen) {
    let mut trainer = match addresses.trainer().await {
        Ok(trainer) => trainer,
        Err(error) => return seen.problems.push(format!("{error:#}")),
    };
    match trainer
        .get_job(GetJobRequest {
            job_id: String::new(),
        })
        .await
    {
        Ok(reply) => seen.job = reply.into_inner().job,
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => seen
            .problems
            .push(format!("{:#}", rpc("cannot ask for the last job", &status))),
    }
}

fn status_text(addresses: &Addresses, router: Health, trainer: Health, seen: &Seen) -> String {
    let mut out = String::new();
    for (name, health, url) in [
        ("router", router, &addresses.router),
        ("trainer", trainer, &addresses.trainer),
    ] {
        let word = match health {
            Health::Serving => style(health.word()).green(),
            Health::NotServing => style(health.word()).yellow(),
            Health::Unreachable => style(health.word()).red(),
        };
        out.push_str(&format!("{name:<8} {word} at {url}\n"));
    }
    if router == Health::Unreachable || trainer == Health::Unreachable {
        out.push_str(
            "         start both with `moerag up`, or name others with --router and --trainer\n",
        );
    }
    if let Some(active) = &seen.active
        && let Some(model) = &active.model
    {
        out.push_str(&format!(
            "model    version {}, {}\n",
            model.version,
            source_word(model.source)
        ));
        out.push_str(&format!("         {}\n", why(active, seen)));
        out.push_str(&format!(
            "         weights {}, {} swaps, {} failed loads\n",
            short(&model.weights_digest),
            active.swaps,
            active.failed_loads
        ));
        if !active.last_load_error.is_empty() {
            out.push_str(&format!(
                "         last load error: {}\n",
                style(ui::plain(&active.last_load_error)).red()
            ));
        }
    }
    if let Some(job) = &seen.job {
        out.push_str(&format!("last job {}\n", job_text(job)));
    }
    match &seen.collections {
        Some(reply) if reply.collections.is_empty() => {
            out.push_str("\nno collection yet; `moerag ingest DIR` makes one\n");
        }
        Some(reply) => {
            let mut table = ui::table(&[
                "collection",
                "documents",
                "passages",
                "served by",
                "language",
                "corpus",
            ]);
            for collection in &reply.collections {
                table.add_row(vec![
                    ui::plain(&collection.name),
                    collection.documents.to_string(),
                    collection.passages.to_string(),
                    source_word(collection.source).to_owned(),
                    ui::plain(&collection.language),
                    short(&collection.corpus_digest),
                ]);
            }
            out.push_str(&format!("\n{table}\n"));
            for (name, reason) in reasons(seen) {
                out.push_str(&ui::plain(&format!("{name}: {reason}\n")));
            }
        }
        None => {}
    }
    for problem in &seen.problems {
        out.push_str(&format!("{}\n", style(ui::plain(problem)).red()));
    }
    out
}

/// Why the weights of each collection serve, by name; only of those of which it is known.
fn reasons(seen: &Seen) -> BTreeMap<&str, &str> {
    let reasons = seen.active.iter().flat_map(|active| &active.reasons);
    reasons
        .filter(|(_, reason)| !reason.is_empty())
        .map(|(name, reason)| (name.as_str(), reason.as_str()))
        .collect()
}

/// Why this version serves and no other.
fn why(active: &GetActiveModelResponse, seen: &Seen) -> String {
    let version = active.model.as_ref().map_or(0, |model| model.version);
    let source = active
        .model
        .as_ref()
        .map_or("unknown", |model| source_word(model.source));
    let current = seen
        .versions
        .as_ref()
        .map(|versions| (versions.current_version, versions.pinned));
    match current {
        Some((0, _)) | None if version == 0 => {
            "nothing was published yet, so the built-in prior serves".to_owned()
        }
        Some((current, _)) if current != version => {
            format!(
                "version {current} is current but not loaded (yet); {}",
                if active.last_load_error.is_empty() {
                    "the router looks for it at its next poll"
                } else {
                    "its last load failed"
                }
            )
        }
        Some((_, true)) => format!("it is pinned; {}", source_reason(source)),
        _ => format!("it is the newest; {}", source_reason(source)),
    }
}

fn status_json(addresses: &Addresses, router: Health, trainer: Health, seen: &Seen) -> Value {
    let reasons = reasons(seen);
    let collections: Option<Vec<Value>> = seen.collections.as_ref().map(|reply| {
        reply
            .collections
            .iter()
            .map(|collection| {
                json!({
                    "name": collection.name,
                    "documents": collection.documents,
                    "passages": collection.passages,
                    "embedding_space_id": collection.embedding_space_id,
                    "key_spec": collection.key_spec,
                    "language": collection.language,
                    "corpus_digest": collection.corpus_digest,
                    "stats_digest": collection.stats_digest,
                    "source": source_word(collection.source),
                    "reason": reasons.get(collection.name.as_str()),
                })
            })
            .collect()
    });
    let model = seen.active.as_ref().map(|active| {
        json!({
            "serving": model_json(active.model.as_ref()),
            "why": why(active, seen),
            "collections": sources_json(&active.collections),
            "live_generations": active.live_generations,
            "swaps": active.swaps,
            "failed_loads": active.failed_loads,
            "last_load_error": active.last_load_error,
            "loaded_at": time_text(active.loaded_at.as_ref()),
            "current_version": seen.versions.as_ref().map(|versions| versions.current_version),
            "pinned": seen.versions.as_ref().map(|versions| versions.pinned),
        })
    });
    json!({
        "router": { "url": addresses.router, "health": router.word() },
        "trainer": { "url": addresses.trainer, "health": trainer.word() },
        "model": model,
        "collections": collections,
        "last_job": seen.job.as_ref().map(job_json),
        "problems": seen.problems,
    })
}

#[cfg(test)]
mod tests {
    use moerag_proto::v1::{Collection, ServedModel};

    use super::*;

    fn seen(serving: u64, current: u64, pinned: bool) -> (GetActiveModelResponse, Seen) {
        let active = GetActiveModelResponse {
            model: Some(ServedModel {
                version: serving,
                source: 3,
                ..ServedModel::default()
            }),
            ..GetActiveModelResponse::default()
        };
        let versions = ListVersionsResponse {
            current_version: current,
            pinned,
            ..ListVersionsResponse::default()
        };
        (
            active.clone(),
            Seen {
                active: Some(active),
                versions: Some(versions),
                ..Seen::default()
            },
        )
    }

    #[test]
    fn the_reason_tells_prior_newest_pinned_and_not_loaded_apart() {
        for (serving, current, pinned, expected) in [
            (0, 0, false, "nothing was published yet"),
            (2, 2, false, "it is the newest"),
            (1, 1, true, "it is pinned"),
            (1, 2, false, "version 2 is current but not loaded"),
        ] {
            let (active, seen) = seen(serving, current, pinned);
            let why = why(&active, &seen);
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn nothing_that_a_service_says_can_rewrite_the_terminal() {
        console::set_colors_enabled(false);
        let evil = "x\u{1b}[2J\u{9b}2J";
        let (mut active, mut seen) = seen(2, 2, false);
        active.last_load_error = evil.to_owned();
        active.reasons.insert(evil.to_owned(), evil.to_owned());
        seen.active = Some(active);
        seen.collections = Some(ListCollectionsResponse {
            collections: vec![Collection {
                name: evil.to_owned(),
                language: evil.to_owned(),
                corpus_digest: evil.to_owned(),
                ..Collection::default()
            }],
        });
        seen.job = Some(TrainingJob {
            id: evil.to_owned(),
            message: evil.to_owned(),
            ..TrainingJob::default()
        });
        seen.problems.push(evil.to_owned());
        let addresses = Addresses {
            router: "r".to_owned(),
            trainer: "t".to_owned(),
        };
        let text = status_text(&addresses, Health::Serving, Health::Serving, &seen);
        assert!(text.matches("x [2J 2J").count() >= 7, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }

    #[test]
    fn the_losses_that_decided_are_shown() {
        let (mut active, mut seen) = seen(2, 2, false);
        let reason = "held-out loss 1.5 is below the untrained prior's 2.0";
        active.reasons.insert("docs".to_owned(), reason.to_owned());
        active.reasons.insert("old".to_owned(), String::new());
        seen.active = Some(active);
        assert_eq!(reasons(&seen), BTreeMap::from([("docs", reason)]));
    }
}
