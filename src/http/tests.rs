//! The shim's routes against key sets made by hand, without a keyring.

use super::*;
use crate::jose::{JwkSet, thumbprint};
use crate::key::{Algorithm, Hold, Key, MaterialId, Policy, PublicKey, Service, State as KeyState};
use crate::x509::{Draft, bundle, fingerprint, pem};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use jiff::Timestamp;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use tower::ServiceExt;

const TTL: Duration = Duration::from_secs(3600);
const CACHEABLE: &str = "stale-while-revalidate=15, stale-if-error=86400";

fn key(seed: u8, state: KeyState) -> Arc<Key> {
    let public = PublicKey::Ed25519([seed; 32]);
    let now = Timestamp::UNIX_EPOCH;
    let draft = Draft::new(&public, Algorithm::EdDsa, "issuer.example", [seed; 16], now).unwrap();
    Arc::new(Key {
        kid: thumbprint::kid(&public),
        material: MaterialId::from_bytes([seed; 16]),
        key_set: "default".parse().unwrap(),
        algorithm: Algorithm::EdDsa,
        backend: "token".parse().unwrap(),
        object: String::new(),
        certificate: draft.finish(&[seed; 64]).unwrap(),
        public,
        created: now,
        state,
    })
}

fn next(seed: u8) -> Arc<Key> {
    key(seed, KeyState::published(Timestamp::UNIX_EPOCH, TTL))
}

fn current(seed: u8) -> Arc<Key> {
    let next = KeyState::published(Timestamp::UNIX_EPOCH, TTL);
    key(seed, next.activate(Timestamp::UNIX_EPOCH, TTL).unwrap())
}

fn key_set(id: &str, keys: Vec<Arc<Key>>) -> KeySet {
    KeySet {
        id: id.parse().unwrap(),
        algorithm: Algorithm::EdDsa,
        issuer: "https://issuer.example/".parse().unwrap(),
        backend: "token".parse().unwrap(),
        policy: Policy::default(),
        service: Service::Enabled,
        rotation_hold: Hold::Off,
        undo: None,
        revision: 1,
        created: Timestamp::UNIX_EPOCH,
        keys,
    }
}

fn settings() -> Settings {
    Settings {
        max_age: Duration::from_secs(15),
        stale_while_revalidate: Duration::from_secs(15),
        stale_if_error: Duration::from_secs(86400),
        public_url: None,
        own_url: "http://127.0.0.1:8080".to_owned(),
    }
}

/// A shim over key sets that a test can change under it.
#[derive(Clone)]
struct World {
    key_sets: Arc<Mutex<Vec<Arc<KeySet>>>>,
    health: Health,
    router: Router,
}

impl World {
    fn of(key_sets: Vec<KeySet>) -> Self {
        Self::with(settings(), key_sets)
    }

    fn with(settings: Settings, key_sets: Vec<KeySet>) -> Self {
        let key_sets = Arc::new(Mutex::new(key_sets.into_iter().map(Arc::new).collect::<Vec<_>>()));
        let known = key_sets.clone();
        let health = Health::default();
        let router = routes(Shim {
            source: Box::new(move |id| {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.iter().find(|key_set| key_set.id == *id).cloned()
            }),
            health: health.clone(),
            default_key_set: "default".parse().unwrap(),
            publications: Publications::default(),
            settings,
            form: Form::Signkeep,
        });
        Self { key_sets, health, router }
    }

    fn set(&self, key_sets: Vec<KeySet>) {
        *self.key_sets.lock().unwrap() = key_sets.into_iter().map(Arc::new).collect();
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Got {
            status: head.status,
            headers: head.headers,
            body: to_bytes(body, 1 << 20).await.unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, &[]).await
    }
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn two_keys() -> World {
    World::of(vec![
        key_set("default", vec![next(2), current(1)]),
        key_set("other", vec![current(3)]),
    ])
}

const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn the_jwks_is_served_with_and_without_the_key_sets_name() {
    let world = two_keys();
    let bare = world.get(JWKS).await;
    let named = world.get("/default/.well-known/jwks.json").await;
    let other = world.get("/other/.well-known/jwks.json").await;
    assert_eq!(bare.status, StatusCode::OK);
    assert_eq!(bare.body, named.body);
    assert_ne!(bare.body, other.body);
    let set = key_set("default", vec![next(2), current(1)]);
    assert_eq!(bare.json(), serde_json::to_value(JwkSet::new(&set)).unwrap());
    assert_eq!(bare.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(bare.header("vary"), "Accept-Encoding");
    assert_eq!(bare.header("access-control-allow-origin"), "*");
    assert_eq!(bare.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn max_age_differs_from_key_set_to_key_set_and_never_exceeds_what_is_set() {
    let ids: Vec<String> = (0..50).map(|number| format!("set-{number}")).collect();
    let world = World::of(ids.iter().map(|id| key_set(id, vec![current(1)])).collect());
    let mut seen = std::collections::BTreeSet::new();
    for id in &ids {
        let got = world.get(&format!("/{id}/.well-known/jwks.json")).await;
        let control = got.header("cache-control");
        let age = control.strip_prefix("public, max-age=").unwrap();
        let (age, rest) = age.split_once(", ").unwrap();
        assert_eq!(rest, CACHEABLE);
        seen.insert(age.parse::<u32>().unwrap());
    }
    assert!(seen.iter().all(|age| (12..=15).contains(age)), "{seen:?}");
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn a_key_that_is_withdrawn_is_gone_from_the_next_answer() {
    let world = two_keys();
    let before = world.get(JWKS).await;
    world.set(vec![key_set("default", vec![current(2)])]);
    let after = world.send(Method::GET, JWKS, &[("if-none-match", before.header("etag"))]).await;
    assert_eq!(after.status, StatusCode::OK);
    assert_eq!(after.json()["keys"].as_array().unwrap().len(), 1);
    assert_ne!(before.header("etag"), after.header("etag"));
    world.set(vec![]);
    assert_eq!(world.get(JWKS).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_caller_that_holds_the_answer_gets_304_with_the_same_validators() {
    let world = two_keys();
    for encoding in ["identity", "gzip"] {
        let full = world.send(Method::GET, JWKS, &[("accept-encoding", encoding)]).await;
        let etag = full.header("etag").to_owned();
        for held in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
            for method in [Method::GET, Method::HEAD] {
                let headers = [("accept-encoding", encoding), ("if-none-match", &held)];
                let got = world.send(method, JWKS, &headers).await;
                assert_eq!(got.status, StatusCode::NOT_MODIFIED, "{held}");
                assert!(got.body.is_empty());
                for name in ["etag", "cache-control", "vary"] {
                    assert_eq!(got.header(name), full.header(name), "{name}");
                }
            }
        }
        let headers = [("accept-encoding", encoding), ("if-none-match", "\"x\"")];
        let got = world.send(Method::GET, JWKS, &headers).await;
        assert_eq!(got.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn gzip_carries_the_same_bytes_under_another_etag() {
    let world = two_keys();
    let plain = world.get(JWKS).await;
    let gzip = world.send(Method::GET, JWKS, &[("accept-encoding", "gzip")]).await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(gzip.header("content-encoding"), "gzip");
    assert_ne!(plain.header("etag"), gzip.header("etag"));
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&gzip.body[..]);
    decoder.read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let refused = [("accept-encoding", "gzip;q=0")];
    let got = world.send(Method::GET, JWKS, &refused).await;
    assert_eq!(got.body, plain.body);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let world = two_keys();
    for path in [JWKS, "/cer", "/fingerprint", "/nowhere"] {
        let get = world.get(path).await;
        let head = world.send(Method::HEAD, path, &[]).await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        let length = get.body.len().to_string();
        assert_eq!(head.header("content-length"), length, "{path}");
        for name in ["etag", "content-type", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn unknown_deleted_internal_and_impossible_key_sets_are_not_found_alike() {
    let world = two_keys();
    let mut deleted = key_set("deleted", vec![]);
    deleted.service = Service::Deleted;
    world.set(vec![deleted, key_set("signkeep-audit", vec![current(1)])]);
    let mut bodies = std::collections::BTreeSet::new();
    for path in [
        "/unknown/.well-known/jwks.json",
        "/deleted/.well-known/jwks.json",
        "/signkeep-audit/.well-known/jwks.json",
        "/signkeep-audit/cer",
        "/NOT%20A%20NAME/.well-known/jwks.json",
        "/%ff/.well-known/jwks.json",
        "/.well-known/pem",
        "/nowhere",
        "/",
        "//.well-known/jwks.json",
        "/../.well-known/jwks.json",
    ] {
        let got = world.get(path).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(got.header("cache-control"), "no-store", "{path}");
        assert_eq!(got.header("etag"), "", "{path}");
        bodies.insert(got.body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn a_disabled_key_set_goes_on_publishing() {
    let mut disabled = key_set("default", vec![current(1)]);
    disabled.service = Service::Disabled;
    let world = World::of(vec![disabled]);
    assert_eq!(world.get(JWKS).await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_methods_are_refused_and_told_which_would_do() {
    let world = two_keys();
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let got = world.send(method, JWKS, &[]).await;
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(got.header("allow"), "GET,HEAD,OPTIONS");
        assert_eq!(got.header("cache-control"), "no-store");
    }
    let got = world.send(Method::OPTIONS, JWKS, &[]).await;
    assert_eq!(got.status, StatusCode::NO_CONTENT);
    assert_eq!(got.header("access-control-allow-origin"), "*");
    assert!(got.header("access-control-allow-headers").contains("If-None-Match"));
}

#[tokio::test]
async fn discovery_names_the_issuer_exactly_and_one_jwks_uri_for_each_key_set() {
    let world = two_keys();
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let got = world.get(&format!("/.well-known/{name}")).await;
        assert_eq!(
            got.json(),
            serde_json::json!({
                "issuer": "https://issuer.example/",
                "jwks_uri": "http://127.0.0.1:8080/.well-known/jwks.json",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA"],
            })
        );
        let named = world.get(&format!("/default/.well-known/{name}")).await;
        assert_eq!(named.body, got.body);
        let other = world.get(&format!("/other/.well-known/{name}")).await;
        let uri = &other.json()["jwks_uri"];
        assert_eq!(uri, "http://127.0.0.1:8080/other/.well-known/jwks.json");
    }
    let settings =
        Settings { public_url: Some("https://keys.example/a/".to_owned()), ..settings() };
    let world = World::with(settings, vec![key_set("default", vec![current(1)])]);
    let got = world
        .send(Method::GET, "/.well-known/openid-configuration", &[("host", "evil.example")])
        .await;
    let uri = &got.json()["jwks_uri"];
    assert_eq!(uri, "https://keys.example/a/.well-known/jwks.json");
}

#[tokio::test]
async fn the_current_certificate_is_served_in_every_form() {
    let world = two_keys();
    let der = current(1).certificate.clone();
    for (path, kind, file, body) in [
        ("pem", "application/x-pem-file", "default.pem", pem(&der).into_bytes()),
        ("rawpem", "text/plain; charset=utf-8", "", pem(&der).into_bytes()),
        ("cer", "application/pkix-cert", "default.cer", der.clone()),
        ("pb7", "application/x-pkcs7-certificates", "default.p7b", bundle::to_der(&der).unwrap()),
        ("fingerprint", "text/plain; charset=utf-8", "", fingerprint::sha1(&der).into_bytes()),
    ] {
        for prefix in ["", "/default"] {
            let got = world.get(&format!("{prefix}/{path}")).await;
            assert_eq!(got.status, StatusCode::OK, "{path}");
            assert_eq!(got.header("content-type"), kind, "{path}");
            assert_eq!(got.body, body, "{path}");
            let disposition = match file {
                "" => String::new(),
                file => format!("attachment; filename=\"{file}\""),
            };
            assert_eq!(got.header("content-disposition"), disposition, "{path}");
        }
    }
}

#[tokio::test]
async fn without_a_current_key_there_is_a_jwks_and_no_certificate() {
    let world = World::of(vec![key_set("default", vec![])]);
    let got = world.get(JWKS).await;
    assert_eq!(got.body, &br#"{"keys":[]}"#[..]);
    let got = world.get("/pem").await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.header("retry-after"), "5");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_does_not_keep_the_jwks_back() {
    let mut broken = Key::clone(&current(1));
    broken.certificate = b"no certificate".to_vec();
    let world = World::of(vec![key_set("default", vec![Arc::new(broken)])]);
    assert_eq!(world.get(JWKS).await.status, StatusCode::OK);
    let got = world.get("/pb7").await;
    assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(got.header("cache-control"), "no-store");
}

#[tokio::test]
async fn readiness_names_each_part_and_liveness_does_not_depend_on_it() {
    let world = two_keys();
    assert_eq!(world.get("/livez").await.status, StatusCode::OK);
    let starting = world.get("/readyz").await;
    assert_eq!(starting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(starting.json()["service"], "starting");

    world.health.update(|report| {
        report.started = true;
        report.backends.insert("token".into(), None);
        report.incomplete = vec!["default".into(), "signkeep-audit".into()];
    });
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(ready.header("cache-control"), "no-store");
    assert_eq!(
        ready.json(),
        serde_json::json!({
            "status": "ready",
            "service": "ok",
            "store": "ok",
            "backends": { "token": "ok" },
            "audit": {},
            "incomplete_key_sets": ["default"],
            "certificates": {},
        })
    );

    world.health.update(|report| {
        report.store = Some("the disk is full".into());
        report.backends.insert("token".into(), Some("no such token".into()));
    });
    let out = world.get("/readyz").await;
    assert_eq!(out.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(out.json()["status"], "not ready");
    assert_eq!(out.json()["store"], "out");
    assert_eq!(out.json()["backends"]["token"], "out");
    assert_eq!(world.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let router = metrics::router(crate::metrics::Metrics::new());
    let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(body.ends_with(b"# EOF\n"));
}
