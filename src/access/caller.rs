//! The one place that names a caller. The name scopes request ids, is what the policy's patterns
//! are held against, and stands in the audit record.
//!
//! What a name begins with says who vouches for it, so that no two ways to be known can be mistaken
//! for each other: a SPIFFE id stands for itself; everything else has a prefix that only this
//! module writes.

use super::certificate::{self, NameKind};
use crate::transport::{Credentials, Peer};
use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;

/// Everyone who comes over loopback without showing a name.
pub const LOOPBACK: &str = "anonymous@loopback";
/// Longest name, in bytes; as long as SPIFFE allows.
const LEN_MAX: usize = 2048;
/// What a name can begin with; the first is whole.
const KINDS: [&str; 9] =
    [LOOPBACK, "spiffe://", "dns:", "uri:", "subject:", "uid:", "gid:", "jwt:", "group:"];
const SCOPE: &str = "scope:";

/// Who is calling. Clones share one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: Arc<str>,
    attributes: Vec<Box<str>>,
    until: Option<Timestamp>,
}

/// Why a peer is nobody here; says what was shown, never a token, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No certificate, no socket, no token, not loopback.
    #[error(
        "no name was shown: come with a client certificate or a bearer token, or over a Unix socket"
    )]
    Nothing,
    /// A certificate whose names do not serve.
    #[error("the client certificate {0}")]
    Certificate(&'static str),
    /// An `authorization` header that is not read as a bearer token.
    #[error("the authorization header must be one, and be Bearer and a token")]
    Authorization,
    /// A bearer token that is not taken. There is no falling back to another name.
    #[error("the bearer token {0}")]
    Token(String),
    /// A name that cannot be written down.
    #[error(
        "the name that was shown has characters other than printable ASCII, or more than 2048 of them"
    )]
    Name,
}

impl Caller {
    /// One that is known as `name`, and by `attributes` too.
    pub fn new<T: AsRef<str>>(
        name: &str,
        attributes: impl IntoIterator<Item = T>,
    ) -> Result<Self, Unknown> {
        let attributes: Vec<Box<str>> =
            attributes.into_iter().map(|attribute| attribute.as_ref().into()).collect();
        let all = attributes.iter().map(AsRef::as_ref).chain([name]);
        if all.into_iter().all(is_name) {
            Ok(Self(Arc::new(Known { name: name.into(), attributes, until: None })))
        } else {
            Err(Unknown::Name)
        }
    }

    /// Who is at the other end of the connection alone, whatever tokens come over it.
    pub(super) fn of(peer: &Peer, kinds: &[NameKind]) -> Result<Self, Unknown> {
        if let Some(leaf) = peer.certificates.first() {
            let mut names = certificate::names(leaf, kinds)?.into_iter();
            let name = names.next().ok_or(Unknown::Certificate("has no name that is used here"))?;
            return Self::new(&name, names);
        }
        if let Some(Credentials { uid, gid }) = peer.credentials {
            return Self::new(&format!("uid:{uid}"), [format!("gid:{gid}")]);
        }
        if is_local(peer) { Self::new(LOOPBACK, [""; 0]) } else { Err(Unknown::Nothing) }
    }

    /// The same, known no longer than `until`.
    pub(super) fn until(self, until: Timestamp) -> Self {
        let Known { name, attributes, .. } = &*self.0;
        Self(Arc::new(Known {
            name: name.clone(),
            attributes: attributes.clone(),
            until: Some(until),
        }))
    }

    /// The name; the record has it.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// The name, shared.
    pub fn name(&self) -> Arc<str> {
        self.0.name.clone()
    }

    /// What else the caller is known by, e.g. `gid:1000` or `group:ci:deployers`.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.0.attributes.iter().map(AsRef::as_ref)
    }

    /// When the caller stops being known, if what was shown runs out by itself.
    pub fn known_until(&self) -> Option<Timestamp> {
        self.0.until
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether `peer` is on this machine and came over plain or secured TCP.
pub(super) fn is_local(peer: &Peer) -> bool {
    peer.address.is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// Whether a name, or an attribute, can begin like `pattern`, up to the first star in it.
pub fn could_name(pattern: &str) -> bool {
    let fixed = pattern.split('*').next().unwrap_or_default();
    let open = fixed.len() < pattern.len();
    KINDS.iter().chain([&SCOPE]).any(|kind| {
        fixed.starts_with(kind) && (*kind != LOOPBACK || fixed == LOOPBACK)
            || open && kind.starts_with(fixed)
    })
}

fn is_name(text: &str) -> bool {
    let printable = |byte: u8| (0x20..=0x7e).contains(&byte);
    (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &Peer) -> Result<Caller, Unknown> {
        Caller::of(peer, &NameKind::ALL)
    }

    #[test]
    fn only_loopback_has_a_name_without_showing_one() {
        for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.9]:5"] {
            let caller = of(&Peer::plain("grpc", peer.parse().unwrap())).unwrap();
            assert_eq!(caller.as_str(), "anonymous@loopback");
        }
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5", "[::ffff:192.0.2.1]:5"] {
            let peer = Peer::plain("grpc", peer.parse().unwrap());
            assert_eq!(of(&peer), Err(Unknown::Nothing), "{peer:?}");
        }
    }

    #[test]
    fn a_socket_names_user_and_group() {
        let peer = Peer {
            listener: "grpc".into(),
            address: None,
            certificates: Vec::new(),
            credentials: Some(Credentials { uid: 1000, gid: 100 }),
        };
        let caller = of(&peer).unwrap();
        assert_eq!(caller.as_str(), "uid:1000");
        assert_eq!(caller.attributes().collect::<Vec<_>>(), ["gid:100"]);
    }

    #[test]
    fn a_name_is_printable_ascii() {
        for name in ["", "jwt:ci:\n", "jwt:ci:é", "dns:\u{202e}", &"x".repeat(2049)] {
            assert_eq!(Caller::new(name, [""; 0]), Err(Unknown::Name), "{name:?}");
            assert_eq!(Caller::new("uid:1", [name]), Err(Unknown::Name), "{name:?}");
        }
        assert!(Caller::new("jwt:ci:repo:acme/site *", [""; 0]).is_ok());
    }

    #[test]
    fn a_pattern_that_can_name_nobody_is_noticed() {
        for pattern in
            ["**", "*", "spiffe://prod/**", "uid:1000", "anonymous@loopback", "s*", "ano*", "gid:*"]
        {
            assert!(could_name(pattern), "{pattern}");
        }
        for pattern in
            ["spiff://prod/**", "issuer", "anonymous@loopbac", "anonymous@loopback2", "x*"]
        {
            assert!(!could_name(pattern), "{pattern}");
        }
    }
}
