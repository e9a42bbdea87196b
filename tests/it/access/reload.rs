//! Rules that change while calls are under way.

use super::{Guarded, PATIENCE, let_through, reason};
use crate::harness::access::binding;
use crate::harness::eventually;
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

#[tokio::test]
async fn a_watch_of_all_tells_of_nothing_that_the_caller_may_not_see() {
    let guarded = Guarded::by(watchers("default")).await;
    let mut watch = watch(&guarded, "").await;
    let other = signkeep::keyring::Rotate {
        key_set: "other".parse().unwrap(),
        ..guarded.life.rotation(signkeep::key::Approval::Forced)
    };
    guarded.life.ring.rotate(crate::harness::ring::context(None), other).await.unwrap();
    guarded.life.rotate().await.unwrap();
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    let ids: Vec<_> = event.key_sets.iter().map(|set| set.id.as_str()).collect();
    assert_eq!(ids, ["default"], "the other key set's change came before");
    guarded.rule(watchers("other"));
    guarded.life.rotate().await.unwrap();
    let next = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(next.is_err(), "it is told of what it may not see any more: {next:?}");
}
