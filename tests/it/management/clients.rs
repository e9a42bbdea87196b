//! Auth0's own clients, unmodified, against the real binary over TLS.

use super::tenant::{Language, Tenant};
use serde_json::{Value, json};

/// The kid of a key that `result` shows.
fn kid(result: &Value) -> &str {
    assert_eq!(result["ok"]["pem"], true, "{result}");
    result["ok"]["kid"].as_str().unwrap_or_else(|| panic!("{result}"))
}

/// The kids of a list, and what each is.
fn listed(result: &Value) -> Vec<(String, String)> {
    let keys = result["ok"].as_array().unwrap_or_else(|| panic!("{result}"));
    keys.iter()
        .map(|key| {
            let is: Vec<_> =
                key["is"].as_array().unwrap().iter().map(|is| is.as_str().unwrap()).collect();
            assert_eq!(key["pem"], true, "{key}");
            (key["kid"].as_str().unwrap().to_owned(), is.join(" "))
        })
        .collect()
}

fn refused(result: &Value, status: u16, code: &str) {
    let expected = (&Value::from(status), &Value::from(code));
    assert_eq!((&result["status"], &result["code"]), expected, "{result}");
}

/// The way of a rotation script: look, rotate, revoke what was current.
async fn rotates_and_revokes(language: Language) {
    let mut tenant = Tenant::new().await;
    let steps = json!([
        ["list"],
        ["get", "$current"],
        ["rotate"],
        ["list"],
        ["rotate"],
        ["revoke", "$previous"],
        ["revoke", "$previous"],
        ["get", "$previous"],
        ["revoke", "$current"],
        ["revoke", "$next"],
        ["get", "no such key/"],
        ["revoke", "no such key/"],
        ["list"],
    ]);
    let results = tenant.play_as(language, "operator", steps).await;
    let [before, after] = [listed(&results[0]), listed(&results[3])];
    let (next, current) = (before[0].0.as_str(), before[1].0.as_str());
    assert_eq!([before[0].1.as_str(), before[1].1.as_str()], ["next", "current"]);
    assert_eq!((before.len(), kid(&results[1])), (2, current));
    let fresh = kid(&results[2]);
    let expected = [(fresh, "next"), (next, "current"), (current, "previous")];
    assert_eq!(after, expected.map(|(kid, is)| (kid.to_owned(), is.to_owned())));
    refused(&results[4], 400, "next_key_not_propagated");
    assert_eq!([kid(&results[5]), kid(&results[6]), kid(&results[7])], [current; 3]);
    assert_eq!(results[7]["ok"]["is"], json!(["revoked"]));
    refused(&results[8], 400, "operation_not_allowed");
    refused(&results[9], 400, "operation_not_allowed");
    refused(&results[10], 404, "inexistent_signing_key");
    assert_eq!(results[10]["message"], "Signing key not found.");
    refused(&results[11], 404, "inexistent_signing_key");
    let last = [(fresh, "next"), (next, "current"), (current, "revoked")];
    assert_eq!(listed(&results[12]), last.map(|(kid, is)| (kid.to_owned(), is.to_owned())));
    tenant.service.is_unharmed();
}

#[tokio::test]
async fn auth0_python_rotates_and_revokes() {
    rotates_and_revokes(Language::Python).await;
}

#[tokio::test]
async fn auth0_from_npm_rotates_and_revokes() {
    rotates_and_revokes(Language::Node).await;
}

#[tokio::test]
async fn who_may_not_or_proves_nothing_is_refused_as_the_clients_know_it() {
    let mut tenant = Tenant::new().await;
    let current = tenant.key_set().current().await;
    for language in Language::ALL {
        let steps = json!([["list"], ["rotate"], ["revoke", "$next"]]);
        let results = tenant.play_as(language, "viewer", steps).await;
        assert_eq!(listed(&results[0]).len(), 2);
        refused(&results[1], 403, "insufficient_scope");
        let text = "Insufficient scope, expected any of: create:signing_keys, update:signing_keys";
        assert_eq!(results[1]["message"], text);
        refused(&results[2], 403, "insufficient_scope");

        let wrong = json!({ "client_id": "operator", "client_secret": "x".repeat(64) });
        let unknown = json!({ "client_id": "nobody", "client_secret": tenant.secret });
        for credentials in [wrong, unknown] {
            let results = tenant.play(language, credentials, json!([["rotate"]])).await;
            assert_eq!(results[0].get("ok"), None, "{language:?}: {results:?}");
            let told = results[0].to_string();
            let denied = ["access_denied", "Unauthorized", "401"];
            assert!(denied.iter().any(|word| told.contains(word)), "{language:?}: {told}");
        }
        let proof = json!({ "client_id": "prover", "private_key": tenant.key });
        let results = tenant.play(language, proof, json!([["list"]])).await;
        assert_eq!(listed(&results[0]).len(), 2, "{language:?}");
    }
    assert_eq!(tenant.key_set().current().await, current);
    let log = tenant.service.log();
    assert!(!log.contains(&tenant.secret) && !log.contains("eyJ"), "{log}");
    tenant.service.is_unharmed();
}

/// The answer to a rotation is lost after it was made; the client tries again by itself.
async fn rotates_once(language: Language) {
    let mut tenant = Tenant::behind_a_proxy().await;
    let next = tenant.key_set().next().await;
    tenant.proxy().lose_next_answer();
    let steps = json!([["rotate"], ["list"]]);
    let results = tenant.play_as(language, "operator", steps).await;
    let keys = listed(&results[1]);
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert_eq!(tenant.key_set().current().await, next);
    match language {
        // It asks again by itself.
        Language::Python => {
            assert_eq!(tenant.proxy().posts(), 2);
            refused(&results[0], 400, "next_key_not_propagated");
        }
        Language::Node => {
            assert_eq!(tenant.proxy().posts(), 1);
            assert_eq!(results[0].get("ok"), None, "{}", results[0]);
        }
    }
    tenant.service.is_unharmed();
}

#[tokio::test]
async fn auth0_python_whose_connection_breaks_off_rotates_once() {
    rotates_once(Language::Python).await;
}

#[tokio::test]
async fn auth0_from_npm_whose_connection_breaks_off_rotates_once() {
    rotates_once(Language::Node).await;
}
