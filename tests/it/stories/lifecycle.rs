//! The life of a key as Auth0's page tells it: next, current, previous, revoked; and back again.

use crate::harness::key_set::KeySet;
use crate::harness::service::Service;
use crate::harness::verifiers::{Case, jose, pyjwt};
use crate::harness::{eventually, reason};
use signkeep::grpc::proto::{KeyState, RevokeRequest, RotateRequest};
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt;

/// How long the service may take to generate what an emergency has left missing.
const MENDED: Duration = Duration::from_secs(60);

async fn verify(cases: &[Case]) {
    pyjwt(cases).await;
    jose(cases).await;
}

async fn state_of(key_set: &KeySet, kid: &str) -> KeyState {
    let states = [
        KeyState::Next,
        KeyState::Current,
        KeyState::Previous,
        KeyState::Retired,
        KeyState::Revoked,
        KeyState::Destroyed,
    ];
    let keys = key_set.keys_in(&states).await;
    let found = keys.iter().find(|key| key.kid == kid);
    found.unwrap_or_else(|| panic!("{kid} is lost")).state()
}

fn but_refused(case: &Case) -> Case {
    Case { verifies: false, ..case.clone() }
}

#[tokio::test]
async fn a_rotated_key_verifies_until_it_is_revoked() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("default");
    let (first, second) = (key_set.current().await, key_set.next().await);
    let old = key_set.token("old").await;
    verify(&[old.clone(), old.with_a_flipped_bit()]).await;

    let mut published = key_set.jwks_kids().await;
    published.sort();
    let mut expected = vec![first.clone(), second.clone()];
    expected.sort();
    assert_eq!(published, expected, "current and next, and nothing else");

    let rotated = key_set.force_rotate().await.unwrap();
    assert_eq!(rotated.current.unwrap().kid, second);
    assert_eq!(rotated.previous.unwrap().kid, first);
    let third = rotated.next.unwrap().kid;
    assert!(!rotated.caches_at_risk.is_empty(), "a forced rotation names the caches at risk");
    let new = key_set.token("new").await;
    verify(&[old.clone(), new.clone()]).await;

    let refused = key_set.revoke(&first).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "TOKENS_STILL_VALID".to_owned());
    assert_eq!(reason(&refused), expected);
    let wait = refused.get_error_details().retry_info().unwrap().retry_delay;
    assert!(wait.unwrap() > Duration::from_secs(60), "{wait:?}");

    let revoked = key_set.force_revoke(&first).await.unwrap();
    assert_eq!(revoked.revoked.unwrap().state(), KeyState::Revoked);
    assert!(!key_set.jwks_kids().await.contains(&first));
    assert_eq!(state_of(&key_set, &first).await, KeyState::Revoked);
    verify(&[but_refused(&old), new]).await;

    let again = key_set.force_revoke(&first).await.unwrap();
    assert_eq!(again.revoked.unwrap().state(), KeyState::Revoked);
    assert_eq!(key_set.current().await, second);
    assert_eq!(key_set.next().await, third);
    service.is_unharmed();
}

#[tokio::test]
async fn the_guard_holds_a_rotation_until_verifiers_have_the_next_key() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let before = key_set.published().await;
    let refused = key_set.rotate().await.unwrap_err();
    let expected = (Code::FailedPrecondition, "NEXT_KEY_NOT_PROPAGATED".to_owned());
    assert_eq!(reason(&refused), expected);
    let details = refused.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!((1..=15 * 60).contains(&wait.as_secs()), "{wait:?}");
    assert!(details.precondition_failure().is_some());

    let without_reason = RotateRequest { force: true, ..RotateRequest::default() };
    let refused = key_set.rotate_as(without_reason).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));

    let dry = RotateRequest {
        force: true,
        reason: "a drill".to_owned(),
        dry_run: true,
        ..RotateRequest::default()
    };
    let told = key_set.rotate_as(dry).await.unwrap();
    assert!(told.dry_run && told.next.is_none());
    assert_eq!(told.current.unwrap().kid, before[0].kid, "the next key would be current");
    assert_eq!(key_set.published().await, before, "and nothing has changed");
    service.is_unharmed();
}

#[tokio::test]
async fn rollback_undoes_a_rotation_and_holds_the_next_one() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let nothing = key_set.roll_back().await.unwrap_err();
    let expected = (Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK".to_owned());
    assert_eq!(reason(&nothing), expected);

    let (first, second) = (key_set.current().await, key_set.next().await);
    let before = key_set.token("before").await;
    let third = key_set.force_rotate().await.unwrap().next.unwrap().kid;
    let between = key_set.token("between").await;

    let rolled = key_set.roll_back().await.unwrap();
    assert!(rolled.rotation_hold);
    assert_eq!(key_set.current().await, first);
    assert_eq!(key_set.next().await, second);
    assert_eq!(state_of(&key_set, &third).await, KeyState::Retired);
    let after = key_set.token("after").await;
    verify(&[before, between, after]).await;

    let held = key_set.rotate().await.unwrap_err();
    assert_eq!(reason(&held), (Code::FailedPrecondition, "ROTATION_HOLD".to_owned()));
    service.is_unharmed();
}

#[tokio::test]
async fn in_an_emergency_the_next_key_takes_over_at_once() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let (first, second) = (key_set.current().await, key_set.next().await);
    let stolen = key_set.token("stolen").await;

    let refused = key_set.force_revoke(&first).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "CURRENT_KEY".to_owned()));

    let emergency = RevokeRequest {
        emergency: true,
        reason: "the key has leaked".to_owned(),
        ..RevokeRequest::default()
    };
    let answer = key_set.revoke_as(&first, emergency).await.unwrap();
    assert_eq!(answer.revoked.unwrap().kid, first);
    assert_eq!(key_set.current().await, second);
    let next = mended(&key_set).await;
    assert!(next != first && next != second);
    assert!(!key_set.jwks_kids().await.contains(&first));
    let new = key_set.token("new").await;
    verify(&[but_refused(&stolen), new]).await;
    service.is_unharmed();
}

#[tokio::test]
async fn when_both_keys_are_replaced_nothing_old_stays_published_and_signing_returns() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let old: Vec<String> = key_set.published().await.into_iter().map(|key| key.kid).collect();
    let emergency = RevokeRequest {
        emergency: true,
        replace_next: true,
        reason: "the token was copied".to_owned(),
        ..RevokeRequest::default()
    };
    let current = key_set.current().await;
    key_set.revoke_as(&current, emergency).await.unwrap();
    for kid in key_set.jwks_kids().await {
        assert!(!old.contains(&kid), "{kid} is still published");
    }
    mended(&key_set).await;
    for kid in &old {
        // An emergency does not wait to destroy the material either.
        let state = state_of(&key_set, kid).await;
        assert!([KeyState::Revoked, KeyState::Destroyed].contains(&state), "{state:?}");
    }
    verify(&[key_set.token("new").await]).await;
    service.is_unharmed();
}

/// Waits until the key set has a current and a next key again; returns the next one's kid.
async fn mended(key_set: &KeySet) -> String {
    eventually("the key set is whole again", MENDED, async || {
        let keys = key_set.published().await;
        let in_state = |state| keys.iter().filter(|key| key.state() == state).count();
        assert!(in_state(KeyState::Current) <= 1 && in_state(KeyState::Next) <= 1);
        if in_state(KeyState::Current) == 0 {
            return None;
        }
        let next = keys.iter().find(|key| key.state() == KeyState::Next)?;
        Some(next.kid.clone())
    })
    .await
}
