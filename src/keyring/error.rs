//! Why the keyring did not do as it was asked, sorted by what the caller can do.

use crate::audit::recorder::NoRoom;
use crate::backend;
use crate::key::{Algorithm, BackendName, InvalidPolicy, KeySetId, Refusal, words};
use crate::store;
use std::time::Duration;

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
    /// A claim or header parameter that the service sets itself.
    #[error("{claim} {why}")]
    ClaimNotAllowed {
        /// Its name.
        claim: String,
        /// Where it stands in the request, e.g. `claims.jti` or `header.alg`.
        field: String,
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
    #[error("{}", match committed {
        Some(true) => "the time ran out after the change was made; repeat the request to see it confirmed",
        Some(false) => "the time ran out; nothing was changed",
        None => "the time ran out while the change was being written; repeat the request to learn whether it was made",
    })]
    DeadlineExceeded {
        /// Whether a change was made all the same; none: not known yet.
        committed: Option<bool>,
    },
    /// Too many changes are under way.
    #[error("too many changes are under way")]
    Overloaded,
    /// The record has no room for a signature, and none is made that is not recorded.
    #[error("nothing is signed that is not recorded, and {0}")]
    Unrecorded(#[from] NoRoom),
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

impl Error {
    /// Its `ErrorReason`, as the record has it; a face tells the caller the same.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::KeySetNotFound { .. } => "KEY_SET_NOT_FOUND",
            Self::Refused(refusal) => refused(refusal),
            Self::KeySetExists { .. } => "KEY_SET_EXISTS",
            Self::PublicKeyInUse => "PUBLIC_KEY_IN_USE",
            Self::Invalid { .. } => "INVALID_REQUEST",
            Self::ClaimNotAllowed { .. } => "CLAIM_NOT_ALLOWED",
            Self::DigestLength { .. } => "DIGEST_LENGTH",
            Self::DigestNotAllowed => "DIGEST_NOT_ALLOWED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::Disabled { .. } => "KEY_SET_DISABLED",
            Self::NoCurrentKey { .. } => "NO_CURRENT_KEY",
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
            Self::Unrecorded(_) => "AUDIT_UNAVAILABLE",
            Self::Backend { source, .. } => match source.kind {
                backend::Kind::Throttled => "OVERLOADED",
                backend::Kind::Unavailable | backend::Kind::Denied => "BACKEND_UNAVAILABLE",
                backend::Kind::Late => "DEADLINE_EXCEEDED",
                backend::Kind::TooLong => "MESSAGE_TOO_LARGE",
                backend::Kind::NotFound
                | backend::Kind::Unsupported
                | backend::Kind::Inconsistent => "INTERNAL_FAULT",
            },
            Self::Store(source) => match source.kind {
                store::Kind::Unavailable => "STORE_UNAVAILABLE",
                store::Kind::Conflict => "KEY_SET_CHANGED",
                _ => "INTERNAL_FAULT",
            },
            Self::Fault(_) => "INTERNAL_FAULT",
        }
    }

    /// Whether it is a rule that says no, and not something that is out or broken.
    pub(super) const fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::DeadlineExceeded { .. }
                | Self::Overloaded
                | Self::Unrecorded(_)
                | Self::Backend { .. }
                | Self::Store(_)
                | Self::Fault(_)
        )
    }

    /// Whether it is certain that nothing was changed: who cannot be sure must look before asking
    /// again.
    pub fn nothing_changed(&self) -> bool {
        match self {
            Self::DeadlineExceeded { committed } => *committed == Some(false),
            Self::Store(error) => error.outcome == store::Outcome::Nothing,
            // It may have come of a panic, at whatever point.
            Self::Fault(_) => false,
            _ => true,
        }
    }
}

const fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NextKeyNotPropagated { .. } | Refusal::NextKeyMissing => "NEXT_KEY_NOT_PROPAGATED",
        Refusal::RotationHold => "ROTATION_HOLD",
        Refusal::TokensStillValid { .. } => "TOKENS_STILL_VALID",
        Refusal::CurrentKey { .. } => "CURRENT_KEY",
        Refusal::KeyDestroyed { .. } => "KEY_DESTROYED",
        Refusal::NothingToRollBack => "NOTHING_TO_ROLL_BACK",
        Refusal::Changed { .. } => "KEY_SET_CHANGED",
        Refusal::KeyNotFound { .. } => "KEY_NOT_FOUND",
        Refusal::KeysInUse { .. } | Refusal::StillEnabled => "KEY_SET_IN_USE",
        Refusal::Transition(_) => "INTERNAL_FAULT",
    }
}

/// Why a keyring could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] store::Error),
    /// With the JWKS as it is configured, a cache could lack a key when it begins to sign.
    #[error("the propagation_delay of {} is shorter than {}, which max_age, stale_while_revalidate and lease now come to; start with the old values, raise it with `signkeep key-sets update`, then change them", key_sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "), words(*least))]
    PropagationTooShort {
        /// The key sets.
        key_sets: Vec<KeySetId>,
        /// The least that fits.
        least: Duration,
    },
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
        Self { field: format!("key_set.policy.{}", wrong.field), why: wrong.why }
    }
}
