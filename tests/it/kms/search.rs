//! Looking for keys in a whole account: what it finds, and what it costs in calls.

use super::{EC, made};
use crate::contract::backend::{material, order};
use crate::harness::fault_proxy::Fault;
use crate::harness::kms::{open, settings};
use crate::harness::ministack::Account;
use serde_json::json;
use signkeep::backend::aws_kms::{AwsKmsBackend, Settings};
use signkeep::backend::{Backend, Kind};
use signkeep::key::MaterialId;
use std::collections::HashSet;
use std::time::Duration;

async fn list(backend: &AwsKmsBackend, expected: &HashSet<MaterialId>) -> Vec<MaterialId> {
    let listed = backend.list(expected).await.unwrap();
    let mut found: Vec<_> = listed.into_iter().filter_map(|key| key.material).collect();
    found.sort_by_key(ToString::to_string);
    found
}

fn materials(numbers: impl Iterator<Item = u8>) -> HashSet<MaterialId> {
    numbers.map(material).collect()
}

#[tokio::test]
async fn keys_that_are_expected_cost_no_call_of_their_own() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    for number in 1..=6 {
        made(&backend, number).await;
    }
    let later = open(settings(&account)).await;
    account.proxy.forget();
    assert_eq!(list(&later, &materials(1..=6)).await.len(), 6);
    assert_eq!(account.proxy.ops(), ["ListAliases", "ListKeys"]);
    // And one that is not expected costs two: whose it is, and in which state.
    account.proxy.forget();
    assert_eq!(list(&later, &materials(1..=5)).await.len(), 6);
    assert_eq!(account.proxy.ops(), ["ListAliases", "ListKeys", "ListResourceTags", "DescribeKey"]);
}

#[tokio::test]
async fn tags_are_read_only_where_no_alias_explains_a_key() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let theirs = open(Settings { instance: "other".to_owned(), ..settings(&account) }).await;
    made(&backend, 1).await;
    made(&backend, 2).await;
    made(&theirs, 3).await;
    let foreign = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
    account.call("CreateKey", foreign).await;
    let aliases = account.call("ListAliases", json!({})).await;
    let second = aliases["Aliases"].as_array().unwrap().iter();
    let second = second.map(|alias| alias["AliasName"].as_str().unwrap());
    let second = second.filter(|alias| alias.ends_with(&material(2).to_string()));
    for alias in second {
        account.call("DeleteAlias", json!({ "AliasName": alias })).await;
    }
    let later = open(settings(&account)).await;
    account.proxy.forget();
    let found = list(&later, &materials(1..=2)).await;
    assert_eq!(found, [material(1), material(2)]);
    assert_eq!(account.proxy.count("ListResourceTags"), 2, "{:?}", account.proxy.ops());
    assert_eq!(account.proxy.count("DescribeKey"), 0, "{:?}", account.proxy.ops());
    // What has been read is known.
    account.proxy.forget();
    assert_eq!(list(&later, &materials(1..=2)).await, found);
    assert_eq!(account.proxy.ops(), ["ListAliases", "ListKeys"]);
}

#[tokio::test]
async fn every_page_of_the_aliases_is_read() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    for number in 1..=5 {
        made(&backend, number).await;
    }
    account.proxy.pages(2);
    let later = open(settings(&account)).await;
    account.proxy.forget();
    assert_eq!(list(&later, &materials(1..=5)).await.len(), 5);
    assert_eq!(account.proxy.count("ListAliases"), 3);
    assert_eq!(account.proxy.count("*"), 6, "{:?}", account.proxy.ops());
}

#[tokio::test]
async fn an_alias_of_ours_on_a_key_of_others_makes_it_no_key_of_ours() {
    let account = Account::fresh().await;
    let foreign = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
    let told = account.call("CreateKey", foreign).await;
    let id = told["KeyMetadata"]["KeyId"].as_str().unwrap();
    let alias = format!("alias/signkeep/it/{}", material(1));
    account.call("CreateAlias", json!({ "AliasName": alias, "TargetKeyId": id })).await;
    let backend = open(settings(&account)).await;
    assert_eq!(list(&backend, &HashSet::new()).await, []);
    let error = backend.destroy(material(1), None).await.unwrap_err();
    assert_eq!(error.kind, Kind::Inconsistent, "{error}");
    assert_eq!(account.keys_in("Enabled").await, [id]);
}

#[tokio::test]
async fn a_search_through_many_keys_leaves_signatures_alone() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    let key = made(&backend, 1).await;
    let foreign = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
    for _ in 0..40 {
        account.call("CreateKey", foreign.clone()).await;
    }
    account.proxy.always("ListResourceTags", Fault::Delay(Duration::from_millis(50)));
    let began = std::time::Instant::now();
    let searching = async {
        assert_eq!(list(&backend, &materials(1..=1)).await, [material(1)]);
        began.elapsed()
    };
    let signing = async {
        for _ in 0..20 {
            let message = crate::contract::backend::message();
            backend.sign(&key, message, crate::contract::backend::soon()).await.unwrap();
        }
        began.elapsed()
    };
    let (searched, signed) = tokio::join!(searching, signing);
    assert!(signed < searched, "20 signatures took {signed:?}, the search {searched:?}");
    let searched = searched.as_secs_f64();
    assert!(searched >= 1.0, "42 questions in {searched} s are more than 20 a second");
}

#[tokio::test]
async fn a_key_that_is_expected_and_given_up_by_others_is_missed_after_a_look() {
    let account = Account::fresh().await;
    let backend = open(settings(&account)).await;
    backend.generate(&order(1, EC)).await.unwrap();
    let expected = materials(1..=1);
    let later = open(settings(&account)).await;
    assert_eq!(list(&later, &expected).await.len(), 1);
    let id = account.keys_in("Enabled").await.remove(0);
    account.call("ScheduleKeyDeletion", json!({ "KeyId": id, "PendingWindowInDays": 7 })).await;
    later.probe().await.unwrap();
    assert_eq!(list(&later, &expected).await, []);
    account.call("CancelKeyDeletion", json!({ "KeyId": id })).await;
    assert_eq!(list(&later, &expected).await.len(), 1, "it is back");
}
