//! `moerag ingest`: files and directories into a collection.
//!
//! Documents stream to the router as they are read; each is acknowledged once it is durable. Run
//! again after an interruption: what is there already costs a look-up.

mod files;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use console::style;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::{
    DocumentStatus, IngestProgress, IngestRequest, IngestResponse, IngestStart,
};
use moerag_store::load::PATH_KEY;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use self::files::{Read, Refusal};
use crate::args::Ingest;
use crate::client::Addresses;
use crate::failure::{EXIT_FAILURE, rpc};
use crate::ui;
use crate::ui::progress::{Progress, eta};

/// Documents read ahead of the router.
const QUEUE: usize = 64;
/// Refusals listed for people; `--json` has all of them.
const REFUSALS_SHOWN: usize = 20;

#[derive(Default)]
struct Totals {
    progress: IngestProgress,
    truncated_passages: u64,
    refused_by_router: Vec<Refusal>,
}

/// Reads, sends, reports.
pub(crate) async fn run(addresses: &Addresses, args: Ingest, json: bool) -> Result<ExitCode> {
    let mut client = addresses.corpus().await?;
    files::check_roots(&args.paths)?;
    let progress = Progress::new("counting documents");
    let paths = args.paths.clone();
    let documents = tokio::task::spawn_blocking(move || files::count(&paths))
        .await
        .context("cannot count documents")?;

    let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
    let start = IngestStart {
        collection: args.collection.clone(),
        language: args.language.clone().unwrap_or_default(),
    };
    let paths = args.paths.clone();
    let prune = args.prune;
    let reading = tokio::task::spawn_blocking(move || {
        let send = |message| {
            sender
                .blocking_send(IngestRequest {
                    message: Some(message),
                })
                .is_ok()
        };
        if send(Message::Start(start)) {
            files::read(&paths, prune, send)
        } else {
            Read::default()
        }
    });

    let started = Instant::now();
    let mut totals = Totals::default();
    let mut replies = client
        .ingest(ReceiverStream::new(receiver))
        .await
        .map_err(|status| rpc("cannot ingest", &status))?
        .into_inner();
    while let Some(reply) = replies.next().await {
        let reply = reply.map_err(|status| {
            let error = rpc("the ingest broke off", &status);
            match totals.progress.written + totals.progress.unchanged {
                0 => error,
                safe => error.context(format!(
                    "{safe} documents are safe; run the same command again to go on"
                )),
            }
        })?;
        totals.take(reply);
        let p = &totals.progress;
        let done = p.written + p.unchanged + p.refused;
        let rate = p.passages_encoded as f64 / started.elapsed().as_secs_f64().max(1e-3);
        let detail = format!(
            "{} passages  {rate:.0} passages/s  {}",
            p.passages_encoded.max(p.passages),
            eta(started, done, documents)
        );
        progress.update("ingest documents", done, documents, &detail);
    }
    progress.finish();
    let read = reading.await.context("cannot read the files")?;
    let seconds = started.elapsed().as_secs_f64();
    let refused = read.refused.len() + totals.refused_by_router.len();
    if json {
        ui::json(&summary_json(&args.collection, &totals, &read, seconds))?;
    } else {
        ui::print(&summary_text(&args.collection, &totals, &read, seconds))?;
    }
    Ok(if args.strict && refused > 0 {
        ExitCode::from(EXIT_FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

impl Totals {
    fn take(&mut self, reply: IngestResponse) {
        for outcome in reply.outcomes {
            self.truncated_passages += u64::from(outcome.truncated_passages);
            if outcome.status == DocumentStatus::Refused as i32 {
                self.refused_by_router.push(Refusal {
                    what: outcome.document_id,
                    reason: outcome.reason,
                });
            }
        }
        if let Some(progress) = reply.progress {
            self.progress = progress;
        }
    }
}

fn summary_text(collection: &str, totals: &Totals, read: &Read, seconds: f64) -> String {
    let p = &totals.progress;
    let mut out = format!(
        "{} collection {collection}: {} documents written ({} passages), {} unchanged",
        style("done").green(),
        p.written,
        p.passages,
        p.unchanged
    );
    if p.pruned > 0 {
        out.push_str(&format!(", {} pruned", p.pruned));
    }
    out.push_str(&format!(", in {}\n", ui::duration(seconds)));
    if totals.truncated_passages > 0 {
        out.push_str(&format!(
            "{} passages are longer than the encoder reads at once; their vectors ignore the rest\n",
            totals.truncated_passages
        ));
    }
    if !read.skipped.is_empty() {
        let kinds: Vec<String> = read
            .skipped
            .iter()
            .map(|(extension, count)| {
                format!(
                    "{count} {}",
                    if extension.is_empty() {
                        "without extension"
                    } else {
                        extension
                    }
                )
            })
            .collect();
        out.push_str(&format!(
            "passed over, not a document type: {}\n",
            ui::plain(&kinds.join(", "))
        ));
    }
    if let Some(why) = &read.not_pruned {
        out.push_str(&format!(
            "{}: {}\n",
            style("nothing was pruned").yellow(),
            ui::plain(why)
        ));
    }
    let refused: Vec<&Refusal> = read
        .refused
        .iter()
        .chain(&totals.refused_by_router)
        .collect();
    if !refused.is_empty() {
        out.push_str(&format!(
            "{}\n",
            style(format!("{} refused:", refused.len())).yellow()
        ));
        for refusal in refused.iter().take(REFUSALS_SHOWN) {
            let line = format!("  {}: {}\n", refusal.what, refusal.reason);
            out.push_str(&ui::plain(&line));
        }
        if refused.len() > REFUSALS_SHOWN {
            out.push_str(&format!(
                "  … and {} more, see --json\n",
                refused.len() - REFUSALS_SHOWN
            ));
        }
    }
    out
}

fn summary_json(collection: &str, totals: &Totals, read: &Read, seconds: f64) -> Value {
    let p = &totals.progress;
    let refused: Vec<Value> = read
        .refused
        .iter()
        .chain(&totals.refused_by_router)
        .map(|refusal| json!({ PATH_KEY: refusal.what, "reason": refusal.reason }))
        .collect();
    json!({
        "collection": collection,
        "written": p.written,
        "unchanged": p.unchanged,
        "pruned": p.pruned,
        "passages": p.passages,
        "truncated_passages": totals.truncated_passages,
        "refused": refused,
        "skipped_by_extension": read.skipped,
        "not_pruned": read.not_pruned,
        "seconds": seconds,
    })
}

#[cfg(test)]
mod tests {
    use moerag_proto::v1::DocumentOutcome;

    use super::*;

    #[test]
    fn refusals_of_files_and_of_the_router_are_listed_together() {
        let mut totals = Totals::default();
        totals.take(IngestResponse {
            outcomes: vec![DocumentOutcome {
                document_id: "b.md".into(),
                status: DocumentStatus::Refused as i32,
                reason: "too long".into(),
                ..DocumentOutcome::default()
            }],
            progress: Some(IngestProgress {
                written: 3,
                passages: 9,
                refused: 1,
                ..IngestProgress::default()
            }),
        });
        let read = Read {
            refused: vec![Refusal {
                what: "a.txt".into(),
                reason: "is not UTF-8".into(),
            }],
            ..Read::default()
        };
        let text =
            console::strip_ansi_codes(&summary_text("docs", &totals, &read, 2.0)).into_owned();
        assert!(text.contains("3 documents written (9 passages)"), "{text}");
        assert!(
            text.contains("2 refused:\n  a.txt: is not UTF-8\n  b.md: too long\n"),
            "{text}"
        );
        let value = summary_json("docs", &totals, &read, 2.0);
        assert_eq!(value["refused"][1]["path"], "b.md");
    }

    #[test]
    fn no_name_of_a_file_can_rewrite_the_terminal() {
        console::set_colors_enabled(false);
        let evil = "x\u{1b}[2J\u{9b}2J";
        let read = Read {
            refused: vec![Refusal {
                what: evil.into(),
                reason: evil.into(),
            }],
            skipped: [(evil.to_owned(), 1)].into(),
            not_pruned: Some(evil.into()),
        };
        let text = summary_text("docs", &Totals::default(), &read, 2.0);
        assert_eq!(text.matches("x [2J 2J").count(), 4, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }
}
