//! A key set: one issuer's line of keys, and the operations that move them along together.
//!
//! Every operation takes the set as it stands and returns the set as it would be, or says why it
//! refuses. Nothing is changed in place, so a dry run is the operation without the commit, and the
//! commit is a comparison of two values.

use super::{
    Algorithm, BackendName, History, KeySetId, KeySpec, Kid, MaterialId, Policy, PublicKey,
    Retention, State, StateName, TransitionError, later, until, words,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// One issuer's line of keys: the unit of rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// Its name; never changes.
    pub id: KeySetId,
    /// What its keys sign with; never changes.
    pub algorithm: Algorithm,
    /// The `iss` of its tokens; never changes.
    pub issuer: Issuer,
    /// Where its next key will be generated.
    pub backend: BackendName,
    /// How long things last.
    pub policy: Policy,
    /// Whether it serves.
    pub service: Service,
    /// Whether promotion of `next` is held until an operator lifts that.
    pub rotation_hold: Hold,
    /// The Rotate that Rollback would undo, if that was the last change of key state.
    pub undo: Option<Undo>,
    /// The store's revision at its last change; the store sets it at commit.
    pub revision: u64,
    /// When it was created.
    pub created: Timestamp,
    /// Its keys, destroyed ones left out, in no particular order.
    pub keys: Vec<Arc<Key>>,
}

/// A Rotate that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The `next` that it put in.
    pub made: Kid,
    /// The key that it took out of signing.
    pub reinstates: Kid,
}

/// One key pair: what is known of it outside the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, derived from `public`.
    pub kid: Kid,
    /// Ties it to its material in the backend.
    pub material: MaterialId,
    /// The key set that it belongs to.
    pub key_set: KeySetId,
    /// The one algorithm that it signs with.
    pub algorithm: Algorithm,
    /// The backend that holds the private key.
    pub backend: BackendName,
    /// How the backend names the private key (`backend::ObjectRef` as text).
    pub object: String,
    /// The public key.
    pub public: PublicKey,
    /// Its self-signed X.509 certificate, DER.
    pub certificate: Vec<u8>,
    /// When it was generated.
    pub created: Timestamp,
    /// Where it stands.
    pub state: State,
}

/// The lifecycle's `pending`: material is being generated under this id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Chosen before generation.
    pub material: MaterialId,
    /// The key set that the key is for; it may not exist yet.
    pub key_set: KeySetId,
    /// The algorithm that the key is for.
    pub algorithm: Algorithm,
    /// What is to be generated.
    pub spec: KeySpec,
    /// The backend that generates it.
    pub backend: BackendName,
    /// When it was reserved.
    pub reserved: Timestamp,
}

/// Whether a key set serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// It signs and publishes.
    Enabled,
    /// It publishes and does not sign.
    Disabled,
    /// It is gone; only what is left of its material is still being destroyed.
    Deleted,
}

/// Whether promotion of the next key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Rotation is free.
    Off,
    /// Nothing promotes the next key until an operator lifts this.
    On,
}

/// The `iss` of a key set's tokens: a StringOrURI (RFC 7519 section 4.1.1), 1 to 512
/// printable ASCII characters; if it has `://`, a URL with a host and without user or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(Arc<str>);

impl Serialize for Issuer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Issuer {
    /// The issuer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host of an `https` or `http` issuer; else the issuer itself.
    pub fn host(&self) -> &str {
        let rest = match self.0.split_once("://") {
            Some((_, rest)) => rest,
            None => return &self.0,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match host_port.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
            _ => host_port,
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Issuer {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=512).contains(&text.len()) && plain;
        let issuer = Self(text.into());
        // What stands in a discovery document names a host, no user, and no part of a page.
        let hosted =
            !text.contains("://") || (!text.contains(['#', '@']) && is_host(issuer.host()));
        if fits && hosted { Ok(issuer) } else { Err(InvalidIssuer) }
    }
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => !text.is_empty() && !text.contains(['[', ']']),
    }
}

/// A text that cannot be an `iss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a URL with a host, or a name, of 1 to 512 ASCII characters without spaces, e.g. https://issuer.example/"
)]
pub struct InvalidIssuer;

/// Whether guards that protect verifiers are to be overridden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Approval {
    /// Every guard holds.
    Guarded,
    /// An operator overrides them, for a reason that the audit record keeps.
    Forced,
}

/// What Revoke does if the key is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Emergency {
    /// It refuses.
    No,
    /// The next key takes over at once.
    Promote,
    /// The next key is revoked too; both are generated afresh.
    ReplaceNext,
}

/// The two places that must never be empty for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The key that signs.
    Current,
    /// The key that will sign.
    Next,
}

/// What a key set lacks; lacking anything makes it `incomplete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// There is no `current`: nothing can be signed.
    pub current: bool,
    /// There is no `next`: nothing can be rotated in.
    pub next: bool,
}

impl Missing {
    /// Whether anything is missing.
    pub const fn any(self) -> bool {
        self.current || self.next
    }
}

/// Why an operation on a key set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Verifiers may not hold the next key yet.
    #[error("the next key {kid} may not be known to all verifiers before {ready}; wait {}, or force it with a reason", words(round_up(*wait)))]
    NextKeyNotPropagated {
        /// The next key.
        kid: Kid,
        /// When Rotate stops being refused.
        ready: Timestamp,
        /// How long that is from now.
        wait: Duration,
    },
    /// There is no next key yet; the service is generating one.
    #[error("the key set has no next key yet; the service is generating one, try again shortly")]
    NextKeyMissing,
    /// A rollback has put rotation on hold.
    #[error(
        "rotation is on hold since a rollback; lift the hold first (UpdateKeySet rotation_hold), or in an emergency revoke with replace_next"
    )]
    RotationHold,
    /// Tokens that the key signed may still be valid.
    #[error("tokens signed by {kid} may be valid until {until}; wait, or force it with a reason")]
    TokensStillValid {
        /// The key.
        kid: Kid,
        /// When Revoke stops being refused.
        until: Timestamp,
        /// How long that is from now.
        wait: Duration,
    },
    /// The key is the current one.
    #[error("{kid} is the current key; rotate first, or revoke it as an emergency")]
    CurrentKey {
        /// The key.
        kid: Kid,
    },
    /// The material is gone; there is nothing left to revoke.
    #[error("{kid} is destroyed; nothing is left to revoke")]
    KeyDestroyed {
        /// The key.
        kid: Kid,
    },
    /// The last change of key state was not a Rotate.
    #[error(
        "the last change of a key's state was not a rotation, so there is nothing to roll back"
    )]
    NothingToRollBack,
    /// Somebody changed the key set in between.
    #[error("the key set has changed: its current key is {}", current.map_or_else(|| "missing".to_owned(), |kid| kid.to_string()))]
    Changed {
        /// The present current key.
        current: Option<Kid>,
    },
    /// No such key in this key set.
    #[error("the key set has no key {kid}")]
    KeyNotFound {
        /// The key that was asked for.
        kid: Kid,
    },
    /// Deleting needs every key to be revoked or retired.
    #[error("{kid} is {state}; disable the key set and revoke its keys before deleting it")]
    KeysInUse {
        /// A key that stands in the way.
        kid: Kid,
        /// Its state.
        state: StateName,
    },
    /// The key set has to be disabled first.
    #[error("the key set is enabled; disable it before deleting it")]
    StillEnabled,
    /// A transition that the lifecycle does not know: a defect of ours.
    #[error(transparent)]
    Transition(#[from] TransitionError),
}

impl Reservation {
    /// The key that came of this reservation, published as `next`.
    pub fn publish(&self, now: Timestamp, policy: &Policy, born: Born) -> Key {
        Key {
            kid: born.kid,
            material: self.material,
            key_set: self.key_set.clone(),
            algorithm: self.algorithm,
            backend: self.backend.clone(),
            object: born.object,
            public: born.public,
            certificate: born.certificate,
            created: now,
            state: State::published(now, policy.propagation_delay),
        }
    }
}

/// What generation yields beyond what was reserved.
#[derive(Clone, Debug)]
pub struct Born {
    /// The thumbprint of `public`.
    pub kid: Kid,
    /// The backend's name for the private key.
    pub object: String,
    /// The public key as the backend read it back.
    pub public: PublicKey,
    /// The self-signed certificate, DER.
    pub certificate: Vec<u8>,
}

impl Key {
    /// The same key in another state.
    fn moved(
        self: &Arc<Self>,
        step: impl FnOnce(State) -> Result<State, TransitionError>,
    ) -> Result<Arc<Self>, TransitionError> {
        let state = step(self.state.clone())?;
        Ok(Arc::new(Self { state, ..Self::clone(self) }))
    }
}

impl KeySet {
    /// The key that signs.
    pub fn current(&self) -> Option<&Arc<Key>> {
        self.in_state(StateName::Current).next()
    }

    /// The key that will sign.
    pub fn next(&self) -> Option<&Arc<Key>> {
        self.in_state(StateName::Next).next()
    }

    /// The keys that were rotated out, newest first.
    pub fn previous(&self) -> Vec<&Arc<Key>> {
        let mut keys: Vec<_> = self.in_state(StateName::Previous).collect();
        keys.sort_by_key(|key| std::cmp::Reverse((key.state.history().map(|h| h.until), key.kid)));
        keys
    }

    /// The key of that name, unless it is destroyed.
    pub fn key(&self, kid: &Kid) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.kid == *kid)
    }

    /// The published keys: next, current, then previous ones, newest first.
    pub fn published(&self) -> Vec<&Arc<Key>> {
        self.next().into_iter().chain(self.current()).chain(self.previous()).collect()
    }

    /// What it lacks.
    pub fn missing(&self) -> Missing {
        Missing { current: self.current().is_none(), next: self.next().is_none() }
    }

    /// When Rotate stops being refused for the sake of verifiers; none while there is no `next`. A
    /// delay that was raised since the key was published counts, one that was lowered does not.
    pub fn rotatable(&self) -> Option<Timestamp> {
        match self.next()?.state {
            State::Next { published, propagation_delay, .. } => {
                Some(later(published, propagation_delay.max(self.policy.propagation_delay)))
            }
            _ => None,
        }
    }

    /// Refuses if the caller took another key for the current one.
    pub fn expect_current(&self, expected: Option<Kid>) -> Result<(), Refusal> {
        let current = self.current().map(|key| key.kid);
        match expected {
            Some(kid) if current != Some(kid) => Err(Refusal::Changed { current }),
            _ => Ok(()),
        }
    }

    /// Whether Rotate would go through.
    pub fn may_rotate(&self, now: Timestamp, approval: Approval) -> Result<(), Refusal> {
        if self.rotation_hold == Hold::On {
            return Err(Refusal::RotationHold);
        }
        let (next, ready) = self.next().zip(self.rotatable()).ok_or(Refusal::NextKeyMissing)?;
        if approval == Approval::Guarded && now < ready {
            let wait = until(now, ready);
            return Err(Refusal::NextKeyNotPropagated { kid: next.kid, ready, wait });
        }
        Ok(())
    }

    /// Rotate: `next → current`, `current → previous`, and `fresh` as the new `next`. Without a
    /// `fresh` key (a dry run) the place of `next` is left empty.
    pub fn rotate(
        &self,
        now: Timestamp,
        approval: Approval,
        fresh: Option<Key>,
    ) -> Result<Self, Refusal> {
        self.may_rotate(now, approval)?;
        let mut after = self.clone();
        after.step(StateName::Current, |state| state.rotate_out(now))?;
        after.step(StateName::Next, |state| state.activate(now, self.policy.max_token_ttl))?;
        after.undo = fresh
            .as_ref()
            .zip(self.current())
            .map(|(fresh, current)| Undo { made: fresh.kid, reinstates: current.kid });
        after.keys.extend(fresh.map(Arc::new));
        Ok(after)
    }

    /// Rollback: undoes the Rotate that was the last change of key state, and holds rotation.
    pub fn roll_back(&self, now: Timestamp) -> Result<Self, Refusal> {
        let Undo { made, reinstates } = self.undo.ok_or(Refusal::NothingToRollBack)?;
        let destroy_due = later(now, self.policy.destroy_after);
        let delay = self.policy.propagation_delay;
        let mut after = self.clone();
        after.step_key(made, |state| state.retire(now, destroy_due))?;
        after.step(StateName::Current, |state| state.step_back(now, delay))?;
        after.step_key(reinstates, |state| state.reinstate(now, self.policy.max_token_ttl))?;
        after.rotation_hold = Hold::On;
        after.undo = None;
        Ok(after)
    }

    /// Revoke: withdraws one key, for `reason`, which may be empty. What is then missing makes the
    /// set incomplete. None: it was revoked already, and nothing changes.
    pub fn revoke(
        &self,
        now: Timestamp,
        kid: Kid,
        emergency: Emergency,
        approval: Approval,
        reason: &str,
    ) -> Result<Option<Self>, Refusal> {
        let key = self.key(&kid).ok_or(Refusal::KeyNotFound { kid })?;
        let revoked = |state: State, destroy_due| state.revoke(now, reason.to_owned(), destroy_due);
        let mut after = self.clone();
        after.undo = None;
        match key.state.name() {
            StateName::Revoked if emergency == Emergency::No => return Ok(None),
            StateName::Revoked => {
                after.step_key(kid, |state| state.hasten(now, reason))?;
                return Ok((after != *self).then_some(after));
            }
            StateName::Destroyed | StateName::Pending => {
                return Err(Refusal::KeyDestroyed { kid });
            }
            StateName::Retired => {}
            StateName::Next | StateName::Previous => key.tokens_over(now, approval)?,
            StateName::Current => match emergency {
                Emergency::No => return Err(Refusal::CurrentKey { kid }),
                Emergency::Promote if self.rotation_hold == Hold::On => {
                    return Err(Refusal::RotationHold);
                }
                Emergency::Promote => {}
                Emergency::ReplaceNext => {
                    if let Some(next) = self.next() {
                        after.step_key(next.kid, |state| revoked(state, now))?;
                    }
                }
            },
        }
        let wait =
            if emergency == Emergency::No { self.policy.destroy_after } else { Duration::ZERO };
        after.step_key(kid, |state| revoked(state, later(now, wait)))?;
        if after.current().is_none() && after.next().is_some() {
            after.step(StateName::Next, |state| state.activate(now, self.policy.max_token_ttl))?;
        }
        Ok(Some(after))
    }

    /// Puts a freshly generated key where one is missing; refuses with the set's present state if
    /// nothing is.
    pub fn mend(&self, now: Timestamp, place: Place, mut fresh: Key) -> Result<Self, Refusal> {
        let missing = self.missing();
        let wanted = match place {
            Place::Current => missing.current,
            Place::Next => missing.next,
        };
        if !wanted {
            return Err(Refusal::Changed { current: self.current().map(|key| key.kid) });
        }
        if place == Place::Current {
            fresh.state = fresh.state.activate(now, self.policy.max_token_ttl)?;
        }
        let mut after = self.clone();
        after.undo = None;
        after.keys.push(Arc::new(fresh));
        Ok(after)
    }

    /// When a previous key is to leave the JWKS by the clock; none: not by itself.
    pub fn retire_due(&self, key: &Key) -> Option<Timestamp> {
        match (&key.state, self.policy.keeps()) {
            (State::Previous { history, .. }, Retention::For(span)) => {
                Some(later(history.until, span).max(history.tokens_until))
            }
            _ => None,
        }
    }

    /// Retire: `previous → retired`, by the clock; refused before its time.
    pub fn retire(&self, now: Timestamp, kid: Kid) -> Result<Self, Refusal> {
        let key = self.key(&kid).ok_or(Refusal::KeyNotFound { kid })?;
        key.tokens_over(now, Approval::Guarded)?;
        if self.retire_due(key).is_none_or(|due| now < due) {
            return Err(Refusal::Changed { current: self.current().map(|key| key.kid) });
        }
        let destroy_due = later(now, self.policy.destroy_after);
        let mut after = self.clone();
        after.undo = None;
        after.step_key(kid, |state| state.retire(now, destroy_due))?;
        Ok(after)
    }

    /// Destroy, once the backend has destroyed the material.
    pub fn destroyed(&self, now: Timestamp, kid: Kid) -> Result<Self, Refusal> {
        let mut after = self.clone();
        after.undo = None;
        after.step_key(kid, |state| state.destroy(now))?;
        Ok(after)
    }

    /// The set under another policy. Longer tokens are remembered by the key that signs them.
    pub fn with_policy(&self, policy: Policy) -> Self {
        let mut after = self.clone();
        for key in &mut after.keys {
            if key.state.name() == StateName::Current {
                Arc::make_mut(key).state.allow_tokens_of(policy.max_token_ttl);
            }
        }
        after.policy = policy;
        after
    }

    /// The set as it is after deletion; refused while a key could still sign or verify.
    pub fn delete(&self) -> Result<Self, Refusal> {
        if self.service == Service::Enabled {
            return Err(Refusal::StillEnabled);
        }
        if let Some(key) = self.published().first() {
            return Err(Refusal::KeysInUse { kid: key.kid, state: key.state.name() });
        }
        Ok(Self { service: Service::Deleted, ..self.clone() })
    }

    fn in_state(&self, state: StateName) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter().filter(move |key| key.state.name() == state)
    }

    /// Moves the one key in `state`, if there is one.
    fn step(
        &mut self,
        state: StateName,
        step: impl FnOnce(State) -> Result<State, TransitionError>,
    ) -> Result<(), TransitionError> {
        let found = self.in_state(state).next().map(|key| key.kid);
        found.map_or(Ok(()), |kid| self.step_key(kid, step))
    }

    fn step_key(
        &mut self,
        kid: Kid,
        step: impl FnOnce(State) -> Result<State, TransitionError>,
    ) -> Result<(), TransitionError> {
        match self.keys.iter_mut().find(|key| key.kid == kid) {
            Some(key) => {
                *key = key.moved(step)?;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Key {
    /// Refuses while tokens that the key signed may be valid, unless that is overridden.
    fn tokens_over(&self, now: Timestamp, approval: Approval) -> Result<(), Refusal> {
        match (self.state.history(), approval) {
            (Some(History { tokens_until, .. }), Approval::Guarded) if now < tokens_until => {
                let wait = until(now, tokens_until);
                Err(Refusal::TokensStillValid { kid: self.kid, until: tokens_until, wait })
            }
            _ => Ok(()),
        }
    }
}

/// In whole seconds, so that whoever waits that long has waited long enough.
fn round_up(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
