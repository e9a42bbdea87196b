//! Who is calling, and what they may do. Every face asks here before it asks the keyring.

mod caller;

pub use caller::{Caller, Unknown};

use crate::key::KeySetId;
use crate::transport::Peer;

/// What a caller can want of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at it, its keys and its public keys.
    View,
    /// Have bytes signed.
    Sign,
    /// Have claims signed.
    SignJwt,
    /// Rotate its keys.
    Rotate,
    /// Revoke one of its keys.
    Revoke,
    /// Undo a rotation.
    Rollback,
    /// Lift or set the hold on rotations.
    Hold,
    /// Create it.
    Create,
    /// Change its policy.
    Update,
    /// Stop it from signing.
    Disable,
    /// Let it sign again.
    Enable,
    /// End it.
    Delete,
}

/// The caller may not do that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{caller} may not do that with the key set {key_set}")]
pub struct Denied {
    /// Who.
    pub caller: String,
    /// With which key set.
    pub key_set: KeySetId,
}

/// The rules in force. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Access(());

impl Access {
    /// Everyone on this machine may do everything.
    pub fn open() -> Self {
        Self(())
    }

    /// Who is at the other end of `peer`; `bearer` is the token of an `authorization: Bearer` header,
    /// if there is one.
    pub async fn identify(&self, peer: &Peer, _bearer: Option<&str>) -> Result<Caller, Unknown> {
        Caller::of(peer)
    }

    /// Whether `caller` may do `action` with `key_set`, whether or not there is such a key set.
    pub fn check(
        &self,
        _caller: &Caller,
        _action: Action,
        _key_set: &KeySetId,
    ) -> Result<(), Denied> {
        Ok(())
    }
}
