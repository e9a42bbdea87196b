//! The port behind which private keys live.
//!
//! A backend generates, signs and destroys; it decides nothing about a key's life. Everything it
//! is asked is named by a [`KeyRef`]: what is known of the key outside the backend, so that an
//! adapter can check that the key which it finds is the key that is meant.

#[cfg(feature = "aws-kms")]
pub mod aws_kms;
pub mod pkcs11;

use crate::key::{Algorithm, BackendName, KeySetId, KeySpec, MaterialId, PublicKey};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A place that holds private keys and uses them.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Its name in the configuration.
    fn name(&self) -> &BackendName;

    /// What it is, e.g. `pkcs11`.
    fn kind(&self) -> &'static str;

    /// Whether it can generate `spec` and sign with it by `algorithm`: asked of the device, not
    /// assumed. [`Kind::Unsupported`] names what is missing.
    async fn supports(&self, algorithm: Algorithm, spec: KeySpec) -> Result<(), Error>;

    /// Generates a key pair under `order.material`, private, sensitive, not extractable, for
    /// signing alone. If material of that id exists already, it is an error
    /// ([`Kind::Inconsistent`]); see [`Backend::find`].
    async fn generate(&self, order: &Order) -> Result<Material, Error>;

    /// The key pair of that id, if the backend has it. Two of one id, or one that does not fit
    /// `spec`, is [`Kind::Inconsistent`].
    async fn find(&self, material: MaterialId, spec: KeySpec) -> Result<Option<Material>, Error>;

    /// A signature by `key` in JWS form (RFC 7518 section 3: PKCS#1 and PSS octets, ECDSA as
    /// r‖s; RFC 8037: 64 bytes). Waits at most until `deadline`, then answers [`Kind::Late`]; a
    /// full queue answers [`Kind::Throttled`] at once. A digest has been checked to fit the
    /// algorithm before it comes here.
    async fn sign(
        &self,
        key: &Arc<KeyRef>,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error>;

    /// Stops the key from signing, as far as the backend can, and drops whatever copies or handles
    /// it keeps of it. Idempotent.
    async fn disable(&self, key: &KeyRef) -> Result<(), Error>;

    /// Destroys the material, or has it destroyed as soon as the backend allows. Material that is
    /// gone already is success.
    async fn destroy(&self, material: MaterialId, object: Option<&ObjectRef>) -> Result<(), Error>;

    /// Everything in the backend that carries this service's label and is not being deleted. Of
    /// what is in `expected` it is enough that it exists: where a closer look costs a call for each
    /// key, it is taken of the others only, and of these in the course of time.
    async fn list(&self, expected: &HashSet<MaterialId>) -> Result<Vec<Listed>, Error>;

    /// For how long after [`Backend::destroy`] material can still be brought back by others.
    fn deletion_window(&self) -> Duration;

    /// Whether it could sign now, found out as cheaply as it can be.
    async fn probe(&self) -> Result<(), Error>;

    /// Ends its work: finishes what is under way, refuses the rest, logs out.
    async fn stop(&self);
}

/// What is to be generated.
#[derive(Clone, Debug)]
pub struct Order {
    /// The id to generate under.
    pub material: MaterialId,
    /// The key set that the key is for; goes into the label.
    pub key_set: KeySetId,
    /// The kind of key.
    pub spec: KeySpec,
}

/// A key pair as the backend has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// The backend's name for the private key.
    pub object: ObjectRef,
    /// The public key, read back from the backend.
    pub public: PublicKey,
}

/// A key that is to be used: its names, and the public key that it must turn out to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The id that it was generated under.
    pub material: MaterialId,
    /// The backend's name for it.
    pub object: ObjectRef,
    /// The algorithm that it signs by.
    pub algorithm: Algorithm,
    /// The public key in the store.
    pub public: PublicKey,
}

/// Something that a backend holds under this service's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id; none if it carries the label but no id of ours.
    pub material: Option<MaterialId>,
    /// The backend's name for it.
    pub object: ObjectRef,
    /// The key set in its label.
    pub key_set: Option<KeySetId>,
}

/// What is to be signed.
#[derive(Clone)]
pub enum Input {
    /// A message; the adapter hashes it as the algorithm says.
    Message(Bytes),
    /// A hash made by the algorithm's own hash function, in its full length.
    Digest(Bytes),
}

impl fmt::Debug for Input {
    /// Lengths only: what is signed is never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(bytes) => write!(f, "Message({} bytes)", bytes.len()),
            Self::Digest(bytes) => write!(f, "Digest({} bytes)", bytes.len()),
        }
    }
}

/// The stored reference to a private key, in the backend's own terms: `pkcs11:id=<CKA_ID in hex>`
/// for a token, the ARN for KMS. Never a handle, which dies with its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef(String);

impl ObjectRef {
    /// A reference as the backend writes it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong in a backend, sorted by what the caller can do. Its text is for the log and the
/// operator; it carries no key material, no input and no PIN.
#[derive(Debug, thiserror::Error)]
#[error("{op}: {message}")]
pub struct Error {
    /// What the caller can do about it.
    pub kind: Kind,
    /// What was being done, e.g. `C_Sign`.
    pub op: &'static str,
    /// What happened, and where possible what mends it.
    pub message: String,
    /// Whether it is certain that nothing was generated, destroyed or changed.
    pub outcome: Outcome,
}

/// What the caller of a backend can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The backend is well and has no such key.
    NotFound,
    /// It cannot do that, now or later.
    Unsupported,
    /// The input is longer than it signs by this algorithm.
    TooLong,
    /// It refuses us: PIN, permission, a disabled key.
    Denied,
    /// Too much at once; try again after a pause.
    Throttled,
    /// It is out; try again later.
    Unavailable,
    /// The deadline passed before it was done.
    Late,
    /// It holds something other than the store says: a fault that needs a person.
    Inconsistent,
}

/// Whether an operation that failed may have been carried out all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not.
    Nothing,
    /// It may have been.
    Unknown,
}

impl Error {
    /// An error after which it is certain that nothing was done.
    pub fn new(kind: Kind, op: &'static str, message: impl Into<String>) -> Self {
        Self { kind, op, message: message.into(), outcome: Outcome::Nothing }
    }

    /// The same error with the outcome unknown.
    pub fn outcome_unknown(self) -> Self {
        Self { outcome: Outcome::Unknown, ..self }
    }
}

/// Remembers, across restarts and replicas, that a PIN was refused, so that no restart loop locks a
/// token. `token` is the token's serial number; `hash` a salted Argon2id hash in PHC form, never
/// the PIN; while the PIN is being tried, with a mark before it that the backend knows.
#[async_trait]
pub trait PinMemory: Send + Sync + 'static {
    /// The hash of the PIN that the token refused last, if any.
    async fn refused(&self, token: &str) -> Result<Option<String>, String>;

    /// Remembers a refused PIN in place of the one before.
    async fn remember(&self, token: &str, hash: &str) -> Result<(), String>;

    /// Forgets it: a PIN was accepted, or an operator asks for another try.
    async fn forget(&self, token: &str) -> Result<(), String>;
}
