//! The one place that names a caller. The name scopes request ids and stands in the audit record.

use crate::transport::Peer;
use std::sync::Arc;

/// Everyone who comes over loopback without showing a name.
const LOOPBACK: &str = "anonymous@loopback";

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<str>);

/// A peer that has shown no name where one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller has shown no name that is known here")]
pub struct Unknown;

impl Caller {
    /// The caller at the other end of a connection without TLS: only loopback is trusted so far.
    pub(super) fn of(peer: &Peer) -> Result<Self, Unknown> {
        if peer.address.is_some_and(|address| address.ip().to_canonical().is_loopback()) {
            Ok(Self(LOOPBACK.into()))
        } else {
            Err(Unknown)
        }
    }

    /// The caller's name; the record has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_has_a_name_without_tls() {
        for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.9]:5"] {
            let caller = Caller::of(&Peer::plain("grpc", peer.parse().unwrap())).unwrap();
            assert_eq!(caller.as_str(), "anonymous@loopback");
        }
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5", "[::ffff:192.0.2.1]:5"] {
            assert_eq!(
                Caller::of(&Peer::plain("grpc", peer.parse().unwrap())),
                Err(Unknown),
                "{peer}"
            );
        }
    }
}
