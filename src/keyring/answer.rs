//! What the keyring answers.

use crate::key::{Algorithm, Key, KeySet, Kid, Reservation, StateName};
use jiff::Timestamp;
use std::sync::Arc;

/// What a change answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key set as it now stands, or in a dry run would stand.
    pub key_set: Arc<KeySet>,
    /// The key that the change was about: the one that Revoke withdrew, or that stopped signing by
    /// Rotate or Rollback; none otherwise.
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

impl Barrier {
    /// The barrier when there is no other replica: the change is everywhere.
    pub(super) fn all(revision: u64) -> Self {
        Self { all_acknowledged: true, revision, ..Self::default() }
    }
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// In JWS form: see [`Backend::sign`](crate::backend::Backend::sign).
    pub signature: Vec<u8>,
    /// The key that signed.
    pub kid: Kid,
    /// The algorithm.
    pub algorithm: Algorithm,
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
    pub keys: Vec<Listed>,
    /// Where the next page starts; none at the end.
    pub after: Option<Cursor>,
}

/// One entry of a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A key.
    Key(Arc<Key>),
    /// Material that is being generated: it has no name yet.
    Pending(Reservation),
}

/// A place in ListKeys' order: by state as asked for, within a state newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last key's state when it was listed.
    pub state: StateName,
    /// When it was created.
    pub created: Timestamp,
    /// What tells it from others of that time: its kid, or its material id filled up with zeros.
    pub id: [u8; 32],
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
