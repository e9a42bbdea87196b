//! What the keyring can be asked: domain values, already well-formed.

use crate::audit::Origin;
use crate::backend;
use crate::jose::Members;
use crate::key::{
    Algorithm, Approval, BackendName, Emergency, Hold, Issuer, KeySetId, Kid, Policy, RsaBits,
};
use serde::Serialize;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Who asks, and how long they wait.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who, from where; the name scopes request ids, and all of it goes into the record.
    pub origin: Origin,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller's id for a change that may be repeated.
    pub request_id: Option<RequestId>,
}

/// A caller's id for a change: 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, InvalidRequestId> {
        let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if printable && (1..=128).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRequestId)
        }
    }
}

/// A text that cannot be a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 printable ASCII characters, e.g. a UUID")]
pub struct InvalidRequestId;

/// Whether a change is to be made or only thought out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mode {
    /// Make it.
    Commit,
    /// Say what would happen.
    DryRun,
}

/// What CreateKeySet is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Create {
    /// Its name.
    pub id: KeySetId,
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// Where they are generated; none: the only backend there is.
    pub backend: Option<BackendName>,
    /// The `iss` of its tokens.
    pub issuer: Issuer,
    /// How long things last; checked here.
    pub policy: Policy,
}

/// What UpdateKeySet is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Changes to the policy, field by field; the whole is checked here.
    pub policy: PolicyUpdate,
    /// The hold, if it is to change.
    pub rotation_hold: Option<Hold>,
    /// The revision that the key set must still have.
    pub etag: Option<u64>,
    /// Why.
    pub reason: String,
}

/// The fields of a policy that are to change. An outer none leaves a field as it is; an inner none
/// clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyUpdate {
    /// See [`Policy::propagation_delay`].
    pub propagation_delay: Option<Duration>,
    /// See [`Policy::max_token_ttl`].
    pub max_token_ttl: Option<Duration>,
    /// See [`Policy::retention`].
    pub retention: Option<Option<Duration>>,
    /// See [`Policy::rotation_period`].
    pub rotation_period: Option<Option<Duration>>,
    /// See [`Policy::destroy_after`].
    pub destroy_after: Option<Duration>,
    /// See [`Policy::rsa_bits`].
    pub rsa_bits: Option<RsaBits>,
}

/// What Rotate is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotate {
    /// The key set.
    pub key_set: KeySetId,
    /// The key that the caller takes for the current one.
    pub expected_current: Option<Kid>,
    /// Whether guards are overridden.
    pub approval: Approval,
    /// Why; never empty where a guard is overridden.
    pub reason: String,
    /// Whether it is to be done.
    pub mode: Mode,
}

/// What Revoke is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revoke {
    /// The key set.
    pub key_set: KeySetId,
    /// The key to withdraw.
    pub kid: Kid,
    /// Whether guards are overridden.
    pub approval: Approval,
    /// What to do if it is the current key.
    pub emergency: Emergency,
    /// Why; never empty where a guard is overridden, or in an emergency.
    pub reason: String,
    /// Whether it is to be done.
    pub mode: Mode,
}

/// What Rollback is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// The key set.
    pub key_set: KeySetId,
    /// The key that the caller takes for the current one.
    pub expected_current: Option<Kid>,
    /// Why.
    pub reason: String,
    /// Whether it is to be done.
    pub mode: Mode,
}

/// What Sign is asked.
#[derive(Clone, Debug)]
pub struct Sign {
    /// The key set.
    pub key_set: KeySetId,
    /// What to sign.
    pub input: backend::Input,
    /// The key that must be the one that signs.
    pub expected: Option<Kid>,
}

/// What SignJwt is asked.
#[derive(Clone, Debug)]
pub struct SignJwt {
    /// The key set.
    pub key_set: KeySetId,
    /// The claims.
    pub claims: Members,
    /// The header's `typ`; none: `JWT`.
    pub typ: Option<String>,
    /// Further header parameters.
    pub header: Members,
    /// How long the token is valid; none: as its `exp` says, or the default.
    pub lifetime: Option<Duration>,
    /// What the default is cut to; none: to nothing shorter.
    pub lifetime_usual_max: Option<Duration>,
}
