//! SignJwt: claims in, a compact JWS out.
//!
//! The caller's claims are kept as they were written, member by member: their order and their
//! numbers are part of what is signed. What says who issued the token, when, and how it is to be
//! verified is the service's own.

use super::generate::random;
use super::sign::Asked;
use super::snapshot::{Line, Signer};
use super::{Error, InvalidField, Jwt, Keyring, SignJwt};
use crate::audit::{Action, Origin};
use crate::backend::Input;
use crate::jose::{Members, REGISTERED, base64url, jws};
use crate::key::later;
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

/// How long a token is valid that asks for nothing else, unless the key set allows less.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Header parameters that say how a token is to be verified (RFC 7515 section 4.1, RFC 7516,
/// RFC 7797).
const OWN_PARAMETERS: [&str; 13] = [
    "alg", "kid", "typ", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "enc",
];

const CLAIMS: &str = "claims";
const HEADER: &str = "header";

impl Keyring {
    /// Signs claims for `origin` with the current key, by `deadline`.
    pub async fn sign_jwt(
        &self,
        origin: &Origin,
        deadline: Instant,
        sign: SignJwt,
    ) -> Result<Jwt, Error> {
        let (claims, header) = (&sign.claims, &sign.header);
        let why = "is the service's own header parameter; leave it out";
        refuse(HEADER, header, &OWN_PARAMETERS, why)?;
        unambiguous(HEADER, header, &OWN_PARAMETERS)?;
        unambiguous(CLAIMS, claims, &REGISTERED)?;
        let header: Vec<_> =
            header.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let typ = sign.typ.as_deref().unwrap_or("JWT");
        let prepare = |line: &Line, signer: &Signer| {
            let times = Times::of(&sign, line, self.now())?;
            let payload = payload(claims, line, &times)?;
            let protected = jws::protected(signer.algorithm, &signer.kid, typ, &header);
            let signing_input = jws::signing_input(&protected, payload.as_bytes());
            let input = Input::Message(signing_input.clone().into());
            Ok((input, (signing_input, times.expires)))
        };
        let (action, id) = (Action::SignJwt, &sign.key_set);
        let asked = Asked { origin, action, id, expected: None, deadline };
        let (signed, (signing_input, expires)) = self.sign_with_current(asked, prepare).await?;
        let compact = jws::compact(&signing_input, &signed.signature);
        Ok(Jwt { compact, kid: signed.kid, expires })
    }
}

/// The payload: what the service says, then what the caller says.
fn payload(claims: &Members, line: &Line, times: &Times) -> Result<String, Error> {
    refuse(CLAIMS, claims, &["iat", "jti"], "is set by the service; leave it out")?;
    let issuer = serde_json::Value::from(line.set.issuer.as_str());
    let (iat, exp) = (times.issued.as_second(), times.expires.as_second());
    let jti = base64url(&random::<16>()?);
    let mut payload = format!(r#"{{"iss":{issuer},"iat":{iat},"exp":{exp},"jti":"{jti}""#);
    for (name, value) in claims.iter() {
        match name {
            "exp" => {}
            "iss"
                if serde_json::from_str::<serde_json::Value>(value.get()).ok()
                    == Some(issuer.clone()) => {}
            "iss" => {
                let why = "is set by the service to the key set's issuer; leave it out";
                return Err(not_allowed(CLAIMS, name, why));
            }
            _ => {
                payload.push(',');
                payload.push_str(&serde_json::Value::from(name).to_string());
                payload.push(':');
                payload.push_str(value.get());
            }
        }
    }
    payload.push('}');
    Ok(payload)
}

/// When a token begins and ends, in whole seconds.
struct Times {
    issued: Timestamp,
    expires: Timestamp,
}

impl Times {
    fn of(sign: &SignJwt, line: &Line, now: Timestamp) -> Result<Self, Error> {
        let longest = line.set.policy.max_token_ttl;
        let usual = LIFETIME.min(longest).min(sign.lifetime_usual_max.unwrap_or(longest));
        let issued = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let asked = sign.claims.value("exp").map(Self::exp).transpose()?;
        let (expires, field) = match (asked, sign.lifetime) {
            (Some(_), Some(_)) => {
                return Err(invalid("lifetime", "must not be set beside an exp among the claims"));
            }
            (Some(exp), None) => (exp, "claims.exp"),
            (None, Some(lifetime)) => (later(issued, lifetime), "lifetime"),
            (None, None) => (later(issued, usual), "lifetime"),
        };
        let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
        if expires <= issued {
            return Err(invalid(field, "must lie at least a second in the future"));
        }
        if expires > later(issued, longest) {
            let limit = longest.as_secs();
            let why =
                format!("must be at most {limit} seconds from now: the key set's max_token_ttl");
            return Err(invalid(field, why));
        }
        Ok(Self { issued, expires })
    }

    /// A NumericDate (RFC 7519 section 2) in whole seconds.
    fn exp(value: &RawValue) -> Result<Timestamp, Error> {
        let seconds = serde_json::from_str::<i64>(value.get()).ok();
        let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        at.ok_or_else(|| invalid("claims.exp", "must be a number of whole seconds since 1970"))
    }
}

fn refuse(field: &str, members: &Members, names: &[&str], why: &'static str) -> Result<(), Error> {
    match members.iter().find(|(member, _)| names.contains(member)) {
        Some((name, _)) => Err(not_allowed(field, name, why)),
        None => Ok(()),
    }
}

fn unambiguous(field: &str, members: &Members, names: &[&str]) -> Result<(), Error> {
    let why = "differs only by case from another name that verifiers may take it for; rename it";
    members.ambiguous(names).map_or(Ok(()), |name| Err(not_allowed(field, name, why)))
}

fn not_allowed(field: &str, name: &str, why: &'static str) -> Error {
    Error::ClaimNotAllowed { claim: name.to_owned(), field: format!("{field}.{name}"), why }
}

fn invalid(field: &str, why: impl Into<String>) -> Error {
    Error::Invalid { fields: vec![InvalidField { field: field.to_owned(), why: why.into() }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(field: &str, names: &[&str], text: &str) -> Option<String> {
        let members = Members::parse(text.as_bytes()).unwrap();
        match unambiguous(field, &members, names) {
            Ok(()) => None,
            Err(Error::ClaimNotAllowed { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_name_that_differs_from_a_reserved_one_only_by_case_is_not_signed() {
        for name in ["Aud", "EXP", "ISS", "i\u{17f}s", "JTI", "Sub", "Nbf", "iAt"] {
            let text = format!(r#"{{"{name}":1}}"#);
            assert_eq!(refused(CLAIMS, &REGISTERED, &text), Some(format!("claims.{name}")));
        }
        for name in ["KID", "\u{212a}id", "Alg", "JWK", "X5T#s256", "Crit"] {
            let text = format!(r#"{{"{name}":1}}"#);
            assert_eq!(refused(HEADER, &OWN_PARAMETERS, &text), Some(format!("header.{name}")));
        }
        assert_eq!(refused(CLAIMS, &REGISTERED, r#"{"iss":1,"aud":2,"Kid":3}"#), None);
    }
}
