//! Taking the ports and sockets, and saying which ones were taken.

use super::file::write_whole;
use crate::clock::Clock;
use crate::config;
use crate::transport::tls::Tls;
use crate::transport::{Address, Listener, Protocol};
use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Listeners that are taken; nobody accepts on them yet.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) grpc: Vec<Listener>,
    pub(super) http: Vec<Listener>,
    pub(super) metrics: Vec<Listener>,
    pub(super) management: Vec<Listener>,
}

/// The listeners until the faces take them over, and their addresses for good.
#[derive(Debug)]
pub struct Bound {
    taken: Mutex<Taken>,
    addresses: Addresses,
    secured: Vec<Secured>,
}

/// A listener with TLS, for whoever looks after its certificates.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    /// Which of all the listeners of the configuration it is.
    pub(super) index: usize,
    /// Its name in the log and the metrics.
    pub(super) name: Arc<str>,
    pub(super) tls: Tls,
}

/// Where the service really listens: a port 0 in the configuration has become one that is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// gRPC.
    pub grpc: Vec<Address>,
    /// The public HTTP face.
    pub http: Vec<Address>,
    /// Metrics.
    pub metrics: Vec<Address>,
    /// The API for Auth0's clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub management: Vec<Address>,
}

impl Bound {
    /// Takes every port and socket, with their certificates, or says which one is not to be had.
    pub async fn bind(listeners: &config::Listeners, clock: &Arc<dyn Clock>) -> Result<Self> {
        let mut taken = Taken::default();
        let mut addresses = Addresses::default();
        let mut secured = Vec::new();
        for (index, (face, wanted)) in listeners.all().enumerate() {
            let listener = take(face, wanted, clock).await?;
            let address = listener.address().clone();
            if let Some(tls) = listener.tls() {
                let (name, tls) = (listener.name().clone(), tls.clone());
                secured.push(Secured { index, name, tls });
            }
            let (list, known) = match face {
                "grpc" => (&mut taken.grpc, &mut addresses.grpc),
                "http" => (&mut taken.http, &mut addresses.http),
                "management" => (&mut taken.management, &mut addresses.management),
                _ => (&mut taken.metrics, &mut addresses.metrics),
            };
            list.push(listener);
            known.push(address);
        }
        Ok(Self { taken: Mutex::new(taken), addresses, secured })
    }

    /// Where the listeners are.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// Those with TLS.
    pub(super) fn secured(&self) -> Vec<Secured> {
        self.secured.clone()
    }

    /// The listeners; none a second time.
    pub(super) fn take(&self) -> Taken {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
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

/// The URL of an HTTP listener, as far as it has one of its own.
pub(super) fn own_url(listener: &Listener) -> String {
    match (listener.address(), listener.tls()) {
        (Address::Tcp(address), Some(_)) => format!("https://{address}"),
        (Address::Tcp(address), None) => format!("http://{address}"),
        // Whoever calls over a socket has to make a name up.
        (Address::Unix(_), _) => "http://localhost".to_owned(),
    }
}

async fn take(face: &str, wanted: &config::Listener, clock: &Arc<dyn Clock>) -> Result<Listener> {
    let config::Listener { address, mode, tls, limits } = wanted;
    let listener = Listener::bind(face, address, *mode, *limits).await.map_err(|error| {
        anyhow!(
            "{address} {error}: stop that, or choose another address with listeners.{face} in the configuration (for `signkeep dev` also with --{face})"
        )
    })?;
    let Some(settings) = tls else {
        return Ok(listener);
    };
    let protocol = if face == "grpc" { Protocol::Http2 } else { Protocol::Http1 };
    let tls = Tls::load(settings.clone(), protocol, clock.clone())
        .with_context(|| format!("listeners.{face} {address}: tls"))?;
    Ok(listener.with_tls(tls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::transport::Limits;
    use std::fs;
    use tokio::net::TcpListener;

    async fn bind(grpc: impl Into<Address>) -> Result<Bound> {
        let grpc = vec![config::Listener::plain(grpc, Limits::GRPC)];
        let none = Vec::new;
        let listeners =
            config::Listeners { grpc, http: none(), metrics: none(), management: none() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Bound::bind(&listeners, &clock).await
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_one_and_is_written_down() {
        let zero: Address = "127.0.0.1:0".parse().unwrap();
        let bound = bind(zero).await.unwrap();
        let port = bound.addresses().grpc[0].tcp().unwrap().port();
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
        let error = bind(address).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("taken") && error.contains("--grpc"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_is_written_down_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grpc.sock");
        let bound = bind(Address::Unix(path.clone())).await.unwrap();
        let text = serde_json::to_string(&bound.addresses()).unwrap();
        let expected = format!(r#"{{"grpc":["unix:{}"],"http":[],"metrics":[]}}"#, path.display());
        assert_eq!(text, expected);
        assert!(path.exists());
        drop(bound);
        assert!(!path.exists());
    }
}
