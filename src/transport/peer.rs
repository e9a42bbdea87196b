//! The other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The listener that it came in by, as the log and the record name it, e.g.
    /// `grpc 127.0.0.1:50051` or `grpc unix:/run/signkeep.sock`.
    pub listener: Arc<str>,
    /// Where it comes from; none: over a Unix socket.
    pub address: Option<SocketAddr>,
    /// The certificates that it has shown, DER, its own first; empty: none. It has proved that it
    /// holds the key of the first, and the listener's client CAs vouch for that one; of the others
    /// nothing is known but that they were sent along.
    pub certificates: Vec<Vec<u8>>,
    /// Whose process it is; none: not over a Unix socket.
    pub credentials: Option<Credentials>,
}

/// Whose process is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Peer {
    /// One that comes from `address` over plain TCP to `listener`.
    pub fn plain(listener: impl Into<Arc<str>>, address: SocketAddr) -> Self {
        Self {
            listener: listener.into(),
            address: Some(address),
            certificates: Vec::new(),
            credentials: None,
        }
    }

    /// Where it comes from, in words for the log.
    pub fn origin(&self) -> String {
        match (self.address, self.credentials) {
            (Some(address), _) => address.to_string(),
            (None, Some(Credentials { uid, .. })) => format!("uid {uid}"),
            (None, None) => "a Unix socket".to_owned(),
        }
    }
}
