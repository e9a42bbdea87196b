//! Settings of new keys: that they reach KMS, and in which words those that cannot work are refused.

use crate::harness::fault_proxy::Fault;
use crate::harness::kms::{beside, section};
use crate::harness::ministack::{Account, REGION, SECRET};
use crate::harness::service::Service;
use crate::harness::{eventually, reason};
use serde_json::{Value, json};
use signkeep::grpc::proto::Policy;
use std::time::Duration;

/// A key policy as AWS gives one to a key without.
fn policy(account: &Account) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "ByTheTest",
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{}:root", account.id) },
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
}

/// A service whose backend says `more`, with that key policy beside its configuration.
fn service(account: &Account, more: &str, policy: &str) -> Service {
    let service = beside(Service::configured(&section(account, more)), account);
    std::fs::write(service.path("key-policy.json"), policy).unwrap();
    service
}

#[tokio::test]
async fn policy_regions_tags_and_description_are_given_to_every_key() {
    let account = Account::fresh().await;
    let more = "multi_region = true\nkey_policy_file = \"key-policy.json\"\n\
                description = \"tokens\"\ntags = { owner = \"identity\" }";
    let policy = policy(&account);
    let service = service(&account, more, &policy.to_string()).started().await;
    service.key_set("payments").create_in("kms", "ES256", Policy::default()).await.unwrap();
    let keys = account.keys_of("payments").await;
    assert_eq!(keys.len(), 2);
    for (id, key) in keys {
        assert_eq!(key["MultiRegion"], true, "{key}");
        let description = key["Description"].as_str().unwrap();
        assert!(description.starts_with("tokens") && description.contains("payments"), "{key}");
        assert_eq!(account.tags(&id).await["owner"], "identity");
        let asked = json!({ "KeyId": id, "PolicyName": "default" });
        let told = account.call("GetKeyPolicy", asked).await;
        let given: Value = serde_json::from_str(told["Policy"].as_str().unwrap()).unwrap();
        assert_eq!(given, policy);
    }
    service.key_set("payments").sign_message(b"hello").await.unwrap();
}

#[tokio::test]
async fn a_key_of_one_region_is_what_is_made_otherwise() {
    let account = Account::fresh().await;
    let service = service(&account, "", "").started().await;
    service.key_set("payments").create_in("kms", "ES256", Policy::default()).await.unwrap();
    assert!(account.keys().await.values().all(|key| key["MultiRegion"] == false));
}

#[tokio::test]
async fn region_and_credentials_come_by_a_profile_of_awss_own_files() {
    let account = Account::fresh().await;
    let backend = format!(
        "\n[backends.kms]\nkind = \"aws-kms\"\ninstance = \"it\"\nprofile = \"signing\"\n\
         endpoint_url = \"{}\"\n",
        account.proxy.endpoint()
    );
    let mut service = Service::configured(&backend).with_env("AWS_EC2_METADATA_DISABLED", "true");
    let (config, credentials) = (service.path("aws-config"), service.path("aws-credentials"));
    std::fs::write(&config, format!("[profile signing]\nregion = {REGION}\n")).unwrap();
    let keys = format!(
        "[signing]\naws_access_key_id = {}\naws_secret_access_key = {SECRET}\n",
        account.id
    );
    std::fs::write(&credentials, keys).unwrap();
    service = service
        .with_env("AWS_CONFIG_FILE", config)
        .with_env("AWS_SHARED_CREDENTIALS_FILE", credentials)
        .started()
        .await;
    service.key_set("payments").create_in("kms", "ES256", Policy::default()).await.unwrap();
    let keys = account.keys_of("payments").await;
    assert_eq!(keys.len(), 2);
    let arn = keys.values().next().unwrap()["Arn"].as_str().unwrap();
    assert!(arn.contains(REGION), "{arn}");
}

#[tokio::test]
async fn a_key_policy_that_is_none_is_refused_at_the_start_in_words() {
    let account = Account::fresh().await;
    let more = "key_policy_file = \"key-policy.json\"";
    for (policy, said) in [("not json", "a JSON object"), ("[]", "a JSON object")] {
        let said_all = service(&account, more, policy).fails_to_start().await;
        assert!(said_all.contains("key_policy") && said_all.contains(said), "{said_all}");
    }
    let elsewhere = "key_policy_file = \"elsewhere.json\"";
    let said = service(&account, elsewhere, "").fails_to_start().await;
    assert!(said.contains("key policy") && said.contains("elsewhere.json"), "{said}");
}

#[tokio::test]
async fn a_key_policy_that_kms_refuses_is_named_in_the_log_and_leaves_no_key() {
    let account = Account::fresh().await;
    let more = "key_policy_file = \"key-policy.json\"";
    let mut service = service(&account, more, &policy(&account).to_string()).started().await;
    eventually("the record has its keys", Duration::from_secs(30), async || {
        (account.keys_of("signkeep-audit").await.len() == 2).then_some(())
    })
    .await;
    account.proxy.forget();
    let refusal = Fault::Error(400, "MalformedPolicyDocumentException");
    account.proxy.always("CreateKey", refusal);
    let refused = service.key_set("payments").create_in("kms", "ES256", Policy::default()).await;
    let status = refused.unwrap_err();
    let expected = (tonic::Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned());
    assert_eq!(reason(&status), expected, "{status}");
    let log = service.log();
    let line = log.lines().find(|line| line.contains("key_policy_file"));
    let line = line.unwrap_or_else(|| panic!("it is not named: {log}"));
    assert!(line.contains("MalformedPolicyDocumentException"), "{line}");
    assert_eq!(account.proxy.count("CreateKey"), 1);
    assert!(account.keys_of("payments").await.is_empty());
    service.is_unharmed();
}
