//! The port behind which the truth about keys is kept: key sets, keys without their private parts,
//! reservations, answers to be repeated, and the audit record.
//!
//! One change is one transaction. It compares revisions, so of two changes made to the same key set
//! at once, one is refused and made again on what the other left.

pub mod postgres;
pub mod sqlite;

mod inspect;
mod row;

pub use inspect::inspect;

use crate::audit::{Checkpoint, Head, Linked, Record};
use crate::key::{Key, KeySet, KeySetId, Kid, MaterialId, Reservation, StateName};
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;

/// A store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Everything that a replica has to hold in memory, read in one transaction.
    async fn load(&self) -> Result<Image, Error>;

    /// One key set as it was last committed, deleted ones included.
    async fn key_set(&self, id: &KeySetId) -> Result<Option<KeySet>, Error>;

    /// One key, destroyed ones included.
    async fn key(&self, id: &KeySetId, kid: &Kid) -> Result<Option<Key>, Error>;

    /// At most `limit` keys of `id` in any of `states`, destroyed ones included, newest first by
    /// `(created, kid)`, those after `after` in that order.
    async fn keys(
        &self,
        id: &KeySetId,
        states: &[StateName],
        after: Option<(Timestamp, Kid)>,
        limit: u32,
    ) -> Result<Vec<Key>, Error>;

    /// Writes down that material is about to be generated, before it is.
    async fn reserve(&self, reservation: &Reservation) -> Result<(), Error>;

    /// At most `limit` reservations of `id` that are not marked, the oldest first.
    async fn reserved(&self, id: &KeySetId, limit: u32) -> Result<Vec<Reservation>, Error>;

    /// Marks reserved material as not wanted: it may now be destroyed, and no change can publish
    /// it any more. Idempotent; material that has been published is left alone
    /// ([`Kind::Conflict`]).
    async fn abandon(&self, material: MaterialId) -> Result<(), Error>;

    /// Removes the mark once the backend has no such material. Idempotent.
    async fn forget(&self, material: MaterialId) -> Result<(), Error>;

    /// Carries out a change, all of it or none, and returns the new revision, higher than any
    /// before it.
    async fn commit(&self, change: &Change) -> Result<u64, Error>;

    /// The answer that was given to `request`, if it was given after `since`.
    async fn answer(&self, request: &RequestKey, since: Timestamp)
    -> Result<Option<Answer>, Error>;

    /// Keeps an answer to a request that changed nothing.
    async fn keep_answer(&self, answer: &Answer) -> Result<(), Error>;

    /// Drops answers given before `until`.
    async fn drop_answers(&self, until: Timestamp) -> Result<(), Error>;

    /// Appends `records` to the record, all of them or none, and returns its new end. Somebody
    /// else's writing to it since this store last did is recorded first, and stops nothing.
    async fn append_audit(&self, records: &[Record]) -> Result<Head, Error>;

    /// The end of the record.
    async fn audit_head(&self) -> Result<Head, Error>;

    /// At most `limit` records after number `after`, oldest first, as they were written: whether
    /// they fit together is for a verifier to see.
    async fn audit_trail(&self, after: u64, limit: u32) -> Result<Vec<Linked>, Error>;

    /// Appends the checkpoint that follows the last one ([`Kind::Conflict`] otherwise). Idempotent.
    async fn append_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error>;

    /// At most `limit` checkpoints after number `after`, oldest first.
    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, Error>;

    /// The last checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, Error>;

    /// The hash of the PIN that a token refused, see [`crate::backend::PinMemory`].
    async fn refused_pin(&self, token: &str) -> Result<Option<String>, Error>;

    /// Sets or, with none, removes that hash.
    async fn set_refused_pin(&self, token: &str, hash: Option<&str>) -> Result<(), Error>;

    /// Refuses if another process may have changed the store since this one last heard that it is
    /// alone: then what it holds in memory is not to be acted on. Asks nobody, waits for nothing.
    fn standing(&self) -> Result<(), Error>;

    /// Returns once every commit that began before has landed or failed, whether or not its caller
    /// still waits: what is read afterwards is not made untrue by one of them.
    async fn settle(&self) -> Result<(), Error>;

    /// Whether it answers and can be written to.
    async fn probe(&self) -> Result<(), Error>;

    /// Finishes what is under way and closes.
    async fn close(&self);
}

/// What a replica holds in memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The store's revision: that of its last change.
    pub revision: u64,
    /// Every key set, deleted ones included while they have keys, each with the keys that are not
    /// destroyed.
    pub key_sets: Vec<KeySet>,
    /// Material that is reserved.
    pub reserved: Vec<Reservation>,
    /// Material that is marked as not wanted.
    pub abandoned: Vec<Reservation>,
}

/// One change of one key set.
#[derive(Clone, Debug)]
pub struct Change {
    /// The set as it was when the change was thought out; none if it is to be created. The store
    /// refuses the change ([`Kind::Conflict`]) if its revision is no longer that.
    pub before: Option<Arc<KeySet>>,
    /// The set as it is to be; the store sets its revision. A key that `before` did not have is
    /// new: its reservation must be there, not abandoned, and goes ([`Kind::Conflict`] otherwise).
    pub after: KeySet,
    /// The audit record, with the same fate.
    pub record: Record,
    /// The answer to be repeated if the request is, with the same fate.
    pub answer: Option<Answer>,
}

/// Names a request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Who asked.
    pub caller: String,
    /// The caller's own id for it.
    pub request_id: String,
}

/// The answer to a request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request.
    pub request: RequestKey,
    /// SHA-256 of everything that was asked, so that another request under the same id is noticed.
    pub asked: [u8; 32],
    /// When it was given.
    pub time: Timestamp,
    /// What was answered, as the keyring writes it.
    pub body: String,
    /// The revision that it was given at; a commit sets it to its own.
    pub revision: u64,
}

/// What went wrong in a store, sorted by what the caller can do.
#[derive(Debug, thiserror::Error)]
#[error("{op}: {message}")]
pub struct Error {
    /// What the caller can do about it.
    pub kind: Kind,
    /// What was being done, e.g. `commit`.
    pub op: &'static str,
    /// What happened, and where possible what mends it.
    pub message: String,
    /// Whether it is certain that nothing was changed.
    pub outcome: Outcome,
}

/// What the caller of a store can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody else changed it in between: read again, think again.
    Conflict,
    /// There is a key set of that id.
    KeySetExists,
    /// There is a key with that public key.
    PublicKeyInUse,
    /// The request id has an answer already.
    RequestAnswered,
    /// It is out; try again later.
    Unavailable,
    /// It holds something that cannot be: a fault that needs a person. The message names table,
    /// column and row.
    Corrupt,
}

/// Whether an operation that failed may have been carried out all the same.
pub use crate::backend::Outcome;

impl Error {
    /// An error after which it is certain that nothing was changed.
    pub fn new(kind: Kind, op: &'static str, message: impl Into<String>) -> Self {
        Self { kind, op, message: message.into(), outcome: Outcome::Nothing }
    }
}
