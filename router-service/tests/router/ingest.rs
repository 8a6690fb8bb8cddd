//! Taking documents in: acknowledgements, idempotence, pruning, refusals.

use moerag_proto::v1;
use moerag_proto::v1::ingest_request::Message;
use tonic::Code;

use crate::sandbox::{Sandbox, document, library, question, start};

fn statuses(outcomes: &[v1::DocumentOutcome]) -> Vec<(u64, &str, v1::DocumentStatus)> {
    outcomes
        .iter()
        .map(|o| (o.index, o.document_id.as_str(), o.status()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_acknowledged_once_each_and_in_order() {
    use v1::DocumentStatus::{Refused, Unchanged, Written};
    let mut sandbox = Sandbox::start().await;
    let mut bad_format = document("d", "", "Text.");
    bad_format.format = 99;
    let sent = vec![
        document("a", "A", "The first text. It has two sentences."),
        document("", "", "No id."),
        document("b", "", "%PDF-1.7\0binary"),
        document("c", "", ""),
        bad_format,
        document("a", "A", "The second text of the same document."),
    ];
    let outcomes = sandbox.ingest("docs", sent.clone()).await;
    assert_eq!(
        statuses(&outcomes),
        [
            (0, "a", Written),
            (1, "", Refused),
            (2, "b", Refused),
            (3, "c", Refused),
            (4, "d", Refused),
            (5, "a", Written),
        ]
    );
    assert!(outcomes[2].reason.contains("NUL"), "{}", outcomes[2].reason);
    assert_eq!(outcomes[0].passages, 1);
    assert_eq!(
        sandbox.ask("text").await.passages[0].text,
        "The second text of the same document."
    );

    let again = sandbox.ingest("docs", vec![sent[5].clone()]).await;
    assert_eq!(statuses(&again), [(0, "a", Unchanged)]);
    let info = v1::GetCollectionRequest {
        collection: "docs".into(),
        with_stats: false,
    };
    let info = sandbox
        .corpus
        .get_collection(info)
        .await
        .unwrap()
        .into_inner()
        .collection
        .unwrap();
    assert_eq!((info.documents, info.passages), (1, 1));
    assert_eq!(
        (info.language.is_empty(), info.source()),
        (false, v1::ModelSource::Prior)
    );
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_searchable_and_changes_replace() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let tides = document(
        "tides.txt",
        "Tides",
        "Nothing but a note on penguins and their eggs.",
    );
    sandbox.ingest("docs", vec![tides]).await;
    let reply = sandbox.ask("spring tides of the moon").await;
    assert!(
        reply
            .passages
            .iter()
            .all(|p| !p.text.contains("spring tides")),
        "stale passage"
    );
    let reply = sandbox.ask("penguins and their eggs").await;
    assert_eq!(reply.passages[0].document_id, "tides.txt");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_deletes_what_was_not_sent_and_spares_what_is_kept() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let finish = Message::Finish(v1::IngestFinish {
        prune: true,
        keep_document_ids: vec!["bread.txt".into()],
    });
    let messages = vec![
        start("docs"),
        Message::Document(library().remove(0)),
        finish,
    ];
    let (outcomes, end) = sandbox.send(messages).await;
    assert_eq!(
        statuses(&outcomes),
        [(0, "bees.md", v1::DocumentStatus::Unchanged)]
    );
    assert_eq!(end.unwrap().unwrap().pruned, 2);

    let delete = |ids: &[&str]| v1::DeleteDocumentsRequest {
        collection: "docs".into(),
        document_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    let reply = sandbox
        .corpus
        .delete_documents(delete(&["bees.md", "tides.txt"]))
        .await;
    let reply = reply.unwrap().into_inner();
    assert_eq!(
        (reply.deleted, reply.missing_document_ids),
        (1, vec!["tides.txt".to_owned()])
    );
    let list = sandbox
        .corpus
        .list_collections(v1::ListCollectionsRequest {})
        .await;
    let list = list.unwrap().into_inner().collections;
    assert_eq!((list.len(), list[0].documents), (1, 1));
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_collection_is_gone_and_its_name_is_free() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    sandbox
        .ingest(
            "other",
            vec![document("x", "", "A ferry crosses the strait.")],
        )
        .await;
    assert!(!sandbox.ask("how do bees dance?").await.passages.is_empty());
    let delete = |name: &str| v1::DeleteCollectionRequest {
        collection: name.into(),
    };
    let gone = sandbox.corpus.delete_collection(delete("docs")).await;
    let gone = gone.unwrap().into_inner();
    assert_eq!(gone.documents, library().len() as u64);
    assert!(gone.passages >= gone.documents);

    // Named it is unknown at once, unnamed it is left out, also of what was asked before.
    let mut named = question("how do bees dance?");
    named.collections = vec!["docs".into()];
    let status = sandbox.router.attend(named).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let left = sandbox.router.attend(question("how do bees dance?")).await;
    let left = left.unwrap().into_inner();
    assert!(left.passages.iter().all(|p| p.collection == "other"));
    for (name, code) in [("docs", Code::NotFound), ("../x", Code::InvalidArgument)] {
        let status = sandbox.corpus.delete_collection(delete(name)).await;
        assert_eq!(status.unwrap_err().code(), code);
    }

    let again = sandbox.ingest("docs", library()).await;
    assert!(
        again
            .iter()
            .all(|o| o.status() == v1::DocumentStatus::Written)
    );
    let dir = sandbox.stop().await;
    let mut sandbox = Sandbox::start_in(dir, |_| {}).await;
    let list = sandbox
        .corpus
        .list_collections(v1::ListCollectionsRequest {})
        .await;
    let list = list.unwrap().into_inner().collections;
    let names: Vec<&str> = list.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["docs", "other"]);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_collection_fails_no_query_that_names_none() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    for _ in 0..5 {
        sandbox.ingest("passing", library()).await;
        let (mut router, mut corpus) = (sandbox.router.clone(), sandbox.corpus.clone());
        let deleted = tokio::spawn(async move {
            let request = v1::DeleteCollectionRequest {
                collection: "passing".into(),
            };
            corpus.delete_collection(request).await.unwrap();
        });
        let mut asked = 0;
        while !deleted.is_finished() || asked < 5 {
            let reply = router.attend(question(&format!("tides {asked}"))).await;
            assert!(!reply.unwrap().into_inner().passages.is_empty());
            asked += 1;
        }
        deleted.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_out_of_order_is_refused() {
    let mut sandbox = Sandbox::start().await;
    let text = || Message::Document(document("a", "", "Some text."));
    for messages in [
        vec![text()],
        vec![],
        vec![start("no/slash")],
        vec![start("")],
    ] {
        let (outcomes, end) = sandbox.send(messages).await;
        assert!(outcomes.is_empty());
        assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);
    }
    // What came before the fault is kept.
    let (outcomes, end) = sandbox
        .send(vec![start("docs"), text(), start("docs")])
        .await;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);

    let bad_language = Message::Start(v1::IngestStart {
        collection: "x".into(),
        language: "klingon".into(),
    });
    let (_, end) = sandbox.send(vec![bad_language]).await;
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_turns_streams_away_with_a_hint_when_to_retry() {
    use tonic_types::StatusExt;
    let mut sandbox = Sandbox::start_with(|config| config.permits.ingest_streams = 1).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender
        .send(v1::IngestRequest {
            message: Some(start("docs")),
        })
        .await
        .unwrap();
    let text = Message::Document(document("a", "", "Some text."));
    sender
        .send(v1::IngestRequest {
            message: Some(text),
        })
        .await
        .unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut open = sandbox.corpus.ingest(requests).await.unwrap().into_inner();
    // The client pauses, so what it sent is acknowledged although the stream goes on.
    let first = open.message().await.unwrap().unwrap();
    assert_eq!(first.outcomes.len(), 1);

    let (_, end) = sandbox.send(vec![start("docs")]).await;
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_some());
    drop(sender);
    while open.message().await.unwrap().is_some() {}
    sandbox.ingest("docs", library()).await;
    sandbox.stop().await;
}

/// The answer of a long document that is one passage stands where the encoder does not reach at once, behind the
/// sentences that have vectors: token keys find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_taken_whole_is_read_to_its_middle() {
    let mut sandbox = Sandbox::start().await;
    let told = [
        (
            "bees",
            "Foragers tell their sisters where flowers bloom by a dance.",
        ),
        (
            "steam",
            "A separate condenser saved the engine most of its coal.",
        ),
        (
            "loans",
            "Savings banks lend less when rates on deposits climb.",
        ),
    ];
    let long = |(id, sentence): &(&str, &str)| {
        let filler = |i: usize| format!("Item {i} of the minutes was read out and agreed to.");
        let text: Vec<String> = (0..44)
            .map(|i| {
                if i == 34 {
                    (*sentence).to_owned()
                } else {
                    filler(i)
                }
            })
            .collect();
        let mut document = document(id, "", &text.join(" "));
        document.whole = true;
        document
    };
    let outcomes = sandbox
        .ingest("docs", told.iter().map(long).collect())
        .await;
    for outcome in &outcomes {
        assert_eq!((outcome.passages, outcome.truncated_passages), (1, 1));
    }
    for (id, query) in [
        ("bees", "how do insects communicate the location of food?"),
        ("steam", "making machines burn less fuel"),
        ("loans", "why do people get fewer mortgages?"),
    ] {
        let reply = sandbox.ask(query).await;
        assert_eq!(reply.passages[0].document_id, id, "{query}");
    }
    sandbox.stop().await;
}
