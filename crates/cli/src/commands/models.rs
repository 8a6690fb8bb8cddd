//! `moerag models`: the versions in the checkpoint store.

use std::process::ExitCode;

use anyhow::Result;
use console::style;
use moerag_proto::v1::{
    ListVersionsRequest, ListVersionsResponse, PinVersionRequest, RollbackRequest, ServedModel,
    UnpinVersionRequest,
};
use serde_json::{Value, json};

use super::{model_json, short, source_word, sources_json, sources_text, time_text};
use crate::args::Models;
use crate::client::Addresses;
use crate::failure::rpc;
use crate::ui;

/// Lists or moves.
pub(crate) async fn run(addresses: &Addresses, command: Models, json: bool) -> Result<ExitCode> {
    let mut client = addresses.models().await?;
    let (what, model) = match command {
        Models::List => {
            let reply = client
                .list_versions(ListVersionsRequest {})
                .await
                .map_err(|status| rpc("cannot list the versions", &status))?
                .into_inner();
            if json {
                ui::json(&versions_json(&reply))?;
            } else {
                ui::print(&versions_text(&reply))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Models::Pin { version } => {
            let reply = client.pin_version(PinVersionRequest { version }).await;
            let reply =
                reply.map_err(|status| rpc(&format!("cannot pin version {version}"), &status))?;
            ("pinned", reply.into_inner().model)
        }
        Models::Unpin => {
            let reply = client.unpin_version(UnpinVersionRequest {}).await;
            (
                "unpinned",
                reply
                    .map_err(|status| rpc("cannot unpin", &status))?
                    .into_inner()
                    .model,
            )
        }
        Models::Rollback { version } => {
            let reply = client.rollback(RollbackRequest { version }).await;
            (
                "rolled back",
                reply
                    .map_err(|status| rpc("cannot roll back", &status))?
                    .into_inner()
                    .model,
            )
        }
    };
    if json {
        ui::json(&json!({ "done": what, "model": model_json(model.as_ref()) }))?;
    } else {
        ui::line(&format!("{what}; {}", serving_text(model.as_ref())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn serving_text(model: Option<&ServedModel>) -> String {
    model.map_or_else(
        || "the router did not say which version it serves".to_owned(),
        |model| {
            format!(
                "the router serves version {} ({})",
                model.version,
                source_word(model.source)
            )
        },
    )
}

fn versions_text(reply: &ListVersionsResponse) -> String {
    if reply.versions.is_empty() {
        return "nothing was published yet: version 0, the prior, serves; `moerag train --watch` learns the first one\n"
            .to_owned();
    }
    let mut table = ui::table(&[
        "version",
        "",
        "published",
        "collections",
        "weights",
        "seed",
        "MB",
    ]);
    for version in &reply.versions {
        let mut marks = Vec::new();
        if version.version == reply.current_version {
            marks.push(if reply.pinned {
                "current, pinned"
            } else {
                "current"
            });
        }
        if version.active {
            marks.push("serving");
        }
        table.add_row(vec![
            version.version.to_string(),
            style(marks.join(", ")).green().to_string(),
            time_text(version.created_at.as_ref()),
            sources_text(&version.collections),
            short(&version.weights_digest),
            version.seed.to_string(),
            format!("{:.2}", version.size_bytes as f64 / 1e6),
        ]);
    }
    format!("{table}\n")
}

fn versions_json(reply: &ListVersionsResponse) -> Value {
    let versions: Vec<Value> = reply
        .versions
        .iter()
        .map(|version| {
            let metrics: std::collections::BTreeMap<_, _> = version.metrics.iter().collect();
            json!({
                "version": version.version,
                "created_at": time_text(version.created_at.as_ref()),
                "weights_digest": version.weights_digest,
                "embedding_space_id": version.embedding_space_id,
                "key_spec": version.key_spec,
                "corpus_digest": version.corpus_digest,
                "seed": version.seed,
                "collections": sources_json(&version.collections),
                "metrics": metrics,
                "size_bytes": version.size_bytes,
                "active": version.active,
            })
        })
        .collect();
    json!({ "current_version": reply.current_version, "pinned": reply.pinned, "versions": versions })
}

#[cfg(test)]
mod tests {
    use moerag_proto::v1::ModelVersion;

    use super::*;

    #[test]
    fn the_table_marks_the_current_and_the_serving_version() {
        let version = |version, active| ModelVersion {
            version,
            active,
            ..ModelVersion::default()
        };
        let reply = ListVersionsResponse {
            versions: vec![version(2, false), version(1, true)],
            current_version: 2,
            pinned: true,
        };
        let text = console::strip_ansi_codes(&versions_text(&reply)).into_owned();
        assert!(
            text.contains("current, pinned") && text.contains("serving"),
            "{text}"
        );
        assert_eq!(versions_json(&reply)["versions"][1]["active"], true);
        assert!(versions_text(&ListVersionsResponse::default()).contains("moerag train"));
    }
}
