//! `moerag eval-set`: harder versions of a data set, for evaluation only.

use std::process::ExitCode;

use anyhow::Result;
use console::style;
use moerag_eval::adversarial::{Attack, build};

use super::eval::usage;
use crate::args::{AttackKind, EvalSet};
use crate::ui;

/// Reads, writes, and says what was written.
pub(crate) async fn run(args: EvalSet, json: bool) -> Result<ExitCode> {
    let attack = match args.kind {
        AttackKind::Buried => Attack::Buried,
        AttackKind::NearDuplicates => Attack::NearDuplicates,
        AttackKind::Stuffed => Attack::Stuffed,
        AttackKind::Misspelt => Attack::Misspelt,
    };
    let out = args.out.clone();
    let work = move || build(&args.from, attack, &out, args.seed);
    let written = tokio::task::spawn_blocking(work).await?.map_err(usage)?;
    if json {
        ui::json(&serde_json::to_value(&written)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = ui::table(&[
        "passages", "changed", "added", "queries", "changed", "left out",
    ]);
    table.add_row([
        written.passages,
        written.changed,
        written.added,
        written.queries,
        written.changed_queries,
        written.left_out,
    ]);
    ui::line(&format!(
        "{} {} of {} in {}\n\n{table}",
        style("wrote").green(),
        written.attack.name(),
        written.from,
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
