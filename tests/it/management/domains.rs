//! What is public under a domain, and that there are no others.

use super::rig::Rig;
use axum::http::Method;
use signkeep::management::AlgMember;

#[tokio::test]
async fn the_jwks_has_auth0s_members_in_auth0s_order_current_first() {
    let rig = Rig::new().await;
    rig.life.rotate().await.unwrap();
    let got = rig.send(Method::GET, "/.well-known/jwks.json", &[], "").await;
    assert_eq!(got.status, 200);
    let set = rig.life.set();
    let expected = [set.current().unwrap(), set.next().unwrap(), set.previous()[0]];
    let keys = got.body["keys"].as_array().unwrap();
    let kids: Vec<_> = keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kids, expected.map(|key| key.kid.to_string()));
    let mut members: Vec<_> = keys[0].as_object().unwrap().keys().collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "x5c", "x5t", "y"]);
    assert_eq!(got.header("content-type"), "application/json; charset=utf-8");
    assert!(got.header("cache-control").starts_with("public, max-age="), "{got:?}");
    assert_eq!(got.header("access-control-allow-origin"), "*");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn alg_can_be_left_out_of_the_jwks() {
    let rig = Rig::with(|settings| settings.auth0.alg = AlgMember::LeftOut).await;
    let got = rig.send(Method::GET, "/.well-known/jwks.json", &[], "").await;
    assert!(got.body["keys"][0].get("alg").is_none(), "{got:?}");
    assert!(got.body["keys"][0].get("kid").is_some(), "{got:?}");
}

#[tokio::test]
async fn discovery_and_certificates_are_those_of_the_domain() {
    let rig = Rig::new().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let got = rig.send(Method::GET, path, &[], "").await;
        assert_eq!(got.body["issuer"], "https://issuer.example/");
        assert_eq!(got.body["jwks_uri"], "https://keys.example/.well-known/jwks.json");
        assert_eq!(got.body["id_token_signing_alg_values_supported"][0], "ES256");
    }
    for path in ["/pem", "/cer", "/rawpem", "/pb7", "/fingerprint"] {
        assert_eq!(rig.send(Method::GET, path, &[], "").await.status, 200, "{path}");
    }
    // Other key sets are not this domain's, and probes are elsewhere.
    for path in ["/default/.well-known/jwks.json", "/readyz", "/"] {
        assert_eq!(rig.send(Method::GET, path, &[], "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_host_that_is_no_domain_gets_nothing() {
    let rig = Rig::new().await;
    for host in ["other.example", "keys.example:8443", "keys.example.", "", "a b"] {
        for path in ["/.well-known/jwks.json", "/api/v2/keys/signing", "/oauth/token"] {
            let got = rig.send(Method::GET, path, &[("host", host)], "").await;
            assert_eq!((got.status, got.code()), (404, "unknown_domain"), "{host} {path}");
        }
    }
    for host in ["KEYS.example", "keys.example:443"] {
        let got = rig.send(Method::GET, "/.well-known/jwks.json", &[("host", host)], "").await;
        assert_eq!(got.status, 200, "{host}");
    }
}

#[tokio::test]
async fn unknown_endpoints_and_methods_are_refused_in_the_apis_shape() {
    let rig = Rig::new().await;
    let got = rig.send(Method::GET, "/api/v2/users", &[], "").await;
    assert_eq!((got.status, got.code()), (404, "not_found"), "{got:?}");
    for (method, path) in [
        (Method::DELETE, "/api/v2/keys/signing"),
        (Method::GET, "/api/v2/keys/signing/rotate"),
        (Method::POST, "/api/v2/keys/signing/kid/revoke"),
    ] {
        let got = rig.send(method, path, &[], "").await;
        assert_eq!((got.status, got.code()), (405, "method_not_allowed"), "{path}");
    }
}

#[tokio::test]
async fn custom_keys_are_not_to_be_had() {
    let rig = Rig::new().await;
    let bearer = format!("Bearer {}", rig.token("operator").await);
    let path = "/api/v2/keys/custom-signing";
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let got = rig.send(method.clone(), path, &[("authorization", &bearer)], "").await;
        assert_eq!((got.status, got.code()), (403, "feature_not_enabled"), "{method}");
        assert_eq!(rig.send(method, path, &[], "").await.status, 401);
    }
    let bearer = format!("Bearer {}", rig.token("viewer").await);
    let got = rig.send(Method::GET, path, &[("authorization", &bearer)], "").await;
    assert_eq!(got.code(), "insufficient_scope");
}
