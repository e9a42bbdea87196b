//! Bearer tokens (RFC 6750) that are JWTs (RFC 7519), from issuers that the configuration names.
//!
//! Everything is checked here, member by member, in an order that spends nothing on what is
//! malformed, and a token is never taken in part. What the header says of its own key (`jwk`, `jku`,
//! `x5u`, `x5c`) is not looked at. Messages never repeat what a token says: it is a secret, and it
//! is whoever sent it who wrote it.

use super::issuer::{Held, Issuer, Keys};
use super::{Caller, Unknown, Unusable};
use crate::clock::Clock;
use crate::jose::{Members, Missing, verify};
use crate::key::{Algorithm, later};
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest token that is read, in bytes.
const TOKEN_LEN_MAX: usize = 8 * 1024;
/// Groups and scopes that a token may name.
const ATTRIBUTES_MAX: usize = 256;
/// Verified tokens that are remembered for each issuer.
const REMEMBERED_MAX: usize = 4096;

/// Tells callers by their tokens.
pub(super) struct Bearers(Vec<Arc<Trusted>>);

/// One issuer.
struct Trusted {
    issuer: Issuer,
    keys: Keys,
    verified: Mutex<Verified>,
}

/// Tokens that were found good with one generation of keys.
#[derive(Default)]
struct Verified {
    generation: u64,
    callers: HashMap<[u8; 32], Caller>,
}

/// A token taken apart and not yet believed.
struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    claims: Members,
}

impl Bearers {
    /// Trusts `issuers`. Those that stood in `before` as they are keep the keys that were fetched.
    pub(super) fn new(
        issuers: Vec<Issuer>,
        before: Option<&Self>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Unusable> {
        let trust = |issuer: Issuer| {
            let same =
                |trusted: &&Arc<Trusted>| trusted.issuer == issuer && trusted.keys.are_fetched();
            if let Some(kept) = before.and_then(|before| before.0.iter().find(same)) {
                return Ok(kept.clone());
            }
            let keys = Keys::of(&issuer, clock)?;
            Ok(Arc::new(Trusted { issuer, keys, verified: Mutex::default() }))
        };
        issuers.into_iter().map(trust).collect::<Result<_, _>>().map(Self)
    }

    /// Whose token it is.
    pub(super) async fn caller(&self, token: &str, now: Timestamp) -> Result<Caller, Unknown> {
        if self.0.is_empty() {
            return Err(refused("is not looked at: the configuration names no [[callers.jwt]]"));
        }
        if token.len() > TOKEN_LEN_MAX {
            return Err(refused("is longer than 8 KiB"));
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        for trusted in &self.0 {
            if let Some(caller) = trusted.remembered(&hash, now) {
                return Ok(caller);
            }
        }
        let token = Token::read(token)?;
        let issuer = token.claims.string("iss").ok_or_else(|| refused("has no iss"))?;
        let trusted = self.0.iter().find(|trusted| trusted.issuer.issuer == issuer);
        let trusted = trusted.ok_or_else(|| {
            refused("is from an issuer that the configuration does not name in [[callers.jwt]]")
        })?;
        trusted.caller(&token, hash, now).await
    }
}

impl Trusted {
    async fn caller(
        &self,
        token: &Token<'_>,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Caller, Unknown> {
        let allowed = &self.issuer.algorithms;
        let algorithm = token.algorithm.filter(|algorithm| allowed.contains(algorithm));
        let algorithm = algorithm.ok_or_else(|| {
            let allowed: Vec<_> = allowed.iter().map(|algorithm| algorithm.name()).collect();
            let why = "is signed by an algorithm that is not taken here, which takes";
            self.refused(format!("{why} {}", allowed.join(", ")))
        })?;
        let (caller, until) = self.named(&token.claims, now)?;
        let held = self.verified_with(token, algorithm, now).await?;
        let caller = caller.until(until);
        self.remember(&held, hash, &caller, now);
        Ok(caller)
    }

    /// The keys that it verifies with.
    async fn verified_with(
        &self,
        token: &Token<'_>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Held, Unknown> {
        let kid = token.kid.as_deref();
        let looked = self.keys.held(now);
        let known = looked.as_ref().map(|held| held.keys.find(kid, algorithm).map(|_| ()));
        let held = match known {
            Some(Ok(()) | Err(Missing::Unfit | Missing::Ambiguous)) => looked,
            Some(Err(Missing::Unknown)) | None => {
                self.keys.fetched_again(now).await;
                self.keys.held(now)
            }
        };
        let held = held.ok_or_else(|| {
            self.refused("cannot be checked: its issuer's keys cannot be fetched; the log says why")
        })?;
        let public = held.keys.find(kid, algorithm).map_err(|missing| {
            self.refused(match missing {
                Missing::Unknown => "is signed by a key that its issuer does not publish",
                Missing::Unfit => "names a key that is not for its algorithm",
                Missing::Ambiguous => "does not say which of its issuer's keys signed it",
            })
        })?;
        if verify::verifies(public, algorithm, token.signed.as_bytes(), &token.signature) {
            Ok(held)
        } else {
            Err(self.refused("has a signature that does not verify"))
        }
    }

    /// The caller that the claims name, and until when.
    fn named(&self, claims: &Members, now: Timestamp) -> Result<(Caller, Timestamp), Unknown> {
        let Issuer { name, audience, leeway, groups_claim, .. } = &self.issuer;
        if !strings(claims, "aud").is_some_and(|all| all.contains(audience)) {
            return Err(self.refused(format!("is for another audience; it must be {audience}")));
        }
        let expires = time(claims, "exp")
            .ok_or_else(|| self.refused("has no exp that is a number"))?
            .ok_or_else(|| self.refused("has no exp that is a number"))?;
        let until = later(expires, *leeway);
        if until <= now {
            return Err(self.refused("has expired; come with a fresh one"));
        }
        match time(claims, "nbf") {
            None => {}
            Some(Some(begins)) if begins <= later(now, *leeway) => {}
            Some(_) => return Err(self.refused("is not valid yet")),
        }
        let subject = claims.string("sub").filter(|sub| !sub.is_empty());
        let subject = subject.ok_or_else(|| self.refused("has no sub"))?;
        let groups = groups_claim.as_ref().and_then(|claim| strings(claims, claim));
        let groups = groups.unwrap_or_default();
        let scope = claims.string("scope").unwrap_or_default();
        let scopes: Vec<_> = scope.split(' ').filter(|scope| !scope.is_empty()).collect();
        if groups.len() + scopes.len() > ATTRIBUTES_MAX {
            return Err(self.refused("names more than 256 groups and scopes"));
        }
        let groups = groups.iter().map(|group| format!("group:{name}:{group}"));
        let scopes = scopes.iter().map(|scope| format!("scope:{name}:{scope}"));
        let caller = Caller::new(&format!("jwt:{name}:{subject}"), groups.chain(scopes))?;
        Ok((caller, until))
    }

    fn remembered(&self, hash: &[u8; 32], now: Timestamp) -> Option<Caller> {
        let held = self.keys.held(now)?;
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = verified.callers.get(hash).filter(|_| verified.generation == held.generation);
        caller.filter(|caller| caller.known_until().is_some_and(|until| now < until)).cloned()
    }

    fn remember(&self, held: &Held, hash: [u8; 32], caller: &Caller, now: Timestamp) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.generation != held.generation {
            *verified = Verified { generation: held.generation, callers: HashMap::new() };
        }
        if verified.callers.len() >= REMEMBERED_MAX {
            let lasting = |caller: &Caller| caller.known_until().is_some_and(|until| now < until);
            verified.callers.retain(|_, caller| lasting(caller));
        }
        if verified.callers.len() < REMEMBERED_MAX {
            verified.callers.insert(hash, caller.clone());
        }
    }

    fn refused(&self, why: impl AsRef<str>) -> Unknown {
        Unknown::Token(format!("of {} {}", self.issuer.name, why.as_ref()))
    }
}

impl<'a> Token<'a> {
    fn read(token: &'a str) -> Result<Self, Unknown> {
        const MALFORMED: &str = "is not a signed JWT: three parts in base64url";
        let malformed = || refused(MALFORMED);
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let decoded = |part| Base64UrlUnpadded::decode_vec(part).map_err(|_| malformed());
        let members = |part| Members::parse(&decoded(part)?).map_err(|_| malformed());
        let header = members(header)?;
        if header.value("crit").is_some() {
            return Err(refused("has a crit in its header, which is not understood here"));
        }
        let kid = match header.value("kid") {
            None => None,
            Some(_) => Some(header.string("kid").ok_or_else(malformed)?),
        };
        let algorithm = header.string("alg").ok_or_else(malformed)?.parse().ok();
        let (signature, claims) = (decoded(signature)?, members(payload)?);
        Ok(Self { signed, signature, algorithm, kid, claims })
    }
}

fn refused(why: &str) -> Unknown {
    Unknown::Token(why.to_owned())
}

/// A string, or an array of them.
fn strings(claims: &Members, name: &str) -> Option<Vec<String>> {
    let text = claims.value(name)?.get();
    let one = serde_json::from_str::<String>(text).map(|one| vec![one]);
    one.or_else(|_| serde_json::from_str(text)).ok()
}

/// A NumericDate (RFC 7519 section 2), to the second; an inner none is one that cannot be read.
fn time(claims: &Members, name: &str) -> Option<Option<Timestamp>> {
    let seconds = serde_json::from_str::<f64>(claims.value(name)?.get()).ok();
    let seconds = seconds.filter(|seconds| *seconds >= 0.0).map(Duration::try_from_secs_f64);
    Some(seconds.map(|span| later(Timestamp::UNIX_EPOCH, span.unwrap_or(Duration::MAX))))
}
