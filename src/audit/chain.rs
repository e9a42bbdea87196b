//! The chain: each record is hashed together with its number and the hash of the one before it.
//!
//! What is hashed is the record's canonical JSON (RFC 8785), and what a file holds is the same
//! with the hash added. A line that is not exactly what its own content would be written as is
//! refused, so nothing can be hidden in white space, in the order of members or in names that a
//! reader skips.
//!
//! Four kinds of bytes are hashed in the record, and no two begin alike: records with `{`, JWS
//! with `e`, Merkle leaves with 0 and nodes with 1. So no hash of one kind can pass for another.

use super::canonical::{NUMBER_MAX, Object};
use super::{Record, hex};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A SHA-256 hash; as text 64 digits of lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands where there is nothing before.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash that consists of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        hex::decode(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| Malformed::new("must be 64 digits of lower-case hex"))
    }
}

/// The end of a chain: the last record's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records there are, which is the last one's number.
    pub number: u64,
    /// The last one's hash.
    pub hash: Hash,
}

impl Head {
    /// The end of a chain that has no record.
    pub const EMPTY: Self = Self { number: 0, hash: Hash::ZERO };

    /// Binds `record` to the chain, and moves on to it. What it could not be read back with
    /// (fractions of a microsecond, counts beyond 2^53) is cut off first.
    pub fn link(&mut self, record: Record) -> Linked {
        let record = Record {
            time: whole_microseconds(record.time),
            count: record.count.min(NUMBER_MAX),
            ..record
        };
        let number = self.number.saturating_add(1);
        let mut linked = Linked { number, record, previous: self.hash, hash: Hash::ZERO };
        linked.hash = linked.content_hash();
        *self = linked.head();
        linked
    }
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its number; the first is 1.
    pub number: u64,
    /// What happened.
    pub record: Record,
    /// The hash of the record before; [`Hash::ZERO`] if it is the first.
    pub previous: Hash,
    /// Its own hash, as it was written.
    pub hash: Hash,
}

impl Linked {
    /// The end of the chain that this record is the last of.
    pub const fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash }
    }

    /// The hash that its content gives; another than [`Linked::hash`] if it was changed.
    pub fn content_hash(&self) -> Hash {
        Hash::of(self.encode(None).as_bytes())
    }

    /// One line of a file, without its end.
    pub fn to_json(&self) -> String {
        self.encode(Some(self.hash))
    }

    /// The record that `line` is; refuses every line that [`Linked::to_json`] does not write.
    /// Whether its hash is right is left to be seen.
    pub fn from_json(line: &str) -> Result<Self, Malformed> {
        let members: Members<'_> = serde_json::from_str(line).map_err(Malformed::new)?;
        let linked = Self {
            number: counted("number", members.number)?,
            previous: member("previous", &members.previous)?,
            hash: member("hash", &members.hash)?,
            record: Record {
                time: member("time", &members.time)?,
                caller: shared(members.caller),
                listener: shared(members.listener),
                action: member("action", &members.action)?,
                key_set: maybe("key_set", members.key_set)?,
                kid: maybe("kid", members.kid)?,
                outcome: member("outcome", &members.outcome)?,
                reason: members.reason.into_owned(),
                request: shared(members.request),
                digest: maybe("digest", members.digest)?,
                count: members.count.min(NUMBER_MAX),
                detail: members.detail.into_owned(),
            },
        };
        if linked.to_json() == line {
            Ok(linked)
        } else {
            Err(Malformed::new("is not in canonical form (RFC 8785): it was written anew"))
        }
    }

    fn encode(&self, hash: Option<Hash>) -> String {
        let record = &self.record;
        let or_empty = |text: Option<String>| text.unwrap_or_default();
        let mut object = Object::new();
        object.text("action", record.action.as_str());
        object.text("caller", &record.caller);
        object.number("count", record.count);
        object.text("detail", &record.detail);
        object.text("digest", &or_empty(record.digest.map(|digest| digest.to_string())));
        object.text("hash", &or_empty(hash.map(|hash| hash.to_string())));
        object.text("key_set", record.key_set.as_ref().map_or("", |id| id.as_str()));
        object.text("kid", &or_empty(record.kid.map(|kid| kid.to_string())));
        object.text("listener", &record.listener);
        object.number("number", self.number);
        object.text("outcome", record.outcome.as_str());
        object.text("previous", &self.previous.to_string());
        object.text("reason", &record.reason);
        object.text("request", &record.request);
        object.text("time", &time_text(record.time));
        object.finish()
    }
}

/// Bytes that are no entry of the record; says which member is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    /// Bytes of which `what` is wrong.
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    caller: Cow<'a, str>,
    count: u64,
    #[serde(borrow, default)]
    detail: Cow<'a, str>,
    #[serde(borrow, default)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hash: Cow<'a, str>,
    #[serde(borrow, default)]
    key_set: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    listener: Cow<'a, str>,
    number: u64,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    previous: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// The value of the member `name`.
pub(super) fn member<T: FromStr<Err: fmt::Display>>(
    name: &str,
    text: &str,
) -> Result<T, Malformed> {
    text.parse().map_err(|wrong| Malformed(format!("{name}: {wrong}")))
}

/// A number that counts records or checkpoints from 1.
pub(super) fn counted(name: &str, number: u64) -> Result<u64, Malformed> {
    match number {
        1..=NUMBER_MAX => Ok(number),
        _ => Err(Malformed(format!("{name}: must be 1 to {NUMBER_MAX}"))),
    }
}

/// RFC 3339, UTC, six digits of a second: the one spelling of a time.
pub(super) fn time_text(time: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&time)
}

fn maybe<T: FromStr<Err: fmt::Display>>(
    name: &str,
    text: Option<Cow<'_, str>>,
) -> Result<Option<T>, Malformed> {
    text.map(|text| member(name, &text)).transpose()
}

fn shared(text: Cow<'_, str>) -> Arc<str> {
    text.into()
}

/// `time` as it is written: what is finer than a microsecond is dropped.
pub(super) fn whole_microseconds(time: Timestamp) -> Timestamp {
    let whole = time.subsec_nanosecond() / 1000 * 1000;
    Timestamp::new(time.as_second(), whole).unwrap_or(time)
}
