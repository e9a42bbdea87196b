//! What tokens may say, through the face: the refusal's form, and what is signed in the end.

use super::{Guarded, reason};
use crate::harness::access::binding;
use crate::harness::tokens::base64url;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use signkeep::access::{Binding, ClaimsPolicy, Pattern, Role};
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt;

fn patterns(all: &[&str]) -> Option<Vec<Pattern>> {
    Some(all.iter().map(|text| Pattern::with_caller(text).unwrap()).collect())
}

fn ruled(claims: ClaimsPolicy) -> Binding {
    let binding = binding("jwt:ci:issuer", "default", &[Role::JwtSigner]);
    Binding { claims: Some(claims), ..binding }
}

fn payload(jwt: &str) -> Value {
    let payload = Base64UrlUnpadded::decode_vec(jwt.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test]
async fn a_refusal_names_claim_and_rule_and_reaches_no_backend() {
    let guarded = Guarded::by(vec![ruled(ClaimsPolicy {
        audiences: patterns(&["https://api.example/*"]),
        subjects: patterns(&["{caller}"]),
        forbidden: vec!["admin".into()],
        lifetime_max: Some(Duration::from_secs(600)),
        ..ClaimsPolicy::default()
    })])
    .await;
    let good = r#"{"aud":"https://api.example/a","sub":"jwt:ci:issuer"}"#;
    guarded.sign_jwt("issuer", good).await.unwrap();
    for (claims, claim, rule) in [
        (r#"{"sub":"jwt:ci:issuer"}"#, "aud", "audiences"),
        (r#"{"aud":"https://api.example/a","sub":"root"}"#, "sub", "subjects"),
        (r#"{"aud":"https://api.example/a","\u0061dmin":1}"#, "admin", "forbidden"),
        (
            r#"{"aud":"https://api.example/a","sub":"jwt:ci:issuer","exp":4000000000}"#,
            "exp",
            "lifetime_max",
        ),
    ] {
        let refused = guarded.sign_jwt("issuer", claims).await.unwrap_err();
        let expected = (Code::PermissionDenied, "CLAIM_NOT_ALLOWED".to_owned());
        assert_eq!(reason(&refused), expected, "{claims}");
        let metadata = refused.get_details_error_info().unwrap().metadata;
        assert_eq!((metadata["claim"].as_str(), metadata["rule"].as_str()), (claim, rule));
        let bad = refused.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, format!("claims_json.{claim}"));
        assert!(!refused.message().contains("root"), "it repeats a claim: {refused:?}");
    }
    assert_eq!(guarded.world.vault.signatures(), 1);
    let twice = r#"{"aud":"https://api.example/a","aud":"evil"}"#;
    let refused = guarded.sign_jwt("issuer", twice).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_fixed_is_in_the_token_and_the_usual_lifetime_is_cut() {
    let guarded = Guarded::by(vec![ruled(ClaimsPolicy {
        fixed: [("env".to_owned(), json!("prod"))].into(),
        lifetime_max: Some(Duration::from_secs(600)),
        ..ClaimsPolicy::default()
    })])
    .await;
    for claims in [r#"{"a":1}"#, r#"{"a":1,"env":"\u0070rod"}"#] {
        let jwt = guarded.sign_jwt("issuer", claims).await.unwrap().jwt;
        let claims = payload(&jwt);
        assert_eq!(claims["env"], "prod");
        let (begins, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert_eq!(ends - begins, 600);
        let written = base64url(br#""env":"prod""#);
        assert!(!written.is_empty() && !jwt.contains("\\u0070"));
    }
}

#[tokio::test]
async fn of_several_bindings_one_has_to_allow_all_that_a_token_says() {
    let audience = |aud: &str| ClaimsPolicy {
        audiences: patterns(&[aud]),
        forbidden: vec![format!("not-{aud}")],
        ..ClaimsPolicy::default()
    };
    let guarded = Guarded::by(vec![ruled(audience("a")), ruled(audience("b"))]).await;
    for claims in [r#"{"aud":"a"}"#, r#"{"aud":"b"}"#, r#"{"aud":["b","b"],"not-a":1}"#] {
        guarded.sign_jwt("issuer", claims).await.unwrap();
    }
    for claims in [r#"{"aud":["a","b"]}"#, r#"{"aud":"a","not-a":1}"#, r#"{"aud":"c"}"#] {
        let refused = guarded.sign_jwt("issuer", claims).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{claims}");
    }
}
