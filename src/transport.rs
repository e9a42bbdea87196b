//! How bytes arrive: TCP or a Unix socket, with TLS or without. What is known of the other end from
//! the connection alone is a [`Peer`]; who that is, and what they may do, is [`crate::access`]'s
//! to say.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The listener that it came in by, as the log and the record name it, e.g.
    /// `grpc 127.0.0.1:50051`.
    pub listener: Arc<str>,
    /// Where it comes from; none: over a Unix socket.
    pub address: Option<SocketAddr>,
    /// The certificates that it has shown, DER, its own first, checked against the listener's
    /// client CAs; empty: none.
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
}
