//! `moerag eval`: retrieval quality on data sets in BEIR layout, trained on their documents alone.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use console::style;
use moerag_eval::{Corruption, EvalError, EvalOptions, EvalProgress, Method, Report};

use super::model::encoder_dir;
use crate::args::{Corrupt, Eval};
use crate::failure::Usage;
use crate::ui;
use crate::ui::progress::Progress;

/// Runs, prints, writes.
pub(crate) async fn run(args: Eval, json: bool) -> Result<ExitCode> {
    let methods = if args.methods.is_empty() {
        Method::ALL.to_vec()
    } else {
        args.methods
            .iter()
            .map(|name| name.parse())
            .collect::<Result<Vec<Method>, EvalError>>()
            .map_err(usage)?
    };
    if let Some(dir) = &args.out {
        Report::prepare(dir).map_err(usage)?;
    }
    let defaults = moerag_eval::TrainConfig::default();
    let train = moerag_eval::TrainConfig {
        prune_to: args.prune_to.unwrap_or(defaults.prune_to),
        ..defaults
    };
    let options = EvalOptions {
        datasets: args.dataset,
        methods,
        seed: args.seed,
        seeds: args.seeds,
        stores: args.stores,
        ablations: args.ablations,
        across: args.across,
        queries: args
            .queries
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        corrupt: args.corrupt.map(|side| match side {
            Corrupt::Dense => Corruption::Dense,
            Corrupt::Lexical => Corruption::Lexical,
        }),
        as_written: args.as_written,
        encoder_dir: encoder_dir(args.encoder_dir).await?,
        device: args.device,
        precision: args.precision,
        train,
    };
    let shown = Arc::new(Shown(Mutex::new(Progress::new("reading the data sets"))));
    let progress: Arc<dyn EvalProgress> = Arc::clone(&shown) as _;
    let evaluation = moerag_eval::run(&options, progress).await.map_err(usage)?;
    shown.finish();
    if json {
        ui::json(&serde_json::to_value(&evaluation.report)?)?;
    } else {
        ui::print(&evaluation.report.tables())?;
    }
    if let Some(dir) = args.out {
        evaluation.report.write(&dir, &evaluation.queries)?;
        if !json {
            let files = "evaluation_results.json, per_query.jsonl, report.md and its pictures";
            ui::line(&format!(
                "\n{} {files} in {}",
                style("wrote").green(),
                dir.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A set that cannot be read, a wrong name or an option that cannot work is the caller's mistake; a
/// failed stage is not.
pub(crate) fn usage(error: EvalError) -> anyhow::Error {
    match error {
        EvalError::Stage { .. } | EvalError::Write { .. } => error.into(),
        other => Usage(other.to_string()).into(),
    }
}

struct Shown(Mutex<Progress>);

impl Shown {
    fn finish(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .finish();
    }
}

impl EvalProgress for Shown {
    fn update(&self, set: &str, stage: &str, done: usize, total: usize, detail: &str) {
        let progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.update(
            &format!("{set}: {stage}"),
            done as u64,
            total as u64,
            detail,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_cannot_work_are_the_caller_s_mistake() {
        let options = EvalError::Options("train.prune_to: use 0 (all) or at least 2".to_owned());
        let out = EvalError::Out {
            path: "/dev/null".into(),
            source: std::io::ErrorKind::NotADirectory.into(),
        };
        for error in [options, out] {
            let message = error.to_string();
            let error = usage(error);
            assert!(error.is::<Usage>() && error.to_string() == message);
        }
    }
}
