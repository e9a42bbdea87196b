//! Rates and concurrency through the face.

use super::{Guarded, reason};
use crate::harness::access::binding;
use signkeep::access::{Binding, Limits, Role};
use signkeep::grpc::proto as pb;
use std::num::NonZeroU32;
use tonic::Code;
use tonic_types::StatusExt;

fn limited(rate: u32, concurrency: u32) -> Binding {
    let binding = binding("jwt:ci:*", "default", &[Role::Signer, Role::Operator]);
    let limits = Limits { rate: NonZeroU32::new(rate), concurrency: NonZeroU32::new(concurrency) };
    Binding { limits, ..binding }
}

fn is_limited<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) -> String {
    let refused = outcome.unwrap_err();
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    assert!(refused.get_details_retry_info().is_some(), "{refused:?}");
    refused.get_details_error_info().unwrap().metadata["limit"].clone()
}

#[tokio::test]
async fn a_caller_whose_rate_is_spent_is_told_when_to_come_back_and_others_are_not_held_back() {
    // One call in a second is what a slow machine cannot make up for in the time of two calls.
    let guarded = Guarded::by(vec![limited(1, 0)]).await;
    guarded.sign("a", "default").await.unwrap();
    assert_eq!(is_limited(guarded.sign("a", "default").await), "rate");
    guarded.sign("b", "default").await.unwrap();
}

#[tokio::test]
async fn a_revocation_is_never_held_back() {
    let guarded = Guarded::by(vec![limited(1, 1)]).await;
    guarded.sign("a", "default").await.unwrap();
    is_limited(guarded.sign("a", "default").await);
    for _ in 0..20 {
        let revoke = pb::RevokeRequest {
            key_set: "default".into(),
            kid: guarded.life.current().to_string(),
            reason: "stolen".into(),
            emergency: true,
            dry_run: true,
            ..Default::default()
        };
        guarded.keys().revoke(guarded.from("a", revoke)).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_the_binding_lets_a_caller_have() {
    let guarded = Guarded::by(vec![limited(0, 1)]).await;
    let vault = &guarded.world.vault;
    vault.hold_signatures().await;
    let first = guarded.sign("a", "default");
    let rest = async {
        vault.signature_arrives().await;
        assert_eq!(is_limited(guarded.sign("a", "default").await), "concurrency");
        vault.let_sign();
    };
    let (first, ()) = tokio::join!(first, rest);
    first.unwrap();
    guarded.sign("a", "default").await.unwrap();
}

#[tokio::test]
async fn a_binding_without_limits_that_allows_the_same_takes_them_away() {
    let free = binding("jwt:ci:a", "default", &[Role::Signer]);
    let guarded = Guarded::by(vec![limited(1, 0), free]).await;
    for _ in 0..5 {
        guarded.sign("a", "default").await.unwrap();
    }
}
