//! `private_key_jwt` (RFC 7523 section 3, OpenID Connect Core section 9): a client proves who it is
//! with a JWT that it has signed itself, good for one use.

use super::clients::{Client, Clients};
use super::{ClientId, DomainName};
use crate::jose::foreign::Compact;
use crate::key::later;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion may be valid. Auth0's clients make them for two or three minutes.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 60);
/// How far a client's clock may be off.
const SKEW: Duration = Duration::from_secs(60);
/// The longest `jti`, in bytes.
const JTI_MAX: usize = 256;
/// Assertions that are remembered, of all clients together.
const REMEMBERED_MAX: usize = 100_000;

/// What an assertion says.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: Seconds,
    iat: Seconds,
    jti: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A NumericDate (RFC 7519 section 2), fractions left out.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(i64),
    Broken(f64),
}

impl Seconds {
    fn at(self) -> Option<Timestamp> {
        match self {
            Self::Whole(seconds) => Timestamp::from_second(seconds).ok(),
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and is checked after")]
            Self::Broken(seconds) => Timestamp::from_second(seconds as i64).ok(),
        }
    }
}

/// Why an assertion proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unproven {
    #[error("client_assertion must be a compact JWS of a JWT with iss, sub, aud, exp, iat and jti")]
    Malformed,
    #[error("iss and sub must both be the client_id")]
    Subject,
    #[error("aud must be the domain's issuer, https://, the domain, and a slash")]
    Audience,
    #[error("exp must lie in the future, at most ten minutes, and iat not")]
    Time,
    #[error(
        "it was made before this service started, which cannot tell whether it has been used; make a new one"
    )]
    TooOld,
    #[error("jti must be 1 to 256 characters")]
    Jti,
    #[error("no key of this client has signed it")]
    Signature,
    #[error("its jti has been used before; make a new assertion for every request")]
    Replayed,
    #[error("too many assertions are remembered; try again in a few minutes")]
    Full,
}

/// The client that `assertion` proves to be there, once.
pub(super) fn by_assertion<'a>(
    clients: &'a Clients,
    named: Option<&str>,
    assertion: &str,
    domain: &DomainName,
    started: Timestamp,
    now: Timestamp,
) -> Result<(&'a ClientId, &'a Client), Unproven> {
    let jws = Compact::parse(assertion).map_err(|_| Unproven::Malformed)?;
    let claims: Claims = serde_json::from_slice(&jws.payload).map_err(|_| Unproven::Malformed)?;
    if claims.iss != claims.sub || named.is_some_and(|named| named != claims.sub) {
        return Err(Unproven::Subject);
    }
    let issuer = domain.issuer();
    let is_for_us = match &claims.aud {
        Audience::One(one) => *one == issuer,
        Audience::Many(many) => many.contains(&issuer),
    };
    if !is_for_us {
        return Err(Unproven::Audience);
    }
    let expires = claims.valid(started, now)?;
    if !(1..=JTI_MAX).contains(&claims.jti.len()) {
        return Err(Unproven::Jti);
    }
    let (id, client) = clients.find(&claims.sub, domain).ok_or(Unproven::Signature)?;
    let mut candidates = client.keys().iter().filter(|key| {
        let named = jws.header.kid.is_none() || key.kid.is_none() || key.kid == jws.header.kid;
        named && key.is_for(jws.header.alg)
    });
    if !candidates.any(|key| jws.is_by(&key.public)) {
        return Err(Unproven::Signature);
    }
    clients.replays.remember(id, &claims.jti, later(expires, SKEW), now)?;
    Ok((id, client))
}

impl Claims {
    /// When it ends, if it is valid now.
    fn valid(&self, started: Timestamp, now: Timestamp) -> Result<Timestamp, Unproven> {
        let (issued, expires) = self.iat.at().zip(self.exp.at()).ok_or(Unproven::Malformed)?;
        if later(expires, SKEW) <= now
            || expires > later(now, LIFETIME_MAX + SKEW)
            || issued > later(now, SKEW)
        {
            return Err(Unproven::Time);
        }
        if issued.as_second() < started.as_second() {
            return Err(Unproven::TooOld);
        }
        Ok(expires)
    }
}

/// The assertions that have been used and have not run out.
#[derive(Default)]
pub(super) struct Replays(Mutex<HashMap<[u8; 32], Timestamp>>);

impl Replays {
    /// Takes note of an assertion until `expires`; refuses one that has been used, and any while
    /// there is no room.
    fn remember(
        &self,
        client: &ClientId,
        jti: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), Unproven> {
        let name = Sha256::new().chain_update(client.as_str()).chain_update([0]).chain_update(jti);
        let name: [u8; 32] = name.finalize().into();
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(&name).is_some_and(|until| *until > now) {
            return Err(Unproven::Replayed);
        }
        if used.len() >= REMEMBERED_MAX {
            used.retain(|_, until| *until > now);
        }
        if used.len() >= REMEMBERED_MAX {
            return Err(Unproven::Full);
        }
        used.insert(name, expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jti_is_good_once_for_each_client_until_it_has_run_out() {
        let replays = Replays::default();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let ends = later(now, SKEW);
        assert_eq!(replays.remember(&one, "a", ends, now), Ok(()));
        assert_eq!(replays.remember(&one, "a", ends, now), Err(Unproven::Replayed));
        assert_eq!(replays.remember(&other, "a", ends, now), Ok(()));
        assert_eq!(replays.remember(&one, "b", ends, now), Ok(()));
        assert_eq!(replays.remember(&one, "a", later(ends, SKEW), ends), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_never_forgets_what_is_still_good() {
        let replays = Replays::default();
        let one = "one".parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..REMEMBERED_MAX {
            let jti = number.to_string();
            replays.remember(&one, &jti, later(now, SKEW), now).unwrap();
        }
        assert_eq!(replays.remember(&one, "more", later(now, SKEW), now), Err(Unproven::Full));
        assert_eq!(replays.remember(&one, "7", later(now, SKEW), now), Err(Unproven::Replayed));
        let after = later(now, SKEW);
        assert_eq!(replays.remember(&one, "more", later(after, SKEW), after), Ok(()));
    }
}
