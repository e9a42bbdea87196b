//! The real binary as an Auth0 tenant, with clients that trust its certificate authority.

use super::proxy::Proxy;
use crate::harness::authority::Authority;
use crate::harness::key_set::KeySet;
use crate::harness::service::Service;
use crate::harness::tools::{python, repository, run_command, tool};
use base64ct::{Base64UrlUnpadded, Encoding};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sqlx::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A client that was written for Auth0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Node,
}

/// The tenant. Its clients are `operator`, `viewer` (both with [`Tenant::secret`]) and `prover`
/// (with [`Tenant::key`]).
pub(super) struct Tenant {
    pub(super) service: Service,
    pub(super) secret: String,
    /// PKCS#8, PEM.
    pub(super) key: String,
    /// What clients reach it by, unless by its own listener.
    proxy: Option<Proxy>,
}

impl Tenant {
    /// One with TLS of its own. Its key set is a day old, so that it may be rotated.
    pub(super) async fn new() -> Self {
        let authority = Authority::new("a tenant's own");
        let tls = "[listeners.management.tls]\ncertificate_file = \"server.pem\"\nkey_file = \"server.key\"\n";
        Self::started(&authority, None, "localhost:0", tls, "ES256").await
    }

    /// One behind a proxy, whose issuer is its domain, with RSA keys.
    pub(super) async fn behind_a_proxy() -> Self {
        let authority = Authority::new("a tenant's own");
        let proxy = Proxy::start(&authority).await;
        let domain = proxy.domain();
        Self::started(&authority, Some(proxy), &domain, "", "RS256").await
    }

    async fn started(
        authority: &Authority,
        proxy: Option<Proxy>,
        domain: &str,
        tls: &str,
        algorithm: &str,
    ) -> Self {
        let service = Service::serve().await;
        authority.server().write(service.path("").as_path(), "server");
        fs::set_permissions(service.path("server.key"), Permissions::from_mode(0o600)).unwrap();
        fs::write(service.path("ca.pem"), authority.certificate()).unwrap();
        let pair = KeyPair::generate().unwrap();
        fs::write(service.path("prover.jwks"), json!({ "keys": [jwk(&pair)] }).to_string())
            .unwrap();
        let made = ["management", "hash-secret", "--new", "secret"];
        let hashed = service.signkeep(&made).await;
        assert!(hashed.success, "{hashed:?}");
        fs::write(service.path("client.hash"), &hashed.stdout).unwrap();
        let secret = fs::read_to_string(service.path("secret")).unwrap().trim().to_owned();
        let all = r#""read:signing_keys", "create:signing_keys", "update:signing_keys""#;
        let service = service.with_more(&format!(
            r#"
[[listeners.management]]
address = "127.0.0.1:0"
{tls}
[management.domains]
"{domain}" = "tenant"
[[management.clients]]
id = "operator"
secret_hash_file = "client.hash"
scopes = [{all}]
[[management.clients]]
id = "viewer"
secret_hash_file = "client.hash"
scopes = ["read:signing_keys"]
[[management.clients]]
id = "prover"
public_keys_file = "prover.jwks"
scopes = [{all}]
[key_sets.tenant]
algorithm = "{algorithm}"
issuer = "https://{domain}/"
"#
        ));
        let key = pair.serialize_pem();
        let mut tenant = Self { service, secret, key, proxy };
        tenant.service.start().await;
        tenant.grow_old().await;
        tenant
    }

    /// What clients call it.
    pub(super) fn domain(&self) -> String {
        match &self.proxy {
            Some(proxy) => proxy.domain(),
            None => {
                let (_, port) = self.service.management_address().rsplit_once(':').unwrap();
                format!("localhost:{port}")
            }
        }
    }

    /// Its key set, by gRPC.
    pub(super) fn key_set(&self) -> KeySet {
        self.service.key_set("tenant")
    }

    /// The proxy before it.
    pub(super) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it has TLS of its own")
    }

    /// Makes every key a day older, so that the next one may sign, and starts again.
    pub(super) async fn grow_old(&mut self) {
        self.service.stop().await;
        let url = format!("sqlite:{}", self.service.database().display());
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let day: i64 = 24 * 60 * 60 * 1_000_000;
        let aged = sqlx::query(
            "UPDATE keys SET created_us = created_us - $1, publish_us = publish_us - $1, \
             current_since_us = current_since_us - $1, current_until_us = current_until_us - $1",
        );
        aged.bind(day).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        self.service.start().await;
        if let Some(proxy) = &self.proxy {
            proxy.lead_to(self.service.management_address());
        }
    }

    /// Has `command` trust the authority and nobody else.
    pub(super) fn trusting(&self, mut command: Command) -> Command {
        let file = self.service.path("ca.pem");
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            command.env(name, &file);
        }
        command
    }

    /// What a client makes of `steps`, as `credentials` say who it is.
    pub(super) async fn play(
        &self,
        language: Language,
        credentials: Value,
        steps: Value,
    ) -> Vec<Value> {
        let mut story = json!({ "domain": self.domain(), "steps": steps });
        let object = story.as_object_mut().unwrap();
        object.extend(credentials.as_object().unwrap().clone());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("story.json");
        fs::write(&file, story.to_string()).unwrap();
        let mut command = Command::new(language.program());
        command.arg(language.script("auth0_calls")).arg(&file);
        let output = run_command(self.trusting(command)).await;
        assert!(output.success, "{language:?}: {output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// The same as `client` with its secret.
    pub(super) async fn play_as(
        &self,
        language: Language,
        client: &str,
        steps: Value,
    ) -> Vec<Value> {
        let credentials = json!({ "client_id": client, "client_secret": self.secret });
        self.play(language, credentials, steps).await
    }
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::Python, Self::Node];

    fn program(self) -> PathBuf {
        match self {
            Self::Python => python(),
            Self::Node => tool("node"),
        }
    }

    /// The script of that name in this language.
    pub(super) fn script(self, name: &str) -> PathBuf {
        match self {
            Self::Python => repository(&format!("tests/clients/python/{name}.py")),
            Self::Node => {
                let installed = repository("tests/clients/node/node_modules/auth0");
                assert!(installed.exists(), "auth0 is missing; ./tests/run installs it");
                repository(&format!("tests/clients/node/{name}.mjs"))
            }
        }
    }
}

/// The public half of a pair on P-256.
fn jwk(pair: &KeyPair) -> Value {
    let point = pair.der_bytes();
    assert_eq!((point.len(), point[0]), (65, 4), "not an uncompressed point on P-256");
    let (x, y) = point[1..].split_at(32);
    let part = Base64UrlUnpadded::encode_string;
    json!({ "kty": "EC", "crv": "P-256", "x": part(x), "y": part(y), "alg": "ES256" })
}
