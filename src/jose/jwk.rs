//! JSON Web Keys (RFC 7517) for verifiers.
//!
//! The members stand in the order in which Auth0 writes them, so that a JWKS from here and one
//! from there can be laid side by side. A parser does not care; a person does. A JWK here has no
//! way to hold a private member.

use super::base64url;
use crate::key::{Algorithm, Key, KeySet, Kid, PublicKey};
use base64ct::{Base64, Encoding};
use serde::Serialize;
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// A public signing key as a JWK; serialises to its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<Algorithm>,
    kty: &'static str,
    #[serde(rename = "use")]
    key_use: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    kid: Kid,
    x5t: String,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<String>,
    x5c: [String; 1],
}

/// A JWK Set (RFC 7517 section 5); serialises to its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

impl Jwk {
    /// The JWK of `key`, with its certificate in `x5t`, `x5t#S256` and `x5c`.
    pub fn new(key: &Key) -> Self {
        let bare = Self {
            alg: Some(key.algorithm),
            kty: "",
            key_use: "sig",
            crv: None,
            x: None,
            y: None,
            n: None,
            e: None,
            kid: key.kid,
            x5t: x5t(&key.certificate),
            x5t_s256: Some(x5t_s256(&key.certificate)),
            x5c: [x5c(&key.certificate)],
        };
        match &key.public {
            PublicKey::Rsa { n, e } => {
                Self { kty: "RSA", n: Some(base64url(n)), e: Some(base64url(e)), ..bare }
            }
            PublicKey::Ec { curve, x, y } => Self {
                kty: "EC",
                crv: Some(curve.name()),
                x: Some(base64url(x)),
                y: Some(base64url(y)),
                ..bare
            },
            PublicKey::Ed25519(x) => {
                Self { kty: "OKP", crv: Some("Ed25519"), x: Some(base64url(x)), ..bare }
            }
        }
    }

    /// The same without `alg`: for keys that verifiers are to take for more than one algorithm.
    #[must_use]
    pub fn without_alg(self) -> Self {
        Self { alg: None, ..self }
    }

    /// The same without `x5t#S256`, which Auth0's have not.
    #[must_use]
    pub fn without_x5t_s256(self) -> Self {
        Self { x5t_s256: None, ..self }
    }
}

impl JwkSet {
    /// The published keys of `key_set`: current, next, then previous ones, newest first. Current
    /// comes first because there are verifiers that take the first key they find.
    pub fn new(key_set: &KeySet) -> Self {
        let keys = key_set
            .current()
            .into_iter()
            .chain(key_set.next())
            .chain(key_set.previous())
            .map(|key| Jwk::new(key))
            .collect();
        Self { keys }
    }

    /// The same with each key as `change` makes it.
    #[must_use]
    pub fn each(self, change: impl Fn(Jwk) -> Jwk) -> Self {
        Self { keys: self.keys.into_iter().map(change).collect() }
    }

    /// The keys, in the order in which they are published.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }
}

/// `x5t` (RFC 7517 section 4.8): base64url of the SHA-1 of the certificate's DER.
pub fn x5t(certificate: &[u8]) -> String {
    base64url(&Sha1::digest(certificate))
}

/// `x5t#S256` (RFC 7517 section 4.9): base64url of the SHA-256 of the certificate's DER.
pub fn x5t_s256(certificate: &[u8]) -> String {
    base64url(&Sha256::digest(certificate))
}

/// One element of `x5c` (RFC 7517 section 4.7): the certificate's DER in base64, padded and not
/// base64url.
pub fn x5c(certificate: &[u8]) -> String {
    Base64::encode_string(certificate)
}
