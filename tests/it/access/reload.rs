//! Rules that change while calls are under way.

use super::{Guarded, PATIENCE, let_through, reason};
use crate::harness::access::binding;
use crate::harness::eventually;
use serde_json::json;
use signkeep::access::{Binding, Issuer, KeySource, Role, Settings};
use signkeep::grpc::proto as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio_stream::StreamExt;
use tonic::Code;

fn signers() -> Vec<Binding> {
    vec![binding("jwt:ci:*", "default", &[Role::Signer])]
}

fn watchers(key_sets: &str) -> Vec<Binding> {
    vec![binding("jwt:ci:watcher", key_sets, &[Role::Viewer])]
}

#[tokio::test]
async fn under_load_every_call_is_judged_by_the_rules_before_or_after_and_by_nothing_between() {
    let guarded = Arc::new(Guarded::by(signers()).await);
    let over = Arc::new(AtomicBool::new(false));
    let signed = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for at in 0..4 {
        let guarded = guarded.clone();
        let (over, signed, refused) = (over.clone(), signed.clone(), refused.clone());
        callers.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let outcome = guarded.sign(&format!("s{at}"), "default").await;
                let counter = if let_through(&outcome) { &signed } else { &refused };
                if let Err(status) = outcome {
                    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
                }
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for round in 1..=5 {
        eventually("somebody signed", PATIENCE, async || {
            (signed.load(Ordering::SeqCst) >= round * 4).then_some(())
        })
        .await;
        guarded.rule(Vec::new());
        let after = refused.load(Ordering::SeqCst);
        eventually("somebody was refused", PATIENCE, async || {
            (refused.load(Ordering::SeqCst) >= after + 4).then_some(())
        })
        .await;
        guarded.rule(signers());
    }
    guarded.rule(Vec::new());
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let reached = guarded.world.vault.signatures();
    assert!(guarded.sign("s0", "default").await.is_err());
    assert_eq!(guarded.world.vault.signatures(), reached);
    assert_eq!(signed.load(Ordering::SeqCst), reached, "every signature was answered");
}

#[tokio::test]
async fn rules_that_cannot_be_followed_change_nothing() {
    let guarded = Guarded::by(signers()).await;
    let missing = Issuer {
        keys: KeySource::File("/nonexistent/jwks.json".into()),
        ..crate::harness::tokens::issuer(KeySource::File("x".into()))
    };
    let settings = Settings { issuers: vec![missing], ..Settings::default() };
    let error = guarded.access.prepare(settings).err().expect("refused").to_string();
    assert!(error.contains("ci") && error.contains("/nonexistent/jwks.json"), "{error}");
    guarded.sign("a", "default").await.unwrap();
}

async fn watch(guarded: &Guarded, key_set: &str) -> tonic::Streaming<pb::WatchKeysResponse> {
    let request = guarded.from("watcher", pb::WatchKeysRequest { key_set: key_set.into() });
    let mut watch = guarded.keys().watch_keys(request).await.unwrap().into_inner();
    let snapshot = watch.message().await.unwrap().unwrap();
    assert!(snapshot.snapshot);
    let ids: Vec<_> = snapshot.key_sets.iter().map(|set| set.id.as_str()).collect();
    assert_eq!(ids, ["default"]);
    watch
}

#[tokio::test]
async fn a_watch_ends_when_its_right_is_taken_away() {
    for key_set in ["default", ""] {
        let guarded = Guarded::by(watchers("default")).await;
        let mut watch = watch(&guarded, key_set).await;
        guarded.rule(signers().into_iter().chain(watchers("default")).collect());
        guarded.rule(Vec::new());
        let ended = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap_err();
        let expected = (Code::PermissionDenied, "CALLER_NOT_ALLOWED".to_owned());
        assert_eq!(reason(&ended), expected, "{key_set:?}");
    }
}

async fn rotate_other(guarded: &Guarded) {
    let other = signkeep::keyring::Rotate {
        key_set: "other".parse().unwrap(),
        ..guarded.life.rotation(signkeep::key::Approval::Forced)
    };
    guarded.life.ring.rotate(crate::harness::ring::context(None), other).await.unwrap();
}

#[tokio::test]
async fn a_watch_of_all_tells_of_nothing_that_the_caller_may_not_see() {
    let guarded = Guarded::by(watchers("default")).await;
    let mut watch = watch(&guarded, "").await;
    rotate_other(&guarded).await;
    guarded.life.rotate().await.unwrap();
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    let ids: Vec<_> = event.key_sets.iter().map(|set| set.id.as_str()).collect();
    assert_eq!(ids, ["default"], "the other key set's change came before");
    guarded.rule(watchers("other"));
    guarded.life.rotate().await.unwrap();
    rotate_other(&guarded).await;
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    let ids: Vec<_> = event.key_sets.iter().map(|set| set.id.as_str()).collect();
    assert_eq!(ids, ["other"], "what it may not see any more came before");
}

/// A token that lasts another minute, and the leeway.
fn short(guarded: &Guarded, sub: &str) -> String {
    let mut claims = crate::harness::tokens::claims(sub);
    claims["exp"] = json!(guarded.life.ring.now().as_second() + 60);
    format!("Bearer {}", guarded.minter.with(claims))
}

#[tokio::test]
async fn a_stream_outlives_its_token_by_no_item_and_no_message() {
    let policy = signers().into_iter().chain(watchers("default")).collect();
    let guarded = Guarded::by(policy).await;
    let (items, sent) = tokio::sync::mpsc::channel(1);
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(sent));
    let header = short(&guarded, "signer").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let item = |id: &str| pb::SignStreamRequest {
        request_id: id.into(),
        request: Some(super::sign("default")),
    };
    items.send(item("a")).await.unwrap();
    let mut answers = guarded.signing().sign_stream(request).await.unwrap().into_inner();
    let outcome = answers.message().await.unwrap().unwrap().outcome.unwrap();
    assert!(matches!(outcome, pb::sign_stream_response::Outcome::Signed(_)), "{outcome:?}");
    let mut request = tonic::Request::new(pb::WatchKeysRequest { key_set: "default".into() });
    let header = short(&guarded, "watcher").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let mut watch = guarded.keys().watch_keys(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().unwrap().snapshot);

    guarded.world.clock.advance(Duration::from_secs(120));
    items.send(item("b")).await.unwrap();
    match answers.message().await.unwrap().unwrap().outcome.unwrap() {
        pb::sign_stream_response::Outcome::Error(error) => {
            assert_eq!(error.code, i32::from(Code::Unauthenticated), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    guarded.life.rotate().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap_err();
    assert_eq!(reason(&ended), (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
}
