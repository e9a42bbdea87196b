//! One signature when KMS does not do as it should: what the caller gets, and how often KMS was
//! asked for it.

use super::{EC, made};
use crate::contract::backend::{message, order, soon, verifies};
use crate::harness::fault_proxy::{DOWN, Fault, THROTTLED};
use crate::harness::kms::{open, settings};
use crate::harness::ministack::Account;
use serde_json::json;
use signkeep::backend::aws_kms::Settings;
use signkeep::backend::{Backend, Input, KeyRef, Kind};
use signkeep::key::Algorithm;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts that end soon enough for a test.
fn brisk(account: &Account) -> Settings {
    Settings {
        attempt_timeout: Duration::from_millis(400),
        operation_timeout: Duration::from_secs(2),
        ..settings(account)
    }
}

#[tokio::test]
async fn a_signature_costs_one_call() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let key = made(&backend, 1).await;
    account.proxy.forget();
    for _ in 0..10 {
        let signature = backend.sign(&key, message(), soon()).await.unwrap();
        assert!(verifies(Algorithm::Es256, &key.public, &signature));
    }
    assert_eq!(account.proxy.ops(), ["Sign"; 10]);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_the_caller_does_not_notice() {
    let account = Account::fresh().await;
    let backend = open(brisk(&account)).await;
    let key = made(&backend, 1).await;
    let passing = [
        THROTTLED,
        DOWN,
        Fault::Error(500, "KMSInternalException"),
        Fault::Error(503, "DependencyTimeoutException"),
        Fault::Hang,
        Fault::Reset,
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::HalfBody,
        Fault::Garbage,
    ];
    for fault in passing {
        account.proxy.forget();
        account.proxy.next("Sign", 1, fault);
        let signature = backend.sign(&key, message(), soon()).await;
        let signature = signature.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(verifies(Algorithm::Es256, &key.public, &signature), "{fault:?}");
        assert_eq!(account.proxy.ops(), ["Sign"; 2], "{fault:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_of_its_kind_after_few_attempts() {
    let lasting = [
        (THROTTLED, Kind::Throttled),
        (DOWN, Kind::Unavailable),
        (Fault::Hang, Kind::Unavailable),
        (Fault::Reset, Kind::Unavailable),
        (Fault::Garbage, Kind::Unavailable),
    ];
    for (fault, kind) in lasting {
        let account = Account::fresh().await;
        let backend = open(brisk(&account)).await;
        let key = made(&backend, 1).await;
        account.proxy.forget();
        account.proxy.always("Sign", fault);
        let error = backend.sign(&key, message(), soon()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        let attempts = account.proxy.count("Sign");
        assert!((2..=3).contains(&attempts), "{fault:?}: {attempts} attempts");
    }
}

#[tokio::test]
async fn what_will_never_pass_is_not_tried_again() {
    let final_ones = [
        (Fault::Error(400, "AccessDeniedException"), Kind::Denied),
        (Fault::Error(400, "UnrecognizedClientException"), Kind::Denied),
        (Fault::Error(400, "ExpiredTokenException"), Kind::Denied),
        (Fault::Error(400, "ValidationException"), Kind::Inconsistent),
        (Fault::Error(400, "InvalidKeyUsageException"), Kind::Inconsistent),
    ];
    for (fault, kind) in final_ones {
        let account = Account::fresh().await;
        let backend = open(brisk(&account)).await;
        let key = made(&backend, 1).await;
        account.proxy.forget();
        account.proxy.always("Sign", fault);
        let error = backend.sign(&key, message(), soon()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert_eq!(account.proxy.count("Sign"), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn no_caller_waits_past_its_deadline() {
    for fault in [Fault::Hang, THROTTLED, DOWN, Fault::Delay(Duration::from_secs(5))] {
        let account = Account::fresh().await;
        let backend = open(settings(&account)).await;
        let key = made(&backend, 1).await;
        account.proxy.always("Sign", fault);
        let began = Instant::now();
        let deadline = began + Duration::from_millis(300);
        let error = backend.sign(&key, message(), deadline).await.unwrap_err();
        let kinds = [Kind::Late, Kind::Throttled, Kind::Unavailable];
        assert!(kinds.contains(&error.kind), "{fault:?}: {error}");
        let waited = began.elapsed();
        assert!(waited < Duration::from_millis(600), "{fault:?}: waited {waited:?}");
    }
}

#[tokio::test]
async fn a_key_that_others_disabled_is_named_for_what_it_is() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let key = made(&backend, 1).await;
    let id = id_of(&key);
    account.call("DisableKey", json!({ "KeyId": id })).await;
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(error.message.contains("isabled"), "{error}");
    account.call("EnableKey", json!({ "KeyId": id })).await;
    backend.sign(&key, message(), soon()).await.unwrap();
    account.call("ScheduleKeyDeletion", json!({ "KeyId": id, "PendingWindowInDays": 7 })).await;
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
    assert!(error.message.contains("being deleted"), "{error}");
}

#[tokio::test]
async fn a_key_that_kms_does_not_show_yet_signs_when_it_does() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    account.proxy.youth(Duration::from_millis(700));
    let key = made(&backend, 1).await;
    account.proxy.mend();
    account.proxy.forget();
    account.proxy.next("Sign", 2, Fault::Error(400, "NotFoundException"));
    backend.sign(&key, message(), soon()).await.unwrap();
    assert_eq!(account.proxy.count("Sign"), 3);
}

#[tokio::test]
async fn a_disabled_key_stops_signing_at_once_even_if_kms_lags_behind() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let key = made(&backend, 1).await;
    account.proxy.next("DisableKey", 1, Fault::DoneLate(Duration::from_millis(500)));
    let disabled = backend.disable(&key).await;
    account.proxy.forget();
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert_eq!(account.proxy.count("Sign"), 0, "KMS would have signed");
    disabled.unwrap();
    assert_eq!(account.keys_in("Disabled").await.len(), 1, "success was told too early");
}

#[tokio::test]
async fn a_long_message_is_hashed_here_and_never_sent() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let key = made(&backend, 1).await;
    let long = Input::Message(vec![b'x'; 1 << 20].into());
    backend.sign(&key, long, soon()).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_is_none_of_the_key_is_never_handed_out() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let first = made(&backend, 1).await;
    let second = backend.generate(&order(2, EC)).await.unwrap();
    let confused = Arc::new(KeyRef { object: second.object, ..(*first).clone() });
    let error = backend.sign(&confused, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Inconsistent, "{error}");
}

/// KMS's own id of a key.
fn id_of(key: &KeyRef) -> String {
    key.object.as_str().rsplit('/').next().unwrap().to_owned()
}
