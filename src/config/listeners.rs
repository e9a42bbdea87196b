//! `[listeners]`: where the service listens.
//!
//! This build has neither TLS nor named callers, so whoever reaches a listener may do everything:
//! it takes loopback addresses only.

use super::document::{Document, Error};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where each face listens; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// gRPC.
    pub grpc: Vec<SocketAddr>,
    /// The public HTTP face: JWKS, discovery, certificates, probes.
    pub http: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: Vec<SocketAddr>,
    /// The API for Auth0's clients.
    pub management: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    #[serde(deserialize_with = "one_or_more")]
    grpc: Vec<Listener>,
    #[serde(deserialize_with = "one_or_more")]
    http: Vec<Listener>,
    #[serde(deserialize_with = "one_or_more")]
    metrics: Vec<Listener>,
    #[serde(deserialize_with = "one_or_more")]
    management: Vec<Listener>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Listener {
    address: String,
}

impl Default for Section {
    fn default() -> Self {
        let local = |port| {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).to_string();
            vec![Listener { address }]
        };
        Self { grpc: local(50051), http: local(8080), metrics: local(9464), management: Vec::new() }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>) -> Result<Listeners, Error> {
        let face = |name: &str, listeners: Vec<Listener>| {
            let field = format!("listeners.{name}");
            let fields = format!("{field}.address");
            listeners
                .iter()
                .map(|listener| {
                    loopback(&listener.address).map_err(|what| {
                        document.wrong(&fields, format!("{:?} {what}", listener.address))
                    })
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Listeners {
            grpc: face("grpc", self.grpc)?,
            http: face("http", self.http)?,
            metrics: face("metrics", self.metrics)?,
            management: face("management", self.management)?,
        })
    }
}

/// The address, if it is one on loopback.
pub fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    if text.starts_with("unix:") {
        return Err(
            "is a Unix socket; this build serves loopback addresses only, e.g. 127.0.0.1:50051",
        );
    }
    let address: SocketAddr =
        text.parse().map_err(|_| "must be an IP address and a port, e.g. 127.0.0.1:50051")?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(
            "is not a loopback address: TLS and named callers are needed off loopback; this build serves loopback only, e.g. 127.0.0.1:50051",
        )
    }
}

/// One listener as a table, or several as an array of tables.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Listener>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<Listener>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table with an address, or an array of such tables")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Listener::deserialize(value::MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(value::SeqAccessDeserializer::new(seq))
        }
    }

    deserializer.deserialize_any(OneOrMore)
}
