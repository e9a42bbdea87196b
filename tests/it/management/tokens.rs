//! `/oauth/token`, and what its tokens are good for.

use super::rig::{DOMAIN, Rig, SECRET, credentials, signed};
use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use axum::http::Method;
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use signkeep::key::{Approval, Emergency};
use signkeep::management::{Grant, OutsideIssuer, Scope};
use std::sync::Arc;
use std::time::Duration;

const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What is wrong with an assertion, and how it gets there.
type Flaw<'a> = (&'a str, &'a dyn Fn(&mut Value));

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_secret_is_taken_from_a_form_from_json_and_from_http_basic() {
    let rig = Rig::new().await;
    let form = rig.form(&credentials("viewer", SECRET), &[]).await;
    let json = json!({
        "grant_type": "client_credentials",
        "client_id": "viewer",
        "client_secret": SECRET,
        "audience": format!("https://{DOMAIN}/api/v2/"),
    });
    let headers = [("content-type", "application/json")];
    let json = rig.send(Method::POST, "/oauth/token", &headers, &json.to_string()).await;
    let pair = Base64::encode_string(format!("viewer:{SECRET}").as_bytes());
    let basic = format!("Basic {pair}");
    let rest = [
        ("grant_type", "client_credentials"),
        ("audience", "https://keys.example/api/v2/"),
        ("scope", "read:signing_keys update:signing_keys"),
    ];
    let basic = rig.form(&rest, &[("authorization", &basic)]).await;
    for got in [form, json, basic] {
        assert_eq!(got.status, 200, "{got:?}");
        assert_eq!(got.body["token_type"], "Bearer");
        assert_eq!(got.body["expires_in"], 3600);
        assert_eq!(got.body["scope"], "read:signing_keys");
        assert_eq!(got.header("cache-control"), "no-store");
        let token = got.body["access_token"].as_str().unwrap();
        let claims = claims(token);
        assert_eq!(claims["iss"], "https://keys.example/");
        assert_eq!(claims["aud"], "https://keys.example/api/v2/");
        assert_eq!(claims["sub"], "viewer@clients");
        assert_eq!(claims["exp"], rig.seconds() + 3600);
        assert_eq!(rig.api(Method::GET, "", token).await.status, 200);
    }
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_client_are_refused_in_the_same_words() {
    let rig = Rig::new().await;
    let mut bodies = Vec::new();
    for (client, secret) in [
        ("viewer", "wrong-horse-battery-staple"),
        ("viewer", ""),
        ("nobody", SECRET),
        ("no such client", SECRET),
        ("prover", SECRET),
    ] {
        let got = rig.form(&credentials(client, secret), &[]).await;
        assert_eq!(got.status, 401, "{got:?}");
        bodies.push(got.body);
    }
    assert_eq!(bodies[0], json!({ "error": "access_denied", "error_description": "Unauthorized" }));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn what_is_asked_in_another_way_is_refused_with_what_would_be_right() {
    let rig = Rig::new().await;
    let good = credentials("viewer", SECRET);
    let but = |name: &str, value: &'static str| {
        let mut form = good;
        form.iter_mut().filter(|pair| pair.0 == name).for_each(|pair| pair.1 = value);
        form
    };
    let without =
        |name: &str| -> Vec<_> { good.iter().filter(|pair| pair.0 != name).copied().collect() };
    let assertion = rig.assertion("a", |_| {});
    let both: Vec<_> = good.iter().copied().chain([("client_assertion", &*assertion)]).collect();
    let twice: Vec<_> = good.iter().copied().chain([("client_id", "operator")]).collect();
    let scope: Vec<_> = good.iter().copied().chain([("scope", "read:users")]).collect();
    for (form, status, error) in [
        (but("grant_type", "password").to_vec(), 403, "unsupported_grant_type"),
        (without("grant_type"), 400, "invalid_request"),
        (without("client_id"), 400, "invalid_request"),
        (without("client_secret"), 401, "access_denied"),
        (without("audience"), 400, "invalid_request"),
        (but("audience", "https://other.example/api/v2/").to_vec(), 403, "access_denied"),
        (both, 400, "invalid_request"),
        (twice, 400, "invalid_request"),
        (scope, 403, "access_denied"),
    ] {
        let got = rig.form(&form, &[]).await;
        assert_eq!((got.status, &got.body["error"]), (status, &error.into()), "{form:?} {got:?}");
    }
    for (kind, body) in
        [("text/plain", "a=b"), ("application/json", "[1]"), ("application/json", "{")]
    {
        let headers = [("content-type", kind)];
        let got = rig.send(Method::POST, "/oauth/token", &headers, body).await;
        assert_eq!((got.status, &got.body["error"]), (400, &"invalid_request".into()), "{body}");
    }
    let got = rig.form(&good[..1], &[("authorization", "Basic !")]).await;
    assert_eq!(got.status, 400, "{got:?}");
    assert_eq!(rig.send(Method::GET, "/oauth/token", &[], "").await.status, 405);
}

#[tokio::test]
async fn an_assertion_proves_a_client_once() {
    let rig = Rig::new().await;
    let ask = async |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "prover"),
            ("client_assertion", assertion),
            ("client_assertion_type", BEARER),
            ("audience", "https://keys.example/api/v2/"),
        ];
        rig.form(&form, &[]).await
    };
    let assertion = rig.assertion("first", |_| {});
    let got = ask(&assertion).await;
    assert_eq!(got.status, 200, "{got:?}");
    let token = got.body["access_token"].as_str().unwrap();
    assert_eq!(rig.api(Method::GET, "", token).await.status, 200);
    let again = ask(&assertion).await;
    assert_eq!((again.status, &again.body["error"]), (401, &"invalid_client".into()));
    assert!(again.body["error_description"].as_str().unwrap().contains("jti"), "{again:?}");

    let now = rig.seconds();
    let wrong: [Flaw<'_>; 12] = [
        ("for somebody else", &|claims| claims["aud"] = json!("https://other.example/")),
        ("for our API", &|claims| claims["aud"] = json!("https://keys.example/api/v2/")),
        ("by another", &|claims| claims["iss"] = json!("viewer")),
        ("of another", &|claims| {
            claims["iss"] = json!("viewer");
            claims["sub"] = json!("viewer");
        }),
        ("over", &|claims| claims["exp"] = json!(now - 61)),
        ("valid for too long", &|claims| claims["exp"] = json!(now + 3600)),
        ("from the future", &|claims| claims["iat"] = json!(now + 120)),
        ("from before the start", &|claims| claims["iat"] = json!(now - 1)),
        ("without exp", &|claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("without iat", &|claims| drop(claims.as_object_mut().unwrap().remove("iat"))),
        ("without jti", &|claims| drop(claims.as_object_mut().unwrap().remove("jti"))),
        ("with an empty jti", &|claims| claims["jti"] = json!("")),
    ];
    for (name, change) in wrong {
        let got = ask(&rig.assertion(name, change)).await;
        assert_eq!((got.status, &got.body["error"]), (401, &"invalid_client".into()), "{name}");
    }
    let (header, body) = (json!({ "alg": "EdDSA" }), claims(&rig.assertion("forged", |_| {})));
    let stranger = Ed25519KeyPair::generate().unwrap();
    for forged in [
        signed(&stranger, &header, &body),
        signed(&rig.pair, &json!({ "alg": "ES256" }), &body),
        signed(&rig.pair, &json!({ "alg": "none" }), &body),
    ] {
        assert_eq!(ask(&forged).await.status, 401);
    }
    let several = rig.assertion("several", |claims| {
        claims["aud"] = json!(["https://other.example/", "https://keys.example/"]);
    });
    assert_eq!(ask(&several).await.status, 200);
}

#[tokio::test]
async fn a_token_is_good_for_its_time_and_its_domain_only() {
    let rig = Rig::with(|settings| {
        let other = "other.example".parse().unwrap();
        settings.domains.insert(other, "default".parse().unwrap());
        let domain = "other.example".parse().unwrap();
        let viewer = settings.clients.get_mut(&"viewer".parse().unwrap()).unwrap();
        viewer.domains = vec![domain];
    })
    .await;
    // A client that has no business under a domain gets no token there.
    let got = rig.form(&credentials("viewer", SECRET), &[]).await;
    assert_eq!(got.status, 401, "{got:?}");
    let token = rig.token("operator").await;
    let bearer = format!("Bearer {token}");
    let headers = [("host", "other.example"), ("authorization", &*bearer)];
    let got = rig.send(Method::GET, "/api/v2/keys/signing", &headers, "").await;
    assert_eq!((got.status, got.code()), (401, "invalid_token"), "{got:?}");
    rig.world.clock.advance(Duration::from_secs(3599));
    assert_eq!(rig.api(Method::GET, "", &token).await.status, 200);
    rig.world.clock.advance(Duration::from_secs(1));
    let got = rig.api(Method::GET, "", &token).await;
    assert_eq!(got.status, 401);
    assert_eq!(got.body["message"], "Expired token received for JSON Web Token validation");
    assert!(got.header("www-authenticate").starts_with("Bearer"), "{got:?}");
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    let own = claims(&token);
    // The domain's own keys sign no tokens for this API, whatever a token says.
    let kid = rig.life.current().to_string();
    let header = json!({ "alg": "EdDSA", "kid": kid, "typ": "at+jwt" });
    let (input, signature) = token.rsplit_once('.').unwrap();
    let flipped = format!(
        "{input}.{}{}",
        if signature.starts_with('A') { "B" } else { "A" },
        &signature[1..]
    );
    for wrong in [
        String::new(),
        "x".to_owned(),
        "x".repeat(10_000),
        signed(&rig.pair, &header, &own),
        flipped,
    ] {
        let got = rig.api(Method::GET, "", &wrong).await;
        assert_eq!((got.status, got.code()), (401, "invalid_token"), "{wrong}");
    }
    let got = rig.send(Method::GET, "/api/v2/keys/signing", &[], "").await;
    assert_eq!((got.status, &got.body["message"]), (401, &"Missing authentication".into()));
    let basic = [("authorization", "Basic eDp5")];
    assert_eq!(rig.send(Method::GET, "/api/v2/keys/signing", &basic, "").await.status, 401);
}

#[tokio::test]
async fn a_token_that_the_domains_own_key_has_signed_opens_nothing() {
    let rig = Rig::new().await;
    let own = claims(&rig.token("operator").await);
    let kid = rig.life.current();
    let header = json!({ "alg": "ES256", "kid": kid.to_string(), "typ": "at+jwt" });
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let input = format!("{}.{}", part(&header), part(&own));
    let signed = rig.life.sign(input.clone().leak().as_bytes()).await.unwrap();
    let forged = format!("{input}.{}", Base64UrlUnpadded::encode_string(&signed.signature));
    assert_eq!(rig.api(Method::GET, "", &forged).await.status, 401);
}

/// Whoever says `let me look` may look.
struct Doorman;

#[async_trait]
impl OutsideIssuer for Doorman {
    async fn grant(&self, token: &str, audience: &str) -> Option<Grant> {
        let known = token == "let-me-look" && audience == "https://keys.example/api/v2/";
        let scopes = [Scope::ReadSigningKeys].into_iter().collect();
        known.then(|| Grant { client: "visitor".parse().unwrap(), scopes })
    }
}

#[tokio::test]
async fn tokens_of_an_outside_issuer_count_for_what_it_says() {
    let rig = Rig::trusting(Arc::new(Doorman)).await;
    assert_eq!(rig.api(Method::GET, "", "let-me-look").await.status, 200);
    assert_eq!(rig.api(Method::POST, "/rotate", "let-me-look").await.status, 403);
    assert_eq!(rig.api(Method::GET, "", "let-me-in").await.status, 401);
    let token = rig.token("viewer").await;
    assert_eq!(rig.api(Method::GET, "", &token).await.status, 200);
}

#[tokio::test]
async fn nobody_reaches_the_key_set_that_signs_tokens() {
    let rig = Rig::new().await;
    let id = "signkeep-management".parse().unwrap();
    assert!(rig.life.ring.internal_key_set(&id).is_some());
    assert!(rig.life.ring.key_set(&id).is_err());
    let kid = rig.life.ring.internal_key_set(&id).unwrap().current().unwrap().kid;
    let rotation = signkeep::keyring::Rotate { key_set: id, ..rig.life.rotation(Approval::Forced) };
    let context = crate::harness::ring::context(None);
    assert!(rig.life.ring.rotate(context, rotation).await.is_err());
    assert!(rig.life.revoke(kid, Emergency::Promote).await.is_err());
    let jwks = rig.send(Method::GET, "/.well-known/jwks.json", &[], "").await.body;
    assert!(!jwks.to_string().contains(&kid.to_string()));
}
