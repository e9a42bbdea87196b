//! `[callers]`: what callers are known by, and whose bearer tokens are taken.

use super::document::{Document, Error};
use super::list::OneOrMore;
use super::span::Span;
use crate::access::{Issuer, KeySource, NameKind};
use crate::key::Algorithm;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How callers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// What certificates name their holders by, the best first.
    pub certificate_names: Vec<NameKind>,
    /// Whose bearer tokens are taken.
    pub issuers: Vec<Issuer>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    certificate_names: OneOrMore<NameKind>,
    jwt: Vec<Jwt>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Jwt {
    name: String,
    issuer: String,
    audience: String,
    jwks_url: Option<String>,
    jwks_ca_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    algorithms: OneOrMore<Algorithm>,
    leeway: Option<Span>,
    keep_keys: Option<Span>,
    groups_claim: Option<String>,
}

impl Default for Section {
    fn default() -> Self {
        Self { certificate_names: OneOrMore(NameKind::ALL.to_vec()), jwt: Vec::new() }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>, directory: &Path) -> Result<Callers, Error> {
        let kinds = self.certificate_names.0;
        if kinds.is_empty() {
            let why = "must have at least one of spiffe, dns, uri and subject";
            return Err(document.wrong("callers.certificate_names", why));
        }
        let mut issuers: Vec<Issuer> = Vec::new();
        for (at, jwt) in self.jwt.into_iter().enumerate() {
            let wrong =
                |(field, what): Wrong| document.wrong(&format!("callers.jwt.{at}.{field}"), what);
            let issuer = jwt.build(directory).map_err(wrong)?;
            if issuers.iter().any(|other| other.name == issuer.name) {
                return Err(wrong((
                    "name",
                    "is that of another issuer; choose one for each".into(),
                )));
            }
            if issuers.iter().any(|other| other.issuer == issuer.issuer) {
                return Err(wrong(("issuer", "has an entry already".into())));
            }
            issuers.push(issuer);
        }
        Ok(Callers { certificate_names: kinds, issuers })
    }
}

/// A field, and what would be right.
type Wrong = (&'static str, String);

impl Jwt {
    fn build(self, directory: &Path) -> Result<Issuer, Wrong> {
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&self.name.len()) || !self.name.bytes().all(named) {
            return Err(("name", "must be 1 to 63 characters of a-z, 0-9 and -".into()));
        }
        for (field, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if text.is_empty() {
                return Err((field, "must not be empty".into()));
            }
        }
        if self.algorithms.0.is_empty() {
            return Err(("algorithms", "must have at least one entry, e.g. RS256".into()));
        }
        let minute = Duration::from_secs(60);
        let leeway = self.leeway.map_or(minute, Span::get);
        if leeway > 10 * minute {
            return Err(("leeway", "must be at most 10m".into()));
        }
        let keep = self.keep_keys.map_or(60 * minute, Span::get);
        if !(2 * minute..=7 * 24 * 60 * minute).contains(&keep) {
            return Err(("keep_keys", "must be between 2m and 7d".into()));
        }
        let keys = match (self.jwks_url, self.jwks_file) {
            (Some(url), None) => {
                is_safe(&url).map_err(|why| ("jwks_url", why.to_owned()))?;
                let ca_file = self.jwks_ca_file.map(|file| directory.join(file));
                KeySource::Url { url, ca_file, keep }
            }
            (None, Some(file)) => KeySource::File(directory.join(file)),
            _ => return Err(("jwks_url", "must be set, or jwks_file, and not both".into())),
        };
        Ok(Issuer {
            name: self.name,
            issuer: self.issuer,
            audience: self.audience,
            keys,
            algorithms: self.algorithms.0,
            leeway,
            groups_claim: self.groups_claim,
        })
    }
}

/// Whether nobody on the way can put other keys in the place of the issuer's.
fn is_safe(url: &str) -> Result<(), &'static str> {
    const WHY: &str = "must be an https URL, or an http one on loopback";
    let parsed: http::Uri = url.parse().map_err(|_| WHY)?;
    let host = parsed.host().ok_or(WHY)?.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if local => Ok(()),
        _ => Err(WHY),
    }
}
