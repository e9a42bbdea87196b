//! The keys of other issuers, as their JWKS publishes them (RFC 7517 section 5), to verify their
//! tokens with.
//!
//! A key verifies only by an algorithm that it fits and, if it names one, only by that. Since
//! [`Algorithm`] has neither `none` nor a symmetric member, a public key can never be taken for a
//! secret.

use crate::key::{Algorithm, Curve, PublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Keys that are looked at; a JWKS has a handful.
const KEYS_MAX: usize = 256;

/// The keys of a JWKS that verify signatures; others in it are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyingKeys(Vec<VerifyingKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct VerifyingKey {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    public: PublicKey,
}

/// Text that is not a JWKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a JWKS: a JSON object with an array of at most 256 keys")]
pub struct NotKeys;

/// Why there is no key to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No key has that kid.
    Unknown,
    /// The keys of that kid are for other algorithms.
    Unfit,
    /// Several would do.
    Ambiguous,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    crv: Option<String>,
    #[serde(rename = "use")]
    key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl VerifyingKeys {
    /// Reads a JWKS.
    pub fn parse(text: &[u8]) -> Result<Self, NotKeys> {
        let document: Document = serde_json::from_slice(text).map_err(|_| NotKeys)?;
        if document.keys.len() > KEYS_MAX {
            return Err(NotKeys);
        }
        let entry = |text: &RawValue| serde_json::from_str(text.get()).ok();
        let keys = document.keys.iter().filter_map(|text| entry(text).and_then(Entry::read));
        Ok(Self(keys.collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one key that verifies what `kid` signed by `algorithm`; without a kid, the only key that
    /// would do.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&PublicKey, Missing> {
        let named = |key: &&VerifyingKey| kid.is_none() || key.kid.as_deref() == kid;
        let fits = |key: &&VerifyingKey| {
            key.public.fits(algorithm) && key.algorithm.is_none_or(|own| own == algorithm)
        };
        let mut fitting = self.0.iter().filter(named).filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.public),
            (Some(_), Some(_)) => Err(Missing::Ambiguous),
            (None, _) if kid.is_some() && self.0.iter().any(|key| named(&key)) => {
                Err(Missing::Unfit)
            }
            (None, _) => Err(Missing::Unknown),
        }
    }
}

impl Entry {
    /// The key, if it is for signatures and of a kind that is known here.
    fn read(self) -> Option<VerifyingKey> {
        let verifies = self.key_use.as_deref().is_none_or(|key_use| key_use == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let algorithm = match &self.alg {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let part = |text: &Option<String>| -> Option<Vec<u8>> {
            Base64UrlUnpadded::decode_vec(text.as_deref()?).ok()
        };
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => PublicKey::rsa(&part(&self.n)?, &part(&self.e)?).ok()?,
            ("EC", Some(name)) => {
                let curves = [Curve::P256, Curve::P384, Curve::P521];
                let curve = curves.into_iter().find(|curve| curve.name() == name)?;
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                let point = [[4].as_slice(), x.as_slice(), y.as_slice()].concat();
                PublicKey::ec(curve, &point).ok()?
            }
            ("OKP", Some("Ed25519")) => PublicKey::ed25519(&part(&self.x)?).ok()?,
            _ => return None,
        };
        verifies.then_some(VerifyingKey { kid: self.kid, algorithm, public })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

    fn ec(more: &str) -> String {
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{X}","y":"{Y}"{more}}}"#)
    }

    fn keys(entries: &[String]) -> VerifyingKeys {
        VerifyingKeys::parse(format!(r#"{{"keys":[{}]}}"#, entries.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_kid_and_by_nothing_but_its_algorithm() {
        let keys = keys(&[ec(r#","kid":"a""#), ec(r#","kid":"b","alg":"ES256","use":"sig""#)]);
        assert!(keys.find(Some("a"), Algorithm::Es256).is_ok());
        assert!(keys.find(Some("b"), Algorithm::Es256).is_ok());
        assert_eq!(keys.find(Some("a"), Algorithm::Es384), Err(Missing::Unfit));
        assert_eq!(keys.find(Some("a"), Algorithm::Rs256), Err(Missing::Unfit));
        assert_eq!(keys.find(Some("c"), Algorithm::Es256), Err(Missing::Unknown));
        assert_eq!(keys.find(None, Algorithm::Es256), Err(Missing::Ambiguous));
        assert_eq!(keys.find(None, Algorithm::Rs256), Err(Missing::Unknown));
    }

    #[test]
    fn two_keys_of_one_kid_that_would_both_do_are_none() {
        let keys = keys(&[ec(r#","kid":"a""#), ec(r#","kid":"a""#)]);
        assert_eq!(keys.find(Some("a"), Algorithm::Es256), Err(Missing::Ambiguous));
    }

    #[test]
    fn keys_that_verify_no_signature_are_passed_over() {
        let keys = keys(&[
            ec(r#","use":"enc""#),
            ec(r#","key_ops":["deriveKey"]"#),
            ec(r#","alg":"HS256""#),
            r#"{"kty":"oct","k":"AAAA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            "7".to_owned(),
        ]);
        assert!(keys.is_empty(), "{keys:?}");
    }

    #[test]
    fn what_is_no_jwks_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":1}"#, "<html>"] {
            assert_eq!(VerifyingKeys::parse(text.as_bytes()), Err(NotKeys), "{text}");
        }
        let many = vec!["{}"; 257].join(",");
        assert!(VerifyingKeys::parse(format!(r#"{{"keys":[{many}]}}"#).as_bytes()).is_err());
    }
}
