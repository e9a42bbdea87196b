//! What one listener lets its peers take up.

use std::time::Duration;

/// What one listener lets its peers take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; more wait to be accepted.
    pub connections_max: usize,
    /// Open calls on one connection (HTTP/2).
    pub streams_per_connection_max: u32,
    /// How long a peer may take over the TLS handshake and the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// How long a connection may be open without a call under way. Over HTTP/1.1 it is how long the
    /// head of a request may take as well.
    pub idle_timeout: Duration,
    /// How long a connection lives, give or take a tenth; then it is told to end.
    pub connection_age: Duration,
    /// How long calls under way may go on once their connection was told to end.
    pub grace: Duration,
    /// How long a peer may leave what was written to it unread.
    pub write_timeout: Duration,
    /// How long a connection may be silent before it is asked for a sign of life (HTTP/2).
    pub keepalive_interval: Duration,
    /// How long that sign of life may take.
    pub keepalive_timeout: Duration,
    /// The longest head of a request, in bytes.
    pub header_bytes_max: u32,
    /// The longest message that is read, in bytes.
    pub message_bytes_max: usize,
}

impl Limits {
    /// What serves gRPC's long connections.
    pub const GRPC: Self = Self {
        connections_max: 1024,
        streams_per_connection_max: 256,
        handshake_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(15 * 60),
        connection_age: Duration::from_secs(60 * 60),
        grace: Duration::from_secs(150),
        write_timeout: Duration::from_secs(30),
        keepalive_interval: Duration::from_secs(30),
        keepalive_timeout: Duration::from_secs(10),
        header_bytes_max: 16 * 1024,
        message_bytes_max: 64 * 1024,
    };

    /// What serves HTTP's short ones.
    pub const HTTP: Self = Self {
        idle_timeout: Duration::from_secs(10),
        connection_age: Duration::from_secs(300),
        grace: Duration::from_secs(5),
        ..Self::GRPC
    };

    /// How many connections may be in the middle of their handshake at once; before there are more,
    /// the one that has taken longest gives way.
    pub(super) fn openings_max(&self) -> usize {
        (self.connections_max / 4).clamp(1, 256)
    }
}
