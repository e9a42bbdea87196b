//! Checkpoints: signed statements that the record, up to here, is what it is.
//!
//! A checkpoint covers the records after the one before it. It holds the last record's hash, which
//! by the chain stands for everything before; the Merkle root over the hashes of the records that
//! it covers (RFC 6962), so that one of them can be proved without showing the others; and the hash
//! of the checkpoint before it, so that checkpoints too can be neither dropped nor swapped. It is a
//! compact JWS, so that whoever can check a JWT can check it.

use super::canonical::Object;
use super::chain::{Hash, Head, Linked, Malformed, counted, member, time_text, whole_microseconds};
use super::merkle::Tree;
use crate::jose::jws;
use crate::key::{Algorithm, Kid};
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::Timestamp;
use serde::Deserialize;

/// The `typ` of a checkpoint's header.
pub const TYP: &str = "signkeep-checkpoint+jws";

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its number; the first is 1.
    pub number: u64,
    /// The number of the first record that it covers.
    pub first: u64,
    /// The last one's number and hash.
    pub head: Head,
    /// The Merkle root over the hashes of the records that it covers.
    pub root: Hash,
    /// The hash of the checkpoint before; [`Hash::ZERO`] if it is the first.
    pub previous: Hash,
    /// When it was drawn up.
    pub time: Timestamp,
}

impl Statement {
    fn to_json(self) -> String {
        let mut object = Object::new();
        object.number("first", self.first);
        object.text("head", &self.head.hash.to_string());
        object.number("last", self.head.number);
        object.number("number", self.number);
        object.text("previous", &self.previous.to_string());
        object.text("root", &self.root.to_string());
        object.text("time", &time_text(self.time));
        object.finish()
    }

    fn from_json(text: &str) -> Result<Self, Malformed> {
        let members: Members = serde_json::from_str(text).map_err(Malformed::new)?;
        let statement = Self {
            number: counted("number", members.number)?,
            first: counted("first", members.first)?,
            head: Head {
                number: counted("last", members.last)?,
                hash: member("head", &members.head)?,
            },
            root: member("root", &members.root)?,
            previous: member("previous", &members.previous)?,
            time: member("time", &members.time)?,
        };
        if statement.to_json() == text {
            Ok(statement)
        } else {
            Err(Malformed::new("its payload is not in canonical form (RFC 8785)"))
        }
    }
}

/// Records that the next checkpoint will cover.
#[derive(Clone, Debug, Default)]
pub struct Span {
    tree: Tree,
    head: Option<Head>,
}

impl Span {
    /// Takes in the record that follows.
    pub fn push(&mut self, linked: &Linked) {
        self.tree.push(linked.hash.as_bytes());
        self.head = Some(linked.head());
    }

    /// How many records it has taken in.
    pub const fn len(&self) -> u64 {
        self.tree.leaves()
    }

    /// Whether it has taken in none.
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The last record; none if there is none.
    pub const fn head(&self) -> Option<Head> {
        self.head
    }

    /// The Merkle root over the records' hashes.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }
}

/// A checkpoint that lacks its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    statement: Statement,
    algorithm: Algorithm,
    kid: Kid,
    signing_input: String,
}

impl Draft {
    /// What follows the checkpoint `before` (none: there is none yet) and covers `span`, to be
    /// signed by the key `kid`; none if there is nothing to cover.
    pub fn new(
        before: Option<&Checkpoint>,
        span: &Span,
        time: Timestamp,
        (algorithm, kid): (Algorithm, Kid),
    ) -> Option<Self> {
        let head = span.head()?;
        let statement = Statement {
            number: before.map_or(0, |before| before.statement.number).saturating_add(1),
            first: head.number.saturating_sub(span.len()).saturating_add(1),
            head,
            root: span.root(),
            previous: before.map_or(Hash::ZERO, Checkpoint::hash),
            time: whole_microseconds(time),
        };
        let header = jws::protected(algorithm, &kid, TYP, &[]);
        let signing_input = jws::signing_input(&header, statement.to_json().as_bytes());
        Some(Self { statement, algorithm, kid, signing_input })
    }

    /// What it will say.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The bytes to be signed.
    pub fn signing_input(&self) -> &str {
        &self.signing_input
    }

    /// The checkpoint, once its key has made `signature`, in JWS form, over the signing input.
    pub fn finish(self, signature: &[u8]) -> Checkpoint {
        let jws = jws::compact(&self.signing_input, signature);
        Checkpoint {
            statement: self.statement,
            algorithm: self.algorithm,
            kid: self.kid,
            signature: signature.to_vec(),
            jws,
        }
    }
}

/// A signed checkpoint. Whether the signature verifies is left to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says.
    pub statement: Statement,
    /// The algorithm that its header names.
    pub algorithm: Algorithm,
    /// The key that its header names.
    pub kid: Kid,
    signature: Vec<u8>,
    jws: String,
}

impl Checkpoint {
    /// The checkpoint that a compact JWS is; refuses every one that [`Draft`] does not make.
    pub fn parse(jws: &str) -> Result<Self, Malformed> {
        let mut parts = jws.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::new(
                "must be a compact JWS: three parts with full stops between",
            ));
        };
        let text = |name: &str, part: &str| {
            let bytes = bytes(name, part)?;
            String::from_utf8(bytes).map_err(|_| Malformed::new(format!("its {name} is no UTF-8")))
        };
        let Header { alg, kid, .. } =
            serde_json::from_str(&text("header", header)?).map_err(Malformed::new)?;
        let checkpoint = Self {
            statement: Statement::from_json(&text("payload", payload)?)?,
            algorithm: member("alg", &alg)?,
            kid: member("kid", &kid)?,
            signature: bytes("signature", signature)?,
            jws: jws.to_owned(),
        };
        if header == jws::protected(checkpoint.algorithm, &checkpoint.kid, TYP, &[]) {
            Ok(checkpoint)
        } else {
            Err(Malformed::new(format!("its header must be alg, kid and typ, which is {TYP:?}")))
        }
    }

    /// The compact JWS.
    pub fn as_jws(&self) -> &str {
        &self.jws
    }

    /// The part of the JWS that is signed.
    pub fn signing_input(&self) -> &str {
        self.jws.rsplit_once('.').map_or("", |(input, _)| input)
    }

    /// The signature, in JWS form.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// SHA-256 of the compact JWS, by which the next checkpoint names this one.
    pub fn hash(&self) -> Hash {
        Hash::of(self.jws.as_bytes())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    #[serde(rename = "typ")]
    _typ: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    first: u64,
    head: String,
    last: u64,
    number: u64,
    previous: String,
    root: String,
    time: String,
}

/// The bytes that a part of a JWS stands for, in the one spelling that base64url has for them.
fn bytes(name: &str, part: &str) -> Result<Vec<u8>, Malformed> {
    Base64UrlUnpadded::decode_vec(part)
        .ok()
        .filter(|bytes| Base64UrlUnpadded::encode_string(bytes) == part)
        .ok_or_else(|| Malformed::new(format!("its {name} must be base64url without padding")))
}
