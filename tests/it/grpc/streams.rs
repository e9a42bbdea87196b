//! SignStream with real signatures: every item its own answer, however slow the reader.

use super::*;
use pb::sign_request::Input;
use pb::sign_stream_response::Outcome;
use std::collections::BTreeSet;

fn item(request_id: &str, key_set: &str, input: Input) -> pb::SignStreamRequest {
    let request = pb::SignRequest {
        key_set: key_set.to_owned(),
        input: Some(input),
        ..pb::SignRequest::default()
    };
    pb::SignStreamRequest { request_id: request_id.to_owned(), request: Some(request) }
}

#[tokio::test]
async fn a_bad_item_fails_and_those_around_it_are_signed() {
    let server = Server::with_keys().await;
    let message = || Input::Message("m".into());
    let items = [
        item("first", "default", message()),
        item("unknown", "nobody", message()),
        item("short", "default", Input::Digest("short".into())),
        item(&"x".repeat(129), "default", message()),
        item(&"y".repeat(128), "default", message()),
        item("last", "default", message()),
    ];
    let mut signing = server.signing().await;
    let answers = signing.sign_stream(tokio_stream::iter(items)).await.unwrap();
    let mut told: Vec<_> = answers
        .into_inner()
        .map(|answer| {
            let answer = answer.expect("the stream itself is well");
            let said = match answer.outcome.unwrap() {
                Outcome::Signed(_) => "signed".to_owned(),
                Outcome::Error(error) => Code::from(error.code).description().to_owned(),
            };
            (answer.request_id.chars().take(7).collect::<String>(), said)
        })
        .collect()
        .await;
    told.sort();
    let told: Vec<_> = told.iter().map(|(id, said)| (id.as_str(), said.as_str())).collect();
    let (refused, missing) = (Code::InvalidArgument.description(), Code::NotFound.description());
    assert_eq!(
        told,
        [
            ("first", "signed"),
            ("last", "signed"),
            ("short", refused),
            ("unknown", missing),
            ("xxxxxxx", refused),
            ("yyyyyyy", "signed"),
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_items_reach_a_slow_reader_each_once() {
    let server = Server::with_keys().await;
    server.world.vault.hold_signatures().await;
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(1000).connect().await.unwrap();
    let items = (0..1000).map(|at| item(&at.to_string(), "default", Input::Message("m".into())));
    let items: Vec<_> = items.collect();
    let mut signing = SigningServiceClient::new(channel);
    let mut answers = signing.sign_stream(tokio_stream::iter(items)).await.unwrap().into_inner();
    // The two certificates, and as many items as may be under way.
    for _ in 0..2 + Settings::default().stream_items_max {
        server.world.vault.signature_arrives().await;
    }
    server.world.vault.let_sign();
    let mut seen = BTreeSet::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(matches!(answer.outcome, Some(Outcome::Signed(_))), "{answer:?}");
        assert!(seen.insert(answer.request_id), "answered twice");
    }
    assert_eq!(seen.len(), 1000);
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_tiny_items_sent_at_once_are_each_answered() {
    const ITEMS: usize = 10_000;
    let server = Server::with_keys().await;
    let items: Vec<_> =
        (0..ITEMS).map(|at| item(&at.to_string(), "default", Input::Message("m".into()))).collect();
    let mut signing = server.signing().await;
    let mut answers = signing.sign_stream(tokio_stream::iter(items)).await.unwrap().into_inner();
    let mut seen = BTreeSet::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(seen.insert(answer.request_id), "answered twice");
    }
    assert_eq!(seen.len(), ITEMS);
    server.stop().await;
}
