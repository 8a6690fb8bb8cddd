//! `moerag train`: starts, follows and stops training jobs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use console::style;
use moerag_proto::v1::{
    CancelJobRequest, GetActiveModelRequest, JobStage, JobState, StartTrainingRequest, TrainingJob,
    WatchJobRequest,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::{source_reason, source_word, sources_json, sources_text, time_text};
use crate::args::Train;
use crate::client::Addresses;
use crate::failure::{EXIT_FAILURE, rpc};
use crate::ui;
use crate::ui::progress::Progress;

/// The router polls every few seconds; longer than this means that something is wrong.
const HOT_LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts, follows or stops a job.
pub(crate) async fn run(addresses: &Addresses, args: Train, json: bool) -> Result<ExitCode> {
    let mut client = addresses.trainer().await?;
    if let Some(job_id) = args.cancel {
        let reply = client.cancel_job(CancelJobRequest { job_id }).await;
        let job = reply
            .map_err(|status| rpc("cannot stop the job", &status))?
            .into_inner()
            .job
            .unwrap_or_default();
        return show(&job, json);
    }
    let request = StartTrainingRequest {
        collections: args.collection,
        seed: args.seed,
        force: args.force,
        synthetic_queries: args.synthetic_queries,
    };
    let reply = client
        .start_training(request)
        .await
        .map_err(|status| rpc("cannot start training", &status))?;
    let job = reply.into_inner().job.unwrap_or_default();
    if !args.watch {
        if !json {
            ui::note(&format!(
                "follow it with `moerag status`, stop it with `moerag train --cancel {}`",
                job.id
            ));
        }
        return show(&job, json);
    }
    let job = watch(addresses, &job.id).await?;
    if json {
        ui::json(&job_json(&job))?;
    } else {
        ui::line(&job_text(&job))?;
        for line in metric_lines(&job) {
            ui::line(&line)?;
        }
    }
    match JobState::try_from(job.state) {
        Ok(JobState::Succeeded) => {
            if let Some(version) = job.published_version {
                wait_until_served(addresses, version).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ExitCode::from(EXIT_FAILURE)),
    }
}

fn show(job: &TrainingJob, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(&job_json(job))?
    } else {
        ui::line(&job_text(job))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows a job to its end. Ctrl-C leaves the job running: it belongs to the trainer.
async fn watch(addresses: &Addresses, id: &str) -> Result<TrainingJob> {
    let mut client = addresses.trainer().await?;
    let request = WatchJobRequest {
        job_id: id.to_owned(),
    };
    let mut updates = client
        .watch_job(request)
        .await
        .map_err(|status| rpc("cannot follow the job", &status))?
        .into_inner();
    let progress = Progress::new("waits for the trainer");
    let mut last: Option<TrainingJob> = None;
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            _ = tokio::signal::ctrl_c() => {
                bail!("stopped following; the job goes on, stop it with `moerag train --cancel {id}`")
            }
        };
        match update {
            Some(Ok(update)) => {
                let job = update.job.unwrap_or_default();
                progress.update(
                    &stage_text(&job),
                    job.stage_done,
                    job.stage_total,
                    &detail_text(&job),
                );
                last = Some(job);
            }
            Some(Err(status)) => return Err(rpc("the trainer stopped answering", &status)),
            None => break,
        }
    }
    progress.finish();
    match last {
        Some(job) if ended(&job) => Ok(job),
        _ => bail!(
            "the trainer closed the connection before the job ended; `moerag status` shows the job"
        ),
    }
}

fn ended(job: &TrainingJob) -> bool {
    matches!(
        JobState::try_from(job.state),
        Ok(JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    )
}

async fn wait_until_served(addresses: &Addresses, version: u64) -> Result<()> {
    let mut models = addresses.models().await?;
    let started = Instant::now();
    loop {
        let active = models
            .get_active_model(GetActiveModelRequest {})
            .await
            .map_err(|status| rpc("cannot ask the router for its model", &status))?
            .into_inner();
        let serving = active.model.map_or(0, |model| model.version);
        if serving >= version {
            ui::note(&format!("the router serves version {serving}"));
            return Ok(());
        }
        if started.elapsed() > HOT_LOAD_TIMEOUT {
            let why = if active.last_load_error.is_empty() {
                "is another version pinned, or does the router read another checkpoint store?"
                    .to_owned()
            } else {
                active.last_load_error
            };
            bail!(
                "version {version} was published, but the router still serves version {serving}: {why}"
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn state_word(job: &TrainingJob) -> &'static str {
    match JobState::try_from(job.state) {
        Ok(JobState::Queued) => "queued",
        Ok(JobState::Running) => "running",
        Ok(JobState::Succeeded) => "succeeded",
        Ok(JobState::Failed) => "failed",
        Ok(JobState::Cancelled) => "cancelled",
        Ok(JobState::Unspecified) | Err(_) => "unknown",
    }
}

fn stage_word(job: &TrainingJob) -> &'static str {
    match JobStage::try_from(job.stage) {
        Ok(JobStage::Snapshot) => "read passages",
        Ok(JobStage::Synthesize) => "make queries",
        Ok(JobStage::Encode) => "encode queries",
        Ok(JobStage::Views) => "compute views",
        Ok(JobStage::Train) => "train",
        Ok(JobStage::Evaluate) => "evaluate",
        Ok(JobStage::Publish) => "publish",
        Ok(JobStage::Unspecified) | Err(_) => "wait",
    }
}

fn stage_text(job: &TrainingJob) -> String {
    if job.stage_collection.is_empty() {
        stage_word(job).to_owned()
    } else {
        format!("{}: {}", job.stage_collection, stage_word(job))
    }
}

fn detail_text(job: &TrainingJob) -> String {
    let mut parts = Vec::new();
    if let Some(loss) = job.loss {
        parts.push(format!("loss {loss:.4}"));
    }
    if job.examples_per_second > 0.0 {
        parts.push(format!("{:.0}/s", job.examples_per_second));
    }
    if let Some(eta) = job.eta_seconds {
        parts.push(format!("ETA {}", ui::duration(eta)));
    }
    parts.join("  ")
}

/// A job in one line.
pub(crate) fn job_text(job: &TrainingJob) -> String {
    let state = state_word(job);
    let word = match state {
        "succeeded" => style(state).green(),
        "failed" | "cancelled" => style(state).red(),
        _ => style(state).yellow(),
    };
    let mut text = job.id.clone();
    if state == "running" {
        text.push_str(&format!(
            ", {} {}/{}",
            stage_text(job),
            job.stage_done,
            job.stage_total
        ));
    }
    if let Some(version) = job.published_version {
        text.push_str(&format!(
            ", published version {version} ({})",
            sources_text(&job.sources)
        ));
    }
    let fallback = job
        .sources
        .values()
        .map(|source| source_word(*source))
        .find(|w| *w != "trained");
    match (&job.message, fallback) {
        // The trainer's own words say more than the general reason.
        (message, _) if !message.is_empty() => text.push_str(&format!(": {message}")),
        (_, Some(source)) => text.push_str(&format!(": {}", source_reason(source))),
        _ => {}
    }
    if let (Some(start), Some(end)) = (&job.started_at, &job.ended_at) {
        let seconds =
            (end.seconds - start.seconds) as f64 + f64::from(end.nanos - start.nanos) / 1e9;
        text.push_str(&format!(", {}", ui::duration(seconds)));
    }
    format!("{word} {}", ui::plain(&text))
}

/// The figures that tell whether learning helped; `--json` has all of them.
const SHOWN: [&str; 5] = [
    "held_out_loss.",
    "held_out_mrr.",
    "head_diversity.",
    "routing_accuracy",
    "synthetic_queries",
];

fn metric_lines(job: &TrainingJob) -> Vec<String> {
    let shown = |name: &str| {
        // Names are `collection/figure`; a figure per query type is too much for people.
        let figure = name.rsplit('/').next().unwrap_or(name);
        SHOWN
            .iter()
            .any(|s| figure == *s || (s.ends_with('.') && figure.starts_with(s)))
    };
    let mut metrics: Vec<_> = job.metrics.iter().filter(|(name, _)| shown(name)).collect();
    metrics.sort_by_key(|(name, _)| name.as_str());
    metrics
        .into_iter()
        .map(|(name, value)| format!("  {:<40} {value:.4}", ui::plain(name)))
        .collect()
}

/// A job as JSON.
pub(crate) fn job_json(job: &TrainingJob) -> Value {
    let metrics: std::collections::BTreeMap<_, _> = job.metrics.iter().collect();
    json!({
        "id": job.id,
        "collections": job.collections,
        "seed": job.seed,
        "state": state_word(job),
        "stage": JobStage::try_from(job.stage).map_or("unknown", |stage| stage.as_str_name()),
        "stage_collection": job.stage_collection,
        "stage_done": job.stage_done,
        "stage_total": job.stage_total,
        "loss": job.loss,
        "examples_per_second": job.examples_per_second,
        "eta_seconds": job.eta_seconds,
        "published_version": job.published_version,
        "sources": sources_json(&job.sources),
        "metrics": metrics,
        "message": job.message,
        "created_at": time_text(job.created_at.as_ref()),
        "started_at": time_text(job.started_at.as_ref()),
        "ended_at": time_text(job.ended_at.as_ref()),
        "device": job.device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_job_shows_stage_loss_rate_and_eta() {
        let job = TrainingJob {
            id: "j1".into(),
            state: JobState::Running as i32,
            stage: JobStage::Train as i32,
            stage_collection: "docs".into(),
            stage_done: 3,
            stage_total: 10,
            loss: Some(0.123_45),
            examples_per_second: 512.4,
            eta_seconds: Some(7.0),
            ..TrainingJob::default()
        };
        assert_eq!(stage_text(&job), "docs: train");
        assert_eq!(detail_text(&job), "loss 0.1235  512/s  ETA 7 s");
        let text = console::strip_ansi_codes(&job_text(&job)).into_owned();
        assert_eq!(text, "running j1, docs: train 3/10");
        assert!(!ended(&job));
    }

    #[test]
    fn people_see_the_figures_that_tell_whether_learning_helped() {
        let names = [
            "docs/held_out_loss.prior",
            "docs/routing_accuracy",
            "docs/routing_accuracy.causal",
            "docs/passages",
        ];
        let metrics = names.iter().map(|name| ((*name).to_owned(), 0.5)).collect();
        let lines = metric_lines(&TrainingJob {
            metrics,
            ..TrainingJob::default()
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("held_out_loss.prior") && lines[0].ends_with("0.5000"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_fallback_says_why() {
        let job = TrainingJob {
            state: JobState::Succeeded as i32,
            published_version: Some(1),
            sources: [("docs".to_owned(), 2)].into(),
            ..TrainingJob::default()
        };
        let text = console::strip_ansi_codes(&job_text(&job)).into_owned();
        assert!(
            text.contains("docs fallback_prior") && text.contains("did not beat the prior"),
            "{text}"
        );
        assert!(ended(&job));
    }
}
