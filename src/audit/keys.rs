//! The public keys that checkpoints are checked with, as a JWKS that its owner has kept away from
//! the service: whoever can exchange these keys can sign what they like.

use super::chain::{Malformed, member};
use super::checkpoint::Checkpoint;
use crate::jose::{thumbprint, verify};
use crate::key::{Algorithm, Curve, Kid, PublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Public keys by kid, each for the one algorithm that it signs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<Kid, (Algorithm, PublicKey)>);

/// What a signature turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Made by one of the keys.
    Good,
    /// Its header names a key that is not among them.
    UnknownKey,
    /// It does not verify.
    Bad,
}

impl Keys {
    /// The keys of a JWKS (RFC 7517 section 5). Each must say its `alg`; a `kid` that is not the
    /// key's own thumbprint (RFC 7638) is refused, and so is a JWKS without keys.
    pub fn from_jwks(text: &str) -> Result<Self, Malformed> {
        let JwkSet { keys } = serde_json::from_str(text)
            .map_err(|wrong| Malformed::new(format!("is no JWKS: {wrong}")))?;
        if keys.is_empty() {
            return Err(Malformed::new("keys: there is none in it"));
        }
        let mut all = Self::default();
        for (index, jwk) in keys.iter().enumerate() {
            jwk.read()
                .map(|(algorithm, public)| all.insert(algorithm, public))
                .map_err(|wrong| Malformed::new(format!("keys[{index}].{wrong}")))?;
        }
        Ok(all)
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Adds a key under its own thumbprint.
    pub fn insert(&mut self, algorithm: Algorithm, public: PublicKey) {
        self.0.insert(thumbprint::kid(&public), (algorithm, public));
    }

    /// Whether one of the keys has signed `checkpoint`.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Signature {
        let Some((algorithm, public)) = self.0.get(&checkpoint.kid) else {
            return Signature::UnknownKey;
        };
        let input = checkpoint.signing_input().as_bytes();
        let good = *algorithm == checkpoint.algorithm
            && verify::verifies(public, *algorithm, input, checkpoint.signature());
        if good { Signature::Good } else { Signature::Bad }
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// The members that matter here; all others may be there (RFC 7517 section 4).
#[derive(Deserialize)]
struct Jwk {
    #[serde(default)]
    kty: String,
    #[serde(default)]
    alg: String,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    fn read(&self) -> Result<(Algorithm, PublicKey), Malformed> {
        let algorithm: Algorithm = member("alg", &self.alg)?;
        let public = match self.kty.as_str() {
            "RSA" => PublicKey::rsa(&number("n", &self.n)?, &number("e", &self.e)?),
            "EC" => {
                let curve = self.curve()?;
                let point = [vec![4], number("x", &self.x)?, number("y", &self.y)?].concat();
                PublicKey::ec(curve, &point)
            }
            "OKP" => PublicKey::ed25519(&number("x", &self.x)?),
            _ => return Err(Malformed::new("kty: must be RSA, EC or OKP")),
        }
        .map_err(Malformed::new)?;
        if !public.fits(algorithm) {
            return Err(Malformed::new(format!("alg: {algorithm} does not sign with such a key")));
        }
        if self.kid.as_ref().is_some_and(|kid| *kid != thumbprint::kid(&public).to_string()) {
            return Err(Malformed::new("kid: must be the key's RFC 7638 SHA-256 thumbprint"));
        }
        Ok((algorithm, public))
    }

    fn curve(&self) -> Result<Curve, Malformed> {
        [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find(|curve| Some(curve.name()) == self.crv.as_deref())
            .ok_or_else(|| Malformed::new("crv: must be P-256, P-384 or P-521"))
    }
}

fn number(name: &str, text: &Option<String>) -> Result<Vec<u8>, Malformed> {
    text.as_deref()
        .and_then(|text| Base64UrlUnpadded::decode_vec(text).ok())
        .ok_or_else(|| Malformed::new(format!("{name}: must be base64url without padding")))
}
