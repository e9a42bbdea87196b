//! The real binary with its keys in KMS: from nothing to a verified signature, and what that costs
//! in calls.

use crate::harness::eventually;
use crate::harness::http;
use crate::harness::kms::{INSTANCE, on_kms};
use crate::harness::ministack::Account;
use crate::harness::service::Service;
use crate::harness::verifiers;
use crate::stories::reflection::{Client, drives_the_life_of_a_key};
use serde_json::Value;
use signkeep::grpc::proto::Policy;
use std::collections::BTreeMap;
use std::time::Duration;

/// The default key set, in KMS.
const DEFAULT: &str = r#"
[key_sets.default]
algorithm = "ES256"
backend = "kms"
issuer = "https://issuer.example/"
"#;

#[tokio::test]
async fn grpcurl_drives_the_life_of_a_key_in_kms() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, DEFAULT).started().await;
    drives_the_life_of_a_key(&Client::best(), &mut service, "ES256").await;
    eventually("the revoked key is disabled", Duration::from_secs(20), async || {
        (account.keys_in("Disabled").await.len() == 1).then_some(())
    })
    .await;
    for id in account.keys().await.into_keys() {
        assert_eq!(account.tags(&id).await["signkeep:instance"], INSTANCE);
    }
}

#[tokio::test]
async fn tokens_of_every_algorithm_verify_elsewhere() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    let mut cases = Vec::new();
    for algorithm in
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    {
        let key_set = service.key_set(&algorithm.to_lowercase());
        key_set.create_in("kms", algorithm, Policy::default()).await.unwrap();
        let case = key_set.token("alice").await;
        cases.extend([case.with_a_flipped_bit(), case]);
    }
    verifiers::pyjwt(&cases).await;
    verifiers::jose(&cases).await;
    service.is_unharmed();
}

#[tokio::test]
async fn a_signature_costs_one_call_and_a_jwks_none() {
    let account = Account::fresh().await;
    let service = on_kms(&account, DEFAULT).started().await;
    let key_set = service.key_set("default");
    account.proxy.forget();
    for _ in 0..20 {
        key_set.sign_message(b"hello").await.unwrap();
    }
    let signed = account.proxy.count("Sign");
    assert!((20..=21).contains(&signed), "and perhaps a checkpoint of the record: {signed}");
    account.proxy.forget();
    for _ in 0..20 {
        assert_eq!(key_set.jwks_kids().await.len(), 2);
    }
    let probes = account.proxy.count("*");
    assert!(probes <= 2, "besides a probe or two: {:?}", account.proxy.ops());
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
async fn a_start_with_a_hundred_keys_costs_a_few_calls() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    for number in 0..49 {
        let key_set = service.key_set(&format!("set-{number}"));
        key_set.create_in("kms", "ES256", Policy::default()).await.unwrap();
    }
    // With the two that seal the record: 100.
    service.stop().await;
    account.proxy.forget();
    service.start().await;
    service.key_set("set-48").sign_message(b"hello").await.unwrap();
    eventually("the keys have been looked through", Duration::from_secs(60), async || {
        (metric(&service, "signkeep_surveys_total").await == "1").then_some(())
    })
    .await;
    let mut calls = BTreeMap::<String, usize>::new();
    for op in account.proxy.ops() {
        *calls.entry(op).or_default() += 1;
    }
    println!("KMS calls of a start with 100 keys and one signature: {calls:?}");
    assert!(matches!(calls.get("Sign"), Some(1 | 2)), "and perhaps a checkpoint: {calls:?}");
    assert_eq!(calls.get("ListAliases"), Some(&1), "{calls:?}");
    assert_eq!(calls.get("ListResourceTags"), None, "{calls:?}");
    // A probe or two, the list of the keys, and one key that is looked at.
    assert!(calls.values().sum::<usize>() <= 9, "{calls:?}");
    assert_eq!(metric(&service, "signkeep_unexplained_objects").await, "0");
    assert_eq!(metric(&service, "signkeep_absent_keys").await, "0");
    assert_eq!(metric(&service, "signkeep_circuit_open{backend=\"kms\"}").await, "0");
    assert_eq!(metric(&service, "signkeep_request_rate_limit{backend=\"kms\"}").await, "300.0");
}

/// What the metrics listener says of one series.
pub(super) async fn metric(service: &Service, series: &str) -> String {
    let file = std::fs::read_to_string(service.path("addresses.json")).unwrap();
    let addresses: Value = serde_json::from_str(&file).unwrap();
    let address = addresses["metrics"][0].as_str().unwrap();
    let told = http::get(address, "/metrics").await.unwrap();
    let text = String::from_utf8(told.body.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in {text}")).to_owned()
}

#[tokio::test]
async fn an_algorithm_that_kms_does_not_offer_is_refused_by_name() {
    use crate::harness::fault_proxy::Fault;
    let account = Account::fresh().await;
    let service = on_kms(&account, "").started().await;
    account.proxy.always("CreateKey", Fault::Error(400, "UnsupportedOperationException"));
    let refused = service.key_set("signer").create_in("kms", "EdDSA", Policy::default()).await;
    let status = refused.unwrap_err();
    let reason = crate::harness::reason(&status);
    assert_eq!(reason, (tonic::Code::InvalidArgument, "ALGORITHM_UNSUPPORTED".to_owned()));
    assert!(status.message().contains("EDWARDS25519"), "{status}");
}

#[tokio::test]
async fn a_long_eddsa_message_is_refused_in_words_and_never_sent() {
    let account = Account::fresh().await;
    let service = on_kms(&account, "").started().await;
    let key_set = service.key_set("signer");
    key_set.create_in("kms", "EdDSA", Policy::default()).await.unwrap();
    key_set.sign_message(&[b'x'; 4096]).await.unwrap();
    account.proxy.forget();
    let status = key_set.sign_message(&[b'x'; 4097]).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert!(status.message().contains("4096") || status.message().contains("4,096"), "{status}");
    assert_eq!(account.proxy.count("Sign"), 0);
}

#[tokio::test]
async fn a_restart_after_kill_goes_on_where_it_was() {
    let account = Account::fresh().await;
    let mut service: Service = on_kms(&account, DEFAULT).started().await;
    let kids = service.key_set("default").jwks_kids().await;
    service.kill_9();
    service.start().await;
    assert_eq!(service.key_set("default").jwks_kids().await, kids);
    service.key_set("default").sign_message(b"hello").await.unwrap();
    // Two of the key set's, and two that seal the record.
    eventually("there are no more keys than are wanted", Duration::from_secs(30), async || {
        (account.keys_in("Enabled").await.len() == 4).then_some(())
    })
    .await;
}
