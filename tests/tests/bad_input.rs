//! Bad input gets a clear error and loses nothing (issue 2, "Must hold").
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::Command;

use moerag_checkpoint::{CheckpointStore, Expected, MODEL_FILE, version_name};
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_proto::v1::{
    AttendRequest, AttendResponse, DocumentStatus, Filter, FilterCondition, GetActiveModelRequest,
    GetCollectionRequest, ModelSource, PinVersionRequest, ReloadModelRequest,
};
use moerag_tests::{
    Process, Sandbox, binary, connect, encoder_dir, ingest, models, texts, wait_until_serving,
};
use tonic::Code;
use tonic::transport::Channel;

const COLLECTION: &str = "notes";

async fn serving(sandbox: &Sandbox) -> (Process, String, Channel) {
    let (process, url) = sandbox.router(&[]).unwrap();
    wait_until_serving(&url).await.unwrap();
    let channel = connect(&url).await.unwrap();
    (process, url, channel)
}

async fn refused(channel: &Channel, request: AttendRequest, code: Code, names: &[&str]) {
    let mut client = RouterServiceClient::new(channel.clone()).max_encoding_message_size(64 << 20);
    let status = client.attend(request).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    for name in names {
        assert!(
            status.message().contains(name),
            "the message does not name {name}: {}",
            status.message()
        );
    }
}

fn query(text: &str) -> AttendRequest {
    AttendRequest {
        query: text.to_owned(),
        collections: vec![COLLECTION.to_owned()],
        ..AttendRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_name_their_fields_and_the_router_goes_on() {
    let sandbox = Sandbox::new().unwrap();
    let (mut process, _, channel) = serving(&sandbox).await;
    ingest(&channel, COLLECTION, texts::documents(20))
        .await
        .unwrap();

    refused(&channel, query(""), Code::InvalidArgument, &["query"]).await;
    refused(&channel, query(" \n\t "), Code::InvalidArgument, &["query"]).await;
    refused(
        &channel,
        query(&"word ".repeat(200_000)),
        Code::InvalidArgument,
        &["query"],
    )
    .await;
    for top_k in [0, 1_000_000_000] {
        refused(
            &channel,
            AttendRequest {
                top_k: Some(top_k),
                ..query("lamp")
            },
            Code::InvalidArgument,
            &["top_k"],
        )
        .await;
    }
    let both = AttendRequest {
        top_k: Some(0),
        ..query("")
    };
    refused(&channel, both, Code::InvalidArgument, &["query", "top_k"]).await;
    let nan = AttendRequest {
        min_attn_weight: Some(f64::NAN),
        ..query("lamp")
    };
    refused(&channel, nan, Code::InvalidArgument, &["min_attn_weight"]).await;
    let condition = FilterCondition {
        key: String::new(),
        any_of: vec![],
    };
    let filter = Filter {
        must: vec![condition],
        ..Filter::default()
    };
    refused(
        &channel,
        AttendRequest {
            filter: Some(filter),
            ..query("lamp")
        },
        Code::InvalidArgument,
        &["filter"],
    )
    .await;
    let elsewhere = AttendRequest {
        collections: vec!["nowhere".to_owned()],
        ..query("lamp")
    };
    refused(&channel, elsewhere, Code::NotFound, &["nowhere"]).await;
    refused(
        &channel,
        AttendRequest {
            routing: 77,
            ..query("lamp")
        },
        Code::InvalidArgument,
        &["routing"],
    )
    .await;

    // An over-long query is answered when the caller asks for the cut, and the reply says so.
    let long = AttendRequest {
        truncate: true,
        ..query(&"lamp ".repeat(200_000))
    };
    let mut client = RouterServiceClient::new(channel.clone()).max_encoding_message_size(64 << 20);
    let reply = client.attend(long).await.unwrap().into_inner();
    assert!(reply.truncated && !reply.passages.is_empty());

    // One bad document is refused by name, its neighbours are written.
    let mut documents = texts::documents(23).split_off(20);
    documents[1].id = String::new();
    documents[2].text = "  ".to_owned();
    let outcomes = ingest(&channel, COLLECTION, documents).await.unwrap();
    let states: Vec<i32> = outcomes.iter().map(|o| o.status).collect();
    let refused = DocumentStatus::Refused as i32;
    assert!(
        states.contains(&(DocumentStatus::Written as i32)),
        "{outcomes:?}"
    );
    assert_eq!(
        states.iter().filter(|s| **s == refused).count(),
        2,
        "{outcomes:?}"
    );
    assert!(
        outcomes
            .iter()
            .filter(|o| o.status == refused)
            .all(|o| !o.reason.is_empty())
    );

    let reply = client
        .attend(query("rotating lamp on a rocky coast"))
        .await
        .unwrap()
        .into_inner();
    assert!(!reply.passages.is_empty());
    assert!(process.exited().unwrap().is_none());
    assert!(!process.log().contains("panicked"), "{}", process.log());
}

/// An `AttendRequest` whose query may be any bytes, which the generated type cannot hold.
#[derive(Clone, PartialEq, prost::Message)]
struct RawQuery {
    #[prost(bytes = "vec", tag = "1")]
    query: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_utf8_names_its_field() {
    let sandbox = Sandbox::new().unwrap();
    let (process, _, channel) = serving(&sandbox).await;
    ingest(&channel, COLLECTION, texts::documents(5))
        .await
        .unwrap();
    let mut raw = tonic::client::Grpc::new(channel.clone());
    raw.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RawQuery, AttendResponse>::default();
    let path = "/moerag.v1.RouterService/Attend".parse().unwrap();
    let request = RawQuery {
        query: b"caf\xe9 au lait".to_vec(),
    };
    let status = raw
        .unary(tonic::Request::new(request), path, codec)
        .await
        .unwrap_err();
    println!("invalid UTF-8: {status}");
    // INTERNAL is what gRPC prescribes for a message that cannot be parsed.
    assert_eq!(status.code(), Code::Internal, "{status}");
    for name in ["query", "UTF-8"] {
        assert!(status.message().contains(name), "{status}");
    }
    RouterServiceClient::new(channel)
        .attend(query("rotating lamp"))
        .await
        .unwrap();
    assert!(!process.log().contains("panicked"), "{}", process.log());
}

#[test]
fn unreadable_files_are_reported_and_the_rest_is_ingested() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = Sandbox::new().unwrap();
    let (_process, url, channel) = runtime.block_on(serving(&sandbox));
    let docs = sandbox.dir.path().join("docs");
    fs_err::create_dir(&docs).unwrap();
    fs_err::write(
        docs.join("good.md"),
        "# Lamps\n\nThe lighthouse lamp rotates twice a minute over the bay.\n",
    )
    .unwrap();
    fs_err::write(
        docs.join("latin1.txt"),
        b"caf\xe9 au lait, tr\xe8s bon, servi chaud le matin",
    )
    .unwrap();
    fs_err::write(
        docs.join("paper.txt"),
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    )
    .unwrap();
    fs_err::write(docs.join("zeros.txt"), [0u8; 4096]).unwrap();
    fs_err::write(
        docs.join("broken.jsonl"),
        "{\"id\": \"a\", \"text\": \"A fine sentence about canals.\"}\n{\"id\": oops\n",
    )
    .unwrap();
    // Longer than a message to the router may be: sent, it would end the stream for all others.
    fs_err::write(docs.join("all.txt"), "lamp ".repeat((9 << 20) / 5)).unwrap();
    std::os::unix::fs::symlink("/nonexistent/file.md", docs.join("dangling.md")).unwrap();

    let docs = docs.display().to_string();
    let output = sandbox
        .moerag(&[
            "ingest",
            &docs,
            "--collection",
            COLLECTION,
            "--router",
            &url,
        ])
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}");
    for name in [
        "latin1.txt",
        "paper.txt",
        "zeros.txt",
        "broken.jsonl",
        "all.txt: the text has 9437180 bytes, the router takes 4194304",
    ] {
        assert!(said.contains(name), "{name} is not reported:\n{said}");
    }
    assert!(said.to_lowercase().contains("pdf"), "{said}");
    let request = GetCollectionRequest {
        collection: COLLECTION.to_owned(),
        with_stats: false,
    };
    let reply = runtime
        .block_on(CorpusServiceClient::new(channel).get_collection(request))
        .unwrap()
        .into_inner();
    // What comes behind the long one is not lost: one file and one record.
    assert_eq!(reply.collection.unwrap().documents, 2);
    let strict = sandbox
        .moerag(&[
            "ingest",
            &docs,
            "--collection",
            COLLECTION,
            "--router",
            &url,
            "--strict",
        ])
        .unwrap();
    assert_eq!(strict.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_checkpoints_are_refused_and_the_old_version_serves() {
    let sandbox = Sandbox::new().unwrap();
    let (process, _, channel) = serving(&sandbox).await;
    ingest(&channel, COLLECTION, texts::documents(20))
        .await
        .unwrap();
    let mut client = ModelServiceClient::new(channel.clone());
    let model = client
        .get_active_model(GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner()
        .model
        .unwrap();
    assert_eq!(
        (model.version, model.source),
        (0, ModelSource::Prior as i32)
    );
    let store = CheckpointStore::open(sandbox.checkpoints().to_str().unwrap()).unwrap();
    let space = model.embedding_space_id;
    let good = models::publish(&store, COLLECTION, &space, 0)
        .await
        .unwrap();
    client.reload_model(ReloadModelRequest {}).await.unwrap();

    // Each damage gets a version of its own; every one must be refused with a reason.
    let mut damaged = Vec::new();
    for (name, damage) in [("truncated", 0), ("corrupt", 1), ("nan", 2)] {
        let version = models::publish(&store, COLLECTION, &space, 1)
            .await
            .unwrap();
        let file = sandbox
            .checkpoints()
            .join("versions")
            .join(version_name(version))
            .join(MODEL_FILE);
        let mut bytes = fs_err::read(&file).unwrap();
        let end = bytes.len();
        match damage {
            0 => bytes.truncate(end / 2),
            1 => bytes[end - 9] ^= 0x40,
            _ => bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes()),
        }
        fs_err::write(&file, bytes).unwrap();
        damaged.push((name, version));
        let status = client
            .reload_model(ReloadModelRequest {})
            .await
            .unwrap_err();
        println!("{name}: {status}");
        assert_ne!(status.code(), Code::Internal, "{status}");
        // A publish on top of a damaged version cannot carry it along: go back first.
        let any = Expected::default();
        store.rollback(Some(good), &any).await.unwrap();
        store.unpin(&any).await.ok();
        store.pin(good, &any).await.unwrap();
        let pinned = client
            .pin_version(PinVersionRequest { version: good })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(pinned.model.unwrap().version, good);
        fs_err::remove_dir_all(file.parent().unwrap()).unwrap();
        store.unpin(&any).await.unwrap();
    }
    let other = models::publish(&store, COLLECTION, "another-encoder@0/mean", 2)
        .await
        .unwrap();
    let status = client
        .reload_model(ReloadModelRequest {})
        .await
        .unwrap_err();
    println!("space: {status}");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");

    let active = client
        .get_active_model(GetActiveModelRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(active.model.unwrap().version, good);
    assert!(active.failed_loads >= 4 && !active.last_load_error.is_empty());
    let reply = RouterServiceClient::new(channel)
        .attend(query("rotating lamp"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(reply.model.unwrap().version, good);
    assert!(
        !process.log().contains("panicked"),
        "{other} {}",
        process.log()
    );
}

#[test]
fn an_encoder_of_the_wrong_shape_is_named() {
    let sandbox = Sandbox::new().unwrap();
    let wrong = sandbox.dir.path().join("encoder");
    fs_err::create_dir(&wrong).unwrap();
    for entry in fs_err::read_dir(encoder_dir().unwrap()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs_err::copy(entry.path(), wrong.join(entry.file_name())).unwrap();
        }
    }
    let config = fs_err::read_to_string(wrong.join("config.json")).unwrap();
    fs_err::write(
        wrong.join("config.json"),
        config.replace("\"hidden_size\": 384", "\"hidden_size\": 768"),
    )
    .unwrap();
    let output = Command::new(binary("router-service").unwrap())
        .args(["--listen", "127.0.0.1:0", "--encoder-dir"])
        .arg(&wrong)
        .arg("--data-dir")
        .arg(sandbox.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(
        !output.status.success() && !said.contains("panicked"),
        "{said}"
    );
    assert!(
        said.contains("model.safetensors") && said.contains("[30522, 768]"),
        "{said}"
    );

    fs_err::remove_file(wrong.join("model.safetensors")).unwrap();
    let output = Command::new(binary("moerag").unwrap())
        .args(["up", "--encoder-dir"])
        .arg(&wrong)
        .arg("--data-dir")
        .arg(sandbox.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("model.safetensors") && said.contains("moerag model fetch"),
        "{said}"
    );
}

#[test]
fn a_setting_that_a_service_refuses_is_bad_usage_of_up() {
    let sandbox = Sandbox::new().unwrap();
    let any = "127.0.0.1:0";
    let output = Command::new(binary("moerag").unwrap())
        .args(["up", "--router-listen", any, "--trainer-listen", any])
        .arg("--encoder-dir")
        .arg(encoder_dir().unwrap())
        .arg("--data-dir")
        .arg(sandbox.data())
        .env("MOERAG_NO_SUCH_SETTING", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("MOERAG_NO_SUCH_SETTING"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_qdrant_is_unavailable_not_fatal() {
    let sandbox = Sandbox::new().unwrap();
    let (mut process, url) = sandbox
        .router(&[
            "--store-kind",
            "qdrant",
            "--store-url",
            "http://127.0.0.1:1",
        ])
        .unwrap();
    let channel = connect(&url).await.unwrap();
    let status = RouterServiceClient::new(channel.clone())
        .attend(query("lamp"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let reply = health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        reply.status(),
        tonic_health::pb::health_check_response::ServingStatus::NotServing
    );
    assert!(
        process.exited().unwrap().is_none() && !process.log().contains("panicked"),
        "{}",
        process.log()
    );
}
