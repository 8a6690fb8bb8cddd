//! Misspelt words, as clients see them.

use moerag_proto::v1;

use crate::sandbox::{Sandbox, document, library, question};

fn best(reply: &v1::AttendResponse) -> &str {
    reply.passages.first().map_or("", |p| &p.document_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_word_is_searched_for_as_the_documents_write_it() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    sandbox
        .ingest(
            "medicine",
            vec![
                document(
                    "gel.txt",
                    "",
                    "Carrageenan is a gel from red algae. It thickens milk.",
                ),
                document(
                    "salt.txt",
                    "",
                    "Salt keeps meat from spoiling for months, as recent tests show.",
                ),
            ],
        )
        .await;

    // One that the encoder knows as a word, one that stands in a passage alone; the capital stays.
    let bread = sandbox.ask("Why does sourdugh bread need Flouur?").await;
    assert_eq!(bread.searched_for, "Why does sourdough bread need Flour?");
    assert_eq!(best(&bread), "bread.txt");
    let gel = sandbox.ask("what is carageenan?").await;
    assert_eq!(gel.searched_for, "what is carrageenan?");
    let right = sandbox.ask("what is carrageenan?").await;
    assert_eq!(right.searched_for, "");
    assert_eq!(right.passages, gel.passages);
    assert_eq!(
        (right.token_count, right.heads),
        (gel.token_count, gel.heads)
    );

    // Two words that stand side by side; "milk" and "red" do not.
    let two = sandbox.ask("which redalgae give redmilk?").await;
    assert_eq!(two.searched_for, "which red algae give redmilk?");

    // Only the collections that are asked count.
    let mut elsewhere = question("what is carageenan?");
    elsewhere.collections = vec!["docs".into()];
    let elsewhere = sandbox.router.attend(elsewhere).await.unwrap();
    assert_eq!(elsewhere.into_inner().searched_for, "");

    // Nor are words told that only other documents have than a filter lets through.
    let mut filtered = question("what is carageenan?");
    filtered.filter = Some(v1::Filter {
        document_ids: vec!["salt.txt".into(), "bread.txt".into()],
        ..Default::default()
    });
    let filtered = sandbox.router.attend(filtered).await.unwrap().into_inner();
    assert_eq!(filtered.searched_for, "");

    // "resentful" has the stem of a word in the documents, but nobody writes it.
    assert_eq!(sandbox.ask("why so resentful?").await.searched_for, "");

    // Who means it has it so: also right after a reply that was kept.
    let mut as_written = question("what is carageenan?");
    as_written.as_written = true;
    let as_written = sandbox
        .router
        .attend(as_written)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(as_written.searched_for, "");
    assert_ne!(as_written.passages, gel.passages);
    for kept in ["what is \"carageenan\"?", "what is carageenan.org?"] {
        assert_eq!(sandbox.ask(kept).await.searched_for, "", "{kept}");
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_batches_spell_alike() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let text = "why does the yeastt make gas?";
    let single = sandbox.ask(text).await;
    assert_eq!(single.searched_for, "why does the yeast make gas?");
    let route = v1::RouteRequest {
        query: text.into(),
        ..Default::default()
    };
    let mut as_written = route.clone();
    let route = sandbox.router.route(route).await.unwrap().into_inner();
    assert_eq!(route.searched_for, single.searched_for);
    assert_eq!(route.heads, single.heads);
    as_written.as_written = true;
    let as_written = sandbox.router.route(as_written).await.unwrap().into_inner();
    assert_eq!(as_written.searched_for, "");
    let other = "how does yeastt make gas?";
    let batch = v1::BatchAttendRequest {
        requests: vec![question(text), question(other)],
    };
    let batch = sandbox
        .router
        .batch_attend(batch)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(batch.responses[0].searched_for, single.searched_for);
    assert_eq!(batch.responses[0].passages, single.passages);
    assert_eq!(batch.responses[1].searched_for, "how does yeast make gas?");
    sandbox.stop().await;
}
