//! Asking: what a reply holds and whether it is consistent with itself.

use moerag_proto::v1;
use moerag_retrieve::{CorpusStats, KeyBlock, LexBlock};
use moerag_store::Share;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::sandbox::{Sandbox, document, library, question};
use crate::tiny::Tiny;

fn sum(values: impl Iterator<Item = f32>) -> f32 {
    values.sum()
}

fn is_one(value: f32) -> bool {
    (value - 1.0).abs() < 1e-4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_consistent_with_itself_and_names_the_prior() {
    let mut sandbox = Sandbox::start().await;
    let outcomes = sandbox.ingest("docs", library()).await;
    assert_eq!(outcomes.len(), 4);
    assert!(
        outcomes
            .iter()
            .all(|o| o.status() == v1::DocumentStatus::Written)
    );

    let reply = sandbox.ask("Why are spring tides so high?").await;
    let model = reply.model.unwrap();
    assert_eq!((model.version, model.source()), (0, v1::ModelSource::Prior));
    assert_eq!(model.key_spec, "k4-d384-sign1-p15-r0");
    assert!(!reply.request_id.is_empty() && !reply.truncated && reply.token_count > 3);

    let first = &reply.passages[0];
    assert_eq!(first.document_id, "tides.txt");
    assert!(first.title_named, "the question has the title, \"Tides\"");
    assert!(reply.passages[1..].iter().all(|p| !p.title_named));
    let texts: std::collections::HashMap<String, String> =
        library().into_iter().map(|d| (d.id, d.text)).collect();
    let range = first.document_range.unwrap();
    assert_eq!(
        &texts["tides.txt"][range.start as usize..range.end as usize],
        first.text,
        "offsets slice the document"
    );
    assert!(
        reply
            .passages
            .is_sorted_by(|a, b| a.attn_weight >= b.attn_weight)
    );
    let mass: f64 = reply.passages.iter().map(|p| p.attn_weight).sum();
    assert!((mass - reply.attn_mass_returned).abs() < 1e-9);
    assert!(
        (mass - 1.0).abs() < 1e-4,
        "all passages fit, so all of the attention is returned"
    );
    assert!(is_one(sum(reply.heads.iter().map(|h| h.weight))));
    assert_eq!(reply.heads.len(), 9);
    for passage in &reply.passages {
        assert!(is_one(sum(passage.heads.iter().map(|h| h.share))));
        assert!(is_one(sum(passage.sentences.iter().map(|s| s.weight))));
        assert_eq!(passage.views.len(), 13);
        assert!(
            passage
                .views
                .iter()
                .all(|v| v.raw.is_finite() && v.z.is_finite())
        );
        assert!(passage.token_count > 0);
        let mut end = 0;
        for sentence in &passage.sentences {
            let range = sentence.range.unwrap();
            assert!(range.start >= end && range.end > range.start);
            assert!(
                passage
                    .text
                    .get(range.start as usize..range.end as usize)
                    .is_some()
            );
            end = range.end;
        }
    }
    // The sentence that answers weighs most.
    let best = first
        .sentences
        .iter()
        .max_by(|a, b| a.weight.total_cmp(&b.weight))
        .unwrap();
    let range = best.range.unwrap();
    let text = &first.text[range.start as usize..range.end as usize];
    assert!(text.contains("spring tides"), "{text}");

    let stages: Vec<&str> = reply.timings.iter().map(|t| t.stage.as_str()).collect();
    assert_eq!(stages.first(), Some(&"admit"));
    assert_eq!(stages.last(), Some(&"total"));
    for stage in [
        "encode",
        "candidates",
        "prune",
        "features",
        "views",
        "attend",
        "passages",
    ] {
        assert!(stages.contains(&stage), "{stage}");
    }
    let types = reply.query_type.unwrap();
    assert!(is_one(sum(types.posterior.iter().map(|p| p.probability))));
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_filters_cut_the_reply() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let all = sandbox.ask("what do bees do in winter?").await;
    assert!(all.passages.len() >= 4);

    let mut top = question("what do bees do in winter?");
    top.top_k = Some(2);
    let top = sandbox.router.attend(top).await.unwrap().into_inner();
    let ids = |reply: &v1::AttendResponse| {
        reply
            .passages
            .iter()
            .map(|p| (p.document_id.clone(), p.ordinal))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&top), ids(&all)[..2]);
    assert_eq!(top.passages[0].attn_weight, all.passages[0].attn_weight);
    assert!(top.attn_mass_returned < all.attn_mass_returned);

    let mut budget = question("what do bees do in winter?");
    budget.context_budget_tokens = Some(all.passages[0].token_count);
    let budget = sandbox.router.attend(budget).await.unwrap().into_inner();
    assert_eq!(ids(&budget), ids(&all)[..1]);

    let mut filtered = question("what do bees do in winter?");
    filtered.filter = Some(v1::Filter {
        must: vec![v1::FilterCondition {
            key: "topic".into(),
            any_of: vec!["nature".into()],
        }],
        must_not: Vec::new(),
        document_ids: vec!["tides.txt".into(), "rust.txt".into()],
    });
    let filtered = sandbox.router.attend(filtered).await.unwrap().into_inner();
    assert!(
        ids(&filtered).iter().all(|(id, _)| id == "tides.txt") && !filtered.passages.is_empty()
    );
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collection_that_fits_gets_most_of_the_attention() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("a", library()).await;
    sandbox
        .ingest(
            "b",
            vec![document(
                "moon.txt",
                "Moon",
                "The moon has no air. Its far side is never seen from Earth.",
            )],
        )
        .await;
    sandbox.ingest("empty", Vec::new()).await;

    let reply = sandbox
        .ask("why is the far side of the moon never seen?")
        .await;
    let weight = |name: &str| {
        let mut routes = reply.collections.iter();
        routes.find(|c| c.collection == name).unwrap().weight
    };
    assert!((weight("a") + weight("b") - 1.0).abs() < 1e-6);
    assert!(weight("b") > 0.9, "{}", weight("b"));
    assert_eq!(weight("empty"), 0.0);
    assert!((reply.attn_mass_returned - 1.0).abs() < 1e-4);
    assert!(is_one(sum(reply.heads.iter().map(|h| h.weight))));
    assert_eq!(reply.passages[0].collection, "b");
    let falling = |pair: &[v1::AttendedPassage]| pair[0].attn_weight >= pair[1].attn_weight;
    assert!(reply.passages.windows(2).all(falling));

    // Asked alone, a collection has all of it.
    let mut alone = question("why is the far side of the moon never seen?");
    alone.collections = vec!["a".into()];
    let alone = sandbox.router.attend(alone).await.unwrap().into_inner();
    assert_eq!(alone.collections[0].weight, 1.0);

    let mut nothing = question("what does the moon do?");
    nothing.collections = vec!["empty".into()];
    let nothing = sandbox.router.attend(nothing).await.unwrap().into_inner();
    assert!(nothing.passages.is_empty() && nothing.heads.is_empty());
    assert_eq!(nothing.query_type.unwrap().query_type, "");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_routes_agree_with_single_queries() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let queries = [
        "who owns a value?",
        "why does bread rise?",
        "how do bees dance?",
    ];
    let batch = v1::BatchAttendRequest {
        requests: queries.map(question).to_vec(),
    };
    let batch = sandbox
        .router
        .batch_attend(batch)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(batch.responses.len(), 3);
    for (query, from_batch) in queries.iter().zip(batch.responses) {
        let single = sandbox.ask(query).await;
        let weights = |reply: &v1::AttendResponse| {
            reply
                .passages
                .iter()
                .map(|p| (p.document_id.clone(), p.ordinal, p.attn_weight))
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(&single), weights(&from_batch));
        let route = v1::RouteRequest {
            query: (*query).to_owned(),
            ..Default::default()
        };
        let route = sandbox.router.route(route).await.unwrap().into_inner();
        assert_eq!(route.heads, single.heads);
        assert_eq!(route.query_type, single.query_type);
    }
    let mut hard = question(queries[0]);
    hard.routing = v1::RoutingMode::Hard.into();
    let hard = sandbox.router.attend(hard).await.unwrap().into_inner();
    assert_eq!(hard.heads.iter().filter(|h| h.weight > 0.0).count(), 1);
    let mut sparse = question(queries[0]);
    sparse.routing = v1::RoutingMode::TopK.into();
    sparse.top_k_heads = Some(3);
    let sparse = sandbox.router.attend(sparse).await.unwrap().into_inner();
    assert_eq!(sparse.heads.iter().filter(|h| h.weight > 0.0).count(), 3);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_stream_with_features_and_survive_a_restart() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let before = sandbox.ask("how do bees dance?").await;
    let request = v1::StreamPassagesRequest {
        collection: "docs".into(),
        with_features: true,
        cursor: String::new(),
        page_size: 2,
        share: 0.0,
    };
    let mut stream = sandbox
        .corpus
        .stream_passages(request.clone())
        .await
        .unwrap()
        .into_inner();
    let (mut keys, mut cursors, mut total) = (Vec::new(), Vec::new(), 0);
    while let Some(page) = stream.message().await.unwrap() {
        assert!(page.passages.len() <= 2);
        total = page.total_passages;
        for passage in page.passages {
            let features = passage.features.unwrap();
            assert_eq!(features.vector.len(), 384 * 4);
            let key: KeyBlock = postcard::from_bytes(&features.keys).unwrap();
            let lex: LexBlock = postcard::from_bytes(&features.lex).unwrap();
            assert!(!key.wordpieces.is_empty() && !lex.terms.is_empty());
            keys.push((passage.document_id, passage.ordinal));
        }
        cursors.push(page.next_cursor);
    }
    assert!(keys.is_sorted() && keys.len() as u64 == total && total >= 4);
    assert_eq!(cursors.last().map(String::as_str), Some(""));
    // A walk can be taken up again.
    let rest = v1::StreamPassagesRequest {
        cursor: cursors[0].clone(),
        ..request.clone()
    };
    let mut stream = sandbox
        .corpus
        .stream_passages(rest)
        .await
        .unwrap()
        .into_inner();
    let page = stream.message().await.unwrap().unwrap();
    assert_eq!(page.passages[0].document_id, keys[2].0);
    // A share of the passages is that of every store, and refused when it is none.
    let half = v1::StreamPassagesRequest {
        share: 0.5,
        page_size: 0,
        ..request.clone()
    };
    let stream = sandbox.corpus.stream_passages(half).await;
    let page = stream.unwrap().into_inner().message().await.unwrap();
    let passages = page.unwrap().passages.into_iter();
    let found: Vec<_> = passages.map(|p| (p.document_id, p.ordinal)).collect();
    let share = Share::new(0.5).unwrap();
    keys.retain(|(id, ordinal)| share.has(id, *ordinal));
    assert_eq!(found, keys);
    for share in [-0.1, 1.5, f64::NAN] {
        let request = v1::StreamPassagesRequest {
            share,
            ..request.clone()
        };
        let refused = sandbox.corpus.stream_passages(request).await.unwrap_err();
        assert!(refused.message().contains("share"), "{refused}");
    }
    // Statistics come when they are asked for.
    for with_stats in [false, true] {
        let request = v1::GetCollectionRequest {
            collection: "docs".into(),
            with_stats,
        };
        let reply = sandbox.corpus.get_collection(request).await.unwrap();
        let stats = reply.into_inner().stats;
        let counted = CorpusStats::from_bytes(&stats).map(|stats| stats.n());
        assert_eq!(counted.ok(), with_stats.then_some(total));
    }

    let dir = sandbox.stop().await;
    let mut sandbox = Sandbox::start_in(dir, |_| {}).await;
    let after = sandbox.ask("how do bees dance?").await;
    assert_eq!(before.passages, after.passages);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_and_health_knows_them() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let sandbox = Sandbox::start().await;
    for service in [
        "moerag.v1.RouterService",
        "moerag.v1.CorpusService",
        "moerag.v1.ModelService",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let reply = HealthClient::new(sandbox.channel.clone())
            .check(request)
            .await
            .unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving);
    }
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            sandbox.channel.clone(),
        );
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = reflection
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let reply = replies.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
        panic!("{reply:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    for name in ["moerag.v1.RouterService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    assert!(!names.iter().any(|n| n.contains("Trainer")), "{names:?}");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_asked_again_is_answered_from_memory_until_something_changes() {
    let mut sandbox = Sandbox::start().await;
    sandbox.ingest("docs", library()).await;
    let fresh = |reply: &v1::AttendResponse| reply.timings.iter().any(|t| t.stage == "encode");
    let content = |reply: &v1::AttendResponse| v1::AttendResponse {
        timings: Vec::new(),
        request_id: String::new(),
        ..reply.clone()
    };
    let query = "Why are spring tides so high?";
    let first = sandbox.ask(query).await;
    let again = sandbox.ask(query).await;
    assert!(fresh(&first) && !fresh(&again), "{:?}", again.timings);
    assert_eq!(again.timings.last().unwrap().stage, "total");
    assert_eq!(content(&first), content(&again));
    assert_ne!(first.request_id, again.request_id);
    let other = sandbox.ask("Why are spring tides so low?").await;
    assert!(fresh(&other), "another query");

    let text = "Spring tides are high because sun and moon pull in one line.";
    sandbox
        .ingest("docs", vec![document("new.txt", "Tides", text)])
        .await;
    let changed = sandbox.ask(query).await;
    assert!(fresh(&changed), "a document came");
    assert!(changed.passages.iter().any(|p| p.document_id == "new.txt"));
    assert!(!fresh(&sandbox.ask(query).await));
    sandbox.stop().await;

    let mut sandbox = Sandbox::start_with(|config| config.cache.reply_bytes = 0).await;
    sandbox.ingest("docs", library()).await;
    sandbox.ask(query).await;
    assert!(fresh(&sandbox.ask(query).await), "nothing is kept");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_of_any_width_serves() {
    let words = [
        "why", "are", "spring", "tides", "so", "high", "the", "moon", "sun",
    ];
    // Signs of 36 dimensions do not fill their last byte.
    for width in [36, 768] {
        let tiny = Tiny::encoder(&words, width);
        let mut sandbox =
            Sandbox::start_with(|config| config.encoder_dir = Some(tiny.dir().to_owned())).await;
        let outcomes = sandbox.ingest("docs", library()).await;
        let written = |o: &v1::DocumentOutcome| o.status() == v1::DocumentStatus::Written;
        assert!(outcomes.iter().all(written), "{width}: {outcomes:?}");
        let reply = sandbox.ask("Why are spring tides so high?").await;
        assert_eq!(
            reply.model.unwrap().key_spec,
            format!("k4-d{width}-sign1-p15-r0")
        );
        // The weights are random: which passage comes first means nothing.
        assert_eq!(reply.passages.len(), 4, "{width}");
        assert!(is_one(reply.attn_mass_returned as f32));
        sandbox.stop().await;
    }
}
