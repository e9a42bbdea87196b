//! TLS: certificate, key, client CAs and revocation lists of one listener as one [`Set`] that is
//! swapped as a whole. A set that is not good in every part never comes into force.
//!
//! What is fixed, and why: aws-lc-rs alone does the cryptography, handed to rustls explicitly, so
//! that no other crate's choice of provider can change it. Sessions are not resumed, for a resumed
//! session would skip the look at the client's certificate. Once there is a revocation list, every
//! certificate of a client's chain needs one that speaks for it and is not past its time: a list
//! from yesterday says nothing about today.

mod error;
mod files;
mod set;
mod standing;
mod worry;

pub use error::Error;
pub use set::Set;
pub(super) use standing::Standing;
pub use worry::Worry;

use super::opening::Protocol;
use crate::clock::Clock;
use files::Files;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Where the parts of a set are, and what is asked of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's certificate chain, its own first, PEM.
    pub certificate_file: PathBuf,
    /// The key of the first certificate, PEM.
    pub key_file: PathBuf,
    /// Who vouches for clients; none: no client certificates are asked for.
    pub clients: Option<Clients>,
    /// The oldest version of TLS that is spoken.
    pub min_version: Version,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// The CAs, one or more, PEM.
    pub ca_file: PathBuf,
    /// Whether a client may come without a certificate.
    pub certificates: Certificates,
    /// Revocation lists, PEM or DER; empty: nothing is revoked.
    pub crl_files: Vec<PathBuf>,
}

/// Whether a client may come without a certificate. One that it shows must be good either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// It may not.
    Required,
    /// It may.
    Optional,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// The TLS of one listener. Clones share the set in force.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    protocol: Protocol,
    clock: Arc<dyn Clock>,
    settings: Mutex<Settings>,
    /// The files that were looked at last, whether or not they came into force.
    seen: Mutex<files::Digest>,
    in_force: watch::Sender<Arc<Set>>,
}

/// A set that is good and not yet in force.
pub struct Fresh {
    settings: Settings,
    digest: files::Digest,
    set: Arc<Set>,
}

impl Tls {
    /// Reads the files; a set with a part that is past its time is taken, for the service may be
    /// what tells of it.
    pub fn load(
        settings: Settings,
        protocol: Protocol,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let files = Files::read(&settings)?;
        let digest = files.digest();
        let set = Set::build(&files, &settings, protocol, clock.clone())?;
        Ok(Self(Arc::new(Inner {
            protocol,
            clock,
            settings: Mutex::new(settings),
            seen: Mutex::new(digest),
            in_force: watch::Sender::new(Arc::new(set)),
        })))
    }

    /// The set in force.
    pub fn set(&self) -> Arc<Set> {
        self.0.in_force.borrow().clone()
    }

    /// Where its files are.
    pub fn settings(&self) -> Settings {
        self.0.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong, or soon will be, with the set in force.
    pub fn worries(&self) -> Vec<Worry> {
        self.set().worries(self.0.clock.now())
    }

    /// Reads what `settings` names, for [`Tls::adopt`]. Refused if a part is not good, or is past
    /// its time while no part of the set in force is.
    pub fn prepare(&self, settings: Settings) -> Result<Fresh, Error> {
        self.check(Files::read(&settings)?, settings)
    }

    /// Puts a set into force: connections from now on are made with it, and open ones stay if their
    /// certificates are good enough for it.
    pub fn adopt(&self, fresh: Fresh) {
        let Fresh { settings, digest, set } = fresh;
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = digest;
        self.0.in_force.send_replace(set);
    }

    /// Looks whether the files hold something else than at the last look, and what they hold now is
    /// good; none: they are the same.
    pub fn look(&self) -> Option<Result<Fresh, Error>> {
        let settings = self.settings();
        let files = Files::read(&settings);
        let digest = match &files {
            Ok(files) => files.digest(),
            Err(error) => error.digest(),
        };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return None;
        }
        *seen = digest;
        drop(seen);
        Some(files.and_then(|files| self.check(files, settings)))
    }

    fn check(&self, files: Files, settings: Settings) -> Result<Fresh, Error> {
        let digest = files.digest();
        let set = Set::build(&files, &settings, self.0.protocol, self.0.clock.clone())?;
        let now = self.0.clock.now();
        match set.out_of_its_time(now) {
            Some(error) if self.set().out_of_its_time(now).is_none() => Err(error),
            _ => Ok(Fresh { settings, digest, set: Arc::new(set) }),
        }
    }

    /// Shakes hands; also the set that it was done with.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Arc<Set>)> {
        let set = self.set();
        let stream = TlsAcceptor::from(set.config()).accept(stream).await?;
        Ok((stream, set))
    }

    fn follow(&self) -> watch::Receiver<Arc<Set>> {
        self.0.in_force.subscribe()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.settings()).finish()
    }
}

/// The certificates that the client has shown, its own first.
pub(super) fn shown(stream: &TlsStream<TcpStream>) -> Vec<Vec<u8>> {
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().unwrap_or_default();
    shown.iter().map(|certificate| certificate.to_vec()).collect()
}
