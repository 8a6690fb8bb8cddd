//! `moerag up`: router and trainer as child processes of this one, with the embedded store and
//! file checkpoints in one data directory (DESIGN.md section 4).
//!
//! Nothing is restarted in silence: a service that ends takes the other one and `moerag up` with
//! it, which shows the end of its log and exits with 64 if the service did, else with 1.

mod data_dir;
mod service;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use console::style;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::data_dir::{DataDir, Running};
use self::service::{Service, free_address};
use super::model::encoder_dir;
use crate::args::Up;
use crate::failure::EXIT_FAILURE;
use crate::ui;

/// Starts both, waits for a signal or an end, stops both.
pub(crate) async fn run(args: Up, json: bool) -> Result<ExitCode> {
    let encoder = encoder_dir(args.encoder_dir).await?;
    let path = args.data_dir.map_or_else(data_dir::default_path, Ok)?;
    let dir = DataDir::open(&path)?;
    let router_address = free_address(args.router_listen, "--router-listen")?;
    let trainer_address = free_address(args.trainer_listen, "--trainer-listen")?;
    // Handlers first: a signal during the start must stop what was started.
    let mut signals = Signals::listen()?;

    let data = dir.path().display().to_string();
    let mut common = vec![
        "--data-dir".to_owned(),
        data,
        "--encoder-dir".to_owned(),
        encoder.display().to_string(),
    ];
    // What is not given is the services' own affair: a flag would win over their variables and files.
    if let Some(device) = args.device {
        common.extend(["--device".to_owned(), device.to_string()]);
    }
    if let Some(precision) = args.precision {
        common.extend(["--precision".to_owned(), precision.to_string()]);
    }
    let trainer_args = [
        common.as_slice(),
        &[
            "--router-url".to_owned(),
            format!("http://{router_address}"),
        ],
    ]
    .concat();

    let wait = Duration::from_secs(args.wait);
    let mut router = Service::start("router-service", "router", router_address, &dir, &common)?;
    let mut trainer = Service::start(
        "trainer-worker",
        "trainer",
        trainer_address,
        &dir,
        &trainer_args,
    )?;
    dir.note(&Running {
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        router: (router.pid(), router_address),
        trainer: (trainer.pid(), trainer_address),
    })?;

    let start = async {
        router.wait_until_serving(wait).await?;
        trainer.wait_until_serving(wait).await
    };
    let started = tokio::select! {
        started = start => Some(started),
        () = signals.next() => None,
    };
    match started {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            stop(&mut router, &mut trainer).await?;
            return Err(error);
        }
        None => {
            stop(&mut router, &mut trainer).await?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    announce(&dir, &router, &trainer, json)?;

    let end = tokio::select! {
        status = router.ended() => Some((status?, true)),
        status = trainer.ended() => Some((status?, false)),
        () = signals.next() => None,
    };
    if let Some((status, of_router)) = end {
        let (dead, other) = if of_router {
            (&mut router, &mut trainer)
        } else {
            (&mut trainer, &mut router)
        };
        let obituary = dead.obituary(status);
        other.terminate();
        other.stopped().await?;
        return Err(obituary);
    }
    if !json {
        ui::note("stopping …");
    }
    let stopping = stop(&mut router, &mut trainer);
    tokio::select! {
        stopped = stopping => stopped?,
        // The user insists: dropping the services kills them.
        () = signals.next() => return Ok(ExitCode::from(EXIT_FAILURE)),
    }
    if !json {
        ui::note("stopped");
    }
    Ok(ExitCode::SUCCESS)
}

/// What asks for a stop: Ctrl-C, `kill`, or a terminal that goes away.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// The trainer first: it is a client of the router.
async fn stop(router: &mut Service, trainer: &mut Service) -> Result<()> {
    trainer.terminate();
    trainer.stopped().await?;
    router.terminate();
    router.stopped().await
}

fn announce(dir: &DataDir, router: &Service, trainer: &Service, json: bool) -> Result<()> {
    if json {
        return ui::json(&json!({
            "router": router.url(),
            "trainer": trainer.url(),
            "data_dir": dir.path(),
            "logs": [router.log, trainer.log],
        }));
    }
    ui::line(&format!(
        "router   {} at {}",
        style("serving").green(),
        router.url()
    ))?;
    ui::line(&format!(
        "trainer  {} at {}",
        style("serving").green(),
        trainer.url()
    ))?;
    ui::line(&format!("data     {}", dir.path().display()))?;
    ui::line(&format!("logs     {}", dir.path().join("logs").display()))?;
    let default = router.address.port() == 50051 && trainer.address.port() == 50052;
    if !default {
        ui::line("\nother commands find them with")?;
        ui::line(&format!(
            "  export MOERAG_ROUTER_URL={} MOERAG_TRAINER_URL={}",
            router.url(),
            trainer.url()
        ))?;
    }
    ui::line(
        "\nnext: `moerag ingest DIR`, `moerag train --watch`, `moerag ask \"…\"`; Ctrl-C stops",
    )
}
