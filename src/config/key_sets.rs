//! `[key_sets.<id>]`: key sets to be made at start if they do not exist.
//!
//! The file only seeds. What it says of a key set that exists is never applied silently, since
//! replicas with different files would fight; `signkeep config diff` shows the differences.

use super::backends::Backend;
use super::document::{Document, Error};
use super::span::Span;
use crate::key::{Algorithm, BackendName, Issuer, KeySetId, Policy, PublicationLimits, RsaBits};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A key set as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// Where they are generated.
    pub backend: BackendName,
    /// The `iss` of its tokens.
    pub issuer: Issuer,
    /// How long things last; it has passed [`Policy::checked`].
    pub policy: Policy,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    algorithm: Algorithm,
    backend: Option<BackendName>,
    issuer: String,
    propagation_delay: Option<Span>,
    max_token_ttl: Option<Span>,
    retention: Option<Span>,
    rotation_period: Option<Span>,
    destroy_after: Option<Span>,
    rsa_bits: Option<u32>,
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        id: &KeySetId,
        backends: &BTreeMap<BackendName, Backend>,
        limits: &PublicationLimits,
    ) -> Result<Seed, Error> {
        let wrong = |field: &str, what: &dyn std::fmt::Display| {
            document.wrong(&format!("key_sets.{id}.{field}"), what)
        };
        if id.is_internal() {
            return Err(document.wrong(
                &format!("key_sets.{id}"),
                "names that begin with signkeep- are the service's own",
            ));
        }
        let issuer: Issuer = self.issuer.parse().map_err(|error| wrong("issuer", &error))?;
        let names = || backends.keys().map(BackendName::as_str).collect::<Vec<_>>().join(", ");
        let backend = match (self.backend, backends.len()) {
            (Some(name), _) if backends.contains_key(&name) => name,
            (Some(name), _) => {
                let what = format!("there is no [backends.{name}]; there is {}", names());
                return Err(wrong("backend", &what));
            }
            (None, 1) => backends
                .keys()
                .next()
                .cloned()
                .ok_or_else(|| wrong("backend", &"must name a backend"))?,
            (None, _) => {
                let what = format!("must say which backend: {}", names());
                return Err(wrong("backend", &what));
            }
        };
        let rsa_bits = match self.rsa_bits {
            None => RsaBits::default(),
            Some(bits) => RsaBits::from_bits(bits)
                .ok_or_else(|| wrong("rsa_bits", &"must be 2048, 3072 or 4096"))?,
        };
        let plain = Policy::default();
        let or = |span: Option<Span>, default: Duration| span.map_or(default, Span::get);
        let policy = Policy {
            propagation_delay: or(self.propagation_delay, plain.propagation_delay),
            max_token_ttl: or(self.max_token_ttl, plain.max_token_ttl),
            retention: self.retention.map(Span::get),
            rotation_period: self.rotation_period.map(Span::get),
            destroy_after: or(self.destroy_after, plain.destroy_after),
            rsa_bits,
        };
        let policy = policy.checked(limits).map_err(|found| {
            let first = found.first().map_or("policy", |invalid| invalid.field);
            let what: Vec<_> = found
                .iter()
                .map(|invalid| match invalid.field == first {
                    true => invalid.why.clone(),
                    false => invalid.to_string(),
                })
                .collect();
            wrong(first, &what.join("; "))
        })?;
        Ok(Seed { algorithm: self.algorithm, backend, issuer, policy })
    }
}
