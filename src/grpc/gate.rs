//! Where callers are let through or not, for every rpc: after a request has been found well-formed
//! and before anything that it names is looked up. So whoever may not do something learns nothing of
//! what there is.

use crate::access::{Access, Action, ClaimRefused, Refused};
use crate::audit::Origin;
use crate::key::KeySetId;
use crate::keyring;
use std::sync::Arc;

/// Is told of every call that is not let through.
pub trait Refusals: Send + Sync + 'static {
    /// Takes note of one; must not wait.
    fn refused(&self, refusal: &Refusal<'_>);
}

/// A call that was not let through.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Who asked, from where; the name is empty for one that is not known.
    pub origin: &'a Origin,
    /// What was wanted; none if that was not looked at.
    pub action: Option<Action>,
    /// Of which key set; none if that was not looked at, or of all.
    pub key_set: Option<&'a KeySetId>,
    /// The `ErrorReason` that the caller is told.
    pub reason: &'static str,
}

/// Nobody takes note.
impl Refusals for () {
    fn refused(&self, _: &Refusal<'_>) {}
}

/// Who may pass, and who is told of those that may not.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) access: Access,
    pub(super) refusals: Arc<dyn Refusals>,
}

/// Why a request is not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// The keyring did not do it.
    Keyring(keyring::Error),
    /// The caller may not, or not now.
    Refused(Refused),
    /// The caller may not have that signed.
    Claim {
        /// What, and why not.
        refused: ClaimRefused,
        /// Where it stands in the request, e.g. `claims.aud`.
        field: String,
    },
}

impl From<keyring::Error> for Failed {
    fn from(error: keyring::Error) -> Self {
        Self::Keyring(error)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
