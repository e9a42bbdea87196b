//! Verifiers of others against a domain's JWKS, at every step of a key's life. Each step is a
//! process of its own, whose cache is empty: what a cache that has not run out would still accept
//! is the verifier's affair.

use super::tenant::{Language, Tenant};
use crate::harness::tools::{python, tool};
use crate::harness::verifiers::{Case, jose_command, judge, pyjwt_command};
use std::process::Command;

/// A token for the audience `app`, that ought to verify.
async fn token(tenant: &Tenant, name: &str) -> Case {
    let claims = r#"{"sub":"somebody","aud":"app"}"#;
    let signed = tenant.key_set().sign_jwt(claims).await.unwrap();
    let issuer = format!("https://{}/", tenant.domain());
    Case {
        name: name.to_owned(),
        jwks_uri: format!("{issuer}.well-known/jwks.json"),
        algorithm: "RS256".to_owned(),
        issuer: Some(issuer),
        jwt: signed.jwt,
        verifies: true,
    }
}

/// What every verifier makes of `cases`, and that none takes them with a bit flipped.
async fn judged(tenant: &Tenant, step: &str, cases: &[Case]) {
    let mut all = cases.to_vec();
    all.extend(cases.iter().map(Case::with_a_flipped_bit));
    let auth0_python = || {
        let mut command = Command::new(python());
        command.arg(Language::Python.script("auth0_verify"));
        command
    };
    let node = |library: &str| {
        let mut command = Command::new(tool("node"));
        command.arg(Language::Node.script("auth0_verify")).arg(library);
        command
    };
    for (name, command) in [
        ("PyJWKClient", pyjwt_command()),
        ("jose", jose_command()),
        ("auth0-python's TokenVerifier", auth0_python()),
        ("jwks-rsa", node("jwks-rsa")),
        ("express-oauth2-jwt-bearer", node("express")),
    ] {
        judge(&format!("{name}, {step}"), tenant.trusting(command), &all).await;
    }
}

#[tokio::test]
async fn all_verify_what_they_must_and_none_what_was_revoked() {
    let mut tenant = Tenant::behind_a_proxy().await;
    let key_set = tenant.key_set();
    let mut cases = vec![token(&tenant, "before the rotation").await];
    judged(&tenant, "at the beginning", &cases).await;

    key_set.force_rotate().await.unwrap();
    let rotated = key_set.current().await;
    cases.push(token(&tenant, "after the rotation").await);
    judged(&tenant, "after a rotation", &cases).await;

    key_set.roll_back().await.unwrap();
    cases.push(token(&tenant, "after the rollback").await);
    judged(&tenant, "after a rollback", &cases).await;

    // The key that was rolled back had signed.
    key_set.force_revoke(&rotated).await.unwrap();
    cases[1].verifies = false;
    judged(&tenant, "after a revocation", &cases).await;
    tenant.service.is_unharmed();
}
