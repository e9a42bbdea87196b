//! JWKs and compact JWSs that others have written, read strictly.
//!
//! Whatever could be read in two ways is refused: a verifier that is more lenient than another is
//! how forgeries get through.

use super::verify;
use crate::key::{Algorithm, Curve, InvalidPublicKey, PublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Members that only a private or a symmetric key has (RFC 7518 section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The longest kid of somebody else's key, in bytes.
const KID_MAX: usize = 256;

/// A public signing key of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name, if it has one: 1 to 256 printable ASCII characters.
    pub kid: Option<String>,
    /// The only algorithm that it is for, if it says so.
    pub algorithm: Option<Algorithm>,
    /// The key.
    pub public: PublicKey,
}

impl ForeignKey {
    /// Reads a JWK (RFC 7517 section 4). Refuses one with private members, one that is not for
    /// signatures, and key types that are not offered here.
    pub fn from_jwk(jwk: &Value) -> Result<Self, InvalidJwk> {
        let members = jwk.as_object().ok_or(InvalidJwk::Member("a JWK", "a JSON object"))?;
        if let Some(name) = PRIVATE.into_iter().find(|name| members.contains_key(*name)) {
            return Err(InvalidJwk::Private(name));
        }
        if text(members, "use")?.is_some_and(|usage| usage != "sig") {
            return Err(InvalidJwk::Member("use", "\"sig\", or left out"));
        }
        let verifies = |operations: &Value| {
            operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
        };
        if members.get("key_ops").is_some_and(|operations| !verifies(operations)) {
            return Err(InvalidJwk::Member("key_ops", "a list with \"verify\", or left out"));
        }
        let public = public(members)?;
        let kid = text(members, "kid")?;
        let printable = |kid: &&str| {
            (1..=KID_MAX).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if kid.is_some_and(|kid| !printable(&kid)) {
            return Err(InvalidJwk::Member("kid", "1 to 256 printable ASCII characters"));
        }
        let algorithm = match text(members, "alg")? {
            None => None,
            Some(name) => Some(
                name.parse::<Algorithm>()
                    .ok()
                    .filter(|algorithm| public.fits(*algorithm))
                    .ok_or(InvalidJwk::Member("alg", "one that this kind of key signs with"))?,
            ),
        };
        Ok(Self { kid: kid.map(str::to_owned), algorithm, public })
    }

    /// Whether it is meant for signatures by `algorithm`.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.public.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

fn public(members: &Map<String, Value>) -> Result<PublicKey, InvalidJwk> {
    let bytes = |name: &'static str| {
        let text = text(members, name)?.unwrap_or_default();
        let decoded = Base64UrlUnpadded::decode_vec(text).ok().filter(|bytes| !bytes.is_empty());
        decoded.ok_or(InvalidJwk::Member(name, "base64url without padding"))
    };
    match text(members, "kty")? {
        Some("RSA") => Ok(PublicKey::rsa(&bytes("n")?, &bytes("e")?)?),
        Some("EC") => {
            let curve = [Curve::P256, Curve::P384, Curve::P521]
                .into_iter()
                .find(|curve| members.get("crv").is_some_and(|crv| crv == curve.name()))
                .ok_or(InvalidJwk::Member("crv", "P-256, P-384 or P-521"))?;
            let (x, y) = (bytes("x")?, bytes("y")?);
            let whole = |part: &[u8]| part.len() == curve.coordinate_len();
            if !whole(&x) || !whole(&y) {
                return Err(InvalidJwk::Member("x and y", "coordinates in full length"));
            }
            Ok(PublicKey::ec(curve, &[&[4], x.as_slice(), y.as_slice()].concat())?)
        }
        Some("OKP") if members.get("crv").is_some_and(|crv| crv == "Ed25519") => {
            Ok(PublicKey::ed25519(&bytes("x")?)?)
        }
        Some("OKP") => Err(InvalidJwk::Member("crv", "Ed25519")),
        _ => Err(InvalidJwk::Member("kty", "RSA, EC or OKP")),
    }
}

/// A member that is text where it is there at all.
fn text<'a>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, InvalidJwk> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(InvalidJwk::Member(name, "text")),
    }
}

/// A JWK that cannot be taken; says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwk {
    /// It gives away a private key.
    #[error(
        "has the member {0}, which belongs to a private key: make a new key, and give away its public half only"
    )]
    Private(&'static str),
    /// A member is missing or wrong.
    #[error("{0} must be {1}")]
    Member(&'static str, &'static str),
    /// The key itself.
    #[error(transparent)]
    Key(#[from] InvalidPublicKey),
}

/// A compact JWS (RFC 7515 section 7.1) of somebody else's, not verified yet.
#[derive(Clone, Debug)]
pub struct Compact<'a> {
    /// What its header says.
    pub header: Header,
    /// The payload's bytes; not to be believed before [`Compact::is_by`] holds.
    pub payload: Vec<u8>,
    signing_input: &'a str,
    signature: Vec<u8>,
}

/// What a header says that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// The algorithm; one that is not offered is refused with the rest.
    pub alg: Algorithm,
    /// Which key.
    #[serde(default)]
    pub kid: Option<String>,
    /// What it is.
    #[serde(default)]
    pub typ: Option<String>,
    /// Extensions that have to be understood; none is.
    #[serde(default)]
    crit: Option<Value>,
}

/// Text that is no compact JWS by an algorithm that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a compact JWS")]
pub struct Malformed;

impl<'a> Compact<'a> {
    /// Takes `text` apart. Refuses `crit` and whatever is not base64url without padding.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (signing_input, signature) = text.rsplit_once('.').ok_or(Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(Malformed)?;
        let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Malformed)?;
        if header.crit.is_some() {
            return Err(Malformed);
        }
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { header, payload, signing_input, signature })
    }

    /// Whether its signature is one by `public`, by the algorithm that its header names.
    pub fn is_by(&self, public: &PublicKey) -> bool {
        verify::verifies(public, self.header.alg, self.signing_input.as_bytes(), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::base64url;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    fn okp(more: &Value) -> Value {
        let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(&[7; 32]) });
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    #[test]
    fn a_public_key_of_each_kind_is_read() {
        let n = [vec![0xc1], vec![1; 255]].concat();
        let rsa = json!({ "kty": "RSA", "n": base64url(&n), "e": "AQAB", "alg": "PS256" });
        let rsa = ForeignKey::from_jwk(&rsa).unwrap();
        assert!(rsa.is_for(Algorithm::Ps256) && !rsa.is_for(Algorithm::Rs256));
        let (x, y) = (base64url(&[1; 48]), base64url(&[2; 48]));
        let ec = json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y });
        assert!(ForeignKey::from_jwk(&ec).unwrap().is_for(Algorithm::Es384));
        let ed = ForeignKey::from_jwk(&okp(&json!({ "kid": "mine", "use": "sig" }))).unwrap();
        assert_eq!(ed.kid.as_deref(), Some("mine"));
        assert!(ed.is_for(Algorithm::EdDsa));
    }

    #[test]
    fn what_is_no_public_signing_key_is_refused() {
        for name in PRIVATE {
            let error = ForeignKey::from_jwk(&okp(&json!({ name: "AA" }))).unwrap_err();
            assert_eq!(error, InvalidJwk::Private(name));
        }
        for more in [
            json!({ "use": "enc" }),
            json!({ "key_ops": ["sign"] }),
            json!({ "key_ops": "verify" }),
            json!({ "alg": "RS256" }),
            json!({ "alg": "none" }),
            json!({ "kid": "" }),
            json!({ "kid": 7 }),
            json!({ "kid": "two words" }),
            json!({ "kty": "oct" }),
            json!({ "crv": "X25519" }),
            json!({ "x": "" }),
            json!({ "x": "AA==" }),
            json!({ "x": "AA" }),
        ] {
            assert!(ForeignKey::from_jwk(&okp(&more)).is_err(), "{more}");
        }
        assert!(ForeignKey::from_jwk(&json!("text")).is_err());
        let short = json!({ "kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ" });
        assert!(ForeignKey::from_jwk(&short).is_err());
    }

    #[test]
    fn a_jws_is_verified_by_its_key_and_by_no_other() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let of = |pair: &Ed25519KeyPair| PublicKey::ed25519(pair.public_key().as_ref()).unwrap();
        let input = format!("{}.{}", base64url(br#"{"alg":"EdDSA","kid":"a"}"#), base64url(b"{}"));
        let text = format!("{input}.{}", base64url(pair.sign(input.as_bytes()).as_ref()));
        let jws = Compact::parse(&text).unwrap();
        assert_eq!((jws.header.kid.as_deref(), jws.payload.as_slice()), (Some("a"), &b"{}"[..]));
        assert!(jws.is_by(&of(&pair)));
        assert!(!jws.is_by(&of(&Ed25519KeyPair::generate().unwrap())));
        let other = text.replacen(&base64url(b"{}"), &base64url(b"[]"), 1);
        assert!(!Compact::parse(&other).unwrap().is_by(&of(&pair)));
    }

    #[test]
    fn what_is_no_jws_or_asks_for_more_than_is_known_is_refused() {
        let jws = |header: &str| format!("{}.e30.AA", base64url(header.as_bytes()));
        assert!(Compact::parse(&jws(r#"{"alg":"ES256"}"#)).is_ok());
        for text in [
            String::new(),
            "a.b".to_owned(),
            jws(r#"{"alg":"none"}"#),
            jws(r#"{"alg":"HS256"}"#),
            jws(r#"{"alg":"ES256","alg":"RS256"}"#),
            jws(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#),
            jws("{}"),
            format!("{}.e30=.AA", base64url(br#"{"alg":"ES256"}"#)),
            format!("{}.x.e30.AA", base64url(br#"{"alg":"ES256"}"#)),
        ] {
            assert!(Compact::parse(&text).is_err(), "{text}");
        }
    }
}
