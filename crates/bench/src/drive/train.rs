//! A training job, from its start to the version that serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moerag_proto::v1::trainer_service_client::TrainerServiceClient;
use moerag_proto::v1::{
    GetActiveModelRequest, JobStage, JobState, ListVersionsRequest, StartTrainingRequest,
    TrainingJob, UnpinVersionRequest, WatchJobRequest,
};
use serde_json::{Value, json};

use super::Session;
use crate::connect::{connect, refusal};

/// The router polls every second; longer than this means that something is wrong.
const HOT_LOAD_TIMEOUT: Duration = Duration::from_secs(60);

impl Session {
    /// Trains the collection and waits until the router serves what came of it.
    pub(super) async fn train(&self) -> Result<Value> {
        let address = self.args.trainer.as_ref();
        let channel = connect(address.context("train needs --trainer")?).await?;
        let mut trainer = TrainerServiceClient::new(channel);
        // A pin would keep the new version from being served.
        if self.version_list().await?.pinned {
            let unpinned = self.models().unpin_version(UnpinVersionRequest {}).await;
            unpinned.map_err(|status| refusal("cannot unpin", &status))?;
        }
        let started = Instant::now();
        let request = StartTrainingRequest {
            collections: vec![self.args.collection.clone()],
            force: true,
            ..StartTrainingRequest::default()
        };
        let job = trainer.start_training(request).await;
        let job = job
            .map_err(|status| refusal("cannot start training", &status))?
            .into_inner()
            .job
            .unwrap_or_default();
        let request = WatchJobRequest { job_id: job.id };
        let updates = trainer.watch_job(request).await;
        let mut updates = updates
            .map_err(|status| refusal("cannot follow the job", &status))?
            .into_inner();
        let (mut steps, mut last) = (Steps::default(), TrainingJob::default());
        loop {
            let update = updates.message().await;
            match update.map_err(|status| refusal("the trainer stopped answering", &status))? {
                Some(update) => last = update.job.unwrap_or_default(),
                None => break,
            }
            steps.enter(stage_name(&last));
        }
        if last.state != JobState::Succeeded as i32 {
            bail!("the job did not succeed: {}", last.message);
        }
        if let Some(version) = last.published_version {
            steps.enter("load");
            self.wait_until_served(version).await?;
        }
        Ok(json!({
            "seconds": started.elapsed().as_secs_f64(),
            "version": last.published_version,
            "steps": steps.finish(),
            "message": last.message,
            "trainer_peak_mb": self.trainer_resources()?.map(|trainer| trainer.peak_mb),
        }))
    }

    async fn wait_until_served(&self, version: u64) -> Result<()> {
        let until = Instant::now() + HOT_LOAD_TIMEOUT;
        loop {
            let active = self
                .models()
                .get_active_model(GetActiveModelRequest {})
                .await;
            let active = active
                .map_err(|status| refusal("cannot ask for the model", &status))?
                .into_inner();
            if active.model.is_some_and(|model| model.version >= version) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "version {version} was published but is not served: {}",
                    active.last_load_error
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The versions in the checkpoint store.
    pub(super) async fn version_list(&self) -> Result<moerag_proto::v1::ListVersionsResponse> {
        let versions = self.models().list_versions(ListVersionsRequest {}).await;
        let versions = versions.map_err(|status| refusal("cannot list versions", &status))?;
        Ok(versions.into_inner())
    }
}

/// Seconds of each step in the order of their first time; one that comes again is added up.
#[derive(Debug, Default)]
struct Steps {
    done: Vec<(&'static str, f64)>,
    open: Option<(&'static str, Instant)>,
}

impl Steps {
    fn enter(&mut self, name: &'static str) {
        if self.open.is_some_and(|(open, _)| open == name) {
            return;
        }
        self.close();
        self.open = Some((name, Instant::now()));
    }

    fn close(&mut self) {
        let Some((name, since)) = self.open.take() else {
            return;
        };
        let seconds = since.elapsed().as_secs_f64();
        match self.done.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.done.push((name, seconds)),
        }
    }

    fn finish(mut self) -> Vec<(&'static str, f64)> {
        self.close();
        self.done
    }
}

fn stage_name(job: &TrainingJob) -> &'static str {
    match JobStage::try_from(job.stage) {
        Ok(JobStage::Snapshot) => "snapshot",
        Ok(JobStage::Synthesize) => "synthesize",
        Ok(JobStage::Encode) => "encode",
        Ok(JobStage::Views) => "views",
        Ok(JobStage::Train) => "train",
        Ok(JobStage::Evaluate) => "evaluate",
        Ok(JobStage::Publish) => "publish",
        Ok(JobStage::Unspecified) | Err(_) => "wait",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_comes_again_is_added_up() {
        let mut steps = Steps::default();
        for name in ["views", "views", "train", "views"] {
            steps.enter(name);
            std::thread::sleep(Duration::from_millis(2));
        }
        let done = steps.finish();
        assert_eq!(done.len(), 2);
        assert_eq!((done[0].0, done[1].0), ("views", "train"));
        assert!(done[0].1 > done[1].1 && done[1].1 >= 0.002, "{done:?}");
    }
}
