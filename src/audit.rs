//! The record of what was done with keys, for whom and why: append-only, each entry bound to the
//! one before it by a hash, and signed from time to time by a key of its own.
//!
//! Whoever can write to the place where the record is kept can also write to its last, unsigned
//! part; what a checkpoint has signed they cannot change, drop, insert or reorder unnoticed. That
//! is why a change of keys writes its record in its own transaction, and why everything here is
//! pure: the same few functions make the record, check it in the service and verify it far away
//! from the service. The format is described, for people who write verifiers, in `docs/audit.md`.

pub mod chain;
pub mod checkpoint;
pub mod entry;
pub mod finding;
pub mod keys;
pub mod merkle;
pub mod verify;

mod canonical;
mod hex;

pub use chain::{Hash, Head, Linked};
pub use checkpoint::{Checkpoint, Draft, Span};
pub use entry::Entry;
pub use finding::Finding;
pub use keys::Keys;
pub use verify::{Beginning, Known, Verdict, Verifier};

use crate::key::{self, KeySetId, Kid};
use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The internal key set whose keys sign checkpoints.
pub const KEY_SET: &str = "signkeep-audit";

/// One entry. What is empty or none is left out where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the clock of the replica that did it; kept to the microsecond.
    pub time: Timestamp,
    /// Who: a caller's name, or `signkeep` for what the service did by itself.
    pub caller: Arc<str>,
    /// The listener that the request came in by; empty for what the service did by itself.
    pub listener: Arc<str>,
    /// What.
    pub action: Action,
    /// The key set concerned, if it was one.
    pub key_set: Option<KeySetId>,
    /// The key concerned, if it was one.
    pub kid: Option<Kid>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why: the operator's reason, the plan's, or the `ErrorReason` of what was refused or failed;
    /// may be empty.
    pub reason: String,
    /// The request that asked for it; empty for what the clock did.
    pub request: Arc<str>,
    /// The digest of what was signed; never what was signed.
    pub digest: Option<Digest>,
    /// How many such events this entry stands for: 1, or more where they are counted together.
    pub count: u64,
    /// What else a reader needs, in words; never key material, claims or payload.
    pub detail: String,
}

impl Record {
    /// One event at `time`, done, asked for by `origin`, with nothing more to say of it.
    pub fn new(time: Timestamp, origin: &Origin, action: Action) -> Self {
        Self {
            time,
            caller: Arc::clone(&origin.caller),
            listener: Arc::clone(&origin.listener),
            action,
            key_set: None,
            kid: None,
            outcome: Outcome::Done,
            reason: String::new(),
            request: Arc::clone(&origin.request),
            digest: None,
            count: 1,
            detail: String::new(),
        }
    }
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

/// A closed list of words in which the record speaks.
macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident: $($(#[$doc:meta])* $word:ident = $text:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $word,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$word),*];

            /// The name in lower case, as the record writes it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = Unknown;

            fn from_str(text: &str) -> Result<Self, Unknown> {
                match text {
                    $($text => Ok(Self::$word),)*
                    _ => Err(Unknown(concat!("must be one of" $(, " ", $text)*))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// What can be done, to keys and to the record itself.
    Action:
    /// CreateKeySet.
    Create = "create",
    /// UpdateKeySet.
    Update = "update",
    /// DisableKeySet.
    Disable = "disable",
    /// EnableKeySet.
    Enable = "enable",
    /// DeleteKeySet.
    Delete = "delete",
    /// Rotate.
    Rotate = "rotate",
    /// Revoke.
    Revoke = "revoke",
    /// Rollback.
    Rollback = "rollback",
    /// A missing key was generated.
    Mend = "mend",
    /// A previous key left the JWKS by the clock.
    Retire = "retire",
    /// Material was destroyed.
    Destroy = "destroy",
    /// Bytes or a digest were signed.
    Sign = "sign",
    /// Claims were signed.
    SignJwt = "sign_jwt",
    /// Somebody looked at what they may not see; only ever refused.
    View = "view",
    /// Entries that should stand here are missing: `count` of them, if that is known.
    Gap = "gap",
    /// The record was found damaged: the detail says where.
    Flaw = "flaw",
    /// The service started.
    Start = "start",
    /// The service stopped in good order.
    Stop = "stop",
}

vocabulary! {
    /// What became of an event.
    Outcome:
    /// It was carried out; of a signature: it was released.
    Done = "done",
    /// A rule refused it, and nothing was done.
    Refused = "refused",
    /// It was tried and failed; nothing came of it.
    Failed = "failed",
    /// A signature was made and not released: its key had been taken out of signing meanwhile, or
    /// the caller was gone.
    Withheld = "withheld",
    /// Nobody knows: what would have said so is lost.
    Lost = "lost",
}

/// A word that the record does not know; says which ones it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(&'static str);

/// The digest of what was signed, with the hash that made it; as text `sha256:` and hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    hash: key::Digest,
    bytes: [u8; 64],
}

impl Digest {
    /// SHA-256 of `message`.
    pub fn of(message: &[u8]) -> Self {
        use sha2::Digest as _;
        let mut bytes = [0; 64];
        let (digest, _) = bytes.split_at_mut(32);
        digest.copy_from_slice(&sha2::Sha256::digest(message));
        Self { hash: key::Digest::Sha256, bytes }
    }

    /// A digest that `hash` has made; none if it has another length than that hash makes.
    pub fn made(hash: key::Digest, digest: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        if digest.len() != hash.output_len() {
            return None;
        }
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Self { hash, bytes })
    }
}

const HASHES: [(key::Digest, &str); 3] = [
    (key::Digest::Sha256, "sha256"),
    (key::Digest::Sha384, "sha384"),
    (key::Digest::Sha512, "sha512"),
];

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = HASHES.iter().find(|(hash, _)| *hash == self.hash).map_or("", |(_, name)| name);
        let digest = self.bytes.get(..self.hash.output_len()).unwrap_or_default();
        write!(f, "{name}:{}", hex::encode(digest))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let parse = || {
            let (name, digits) = text.split_once(':')?;
            let (hash, _) = HASHES.into_iter().find(|(_, known)| *known == name)?;
            Self::made(hash, &hex::decode(digits)?)
        };
        parse()
            .ok_or(Unknown("must be sha256:, sha384: or sha512: and the digest in lower-case hex"))
    }
}
