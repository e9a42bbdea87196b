//! `[listeners]`: where the service listens, and what holds there.
//!
//! Whatever can be reached from another machine has TLS: without it, anyone between could read and
//! alter what passes. On loopback and on Unix sockets it may be left out, for a sidecar and for
//! trying things out.

mod tls;

use super::document::{Document, Error};
use super::limits::{ForListeners, Overrides};
use crate::transport::{Address, Limits, tls as transport_tls};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value};
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// Who may connect to a Unix socket, unless the file says otherwise.
const MODE: u32 = 0o660;

/// Where each face listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// gRPC.
    pub grpc: Vec<Listener>,
    /// The public HTTP face: JWKS, discovery, certificates, probes.
    pub http: Vec<Listener>,
    /// Metrics.
    pub metrics: Vec<Listener>,
    /// The API for Auth0's clients.
    pub management: Vec<Listener>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it is; port 0 lets the system choose.
    pub address: Address,
    /// The permissions of its file, if it is a Unix socket.
    pub mode: u32,
    /// How it is secured; none: it is not, and can be reached from this machine only.
    pub tls: Option<transport_tls::Settings>,
    /// What peers may take up.
    pub limits: Limits,
}

impl Listeners {
    /// Every listener with its face: `grpc`, `http`, `metrics` or `management`.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Listener)> {
        let faces = [
            ("grpc", &self.grpc),
            ("http", &self.http),
            ("metrics", &self.metrics),
            ("management", &self.management),
        ];
        faces.into_iter().flat_map(|(face, list)| list.iter().map(move |one| (face, one)))
    }
}

impl Listener {
    /// Without TLS at `address`, within `limits`.
    pub fn plain(address: impl Into<Address>, limits: Limits) -> Self {
        Self { address: address.into(), mode: MODE, tls: None, limits }
    }
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    #[serde(deserialize_with = "one_or_more")]
    grpc: Vec<Entry>,
    #[serde(deserialize_with = "one_or_more")]
    http: Vec<Entry>,
    #[serde(deserialize_with = "one_or_more")]
    metrics: Vec<Entry>,
    #[serde(deserialize_with = "one_or_more")]
    management: Vec<Entry>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    mode: Option<String>,
    tls: Option<tls::Section>,
    #[serde(default)]
    limits: Overrides,
}

impl Default for Section {
    fn default() -> Self {
        let local = |port| {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).to_string();
            vec![Entry { address, mode: None, tls: None, limits: Overrides::default() }]
        };
        Self { grpc: local(50051), http: local(8080), metrics: local(9464), management: Vec::new() }
    }
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        directory: &Path,
        limits: &ForListeners,
    ) -> Result<Listeners, Error> {
        let face = |name: &str, entries: Vec<Entry>, limits: &Limits| {
            let entries = entries.into_iter().enumerate();
            entries
                .map(|(index, entry)| {
                    entry.build(document, &format!("listeners.{name}.{index}"), directory, limits)
                })
                .collect::<Result<Vec<_>, _>>()
        };
        // A rotation that is under way waits for the HSM.
        let management = Limits { grace: limits.grpc.grace, ..limits.http };
        Ok(Listeners {
            grpc: face("grpc", self.grpc, &limits.grpc)?,
            http: face("http", self.http, &limits.http)?,
            metrics: face("metrics", self.metrics, &limits.http)?,
            management: face("management", self.management, &management)?,
        })
    }
}

impl Entry {
    fn build(
        self,
        document: &Document<'_>,
        field: &str,
        directory: &Path,
        limits: &Limits,
    ) -> Result<Listener, Error> {
        let wrong =
            |name: &str, what: String| Err(document.wrong(&format!("{field}.{name}"), what));
        let text = self.address;
        let address = text.parse::<Address>().and_then(|address| address.within(directory));
        let address = match address {
            Ok(address) => address,
            Err(error) => return wrong("address", format!("{text:?} {error}")),
        };
        let is_socket = address.tcp().is_none();
        if !address.is_local() && self.tls.is_none() {
            let what = "is not a loopback address and has no tls, so anyone on the way could read and alter what passes: add a tls table with certificate_file and key_file, or listen on loopback, e.g. 127.0.0.1:50051";
            return wrong("address", format!("{text:?} {what}"));
        }
        if is_socket && self.tls.is_some() {
            return wrong("tls", "is for ports: nobody is between the two ends of a Unix socket, and the system says whose process calls".to_owned());
        }
        let mode = match self.mode.as_deref() {
            Some(_) if !is_socket => {
                return wrong("mode", "is for Unix sockets; a port has no permissions".to_owned());
            }
            None => MODE,
            Some(mode) => match octal(mode) {
                Some(mode) => mode,
                None => {
                    return wrong(
                        "mode",
                        format!(
                            "{mode:?} must be permissions in octal with access for the owner, e.g. \"0660\""
                        ),
                    );
                }
            },
        };
        let tls = match self.tls {
            Some(tls) => Some(tls.build(document, &format!("{field}.tls"), directory)?),
            None => None,
        };
        let limits = self.limits.over(limits, document, &format!("{field}.limits"))?;
        Ok(Listener { address, mode, tls, limits })
    }
}

/// Permissions, with those that the owner needs.
fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)?;
    ((3..=4).contains(&text.len()) && digits && mode & 0o600 == 0o600).then_some(mode)
}

/// The address, if it is one on loopback.
pub fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr =
        text.parse().map_err(|_| "must be an IP address and a port, e.g. 127.0.0.1:50051")?;
    if Address::from(address).is_local() {
        Ok(address)
    } else {
        Err(
            "is not a loopback address, e.g. 127.0.0.1:50051: a listener off loopback needs tls, which a configuration for `signkeep serve` sets up",
        )
    }
}

/// One as a table, or several as an array of tables.
fn one_or_more<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct OneOrMore<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table with an address, or an array of such tables")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(value::MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(value::SeqAccessDeserializer::new(seq))
        }
    }

    deserializer.deserialize_any(OneOrMore(PhantomData))
}
