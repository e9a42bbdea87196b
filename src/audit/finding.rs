//! What a verifier can find wrong, in words for whoever has to act on it.

use super::chain::Hash;

/// The first thing that is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A record's content does not give its hash.
    #[error(
        "record {number} was changed: its content gives the hash {content}, and it says {written}"
    )]
    Changed {
        /// Which.
        number: u64,
        /// The hash that its content gives.
        content: Hash,
        /// The hash that stands with it.
        written: Hash,
    },
    /// A record fits its own hash, and the one after it names another.
    #[error(
        "record {number} was changed and hashed anew: record {} names another hash for it",
        number + 1
    )]
    Rehashed {
        /// Which.
        number: u64,
    },
    /// A record does not follow one that is known to be genuine.
    #[error(
        "record {number} was put in the place of another: the hash that it names for the record before it is not that record's"
    )]
    Replaced {
        /// Which.
        number: u64,
    },
    /// Records are nowhere to be found.
    #[error("{} missing: record {found} stands in their place", numbers(*first, *last))]
    Missing {
        /// The first that is missing.
        first: u64,
        /// The last that is missing.
        last: u64,
        /// The record that stands there.
        found: u64,
    },
    /// A record stands further down than it should.
    #[error("record {number} is not in its place: it stands after record {after}")]
    Moved {
        /// Which.
        number: u64,
        /// The record before it.
        after: u64,
    },
    /// There is one record too many.
    #[error(
        "record {number} stands there a second time, after record {after}: one of the two was put in"
    )]
    Inserted {
        /// The number that it gives itself.
        number: u64,
        /// The record before it.
        after: u64,
    },
    /// What should be a record is none.
    #[error("record {number} cannot be read, so it was changed or put in: {what}")]
    Unreadable {
        /// The number that it should have.
        number: u64,
        /// What is wrong with it, and where it stands.
        what: String,
    },
    /// The first record is not number 1, and nothing says that this is how it should be.
    #[error(
        "the record begins with number {number}: {} missing. If they were moved away on purpose, say so with --partial and, with --after, name the last checkpoint that was kept",
        numbers(1, number - 1)
    )]
    Beheaded {
        /// The number that it begins with.
        number: u64,
    },
    /// Records that fit each other, but not what a checkpoint signed.
    #[error(
        "{} not what checkpoint {checkpoint} signed: they were changed and hashed anew, or the checkpoint is another record's",
        numbers(*first, *last)
    )]
    NotAsSigned {
        /// The first that the checkpoint covers.
        first: u64,
        /// The last.
        last: u64,
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The end is missing.
    #[error(
        "the record ends with number {ended}, but checkpoint {checkpoint} signs up to number {signed}: the end was cut off"
    )]
    Truncated {
        /// The last record that is there.
        ended: u64,
        /// The last record that was there.
        signed: u64,
        /// The checkpoint that says so.
        checkpoint: u64,
    },
    /// The record is shorter than its owner knows it to have been.
    #[error(
        "the record ends with number {ended}, but it had at least {at_least} records: the end was cut off"
    )]
    TooShort {
        /// The last record that is there.
        ended: u64,
        /// What its owner knows.
        at_least: u64,
    },
    /// A checkpoint that its owner has kept is not in it.
    #[error(
        "checkpoint {number}, which you kept and which signs up to record {last}, is not in it: the end was cut off, or this is another record"
    )]
    KeptMissing {
        /// The kept checkpoint's number.
        number: u64,
        /// The last record that it covers.
        last: u64,
    },
    /// What should be a checkpoint is none.
    #[error("checkpoint {number} cannot be read, so it was changed or put in: {what}")]
    CheckpointUnreadable {
        /// The number that it should have.
        number: u64,
        /// What is wrong with it, and where it stands.
        what: String,
    },
    /// A checkpoint is signed by nobody known.
    #[error(
        "checkpoint {number} is signed by the key {kid}, which is not among the keys given. If the audit key has been rotated since they were exported, export them anew; otherwise the checkpoint is forged"
    )]
    UnknownKey {
        /// Which.
        number: u64,
        /// The key that it names.
        kid: String,
    },
    /// A checkpoint's signature does not verify.
    #[error("checkpoint {number} was changed or forged: its signature does not verify")]
    BadSignature {
        /// Which.
        number: u64,
    },
    /// An old checkpoint, once more.
    #[error(
        "checkpoint {number} stands there a second time, where checkpoint {expected} should be: an old one was put in"
    )]
    Replayed {
        /// Which.
        number: u64,
        /// The number that should be there.
        expected: u64,
    },
    /// Checkpoints are nowhere to be found.
    #[error("checkpoint {first} is missing: checkpoint {found} stands in its place")]
    CheckpointMissing {
        /// The first that is missing.
        first: u64,
        /// The checkpoint that stands there.
        found: u64,
    },
    /// A checkpoint stands further down than it should.
    #[error("checkpoint {number} is not in its place: it stands after checkpoint {after}")]
    CheckpointMoved {
        /// Which.
        number: u64,
        /// The checkpoint before it.
        after: u64,
    },
    /// A checkpoint is genuine, and does not follow the one before it.
    #[error(
        "checkpoint {number} does not follow the one before it: one of the two comes from another record"
    )]
    CheckpointReplaced {
        /// Which.
        number: u64,
    },
}

impl Finding {
    /// One word for programs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::Rehashed { .. } => "rehashed",
            Self::Replaced { .. } => "replaced",
            Self::Missing { .. } => "missing",
            Self::Moved { .. } => "moved",
            Self::Inserted { .. } => "inserted",
            Self::Unreadable { .. } => "unreadable",
            Self::Beheaded { .. } => "beheaded",
            Self::NotAsSigned { .. } => "not-as-signed",
            Self::Truncated { .. } => "truncated",
            Self::TooShort { .. } => "too-short",
            Self::KeptMissing { .. } => "kept-missing",
            Self::CheckpointUnreadable { .. } => "checkpoint-unreadable",
            Self::UnknownKey { .. } => "unknown-key",
            Self::BadSignature { .. } => "bad-signature",
            Self::Replayed { .. } => "replayed",
            Self::CheckpointMissing { .. } => "checkpoint-missing",
            Self::CheckpointMoved { .. } => "checkpoint-moved",
            Self::CheckpointReplaced { .. } => "checkpoint-replaced",
        }
    }

    /// The first record that is not as it should be, if it is a record.
    pub const fn record(&self) -> Option<u64> {
        match self {
            Self::Changed { number, .. }
            | Self::Rehashed { number }
            | Self::Replaced { number }
            | Self::Moved { number, .. }
            | Self::Inserted { number, .. }
            | Self::Unreadable { number, .. } => Some(*number),
            Self::Missing { first, .. } | Self::NotAsSigned { first, .. } => Some(*first),
            Self::Beheaded { .. } => Some(1),
            Self::Truncated { ended, .. } | Self::TooShort { ended, .. } => Some(*ended + 1),
            Self::KeptMissing { .. }
            | Self::CheckpointUnreadable { .. }
            | Self::UnknownKey { .. }
            | Self::BadSignature { .. }
            | Self::Replayed { .. }
            | Self::CheckpointMissing { .. }
            | Self::CheckpointMoved { .. }
            | Self::CheckpointReplaced { .. } => None,
        }
    }

    /// The checkpoint that is not as it should be, or that shows it.
    pub const fn checkpoint(&self) -> Option<u64> {
        match self {
            Self::KeptMissing { number, .. }
            | Self::CheckpointUnreadable { number, .. }
            | Self::UnknownKey { number, .. }
            | Self::BadSignature { number }
            | Self::Replayed { number, .. }
            | Self::CheckpointMissing { first: number, .. }
            | Self::CheckpointMoved { number, .. }
            | Self::CheckpointReplaced { number } => Some(*number),
            Self::NotAsSigned { checkpoint, .. } | Self::Truncated { checkpoint, .. } => {
                Some(*checkpoint)
            }
            _ => None,
        }
    }
}

/// `record 3 is` or `records 3 to 7 are`.
fn numbers(first: u64, last: u64) -> String {
    if first == last {
        format!("record {first} is")
    } else {
        format!("records {first} to {last} are")
    }
}
