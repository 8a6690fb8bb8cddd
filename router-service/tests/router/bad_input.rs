//! Requests that are wrong get a clear answer, and never a panic.

use std::time::Duration;

use moerag_proto::v1;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::sandbox::{Sandbox, library, question};

fn fields(status: &Status) -> Vec<String> {
    status
        .get_details_bad_request()
        .map(|bad| bad.field_violations.into_iter().map(|v| v.field).collect())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_are_refused_with_every_field_at_once() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let base = || question("what is it?");
    let cases: Vec<(v1::AttendRequest, &[&str])> = vec![
        (question(""), &["query"]),
        (question("\u{2003}\n"), &["query"]),
        (question(&"word ".repeat(200_000)), &["query"]),
        (question(&"word ".repeat(1000)), &["query"]),
        (
            v1::AttendRequest {
                top_k: Some(0),
                ..base()
            },
            &["top_k"],
        ),
        (
            v1::AttendRequest {
                top_k: Some(1_000_000_000),
                ..base()
            },
            &["top_k"],
        ),
        (
            v1::AttendRequest {
                routing: -5,
                ..base()
            },
            &["routing"],
        ),
        (
            v1::AttendRequest {
                min_attn_weight: Some(f64::NAN),
                ..base()
            },
            &["min_attn_weight"],
        ),
        (
            v1::AttendRequest {
                top_k: Some(0),
                collections: vec!["../../etc/passwd".into()],
                min_attn_weight: Some(f64::NEG_INFINITY),
                routing: 1000,
                ..question("")
            },
            &[
                "routing",
                "query",
                "collections[0]",
                "top_k",
                "min_attn_weight",
            ],
        ),
    ];
    for (request, expected) in cases {
        let status = sandbox.router.attend(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(fields(&status), expected);
    }
    let batch = v1::BatchAttendRequest {
        requests: vec![base(), question("")],
    };
    let status = sandbox.router.batch_attend(batch).await.unwrap_err();
    assert_eq!(fields(&status), ["requests[1].query"]);
    let batch = v1::BatchAttendRequest {
        requests: vec![base(); 65],
    };
    let status = sandbox.router.batch_attend(batch).await.unwrap_err();
    assert_eq!(fields(&status), ["requests"]);
    // A query that is longer than the encoder reads, found out by the encoder.
    let batch = v1::BatchAttendRequest {
        requests: vec![base(), question(&"word ".repeat(1000))],
    };
    let status = sandbox.router.batch_attend(batch).await.unwrap_err();
    assert_eq!(fields(&status), ["requests[1].query"]);
    sandbox.stop().await;
}

/// A status travels in a header, and clients refuse long ones together with the connection.
#[tokio::test(flavor = "multi_thread")]
async fn however_much_is_wrong_the_answer_can_be_read() {
    let mut sandbox = Sandbox::start().await;
    let bad = v1::AttendRequest {
        collections: vec!["my docs".into()],
        ..question("what is it?")
    };
    let batch = v1::BatchAttendRequest {
        requests: vec![bad; 64],
    };
    let status = sandbox.router.batch_attend(batch).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let named = fields(&status);
    assert_eq!(named[0], "requests[0].collections[0]");
    assert!(status.message().ends_with("and 52 more"), "{status}");
    assert_eq!(named.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_long_queries_are_cut_only_if_asked_and_the_reply_says_so() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    for words in [1000, 200_000] {
        let mut long = question(&"bees and honey ".repeat(words / 3));
        long.truncate = true;
        let reply = sandbox.router.attend(long).await.unwrap().into_inner();
        assert!(
            reply.truncated && reply.token_count > 900,
            "{}",
            reply.token_count
        );
        assert_eq!(reply.passages[0].document_id, "bees.md");
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found() {
    let mut sandbox = Sandbox::start().await;
    let mut query = question("what?");
    query.collections = vec!["nowhere".into()];
    let status = sandbox.router.attend(query).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("\"nowhere\""), "{status}");
    assert_eq!(
        status.get_details_resource_info().unwrap().resource_name,
        "nowhere"
    );

    let name = || "nowhere".to_owned();
    let get = v1::GetCollectionRequest {
        collection: name(),
        with_stats: true,
    };
    assert_eq!(
        sandbox.corpus.get_collection(get).await.unwrap_err().code(),
        Code::NotFound
    );
    let delete = v1::DeleteDocumentsRequest {
        collection: name(),
        document_ids: vec!["a".into()],
    };
    assert_eq!(
        sandbox
            .corpus
            .delete_documents(delete)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let stream = v1::StreamPassagesRequest {
        collection: name(),
        ..Default::default()
    };
    assert_eq!(
        sandbox
            .corpus
            .stream_passages(stream)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );

    // No collection at all: nothing to attend to, which is no error.
    assert!(sandbox.ask("what?").await.passages.is_empty());
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_id_its_client_gave_it_also_in_errors() {
    let mut sandbox = Sandbox::start().await;
    let with_id = |query: &str| {
        let mut request = Request::new(question(query));
        request.set_timeout(Duration::from_secs(30));
        request
            .metadata_mut()
            .insert("x-request-id", "mine-1".parse().unwrap());
        request
    };
    let reply = sandbox.router.attend(with_id("bees")).await.unwrap();
    assert_eq!(reply.into_inner().request_id, "mine-1");
    let status = sandbox.router.attend(with_id("")).await.unwrap_err();
    assert_eq!(
        status.get_details_request_info().unwrap().request_id,
        "mine-1"
    );
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_are_answered() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    for query in [
        "?",
        "🐝🐝🐝",
        "蜜蜂怎么跳舞？",
        "a\u{0}b",
        "\u{202e}bees",
        "SELECT * FROM docs; --",
        "ﬁ",
    ] {
        let reply = sandbox.ask(query).await;
        assert!(
            reply.passages.iter().all(|p| p.attn_weight.is_finite()),
            "{query}"
        );
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_another_space_is_refused_by_name_and_left_out_of_all() {
    use moerag_retrieve::KeySpec;
    use moerag_store::{CollectionSpec, EdgeOptions, EdgeStore, PassageStore};
    let dir = tempfile::TempDir::new().unwrap();
    {
        let store = EdgeStore::open(&dir.path().join("store"), EdgeOptions::default()).unwrap();
        let spec = CollectionSpec {
            space: "another-encoder".into(),
            dim: 384,
            key_spec: KeySpec::default(),
            language: moerag_retrieve::Language::English,
        };
        store.ensure_collection("theirs", &spec).await.unwrap();
    }
    let mut sandbox = Sandbox::start_in(dir, |_| {}).await;
    sandbox.ingest("ours", library()).await;
    let mut query = question("what?");
    query.collections = vec!["theirs".into()];
    let status = sandbox.router.attend(query).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("another-encoder"), "{status}");
    let (_, end) = sandbox.send(vec![crate::sandbox::start("theirs")]).await;
    assert_eq!(end.unwrap_err().code(), Code::FailedPrecondition);
    let reply = sandbox.ask("how do bees dance?").await;
    assert_eq!(reply.collections.len(), 1);
    sandbox.stop().await;
}
