//! Taking the ports, and saying which ones were taken.

use super::file::write_whole;
use crate::config::Listeners;
use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpListener;

/// Ports that are taken; nobody accepts on them yet.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) grpc: Vec<TcpListener>,
    pub(super) http: Vec<(TcpListener, SocketAddr)>,
    pub(super) metrics: Vec<(TcpListener, SocketAddr)>,
    pub(super) management: Vec<(TcpListener, SocketAddr)>,
}

/// The ports until the faces take them over, and their addresses for good.
#[derive(Debug)]
pub struct Bound {
    ports: Mutex<Ports>,
    addresses: Addresses,
}

/// Where the service really listens: a port 0 in the configuration has become one that is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// gRPC.
    pub grpc: Vec<SocketAddr>,
    /// The public HTTP face.
    pub http: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: Vec<SocketAddr>,
    /// The API for Auth0's clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub management: Vec<SocketAddr>,
}

impl Bound {
    /// Takes every port, or says which one is not to be had.
    pub async fn bind(listeners: &Listeners) -> Result<Self> {
        let mut ports = Ports::default();
        let mut addresses = Addresses::default();
        for wanted in &listeners.grpc {
            let (listener, address) = take(*wanted, "grpc").await?;
            ports.grpc.push(listener);
            addresses.grpc.push(address);
        }
        for wanted in &listeners.http {
            let (listener, address) = take(*wanted, "http").await?;
            ports.http.push((listener, address));
            addresses.http.push(address);
        }
        for wanted in &listeners.metrics {
            let (listener, address) = take(*wanted, "metrics").await?;
            ports.metrics.push((listener, address));
            addresses.metrics.push(address);
        }
        for wanted in &listeners.management {
            let (listener, address) = take(*wanted, "management").await?;
            ports.management.push((listener, address));
            addresses.management.push(address);
        }
        Ok(Self { ports: Mutex::new(ports), addresses })
    }

    /// Where the ports are.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The ports; none a second time.
    pub(super) fn take(&self) -> Ports {
        std::mem::take(&mut *self.ports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Addresses {
    /// Writes them as JSON to `file`, whole or not at all.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        write_whole(file, text.as_bytes())
            .with_context(|| format!("the addresses cannot be written to {}", file.display()))
    }
}

async fn take(wanted: SocketAddr, face: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "is taken by another program, perhaps another signkeep".to_owned(),
            io::ErrorKind::PermissionDenied => "needs more privileges than this process has".to_owned(),
            _ => format!("cannot be listened on ({error})"),
        };
        anyhow!(
            "{wanted} {why}: stop that, or choose another address with listeners.{face} in the configuration (for `signkeep dev` also with --{face})"
        )
    })?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn listeners(grpc: SocketAddr) -> Listeners {
        Listeners {
            grpc: vec![grpc],
            http: Vec::new(),
            metrics: Vec::new(),
            management: Vec::new(),
        }
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_one_and_is_written_down() {
        let zero = "127.0.0.1:0".parse().unwrap();
        let bound = Bound::bind(&listeners(zero)).await.unwrap();
        let port = bound.addresses().grpc[0].port();
        assert_ne!(port, 0);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("addresses.json");
        bound.addresses().write(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let expected = format!(r#"{{"grpc":["127.0.0.1:{port}"],"http":[],"metrics":[]}}"#);
        assert_eq!(text, expected);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Bound::bind(&listeners(address)).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("taken") && error.contains("--grpc"), "{error}");
    }
}
