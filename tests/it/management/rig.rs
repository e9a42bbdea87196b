//! The face on a keyring in memory, asked without a network.

use crate::harness::fuse::Fuse;
use crate::harness::ring::{Life, World};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use base64ct::{Base64UrlUnpadded, Encoding};
use secrecy::SecretString;
use serde_json::{Value, json};
use signkeep::backend::Backend;
use signkeep::http;
use signkeep::key::Algorithm;
use signkeep::management::{
    Auth0, ClientSettings, CredentialFile, Management, OutsideIssuer, Pace, Parts, Scope,
    SecretHash, Settings, Tokens,
};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;

/// The domain of [`Rig`].
pub(super) const DOMAIN: &str = "keys.example";
/// The secret of its clients `operator` and `viewer`.
pub(super) const SECRET: &str = "correct-horse-battery-staple";

/// The face, and what is beneath it.
pub(super) struct Rig {
    pub(super) world: World,
    pub(super) life: Life,
    pub(super) fuse: Arc<Fuse>,
    /// The key of the client `prover`.
    pub(super) pair: Ed25519KeyPair,
    router: Router,
    _dir: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Rig {
    /// One that was started at the frozen clock's beginning, its key set an hour old.
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose settings differ.
    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::made(change, None).await
    }

    /// One for which tokens of `outside` count too.
    pub(super) async fn trusting(outside: Arc<dyn OutsideIssuer>) -> Self {
        Self::made(|_| {}, Some(outside)).await
    }

    async fn made(
        change: impl FnOnce(&mut Settings),
        outside: Option<Arc<dyn OutsideIssuer>>,
    ) -> Self {
        let world = World::new().await;
        let fuse = Fuse::none();
        let life = world.life_with(&fuse).await;
        life.create().await.unwrap();
        world.clock.advance(Duration::from_secs(3600));
        let dir = tempfile::tempdir().unwrap();
        let pair = Ed25519KeyPair::generate().unwrap();
        let mut settings = settings(&dir, &world, &pair);
        change(&mut settings);
        let management = Management::open(Parts {
            keyring: life.ring.clone(),
            settings,
            publication: http::Settings {
                max_age: Duration::from_secs(15),
                stale_while_revalidate: Duration::from_secs(15),
                stale_if_error: Duration::from_secs(86400),
                public_url: None,
                own_url: String::new(),
            },
            port: 8443,
            outside,
        });
        let management = Arc::new(management.unwrap());
        management.prepare().await;
        let router = management.router(&"management test".into());
        Self { world, life, fuse, pair, router, _dir: dir }
    }

    /// Sends a request to [`DOMAIN`].
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", DOMAIN);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned()));
        Got { status, headers, body }
    }

    /// Asks the API with `token`.
    pub(super) async fn api(&self, method: Method, path: &str, token: &str) -> Got {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/v2/keys/signing{path}");
        self.send(method, &path, &[("authorization", &bearer)], "").await
    }

    /// Asks for a token with a form.
    pub(super) async fn form(&self, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Got {
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form {
            body.append_pair(name, value);
        }
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let headers: Vec<_> = headers.iter().copied().chain([kind]).collect();
        self.send(Method::POST, "/oauth/token", &headers, &body.finish()).await
    }

    /// A token of `client`.
    pub(super) async fn token(&self, client: &str) -> String {
        let got = self.form(&credentials(client, SECRET), &[]).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.body["access_token"].as_str().unwrap().to_owned()
    }

    /// The clock's seconds.
    pub(super) fn seconds(&self) -> i64 {
        self.life.ring.now().as_second()
    }

    /// An assertion by which `prover` proves that it is there, with its claims as `change` makes them.
    pub(super) fn assertion(&self, jti: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": "prover",
            "sub": "prover",
            "aud": format!("https://{DOMAIN}/"),
            "iat": self.seconds(),
            "exp": self.seconds() + 180,
            "jti": jti,
        });
        change(&mut claims);
        signed(&self.pair, &json!({ "alg": "EdDSA" }), &claims)
    }
}

impl Got {
    /// Its `errorCode`.
    pub(super) fn code(&self) -> &str {
        self.body["errorCode"].as_str().unwrap_or_default()
    }

    /// A header of text.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What a client sends for a token.
pub(super) fn credentials<'a>(client: &'a str, secret: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_secret", secret),
        ("audience", "https://keys.example/api/v2/"),
    ]
}

/// A compact JWS by `pair`.
pub(super) fn signed(pair: &Ed25519KeyPair, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = pair.sign(input.as_bytes());
    format!("{input}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()))
}

fn settings(dir: &TempDir, world: &World, pair: &Ed25519KeyPair) -> Settings {
    let hash = dir.path().join("client.hash");
    let secret = SecretHash::of(&SecretString::from(SECRET)).unwrap();
    fs::write(&hash, format!("{secret}\n")).unwrap();
    let keys = dir.path().join("client.jwks");
    let x = Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    fs::write(&keys, json!({ "keys": [jwk] }).to_string()).unwrap();
    let client = |credential, scopes: &[Scope]| ClientSettings {
        credential,
        scopes: scopes.iter().copied().collect(),
        domains: Vec::new(),
    };
    let secret = || CredentialFile::SecretHash(hash.clone());
    let clients = [
        ("operator", client(secret(), &Scope::ALL)),
        ("viewer", client(secret(), &[Scope::ReadSigningKeys])),
        ("updater", client(secret(), &[Scope::UpdateSigningKeys])),
        ("prover", client(CredentialFile::PublicKeys(keys), &Scope::ALL)),
    ];
    Settings {
        domains: BTreeMap::from([(DOMAIN.parse().unwrap(), "default".parse().unwrap())]),
        clients: clients.map(|(id, client)| (id.parse().unwrap(), client)).into(),
        tokens: Tokens {
            backend: world.vault.name().clone(),
            algorithm: Algorithm::Es256,
            lifetime: Duration::from_secs(3600),
        },
        pace: Pace { per_second: 100, burst: 100, rotations_per_day: 5 },
        auth0: Auth0::default(),
    }
}
