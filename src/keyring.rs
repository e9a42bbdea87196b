//! The custodian: one verb a file, each a short function that shows the order of acts which makes
//! it safe.
//!
//! Reads come from a snapshot that is swapped as a whole after every commit. Changes are made one
//! at a time for each key set: read, decide (in [`crate::key`], purely), commit with the revision
//! compared, publish the snapshot, answer. Keys are generated before, under a lock of their own, so
//! that a slow HSM never keeps a revocation waiting.

use crate::backend;
use crate::key::{
    Algorithm, Approval, BackendName, Emergency, Hold, InvalidPolicy, Issuer, Key, KeySet,
    KeySetId, Kid, Policy, Refusal, Reservation, StateName,
};
use crate::store;
use bytes::Bytes;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who asks, and how long they wait.
#[derive(Clone, Debug)]
pub struct Context {
    /// The caller's name; it scopes request ids and goes into the audit record.
    pub caller: String,
    /// The service's own id for this request, for log and audit.
    pub request: String,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller's id for a change that may be repeated.
    pub request_id: Option<RequestId>,
}

/// A caller's id for a change: 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

/// Whether a change is to be made or only thought out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Make it.
    Commit,
    /// Say what would happen.
    DryRun,
}

/// What CreateKeySet is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub rsa_bits: Option<crate::key::RsaBits>,
}

/// What Rotate is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// The key set.
    pub key_set: KeySetId,
    /// The key that the caller takes for the current one.
    pub expected_current: Option<Kid>,
    /// Whether guards are overridden.
    pub approval: Approval,
    /// Why, where nothing is overridden.
    pub reason: String,
    /// Whether it is to be done.
    pub mode: Mode,
}

/// What Revoke is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// The key set.
    pub key_set: KeySetId,
    /// The key to withdraw.
    pub kid: Kid,
    /// Whether guards are overridden.
    pub approval: Approval,
    /// What to do if it is the current key.
    pub emergency: Emergency,
    /// Why.
    pub reason: String,
    /// Whether it is to be done.
    pub mode: Mode,
}

/// What Rollback is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What a change answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key set as it now stands, or in a dry run would stand.
    pub key_set: Arc<KeySet>,
    /// The key that the change was about: Revoke's; Rotate's old current; none otherwise.
    pub subject: Option<Arc<Key>>,
    /// Whether this is the first answer to a repeated request.
    pub replayed: bool,
    /// How certain the change is everywhere.
    pub barrier: Barrier,
    /// Verifiers whose caches may not hold the key that signs now, each in a few words.
    pub caches_at_risk: Vec<String>,
}

/// How it is known that no replica acts on what was before a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Barrier {
    /// Every replica has acknowledged the revision.
    pub all_acknowledged: bool,
    /// The leases of those that have not are over.
    pub leases_expired: bool,
    /// Replicas that may still be publishing.
    pub still_publishing: Vec<String>,
    /// The revision.
    pub revision: u64,
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

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// In JWS form: see [`backend::Backend::sign`].
    pub signature: Vec<u8>,
    /// The key that signed.
    pub kid: Kid,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// What SignJwt is asked.
#[derive(Clone, Debug)]
pub struct SignJwt {
    /// The key set.
    pub key_set: KeySetId,
    /// The claims: the text of a JSON object.
    pub claims: Bytes,
    /// The header's `typ`; none: `JWT`.
    pub typ: Option<String>,
    /// How long the token is valid; none: as its `exp` says, or the default.
    pub lifetime: Option<Duration>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// Compact serialisation (RFC 7515 section 7.1).
    pub compact: String,
    /// The key that signed.
    pub kid: Kid,
    /// Its `exp`.
    pub expires: Timestamp,
}

/// One page of keys.
#[derive(Clone, Debug)]
pub struct Page {
    /// The keys, in ListKeys' order.
    pub keys: Vec<Arc<Key>>,
    /// Material that is being generated, on the first page if it was asked for.
    pub pending: Vec<Reservation>,
    /// Where the next page starts; none at the end.
    pub after: Option<Cursor>,
}

/// A place in ListKeys' order: by state as asked for, within a state newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last key's state when it was listed.
    pub state: StateName,
    /// When it was created.
    pub created: Timestamp,
    /// Its name.
    pub kid: Kid,
}

/// A message to those who watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// The key sets concerned: all of them in a snapshot.
    pub key_sets: Vec<Arc<KeySet>>,
    /// The store's revision that this brings the watcher to.
    pub revision: u64,
    /// Whether it replaces all that the watcher knew.
    pub snapshot: bool,
}

/// Why the keyring did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such key set.
    #[error("there is no key set {id}")]
    KeySetNotFound {
        /// The name that was asked for.
        id: String,
    },
    /// A guard, or the key set's present state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is a key set of that name, perhaps a deleted one: names are not used again.
    #[error("there is, or was, a key set {id}; names are not used again")]
    KeySetExists {
        /// The name.
        id: KeySetId,
    },
    /// There is a key with that public key.
    #[error("the backend generated a key that is in use already")]
    PublicKeyInUse,
    /// A request that is wrong in itself; each field with what would be right.
    #[error("{}", fields.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.why)).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// The fields.
        fields: Vec<InvalidField>,
    },
    /// A claim that the service sets itself.
    #[error("the claim {claim} {why}")]
    ClaimNotAllowed {
        /// Its name.
        claim: String,
        /// What would be right.
        why: &'static str,
    },
    /// The digest does not fit the algorithm.
    #[error("the digest has {given} bytes; {algorithm} takes {wanted}")]
    DigestLength {
        /// The algorithm.
        algorithm: Algorithm,
        /// The length that fits.
        wanted: usize,
        /// The length that was given.
        given: usize,
    },
    /// EdDSA signs messages.
    #[error("EdDSA signs the message itself; send message, not digest")]
    DigestNotAllowed,
    /// The request id was used for something else.
    #[error("request_id was used within 24 hours for another request; choose a new one")]
    RequestIdReused,
    /// The key set does not sign.
    #[error("the key set {id} is disabled: it publishes its keys and does not sign")]
    Disabled {
        /// The key set.
        id: KeySetId,
    },
    /// There is nothing to sign with.
    #[error(
        "the key set {id} has no current key; the service generates one as soon as its backend can"
    )]
    NoCurrentKey {
        /// The key set.
        id: KeySetId,
    },
    /// The caller's time ran out.
    #[error("{}", if *committed { "the time ran out after the change was made; repeat the request to see it confirmed" } else { "the time ran out" })]
    DeadlineExceeded {
        /// Whether a change was made all the same.
        committed: bool,
    },
    /// The backend.
    #[error("backend {name}: {source}")]
    Backend {
        /// Which one.
        name: BackendName,
        /// What it said.
        source: backend::Error,
    },
    /// The store.
    #[error("store: {0}")]
    Store(#[source] store::Error),
    /// A fault of our own.
    #[error("{0}")]
    Fault(String),
}

/// A field that is wrong, by its name in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The path of the field, e.g. `key_set.policy.retention`.
    pub field: String,
    /// What would be right.
    pub why: String,
}

impl From<InvalidPolicy> for InvalidField {
    fn from(wrong: InvalidPolicy) -> Self {
        Self {
            field: format!("key_set.policy.{}", wrong.field),
            why: wrong.why,
        }
    }
}
