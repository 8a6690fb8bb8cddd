//! `moerag delete`: a collection with all its documents.

use std::io::{BufRead, IsTerminal, stdin};
use std::process::ExitCode;

use anyhow::Result;
use moerag_proto::v1::{Collection, DeleteCollectionRequest, GetCollectionRequest};
use serde_json::json;

use crate::args;
use crate::client::Addresses;
use crate::failure::{Usage, rpc};
use crate::ui;

/// Asks, unless told not to, and deletes.
pub(crate) async fn run(addresses: &Addresses, args: args::Delete, json: bool) -> Result<ExitCode> {
    let (mut client, name) = (addresses.corpus().await?, args.collection);
    let refused = |status| rpc(&format!("cannot delete {name:?}"), &status);
    if !args.yes {
        let request = GetCollectionRequest {
            collection: name.clone(),
            with_stats: false,
        };
        let reply = client.get_collection(request).await.map_err(refused)?;
        let known = reply.into_inner().collection.unwrap_or_default();
        if !confirmed(&known)? {
            ui::note("nothing was deleted");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let request = DeleteCollectionRequest {
        collection: name.clone(),
    };
    let reply = client.delete_collection(request).await.map_err(refused)?;
    let deleted = reply.into_inner();
    if json {
        ui::json(&json!({
            "collection": name,
            "documents": deleted.documents,
            "passages": deleted.passages,
        }))?;
    } else {
        ui::line(&format!(
            "deleted {name} with {} documents, {} passages",
            deleted.documents, deleted.passages
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether whoever sits at the terminal wants it gone.
fn confirmed(known: &Collection) -> Result<bool> {
    if !stdin().is_terminal() {
        let name = &known.name;
        return Err(Usage(format!(
            "there is no terminal to ask on; `moerag delete {name} --yes` deletes without asking"
        ))
        .into());
    }
    ui::note(&format!(
        "delete {} with {} documents, {} passages? [y/N]",
        known.name, known.documents, known.passages
    ));
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
