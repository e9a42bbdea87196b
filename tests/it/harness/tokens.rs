//! An issuer of bearer tokens that exists for one test: a key, a JWKS, tokens good and bad, and a
//! server that publishes the JWKS and counts who asks.

use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use signkeep::access::{Issuer, KeySource};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The `iss` of every issuer here.
pub(crate) const ISSUER: &str = "https://ci.example/";
/// The audience that is asked of tokens.
pub(crate) const AUDIENCE: &str = "signkeep";

/// A P-256 key that signs tokens.
pub(crate) struct Minter {
    kid: String,
    key: KeyPair,
}

impl Minter {
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: KeyPair::generate().unwrap() }
    }

    /// Its public half.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.public();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid,
            "x": base64url(&point[1..33]), "y": base64url(&point[33..]),
        })
    }

    /// The uncompressed point.
    pub(crate) fn public(&self) -> &[u8] {
        self.key.public_key_raw()
    }

    /// A JWKS with this key alone.
    pub(crate) fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// A good token for `sub` in the years to come.
    pub(crate) fn token(&self, sub: &str) -> String {
        self.with(claims(sub))
    }

    /// A token with these claims and a good signature.
    pub(crate) fn with(&self, claims: Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }

    /// Header and payload as they are given, and a good ES256 signature over them.
    pub(crate) fn over(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }
}

/// Good claims for `sub`.
pub(crate) fn claims(sub: &str) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": sub, "exp": 4_000_000_000_i64 })
}

/// The issuer `ci`, which signs by ES256.
pub(crate) fn issuer(keys: KeySource) -> Issuer {
    Issuer {
        name: "ci".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        keys,
        algorithms: vec![signkeep::key::Algorithm::Es256, signkeep::key::Algorithm::Rs256],
        leeway: Duration::from_secs(60),
        groups_claim: Some("groups".to_owned()),
    }
}

/// A JWKS in a file that lasts as long as the folder.
pub(crate) fn in_file(folder: &tempfile::TempDir, jwks: &str) -> KeySource {
    let file: PathBuf = folder.path().join("jwks.json");
    std::fs::write(&file, jwks).unwrap();
    KeySource::File(file)
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// Publishes a JWKS over HTTP on loopback, or does not.
pub(crate) struct Publisher {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    body: Mutex<String>,
    down: AtomicBool,
    asked: AtomicUsize,
}

impl Publisher {
    pub(crate) async fn start(jwks: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            body: Mutex::new(jwks.to_owned()),
            down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                serving.asked.fetch_add(1, Ordering::SeqCst);
                if serving.down.load(Ordering::SeqCst) {
                    continue;
                }
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let body = serving.body.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncache-control: max-age=3600\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, state }
    }

    pub(crate) fn source(&self, keep: Duration) -> KeySource {
        KeySource::Url { url: format!("http://{}/jwks.json", self.address), ca_file: None, keep }
    }

    /// Publishes something else from now on.
    pub(crate) fn publish(&self, jwks: &str) {
        *self.state.body.lock().unwrap() = jwks.to_owned();
    }

    /// Closes every connection without a word from now on, or answers again.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}
