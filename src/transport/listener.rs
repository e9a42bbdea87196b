//! A port or socket with the rules that hold on it.

use super::address::Address;
use super::limits::Limits;
use super::peer::Peer;
use super::socket::{BindError, Socket};
use super::stream::Io;
use super::tls::Tls;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Taken, with the rules that hold on it; nobody accepts yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    name: Arc<str>,
    tls: Option<Tls>,
    limits: Limits,
}

impl Listener {
    /// Takes `address` for `face`, e.g. `grpc`; `mode` is who may connect, if it is a socket file.
    pub async fn bind(
        face: &str,
        address: &Address,
        mode: u32,
        limits: Limits,
    ) -> Result<Self, BindError> {
        let socket = Socket::bind(address, mode).await?;
        let address = socket.address()?;
        let name = format!("{face} {address}").into();
        Ok(Self { socket, address, name, tls: None, limits })
    }

    /// A port that has been taken already, without TLS.
    pub fn plain(face: &str, listener: TcpListener, limits: Limits) -> io::Result<Self> {
        let address = Address::Tcp(listener.local_addr()?);
        let name = format!("{face} {address}").into();
        Ok(Self { socket: Socket::Tcp(listener), address, name, tls: None, limits })
    }

    /// The same with TLS, if it is on a port.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it is, a port 0 having become one that is free.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Face and address, as the log, the metrics and the record name it.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its TLS; none: plain.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What peers may take up.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(Io, Peer)> {
        self.socket.accept(&self.name).await
    }
}
