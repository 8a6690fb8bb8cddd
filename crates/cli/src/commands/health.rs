//! `moerag health`: the probe of containers and scripts.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::args;
use crate::client::{Addresses, Health, health};
use crate::failure::EXIT_FAILURE;
use crate::ui;

/// Asks once and tells by the exit code.
pub(crate) async fn run(addresses: &Addresses, args: args::Health, json: bool) -> Result<ExitCode> {
    let addr = args.addr.as_ref().unwrap_or(&addresses.router);
    let health = health(addr, &args.service).await?;
    if json {
        ui::json(&json!({ "addr": addr, "service": args.service, "health": health.word() }))?;
    } else {
        ui::line(health.word())?;
    }
    Ok(if health == Health::Serving {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILURE)
    })
}
