//! `moerag delete`: a collection with all its documents.

use std::io::{BufRead, IsTerminal, stdin};
use std::process::ExitCode;

use anyhow::Result;
use moerag_proto::v1::{
    Collection, DeleteCollectionRequest, DeleteCollectionResponse, GetCollectionRequest,
};
use serde_json::{Value, json};

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
            if json {
                ui::json(&outcome_json(&name, None))?;
            } else {
                ui::note("nothing was deleted");
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    let request = DeleteCollectionRequest {
        collection: name.clone(),
    };
    let reply = client.delete_collection(request).await.map_err(refused)?;
    let deleted = reply.into_inner();
    if json {
        ui::json(&outcome_json(&name, Some(&deleted)))?;
    } else {
        ui::line(&format!(
            "deleted {name} with {} documents, {} passages",
            deleted.documents, deleted.passages
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was deleted; nothing if the answer was no.
fn outcome_json(name: &str, deleted: Option<&DeleteCollectionResponse>) -> Value {
    json!({
        "collection": name,
        "deleted": deleted.is_some(),
        "documents": deleted.map_or(0, |deleted| deleted.documents),
        "passages": deleted.map_or(0, |deleted| deleted.passages),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_says_whether_anything_was_deleted() {
        let spared = outcome_json("docs", None);
        assert_eq!(
            (&spared["deleted"], &spared["documents"]),
            (&json!(false), &json!(0))
        );
        let gone = DeleteCollectionResponse {
            documents: 2,
            passages: 7,
        };
        let gone = outcome_json("docs", Some(&gone));
        assert_eq!(
            (&gone["deleted"], &gone["passages"]),
            (&json!(true), &json!(7))
        );
    }
}
