//! `moerag-bench drive`: puts load on running services, as the protocol of `scripts/bench` says.
//!
//! One JSON command a line on standard input, exactly one JSON line on standard output for each. A
//! command that fails is answered with `{"error": …}` and the next one is read.

mod corpus;
mod encode;
pub(crate) mod load;
mod protocol;
mod swap;
mod train;

use std::collections::HashMap;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use moerag_encoder::Encoder;
use moerag_proto::v1::AttendRequest;
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use self::protocol::{Command, Engine};
use crate::args::Drive;
use crate::connect::{MAX_MESSAGE_BYTES, connect};
use crate::proc;

const ROUTER: &str = "router-service";
const TRAINER: &str = "trainer-worker";

/// Answers commands until `close` or the end of standard input.
pub(crate) fn run(runtime: &Runtime, args: Drive) -> Result<()> {
    let router = runtime.block_on(connect(&args.router))?;
    let mut session = Session {
        args,
        router,
        encoders: HashMap::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(Command::Close) => {
                answer(&json!({}))?;
                break;
            }
            Ok(command) => runtime.block_on(session.perform(command)),
            Err(error) => Err(error).context("the command is not understood"),
        };
        answer(&reply.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })))?;
    }
    Ok(())
}

fn answer(reply: &Value) -> Result<()> {
    crate::output::line(&reply.to_string())
}

/// What is kept between commands.
struct Session {
    args: Drive,
    router: Channel,
    /// Loaded when it is first needed: a load generator should not take memory from what it measures.
    encoders: HashMap<Engine, Arc<Encoder>>,
}

impl Session {
    async fn perform(&mut self, command: Command) -> Result<Value> {
        match command {
            Command::Open { passages } => self.open(&passages).await,
            Command::Ingest { passages } => self.ingest_sample(&passages).await,
            Command::Latency { queries, top_k } => self.latency(queries, top_k).await,
            Command::Throughput {
                queries,
                clients,
                top_k,
            } => self.throughput(queries, clients, top_k).await,
            Command::Encode {
                texts,
                kind,
                engine,
            } => self.encode(texts, kind, engine).await,
            Command::Train => self.train().await,
            Command::Swap { queries, seconds } => self.swap(queries, seconds).await,
            Command::Resources => self.resources(),
            Command::Close => Ok(json!({})),
        }
    }

    fn queries(&self) -> RouterServiceClient<Channel> {
        query_client(&self.router)
    }

    fn corpus(&self) -> CorpusServiceClient<Channel> {
        CorpusServiceClient::new(self.router.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.router.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn attend(&self, query: &str, top_k: u32) -> AttendRequest {
        AttendRequest {
            query: query.to_owned(),
            collections: vec![self.args.collection.clone()],
            top_k: Some(top_k),
            truncate: true,
            ..AttendRequest::default()
        }
    }

    fn encoder_dir(&self) -> Result<PathBuf> {
        match &self.args.encoder_dir {
            Some(dir) => Ok(dir.clone()),
            None => moerag_encoder::default_dir().context("no --encoder-dir"),
        }
    }

    /// Resources of the router, and of the trainer where its process is known.
    fn resources(&self) -> Result<Value> {
        let given = self
            .args
            .router_pid
            .context("resources needs --router-pid")?;
        let mut reply = serde_json::to_value(proc::resources(proc::program(given, ROUTER)?)?)?;
        if let Some(trainer) = self.trainer_resources()? {
            reply["trainer"] = serde_json::to_value(trainer)?;
        }
        Ok(reply)
    }

    /// Resources of the trainer; of a `moerag up` it is known without being named.
    fn trainer_resources(&self) -> Result<Option<proc::Resources>> {
        let pid = match (self.args.trainer_pid, self.args.router_pid) {
            (Some(pid), _) => Some(proc::program(pid, TRAINER)?),
            (None, Some(given)) => proc::program(given, TRAINER).ok(),
            (None, None) => None,
        };
        pid.map(proc::resources).transpose()
    }
}

fn query_client(channel: &Channel) -> RouterServiceClient<Channel> {
    RouterServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
