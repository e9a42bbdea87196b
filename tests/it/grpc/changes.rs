//! UpdateKeySet, DisableKeySet, EnableKeySet, DeleteKeySet; and what a dry run says.

use super::*;
use signkeep::key::Emergency;

fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn update(policy: pb::Policy, paths: &[&str]) -> pb::UpdateKeySetRequest {
    let key_set =
        pb::KeySet { id: "default".to_owned(), policy: Some(policy), ..pb::KeySet::default() };
    pb::UpdateKeySetRequest {
        key_set: Some(key_set),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..pb::UpdateKeySetRequest::default()
    }
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let server = Server::with_keys().await;
    let mut keys = server.keys().await;
    let mut updated = async |request| {
        let answer = keys.update_key_set(request).await.unwrap().into_inner();
        assert!(answer.barrier.unwrap().all_acknowledged);
        answer.key_set.unwrap().policy.unwrap()
    };
    let wanted = pb::Policy {
        max_token_ttl: span(7200),
        rotation_period: span(90 * 86_400),
        propagation_delay: span(3600),
        ..pb::Policy::default()
    };
    let paths = ["policy.max_token_ttl", "policy.rotation_period"];
    let policy = updated(update(wanted, &paths)).await;
    assert_eq!(policy.max_token_ttl, span(7200));
    assert_eq!(policy.rotation_period, span(90 * 86_400));
    assert_eq!(policy.propagation_delay, span(15 * 60), "not named");

    let cleared = updated(update(pb::Policy::default(), &paths)).await;
    assert_eq!(cleared.max_token_ttl, span(24 * 3600), "back to the default");
    assert_eq!(cleared.rotation_period, None);
    let whole = updated(update(wanted, &["policy"])).await;
    assert_eq!(whole.propagation_delay, span(3600));
    server.stop().await;
}

#[tokio::test]
async fn an_update_that_names_nothing_or_something_unknown_is_refused() {
    let server = Server::with_keys().await;
    let mut keys = server.keys().await;
    for paths in [&[][..], &["policy.colour"], &["issuer"], &["policy", "keys"]] {
        let refused = keys.update_key_set(update(pb::Policy::default(), paths)).await;
        assert_eq!(fields(&refused.unwrap_err()), ["update_mask"], "{paths:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_update_of_a_key_set_that_has_changed_names_its_current_key() {
    let server = Server::with_keys().await;
    let mut keys = server.keys().await;
    let etag = server.life.set().revision.to_string();
    server.life.rotate().await.unwrap();
    let policy = pb::Policy { max_token_ttl: span(7200), ..pb::Policy::default() };
    let mut request = update(policy, &["policy.max_token_ttl"]);
    request.key_set.as_mut().unwrap().etag = etag;
    let refused = keys.update_key_set(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "KEY_SET_CHANGED"));
    let metadata = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["current_kid"], server.life.current().to_string());
    request.key_set.as_mut().unwrap().etag = server.life.set().revision.to_string();
    keys.update_key_set(request).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_rotation_hold_is_lifted_by_an_update() {
    let server = Server::with_keys().await;
    server.life.rotate().await.unwrap();
    server.life.roll_back().await.unwrap();
    let mut keys = server.keys().await;
    let rotate = pb::RotateRequest { key_set: "default".into(), ..pb::RotateRequest::default() };
    let refused = keys.rotate(rotate.clone()).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "ROTATION_HOLD");
    assert_eq!((refused.code(), &*reason(&refused)), expected);
    let lifted = keys.update_key_set(update(pb::Policy::default(), &["rotation_hold"])).await;
    assert!(!lifted.unwrap().into_inner().key_set.unwrap().rotation_hold);
    match keys.rotate(rotate).await {
        Ok(_) => {}
        Err(status) => assert_eq!(reason(&status), "NEXT_KEY_NOT_PROPAGATED", "not for the hold"),
    }
    server.stop().await;
}

#[tokio::test]
async fn a_disabled_key_set_does_not_sign_until_it_is_enabled() {
    let server = Server::with_keys().await;
    let (mut keys, mut signing) = (server.keys().await, server.signing().await);
    let sign = pb::SignRequest {
        key_set: "default".to_owned(),
        input: Some(pb::sign_request::Input::Message("m".into())),
        ..pb::SignRequest::default()
    };
    let disable = pb::DisableKeySetRequest { key_set: "default".into(), ..Default::default() };
    let disabled = keys.disable_key_set(disable).await.unwrap().into_inner().key_set.unwrap();
    assert_eq!(disabled.state(), pb::KeySetState::Disabled);
    assert_eq!(disabled.keys.len(), 2, "they stay published");
    let refused = signing.sign(sign.clone()).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "KEY_SET_DISABLED");
    assert_eq!((refused.code(), &*reason(&refused)), expected);
    let enable = pb::EnableKeySetRequest { key_set: "default".into(), ..Default::default() };
    let enabled = keys.enable_key_set(enable).await.unwrap().into_inner().key_set.unwrap();
    assert_eq!(enabled.state(), pb::KeySetState::Enabled);
    signing.sign(sign).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_key_set_is_deleted_once_it_is_disabled_and_publishes_nothing() {
    let server = Server::with_keys().await;
    let mut keys = server.keys().await;
    let delete = pb::DeleteKeySetRequest { key_set: "default".into(), ..Default::default() };
    let in_use = (Code::FailedPrecondition, "KEY_SET_IN_USE".to_owned());
    let refused = keys.delete_key_set(delete.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), in_use, "it is enabled");
    let disable = pb::DisableKeySetRequest { key_set: "default".into(), ..Default::default() };
    keys.disable_key_set(disable).await.unwrap();
    let refused = keys.delete_key_set(delete.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), in_use, "it has keys");

    server.life.revoke(server.life.current(), Emergency::ReplaceNext).await.unwrap();
    let deleted = keys.delete_key_set(delete).await.unwrap().into_inner().key_set.unwrap();
    assert_eq!(deleted.state(), pb::KeySetState::Deleted);
    let asked = pb::GetKeySetRequest { key_set: "default".to_owned() };
    let gone = keys.get_key_set(asked).await.unwrap_err();
    assert_eq!((gone.code(), &*reason(&gone)), (Code::NotFound, "KEY_SET_NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_claims_no_barrier() {
    let server = Server::with_keys().await;
    let mut keys = server.keys().await;
    let (current, next) = (server.life.current(), server.life.next());
    let rotation = pb::RotateRequest {
        key_set: "default".to_owned(),
        force: true,
        reason: "a drill".to_owned(),
        dry_run: true,
        ..pb::RotateRequest::default()
    };
    let told = keys.rotate(rotation.clone()).await.unwrap().into_inner();
    assert!(told.dry_run && !told.incomplete, "{told:?}");
    assert_eq!(told.barrier, None);
    assert_eq!(told.current.unwrap().kid, next.to_string());
    assert_eq!(told.previous.unwrap().kid, current.to_string());
    let revocation = pb::RevokeRequest {
        key_set: "default".to_owned(),
        kid: next.to_string(),
        dry_run: true,
        ..pb::RevokeRequest::default()
    };
    let told = keys.revoke(revocation).await.unwrap().into_inner();
    assert!(told.incomplete, "a revocation does not wait for the fresh key");
    assert_eq!(told.barrier, None);
    assert_eq!((server.life.current(), server.life.next()), (current, next));

    let real = pb::RotateRequest { dry_run: false, ..rotation };
    let done = keys.rotate(real).await.unwrap().into_inner();
    assert!(!done.incomplete && done.barrier.unwrap().all_acknowledged);
    server.stop().await;
}
