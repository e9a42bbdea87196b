//! The record of what was done to keys, by whom and why. Append-only: written in the same
//! transaction as the change that it describes, never updated, never deleted.

use crate::key::{KeySetId, Kid};
use jiff::Timestamp;
use std::sync::Arc;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the clock of the replica that did it.
    pub time: Timestamp,
    /// Who: a caller's name, or `signkeep` for what the clock did.
    pub caller: String,
    /// What.
    pub action: Action,
    /// The key set concerned.
    pub key_set: KeySetId,
    /// The key concerned, if it was one.
    pub kid: Option<Kid>,
    /// The operator's reason, or the plan's; may be empty.
    pub reason: String,
    /// The request that asked for it; empty for what the clock did.
    pub request: String,
    /// What else a reader needs, in words; never key material, claims or payload.
    pub detail: String,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who asks: a caller's name, or `signkeep` for what the service does by itself.
    pub caller: Arc<str>,
    /// The listener that it came in by; empty for what the service does by itself.
    pub listener: Arc<str>,
    /// The request's id, as the log has it; empty for what the clock did.
    pub request: Arc<str>,
}

impl Origin {
    /// The service itself, in the course of `request`; empty: of none.
    pub fn service(request: &str) -> Self {
        Self { caller: "signkeep".into(), listener: "".into(), request: request.into() }
    }
}

/// What can be done to a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// CreateKeySet.
    Create,
    /// UpdateKeySet.
    Update,
    /// DisableKeySet.
    Disable,
    /// EnableKeySet.
    Enable,
    /// DeleteKeySet.
    Delete,
    /// Rotate.
    Rotate,
    /// Revoke.
    Revoke,
    /// Rollback.
    Rollback,
    /// A missing key was generated.
    Mend,
    /// A previous key left the JWKS by the clock.
    Retire,
    /// Material was destroyed.
    Destroy,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Update,
        Self::Disable,
        Self::Enable,
        Self::Delete,
        Self::Rotate,
        Self::Revoke,
        Self::Rollback,
        Self::Mend,
        Self::Retire,
        Self::Destroy,
    ];

    /// The name in lower case, as the record writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Rollback => "rollback",
            Self::Mend => "mend",
            Self::Retire => "retire",
            Self::Destroy => "destroy",
        }
    }
}
