//! Access tokens: made with a key set that nobody else can reach, and checked by it.
//!
//! Never with the domain's own: whoever may have tokens signed there could make themselves an
//! operator. A token counts only while the key that signed it is published, the client that it was
//! made for is configured, and for no more than that client may still do.

use super::{ClientId, DomainName, Management, Scopes};
use crate::backend::Input;
use crate::jose::foreign::Compact;
use crate::jose::{base64url, jws};
use crate::key::{KeySet, Kid, Refusal, later};
use crate::keyring::{Error, Sign};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What a token's header says that it is (RFC 9068 section 2.1).
const TYP: &str = "at+jwt";
/// How long signing one may take; Auth0's clients give up after five seconds.
const SIGN_MAX: Duration = Duration::from_secs(4);
/// How long an outside issuer may take over a token.
const OUTSIDE_MAX: Duration = Duration::from_secs(10);
/// Times that a token is made anew because its key was rotated out meanwhile.
const ATTEMPTS_MAX: usize = 3;
/// The longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 8 * 1024;

/// What a token says (RFC 9068 section 2.2; `azp` and `gty` as Auth0 writes them).
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: i64,
    exp: i64,
    scope: String,
    gty: String,
    azp: String,
    jti: String,
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub client: ClientId,
    /// What.
    pub scopes: Scopes,
}

/// Somebody else whose access tokens count here too.
#[async_trait]
pub trait OutsideIssuer: Send + Sync + 'static {
    /// What `token` allows at `audience`; none if it is not one of theirs or not valid.
    async fn grant(&self, token: &str, audience: &str) -> Option<Grant>;
}

/// A token that has just been made.
pub(super) struct Made {
    pub(super) token: String,
    pub(super) lifetime: Duration,
}

impl Management {
    /// Makes a token that allows `client` what `scopes` says under `domain`.
    pub(super) async fn make_token(
        &self,
        client: &ClientId,
        scopes: &Scopes,
        domain: &DomainName,
    ) -> Result<Made, Error> {
        let (now, lifetime) = (self.keyring.now(), self.settings.tokens.lifetime);
        let mut jti = [0; 16];
        getrandom::fill(&mut jti)
            .map_err(|error| Error::Fault(format!("no random numbers: {error}")))?;
        let claims = Claims {
            iss: domain.issuer(),
            sub: format!("{client}@clients"),
            aud: domain.audience(),
            iat: now.as_second(),
            exp: later(now, lifetime).as_second(),
            scope: scopes.to_string(),
            gty: "client-credentials".to_owned(),
            azp: client.to_string(),
            jti: base64url(&jti),
        };
        let claims =
            serde_json::to_vec(&claims).map_err(|error| Error::Fault(error.to_string()))?;
        let deadline = Instant::now() + SIGN_MAX;
        let mut attempts = 1;
        loop {
            match self.sign_token(&claims, deadline).await {
                Err(Error::Refused(Refusal::Changed { .. })) if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                }
                signed => return signed.map(|token| Made { token, lifetime }),
            }
        }
    }

    async fn sign_token(&self, claims: &[u8], deadline: Instant) -> Result<String, Error> {
        let id = &self.token_key_set;
        let set = self.token_keys().ok_or_else(|| Error::NoCurrentKey { id: id.clone() })?;
        let kid = set.current().map(|key| key.kid);
        let kid = kid.ok_or_else(|| Error::NoCurrentKey { id: id.clone() })?;
        let protected = jws::protected(set.algorithm, &kid, TYP, &[]);
        let signing_input = jws::signing_input(&protected, claims);
        let input = Input::Message(signing_input.clone().into());
        let sign = Sign { key_set: id.clone(), input, expected: Some(kid) };
        let signed = self.keyring.sign_internal(deadline, sign).await?;
        Ok(jws::compact(&signing_input, &signed.signature))
    }

    /// What `token` allows under `domain`.
    pub(super) async fn grant(&self, token: &str, domain: &DomainName) -> Result<Grant, Invalid> {
        if token.len() > TOKEN_MAX {
            return Err(Invalid::Token);
        }
        let own = self.token_keys().map_or(Err(Invalid::Token), |keys| {
            let claims = verified(token, &keys)?;
            self.allowed(&claims, domain, self.keyring.now())
        });
        match (&self.outside, own) {
            (Some(outside), Err(Invalid::Token)) => {
                let audience = domain.audience();
                let grant = timeout(OUTSIDE_MAX, outside.grant(token, &audience)).await;
                grant.ok().flatten().ok_or(Invalid::Token)
            }
            (_, own) => own,
        }
    }

    fn allowed(
        &self,
        claims: &Claims,
        domain: &DomainName,
        now: Timestamp,
    ) -> Result<Grant, Invalid> {
        if claims.iss != domain.issuer() || claims.aud != domain.audience() {
            return Err(Invalid::Audience);
        }
        if claims.exp <= now.as_second() {
            return Err(Invalid::Expired);
        }
        let (id, client) = self.clients.find(&claims.azp, domain).ok_or(Invalid::Client)?;
        let scopes = Scopes::in_text(&claims.scope).and(&client.scopes);
        Ok(Grant { client: id.clone(), scopes })
    }

    fn token_keys(&self) -> Option<Arc<KeySet>> {
        self.keyring.internal_key_set(&self.token_key_set)
    }
}

/// What `token` says, if one of the published keys of `keys` has signed it as an access token.
fn verified(token: &str, keys: &KeySet) -> Result<Claims, Invalid> {
    let jws = Compact::parse(token).map_err(|_| Invalid::Token)?;
    let kid: Kid =
        jws.header.kid.as_deref().and_then(|kid| kid.parse().ok()).ok_or(Invalid::Token)?;
    let key = keys.key(&kid).filter(|key| key.state.name().is_published());
    let key = key.ok_or(Invalid::Token)?;
    let is_ours = jws.header.typ.as_deref() == Some(TYP) && jws.header.alg == key.algorithm;
    if !is_ours || !jws.is_by(&key.public) {
        return Err(Invalid::Token);
    }
    serde_json::from_slice(&jws.payload).map_err(|_| Invalid::Token)
}

/// Why a token allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("Invalid token")]
    Token,
    #[error("Bad audience: the token is for another domain")]
    Audience,
    #[error("Expired token received for JSON Web Token validation")]
    Expired,
    #[error("The token's client may not do anything here any more")]
    Client,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::thumbprint;
    use crate::key::{
        Algorithm, Hold, Key, MaterialId, Policy, PublicKey, Service, State, StateName,
    };
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    const TTL: Duration = Duration::from_secs(3600);

    /// A key in each state, and a token by it.
    fn signed_in(state: State) -> (KeySet, String) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = PublicKey::ed25519(pair.public_key().as_ref()).unwrap();
        let (id, kid): (crate::key::KeySetId, _) =
            ("signkeep-management".parse().unwrap(), thumbprint::kid(&public));
        let key = Key {
            kid,
            material: MaterialId::from_bytes([1; 16]),
            key_set: id.clone(),
            algorithm: Algorithm::EdDsa,
            backend: "token".parse().unwrap(),
            object: String::new(),
            certificate: Vec::new(),
            public,
            created: Timestamp::UNIX_EPOCH,
            state,
        };
        let set = KeySet {
            id,
            algorithm: Algorithm::EdDsa,
            issuer: "signkeep-management".parse().unwrap(),
            backend: "token".parse().unwrap(),
            policy: Policy::default(),
            service: Service::Enabled,
            rotation_hold: Hold::Off,
            undo: None,
            revision: 1,
            created: Timestamp::UNIX_EPOCH,
            keys: vec![Arc::new(key)],
        };
        (set, token(&pair, &kid, TYP))
    }

    fn token(pair: &Ed25519KeyPair, kid: &Kid, typ: &str) -> String {
        let claims = r#"{"iss":"i","sub":"s","aud":"a","iat":1,"exp":2,"scope":"","gty":"g","azp":"c","jti":"j"}"#;
        let protected = jws::protected(Algorithm::EdDsa, kid, typ, &[]);
        let input = jws::signing_input(&protected, claims.as_bytes());
        jws::compact(&input, pair.sign(input.as_bytes()).as_ref())
    }

    #[test]
    fn a_token_counts_for_as_long_as_its_key_is_published() {
        let now = Timestamp::UNIX_EPOCH;
        let next = State::published(now, TTL);
        let current = next.clone().activate(now, TTL).unwrap();
        let previous = current.clone().rotate_out(now).unwrap();
        let retired = previous.clone().retire(now, now).unwrap();
        let revoked = previous.clone().revoke(now, String::new(), now).unwrap();
        let destroyed = revoked.clone().destroy(now).unwrap();
        for state in [next, current, previous, retired, revoked, destroyed] {
            let name = state.name();
            let (set, token) = signed_in(state);
            let counts = verified(&token, &set).is_ok();
            let published = [StateName::Next, StateName::Current, StateName::Previous];
            assert_eq!(counts, published.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_a_key_has_signed_for_another_purpose_is_no_access_token() {
        let (set, _) = signed_in(State::published(Timestamp::UNIX_EPOCH, TTL));
        let pair = Ed25519KeyPair::generate().unwrap();
        let (kid, public) = (set.keys[0].kid, pair.public_key().as_ref().to_vec());
        assert!(verified(&token(&pair, &kid, TYP), &set).is_err(), "signed by another");
        let key = Key { public: PublicKey::ed25519(&public).unwrap(), ..Key::clone(&set.keys[0]) };
        let set = KeySet { keys: vec![Arc::new(key)], ..set };
        assert!(verified(&token(&pair, &kid, TYP), &set).is_ok());
        assert!(verified(&token(&pair, &kid, "JWT"), &set).is_err(), "of another type");
        let unnamed = token(&pair, &Kid::from_thumbprint([0; 32]), TYP);
        assert!(verified(&unnamed, &set).is_err(), "by a key that is not there");
    }
}
