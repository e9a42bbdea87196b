//! The end of a key in KMS, where an end is a request that others may cancel.

use super::crashes::brisk;
use crate::harness::eventually;
use crate::harness::kms::{on_kms, open};
use crate::harness::ministack::Account;
use crate::harness::ring::{Life, World};
use serde_json::json;
use signkeep::backend::aws_kms::AwsKmsBackend;
use signkeep::grpc::proto::{GetPublicKeyRequest, KeyState, Policy, UpdateKeySetRequest};
use signkeep::key::Emergency;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: i64 = 24 * 60 * 60;

/// Somebody saves a key from its deletion, and has it sign.
async fn save(account: &Account, id: &str) {
    account.call("CancelKeyDeletion", json!({ "KeyId": id })).await;
    account.call("EnableKey", json!({ "KeyId": id })).await;
}

/// The only key in that state, as soon as there is one.
async fn the_one(account: &Account, state: &str) -> String {
    eventually(&format!("a key is {state}"), Duration::from_secs(30), async || {
        let mut keys = account.keys_in(state).await;
        assert!(keys.len() <= 1, "{keys:?}");
        keys.pop()
    })
    .await
}

/// Lets hours pass until the deletion of a key is scheduled.
async fn tick_until_deleted(
    world: &World<AwsKmsBackend>,
    life: &Life,
    account: &Account,
) -> String {
    eventually("its deletion is scheduled", Duration::from_secs(30), async || {
        world.clock.advance(HOUR);
        life.ring.tick().await;
        account.keys_in("PendingDeletion").await.pop()
    })
    .await
}

#[tokio::test]
async fn a_deletion_that_is_cancelled_is_scheduled_again_within_the_hour_and_after_a_restart() {
    let account = Account::fresh().await;
    let mut world = World::on(Arc::new(open(brisk(&account)).await)).await;
    let mut life = world.life().await;
    life.create().await.unwrap();
    life.revoke(life.current(), Emergency::Promote).await.unwrap();
    let id = tick_until_deleted(&world, &life, &account).await;
    for restart in [false, true] {
        save(&account, &id).await;
        account.proxy.forget();
        if restart {
            world = world.with(Arc::new(open(brisk(&account)).await));
            life = world.life().await;
        }
        assert_eq!(tick_until_deleted(&world, &life, &account).await, id, "restart: {restart}");
        let ends = account.proxy.ops().into_iter().filter(|op| op.ends_with("Deletion"));
        assert_eq!(ends.count(), 1, "{:?}", account.proxy.ops());
        assert_eq!(account.proxy.count("DisableKey"), 1, "disabled first: {restart}");
        life.sign(b"hello").await.unwrap();
    }
    let told = world.metrics.encode().unwrap();
    assert!(told.lines().any(|line| line == "signkeep_revived_keys_total 2"), "{told}");
    let survey = life.ring.survey().await.unwrap();
    assert_eq!((survey.revived.len(), survey.unexplained.len()), (0, 0));
}

#[tokio::test]
async fn a_cancelled_deletion_is_named_by_doctor_and_by_the_next_start() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    let key_set = service.key_set("payments");
    let at_once =
        Policy { destroy_after: Some(prost_types::Duration::default()), ..Policy::default() };
    key_set.create_in("kms", "ES256", at_once).await.unwrap();
    key_set.force_rotate().await.unwrap();
    let previous = key_set.the(KeyState::Previous).await.kid;
    key_set.force_revoke(&previous).await.unwrap();
    let id = the_one(&account, "PendingDeletion").await;
    eventually("the store knows", Duration::from_secs(30), async || {
        (key_set.keys_in(&[KeyState::Destroyed]).await.len() == 1).then_some(())
    })
    .await;
    service.stop().await;
    save(&account, &id).await;

    let config = service.path("signkeep.toml");
    let told = service.signkeep(&["doctor", "--config", config.to_str().unwrap()]).await;
    let lines = format!("{}{}", told.stdout, told.stderr);
    assert!(lines.contains("cancelled the deletion") && lines.contains(&id), "{lines}");

    service.start().await;
    assert_eq!(the_one(&account, "PendingDeletion").await, id);
    let log = service.log();
    let line = log.lines().find(|line| line.contains("holds it again"));
    let line = line.unwrap_or_else(|| panic!("nothing is said of it: {log}"));
    assert!(line.contains(&previous) && line.contains("payments"), "{line}");
    service.is_unharmed();
}

#[tokio::test]
async fn the_public_key_of_an_ended_key_is_to_be_had_while_kms_does_not_show_it() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    let key_set = service.key_set("payments");
    key_set.create_in("kms", "ES256", Policy::default()).await.unwrap();
    key_set.force_rotate().await.unwrap();
    let revoked = key_set.the(KeyState::Previous).await.kid;
    key_set.force_revoke(&revoked).await.unwrap();
    // The key that a rollback gives up has never signed: it is retired.
    let rolled_back = key_set.next().await;
    key_set.force_rotate().await.unwrap();
    let given_up = key_set.next().await;
    assert_ne!(rolled_back, given_up);
    key_set.roll_back().await.unwrap();
    the_one(&account, "Disabled").await;
    account.proxy.forget();
    for (kid, state) in [(&revoked, KeyState::Revoked), (&given_up, KeyState::Retired)] {
        assert_eq!(key_set.the(state).await.kid, *kid);
        let asked = GetPublicKeyRequest { key_set: "payments".to_owned(), kid: kid.clone() };
        let told = service.signing().get_public_key(asked).await.unwrap().into_inner();
        assert!(told.public_key_pem.contains("BEGIN PUBLIC KEY"), "{told:?}");
    }
    assert_eq!(account.proxy.count("GetPublicKey"), 0);
    service.is_unharmed();
}

#[tokio::test]
async fn who_wants_keys_destroyed_sooner_than_kms_does_is_told_every_time() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    let days = |days: i64| Policy {
        destroy_after: Some(prost_types::Duration { seconds: days * DAY, nanos: 0 }),
        ..Policy::default()
    };
    let told = |service: &crate::harness::service::Service| {
        let log = service.log();
        let lines = log.lines().filter(|line| line.contains("deletes no key sooner than 7d"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    service.key_set("patient").create_in("kms", "ES256", days(7)).await.unwrap();
    assert_eq!(told(&service), [""; 0]);
    service.key_set("hasty").create_in("kms", "ES256", days(6)).await.unwrap();
    let lines = told(&service);
    assert!(lines.len() == 1 && lines[0].contains("hasty") && lines[0].contains("6d"), "{lines:?}");

    let key_set = signkeep::grpc::proto::KeySet {
        id: "patient".to_owned(),
        policy: Some(days(1)),
        ..Default::default()
    };
    let mask = prost_types::FieldMask { paths: vec!["policy.destroy_after".to_owned()] };
    let update = UpdateKeySetRequest {
        key_set: Some(key_set),
        update_mask: Some(mask),
        ..UpdateKeySetRequest::default()
    };
    service.keys().update_key_set(update).await.unwrap();
    let lines = told(&service);
    assert!(lines.len() == 2 && lines[1].contains("patient"), "{lines:?}");
    // And whoever starts it, once for each key set.
    service.stop().await;
    service.start().await;
    assert_eq!(told(&service).len(), 4, "{:?}", told(&service));
    service.is_unharmed();
}
