//! One key when KMS does not do as it should. CreateKey is not idempotent and keys cost money, so
//! what counts is how many there are in the end, and that each can be explained.

use super::{EC, made};
use crate::contract::backend::{key_ref, material, message, order, soon};
use crate::harness::eventually;
use crate::harness::fault_proxy::{DOWN, Fault, THROTTLED};
use crate::harness::kms::{INSTANCE, open, settings};
use crate::harness::ministack::Account;
use serde_json::json;
use signkeep::backend::aws_kms::Settings;
use signkeep::backend::{Backend, Kind};
use signkeep::key::Algorithm;
use std::collections::HashSet;
use std::time::Duration;

/// Minutes become moments.
fn brisk(account: &Account) -> Settings {
    Settings {
        attempt_timeout: Duration::from_millis(400),
        operation_timeout: Duration::from_secs(2),
        patience: Duration::from_secs(5),
        absence: Duration::from_millis(800),
        ..settings(account)
    }
}

#[tokio::test]
async fn a_key_is_made_by_one_call_that_carries_all_its_tags() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    account.proxy.forget();
    let key = made(&backend, 1).await;
    let ops = account.proxy.ops();
    assert_eq!(ops.iter().filter(|op| *op == "CreateKey").count(), 1, "{ops:?}");
    assert_eq!(account.proxy.count("TagResource"), 0, "{ops:?}");
    let id = key.object.as_str().rsplit('/').next().unwrap();
    let tags = account.tags(id).await;
    let values: Vec<&str> = tags.values().map(String::as_str).collect();
    assert!(values.contains(&INSTANCE), "{tags:?}");
    assert!(values.contains(&material(1).to_string().as_str()), "{tags:?}");
    assert!(values.contains(&"payments"), "{tags:?}");
}

/// Whatever befalls whichever call of a generation, once or for good: either the key is there and
/// signs, or nothing of it stays enabled once the store has it destroyed; and CreateKey, once it
/// may have been carried out, was not tried again.
#[tokio::test]
async fn whatever_fails_no_second_key_is_made_and_none_is_left_behind() {
    let faults = [
        THROTTLED,
        DOWN,
        Fault::ErrorAfter(500, "KMSInternalException"),
        Fault::Hang,
        Fault::HangAfter,
        Fault::Reset,
        Fault::DropAfter,
        Fault::HalfBody,
        Fault::Garbage,
    ];
    let mut befallen = 0;
    for op in ["CreateKey", "GetPublicKey", "CreateAlias", "DescribeKey", "ListKeys"] {
        for fault in faults {
            for times in [1, usize::MAX] {
                let place = format!("{fault:?} of {op}, {times} times");
                befallen += usize::from(one_generation(op, fault, times, &place).await);
            }
        }
    }
    assert!(befallen >= 3 * 2 * faults.len(), "only {befallen} generations met their fault");
}

/// Whether the fault was met.
async fn one_generation(op: &'static str, fault: Fault, times: usize, place: &str) -> bool {
    let account = Account::fresh().await;
    let backend = open(brisk(&account)).await;
    account.proxy.forget();
    account.proxy.next(op, times, fault);
    let outcome = backend.generate(&order(1, EC)).await;
    let met = account.proxy.attempts().iter().any(|attempt| attempt.fault.is_some());
    account.proxy.mend();
    let keys = account.keys().await.len();
    assert!(keys <= 1, "{place}: {keys} keys for one order");
    match outcome {
        Ok(made) => {
            let key = key_ref(1, Algorithm::Es256, &made);
            let signed = backend.sign(&key, message(), soon()).await;
            signed.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(keys, 1, "{place}");
        }
        Err(_) => {
            eventually(&format!("{place}: destroyed"), Duration::from_secs(30), async || {
                match backend.destroy(material(1), None).await {
                    Ok(()) => Some(()),
                    Err(error) => {
                        let again = [Kind::Unavailable, Kind::Throttled];
                        assert!(again.contains(&error.kind), "{place}: {error}");
                        None
                    }
                }
            })
            .await;
            assert_eq!(account.keys_in("PendingDeletion").await.len(), keys, "{place}");
        }
    }
    met
}

#[tokio::test]
async fn a_key_that_kms_shows_late_is_waited_for() {
    let account = Account::fresh().await;
    let backend = open(brisk(&account)).await;
    account.proxy.youth(Duration::from_millis(1500));
    let made = backend.generate(&order(1, EC)).await.unwrap();
    let key = key_ref(1, Algorithm::Es256, &made);
    backend.sign(&key, message(), soon()).await.unwrap();
    assert_eq!(account.keys().await.len(), 1);
}

#[tokio::test]
async fn of_two_who_make_one_key_at_once_one_succeeds_and_the_other_ends_its_own() {
    let account = Account::fresh().await;
    let (one, other) = (open(brisk(&account)).await, open(brisk(&account)).await);
    let order = order(1, EC);
    let (first, second) = tokio::join!(one.generate(&order), other.generate(&order));
    let (won, lost, loser) = match (first, second) {
        (Ok(won), Err(lost)) => (won, lost, other),
        (Err(lost), Ok(won)) => (won, lost, one),
        both => panic!("{both:?}"),
    };
    assert_eq!(lost.kind, Kind::Inconsistent, "{lost}");
    loser.destroy(material(1), None).await.unwrap();
    let left = account.keys_in("Enabled").await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(won.object.as_str().ends_with(&left[0]), "the winner's key was destroyed");
}

#[tokio::test]
async fn a_key_is_found_by_its_tags_when_its_alias_was_never_made() {
    let account = Account::fresh().await;
    let backend = open(brisk(&account)).await;
    let made = backend.generate(&order(1, EC)).await.unwrap();
    for number in 2..=7 {
        backend.generate(&order(number, EC)).await.unwrap();
    }
    let aliases = account.call("ListAliases", json!({})).await;
    for alias in aliases["Aliases"].as_array().unwrap() {
        account.call("DeleteAlias", json!({ "AliasName": alias["AliasName"] })).await;
    }
    account.proxy.pages(2);
    let later = open(brisk(&account)).await;
    account.proxy.next("ListKeys", 1, THROTTLED);
    account.proxy.next("ListResourceTags", 1, THROTTLED);
    assert_eq!(later.find(material(1), EC).await.unwrap(), Some(made));
    assert!(account.proxy.count("ListKeys") > 2, "{:?}", account.proxy.ops());
}

#[tokio::test]
async fn keys_of_others_are_not_listed_and_not_touched() {
    let account = Account::fresh().await;
    let theirs = open(Settings { instance: "other".to_owned(), ..brisk(&account) }).await;
    made(&theirs, 1).await;
    let order = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
    account.call("CreateKey", order).await;
    let ours = open(brisk(&account)).await;
    assert_eq!(ours.list(&HashSet::new()).await.unwrap(), []);
    eventually("absence is certain", Duration::from_secs(20), async || {
        ours.destroy(material(1), None).await.ok()
    })
    .await;
    assert_eq!(account.keys_in("Enabled").await.len(), 2);
}

#[tokio::test]
async fn destroying_what_was_destroyed_with_the_answer_lost_is_success() {
    let account = Account::fresh().await;
    let backend = open(brisk(&account)).await;
    let key = made(&backend, 1).await;
    account.proxy.next("ScheduleKeyDeletion", 1, Fault::DropAfter);
    backend.destroy(key.material, Some(&key.object)).await.unwrap();
    assert_eq!(account.keys_in("PendingDeletion").await.len(), 1);
    let later = open(brisk(&account)).await;
    later.destroy(key.material, Some(&key.object)).await.unwrap();
}

#[tokio::test]
async fn what_failed_before_a_key_was_asked_for_leaves_nothing_to_look_for() {
    let account = Account::fresh().await;
    let backend = open(Settings { absence: Duration::from_secs(3600), ..brisk(&account) }).await;
    account.proxy.always("*", Fault::Reset);
    backend.generate(&order(1, EC)).await.unwrap_err();
    account.proxy.forget();
    backend.destroy(material(1), None).await.unwrap();
    assert_eq!(account.proxy.count("*"), 0);
    assert!(account.keys().await.is_empty());
}
