//! `moerag ask`: one query, and why its passages were attended to.

use std::process::ExitCode;

use anyhow::Result;
use console::style;
use moerag_proto::v1::{
    AttendRequest, AttendResponse, AttendedPassage, ByteRange, Filter, FilterCondition,
    QueryTypePrediction, RoutingMode,
};
use serde_json::{Value, json};

use super::{model_json, short, source_reason, source_word};
use crate::args::{Ask, Routing};
use crate::client::Addresses;
use crate::failure::rpc;
use crate::ui;

/// Heads named beside a passage: at most this many, and only with at least this share.
const HEADS_SHOWN: usize = 3;
const SHARE_SHOWN: f32 = 0.1;

/// Attends and prints.
pub(crate) async fn run(addresses: &Addresses, args: Ask, json: bool) -> Result<ExitCode> {
    let must = args
        .conditions
        .iter()
        .map(|(key, value)| FilterCondition {
            key: key.clone(),
            any_of: vec![value.clone()],
        })
        .collect::<Vec<_>>();
    let request = AttendRequest {
        query: args.query.clone(),
        collections: args.collection.clone(),
        top_k: Some(args.top_k),
        routing: match args.routing {
            Routing::Soft => RoutingMode::Soft,
            Routing::Hard => RoutingMode::Hard,
            Routing::TopK => RoutingMode::TopK,
        } as i32,
        top_k_heads: args.top_k_heads,
        filter: (!must.is_empty()).then(|| Filter {
            must,
            ..Filter::default()
        }),
        truncate: args.truncate,
        as_written: args.as_written,
        ..AttendRequest::default()
    };
    let reply = addresses
        .router()
        .await?
        .attend(request)
        .await
        .map_err(|status| rpc("cannot attend", &status))?
        .into_inner();
    if json {
        ui::json(&reply_json(&args.query, &reply))?;
    } else {
        ui::print(&reply_text(&args, &reply))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn reply_text(args: &Ask, reply: &AttendResponse) -> String {
    let width = ui::width();
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        out.push_str(&format!("{}  {value}\n", style(format!("{name:<6}")).dim()))
    };
    row("query", style(&args.query).bold().to_string());
    if !reply.searched_for.is_empty() {
        let note = style("(--as-written searches for the query as it is)").dim();
        row(
            "for",
            format!("{} {note}", style(ui::plain(&reply.searched_for)).bold()),
        );
    }
    row("type", type_text(reply.query_type.as_ref()));
    if let Some(model) = &reply.model {
        let source = source_word(model.source);
        row(
            "model",
            format!(
                "version {}, {source} ({}), weights {}",
                model.version,
                source_reason(source),
                short(&model.weights_digest)
            ),
        );
    }
    if reply.collections.len() > 1 {
        row("where", where_text(reply));
    }
    if let Some(total) = reply.timings.iter().find(|timing| timing.stage == "total") {
        let scored: u32 = reply
            .collections
            .iter()
            .map(|collection| collection.scored)
            .sum();
        let candidates: u32 = reply
            .collections
            .iter()
            .map(|collection| collection.candidates)
            .sum();
        row(
            "time",
            format!(
                "{:.1} ms, {candidates} candidates, {scored} scored",
                total.micros as f64 / 1000.0
            ),
        );
    }
    if reply.truncated {
        row(
            "note",
            format!("the query has {} wordpieces and was cut", reply.token_count),
        );
    }
    let heads: Vec<(String, f64)> = reply
        .heads
        .iter()
        .map(|head| (ui::plain(&head.head), f64::from(head.weight)))
        .collect();
    if !heads.is_empty() {
        out.push_str(&format!("\n{}\n", style("heads").dim()));
        for line in ui::bars::weights(&heads, width.saturating_sub(2)) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    if reply.passages.is_empty() {
        out.push_str("\nno passage fits; `moerag status` shows what the collections hold\n");
    }
    let several = reply.collections.len() > 1;
    for (rank, passage) in reply.passages.iter().enumerate() {
        out.push('\n');
        out.push_str(&passage_text(rank + 1, passage, several, args.full, width));
    }
    if !reply.passages.is_empty() {
        let shown = format!(
            "attention on the passages shown: {:.1} %",
            reply.attn_mass_returned * 100.0
        );
        out.push_str(&format!("\n{}\n", style(shown).dim()));
    }
    out
}

fn passage_text(
    rank: usize,
    passage: &AttendedPassage,
    collection: bool,
    full: bool,
    width: usize,
) -> String {
    let title = if passage.title.is_empty() {
        &passage.document_id
    } else {
        &passage.title
    };
    let mut out = format!(
        "{} {} {}\n",
        style(format!("{rank:>2}.")).bold(),
        style(format!("{:.4}", passage.attn_weight)).cyan().bold(),
        style(ui::plain(title)).bold()
    );
    let place = if collection {
        format!("{}: ", passage.collection)
    } else {
        String::new()
    };
    let mut heads: Vec<_> = passage.heads.iter().collect();
    heads.sort_by(|a, b| b.share.total_cmp(&a.share));
    let chosen: Vec<String> = heads
        .iter()
        .enumerate()
        .take_while(|(i, head)| *i == 0 || (*i < HEADS_SHOWN && head.share >= SHARE_SHOWN))
        .map(|(_, head)| format!("{} {:.0} %", head.head, head.share * 100.0))
        .collect();
    let named = if passage.title_named {
        "; its title is in the question"
    } else {
        ""
    };
    let by = format!(
        "{place}{}#{}  chosen by {}{named}",
        passage.document_id,
        passage.ordinal,
        chosen.join(", ")
    );
    out.push_str(&format!("    {}\n", style(ui::plain(&by)).dim()));
    for line in ui::passage::lines(
        &passage.text,
        best_sentence(passage),
        full,
        width.saturating_sub(4),
    ) {
        out.push_str(&format!("    {line}\n"));
    }
    out
}

fn best_sentence(passage: &AttendedPassage) -> Option<std::ops::Range<usize>> {
    let best = passage
        .sentences
        .iter()
        .max_by(|a, b| a.weight.total_cmp(&b.weight))?;
    let range = best.range.as_ref()?;
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn type_text(prediction: Option<&QueryTypePrediction>) -> String {
    let Some(prediction) = prediction.filter(|prediction| !prediction.query_type.is_empty()) else {
        return "unknown".into();
    };
    let mut posterior: Vec<_> = prediction.posterior.iter().collect();
    posterior.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let shown: Vec<String> = posterior
        .iter()
        .take(3)
        .map(|p| format!("{} {:.2}", p.query_type, p.probability))
        .collect();
    format!(
        "{} ({})",
        style(ui::plain(&prediction.query_type)).bold(),
        ui::plain(&shown.join(", "))
    )
}

fn range_json(range: Option<&ByteRange>) -> Value {
    range.map_or(Value::Null, |range| json!([range.start, range.end]))
}

fn type_json(prediction: Option<&QueryTypePrediction>) -> Value {
    prediction.map_or(Value::Null, |prediction| {
        let posterior: serde_json::Map<String, Value> = prediction
            .posterior
            .iter()
            .map(|p| (p.query_type.clone(), json!(p.probability)))
            .collect();
        json!({ "query_type": prediction.query_type, "posterior": posterior })
    })
}

/// The collections by falling weight, as long as they matter.
fn where_text(reply: &AttendResponse) -> String {
    let mut collections: Vec<_> = reply.collections.iter().collect();
    collections.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let shares = collections
        .into_iter()
        .filter(|collection| collection.weight >= 0.005)
        .map(|collection| format!("{} {:.2}", collection.collection, collection.weight));
    ui::plain(&shares.collect::<Vec<_>>().join(", "))
}

fn reply_json(query: &str, reply: &AttendResponse) -> Value {
    let heads: serde_json::Map<String, Value> = reply
        .heads
        .iter()
        .map(|head| (head.head.clone(), json!(head.weight)))
        .collect();
    let timings: serde_json::Map<String, Value> = reply
        .timings
        .iter()
        .map(|timing| (timing.stage.clone(), json!(timing.micros)))
        .collect();
    let collections: Vec<Value> = reply
        .collections
        .iter()
        .map(|collection| {
            json!({
                "collection": collection.collection,
                "weight": collection.weight,
                "source": source_word(collection.source),
                "source_reason": collection.source_reason,
                "candidates": collection.candidates,
                "scored": collection.scored,
                "stats_digest": collection.stats_digest,
            })
        })
        .collect();
    json!({
        "query": query,
        "searched_for": (!reply.searched_for.is_empty()).then_some(&reply.searched_for),
        "request_id": reply.request_id,
        "query_type": type_json(reply.query_type.as_ref()),
        "model": model_json(reply.model.as_ref()),
        "heads": heads,
        "collections": collections,
        "passages": reply.passages.iter().map(passage_json).collect::<Vec<_>>(),
        "attn_mass_returned": reply.attn_mass_returned,
        "token_count": reply.token_count,
        "truncated": reply.truncated,
        "micros": timings,
    })
}

fn passage_json(passage: &AttendedPassage) -> Value {
    let heads: serde_json::Map<String, Value> = passage
        .heads
        .iter()
        .map(|head| {
            (
                head.head.clone(),
                json!({ "share": head.share, "attention": head.attention }),
            )
        })
        .collect();
    let views: serde_json::Map<String, Value> = passage
        .views
        .iter()
        .map(|view| {
            (
                view.view.clone(),
                json!({ "raw": view.raw, "z": view.z, "contribution": view.contribution }),
            )
        })
        .collect();
    let metadata: std::collections::BTreeMap<_, _> = passage.metadata.iter().collect();
    json!({
        "collection": passage.collection,
        "document_id": passage.document_id,
        "ordinal": passage.ordinal,
        "revision": passage.revision,
        "title": passage.title,
        "text": passage.text,
        "document_range": range_json(passage.document_range.as_ref()),
        "metadata": metadata,
        "attn_weight": passage.attn_weight,
        "title_named": passage.title_named,
        "token_count": passage.token_count,
        "heads": heads,
        "views": views,
        "sentences": passage.sentences.iter().map(|sentence| {
            json!({ "range": range_json(sentence.range.as_ref()), "weight": sentence.weight })
        }).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use moerag_proto::v1::{HeadContribution, HeadWeight, SentenceWeight, ServedModel};

    use super::*;
    use crate::args::{Cli, Command};

    fn reply() -> AttendResponse {
        AttendResponse {
            heads: vec![
                HeadWeight {
                    head: "dense".into(),
                    weight: 0.25,
                },
                HeadWeight {
                    head: "token".into(),
                    weight: 0.75,
                },
            ],
            model: Some(ServedModel {
                version: 3,
                source: 3,
                ..ServedModel::default()
            }),
            passages: vec![AttendedPassage {
                document_id: "a.md".into(),
                title: "Title".into(),
                text: "First one. Second one.".into(),
                attn_weight: 0.5,
                heads: vec![
                    HeadContribution {
                        head: "dense".into(),
                        share: 0.05,
                        attention: 0.1,
                    },
                    HeadContribution {
                        head: "token".into(),
                        share: 0.95,
                        attention: 0.2,
                    },
                ],
                sentences: vec![
                    SentenceWeight {
                        range: Some(ByteRange { start: 0, end: 10 }),
                        weight: 0.1,
                    },
                    SentenceWeight {
                        range: Some(ByteRange { start: 11, end: 22 }),
                        weight: 0.9,
                    },
                ],
                ..AttendedPassage::default()
            }],
            ..AttendResponse::default()
        }
    }

    #[test]
    fn the_text_names_version_heads_and_the_best_sentence() {
        let Command::Ask(args) = Cli::try_parse_from(["moerag", "ask", "why?"])
            .unwrap()
            .command
        else {
            unreachable!("the command was ask")
        };
        console::set_colors_enabled(false);
        let text = reply_text(&args, &reply());
        assert!(text.contains("version 3, trained"), "{text}");
        assert!(text.contains("chosen by token 95 %\n"), "{text}");
        let mut named = reply();
        named.passages[0].title_named = true;
        assert_eq!(
            reply_json("why?", &named)["passages"][0]["title_named"],
            true
        );
        let named = reply_text(&args, &named);
        assert!(named.contains("token 95 %; its title is in the question\n"));
        assert!(text.contains("First one. »Second one.«"), "{text}");
        assert!(
            text.find("token").unwrap() < text.find("dense").unwrap(),
            "{text}"
        );
    }

    #[test]
    fn no_document_can_rewrite_the_terminal() {
        console::set_colors_enabled(false);
        let evil = "x\u{1b}[2J\u{7}\u{9b}2J";
        let mut reply = reply();
        let passage = &mut reply.passages[0];
        passage.title = evil.into();
        passage.text = evil.into();
        passage.document_id = evil.into();
        passage.heads[0].head = evil.into();
        reply.heads[0].head = evil.into();
        let Command::Ask(args) = Cli::try_parse_from(["moerag", "ask", "why?"])
            .unwrap()
            .command
        else {
            unreachable!("the command was ask")
        };
        let text = reply_text(&args, &reply);
        let bad = |c: char| c.is_control() && c != '\n';
        assert!(text.contains("x [2J") && !text.contains(bad), "{text:?}");
        // Machines get it as it is.
        let json = reply_json("why?", &reply);
        assert_eq!(json["passages"][0]["title"], evil);
    }

    #[test]
    fn the_json_has_numbers_by_name() {
        let value = reply_json("why?", &reply());
        assert_eq!(value["heads"]["token"], 0.75);
        assert_eq!(value["model"]["source"], "trained");
        assert_eq!(
            value["passages"][0]["sentences"][1]["range"],
            json!([11, 22])
        );
    }

    #[test]
    fn a_reply_without_anything_is_shown_too() {
        let Command::Ask(args) = Cli::try_parse_from(["moerag", "ask", "why?"])
            .unwrap()
            .command
        else {
            unreachable!("the command was ask")
        };
        assert!(reply_text(&args, &AttendResponse::default()).contains("no passage fits"));
        assert_eq!(
            reply_json("why?", &AttendResponse::default())["model"],
            Value::Null
        );
    }
}
