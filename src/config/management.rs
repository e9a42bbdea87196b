//! `[management]` and `[auth0]`: the API for clients that were written for Auth0.

use super::document::{Document, Error};
use super::listeners::Listeners;
use super::span::Span;
use crate::key::{Algorithm, BackendName, KeySetId};
use crate::management::{
    AlgMember, Auth0, ClientId, ClientSettings, CredentialFile, DomainName, Pace, Revocation,
    Scope, Settings, Tokens,
};
use crate::x509::certificate::Shape;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The longest that an access token may be valid.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    domains: BTreeMap<String, KeySetId>,
    clients: Vec<Client>,
    token_algorithm: Algorithm,
    token_backend: Option<BackendName>,
    token_lifetime: Span,
    calls_per_second: u32,
    calls_at_once: u32,
    rotations_per_day: u32,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Client {
    id: String,
    secret_hash_file: Option<PathBuf>,
    public_keys_file: Option<PathBuf>,
    scopes: Vec<String>,
    #[serde(default)]
    domains: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth0Section {
    guard_revoke: bool,
    remove_alg_from_jwks: bool,
    certificates: bool,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            domains: BTreeMap::new(),
            clients: Vec::new(),
            token_algorithm: Algorithm::Es256,
            token_backend: None,
            token_lifetime: Span::from_secs(60 * 60),
            calls_per_second: 15,
            calls_at_once: 50,
            rotations_per_day: 5,
        }
    }
}

/// Finds what a setting names, or says where and why it cannot.
fn parsed<T>(document: &Document<'_>, field: &str, text: &str) -> Result<T, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| document.wrong(field, format!("{text:?} {error}")))
}

impl Section {
    /// The settings; none if there is no domain and no listener for one.
    pub(super) fn build(
        self,
        document: &Document<'_>,
        directory: &Path,
        auth0: &Auth0Section,
        backends: &BTreeMap<BackendName, super::Backend>,
        listeners: &Listeners,
    ) -> Result<Option<Settings>, Error> {
        match (self.domains.is_empty(), listeners.management.is_empty()) {
            (true, true) if self.clients.is_empty() => return Ok(None),
            (true, _) => {
                let what = "at least one is needed, e.g. \"keys.example\" = \"default\"";
                return Err(document.wrong("management.domains", what));
            }
            (false, true) => {
                let what = "nobody can reach them: add [[listeners.management]] with an address";
                return Err(document.wrong("management.domains", what));
            }
            (false, false) => {}
        }
        let tokens = self.tokens(document, backends)?;
        let pace = self.pace(document)?;
        let domains = domains(document, self.domains)?;
        let mut clients = BTreeMap::new();
        for (place, client) in self.clients.into_iter().enumerate() {
            let field = format!("management.clients.{place}");
            let (id, client) = client.build(document, &field, directory, &domains)?;
            if clients.insert(id, client).is_some() {
                return Err(document.wrong(&format!("{field}.id"), "there is another of that name"));
            }
        }
        Ok(Some(Settings { domains, clients, tokens, pace, auth0: auth0.build() }))
    }

    fn tokens(
        &self,
        document: &Document<'_>,
        backends: &BTreeMap<BackendName, super::Backend>,
    ) -> Result<Tokens, Error> {
        let names = || backends.keys().map(BackendName::as_str).collect::<Vec<_>>().join(", ");
        let wrong = |what| Err(document.wrong("management.token_backend", what));
        let backend = match (&self.token_backend, backends.keys().next()) {
            (Some(name), _) if backends.contains_key(name) => name.clone(),
            (Some(name), _) => {
                return wrong(format!("there is no [backends.{name}]; there is {}", names()));
            }
            (None, Some(only)) if backends.len() == 1 => only.clone(),
            (None, _) => return wrong(format!("must say which backend: {}", names())),
        };
        let lifetime = self.token_lifetime.get();
        if !(Duration::from_secs(60)..=LIFETIME_MAX).contains(&lifetime)
            || lifetime.subsec_nanos() > 0
        {
            let what = "must be whole seconds, between 1m and 30d";
            return Err(document.wrong("management.token_lifetime", what));
        }
        Ok(Tokens { backend, algorithm: self.token_algorithm, lifetime })
    }

    fn pace(&self, document: &Document<'_>) -> Result<Pace, Error> {
        for (name, value) in [
            ("calls_per_second", self.calls_per_second),
            ("calls_at_once", self.calls_at_once),
            ("rotations_per_day", self.rotations_per_day),
        ] {
            if !(1..=10_000).contains(&value) {
                let field = format!("management.{name}");
                return Err(document.wrong(&field, "must be between 1 and 10000"));
            }
        }
        Ok(Pace {
            per_second: self.calls_per_second,
            burst: self.calls_at_once,
            rotations_per_day: self.rotations_per_day,
        })
    }
}

fn domains(
    document: &Document<'_>,
    written: BTreeMap<String, KeySetId>,
) -> Result<BTreeMap<DomainName, KeySetId>, Error> {
    let mut domains = BTreeMap::new();
    for (text, key_set) in written {
        let name: DomainName = parsed(document, "management.domains", &text)?;
        if key_set.is_internal() {
            let what = format!("{key_set}: names that begin with signkeep- are the service's own");
            return Err(document.wrong("management.domains", what));
        }
        if domains.insert(name, key_set).is_some() {
            let what = format!("{text:?} is there twice, written in two ways");
            return Err(document.wrong("management.domains", what));
        }
    }
    Ok(domains)
}

impl Client {
    fn build(
        self,
        document: &Document<'_>,
        field: &str,
        directory: &Path,
        known: &BTreeMap<DomainName, KeySetId>,
    ) -> Result<(ClientId, ClientSettings), Error> {
        let id: ClientId = parsed(document, &format!("{field}.id"), &self.id)?;
        let credential = match (self.secret_hash_file, self.public_keys_file) {
            (Some(file), None) => CredentialFile::SecretHash(directory.join(file)),
            (None, Some(file)) => CredentialFile::PublicKeys(directory.join(file)),
            _ => {
                let what = "must have either secret_hash_file or public_keys_file";
                return Err(document.wrong(field, what));
            }
        };
        let scopes: Vec<Scope> = self
            .scopes
            .iter()
            .map(|text| parsed(document, &format!("{field}.scopes"), text))
            .collect::<Result<_, _>>()?;
        if scopes.is_empty() {
            let what = "must name at least one, e.g. read:signing_keys";
            return Err(document.wrong(&format!("{field}.scopes"), what));
        }
        let mut domains = Vec::new();
        for text in &self.domains {
            let name: DomainName = parsed(document, &format!("{field}.domains"), text)?;
            if !known.contains_key(&name) {
                let what = format!("{text:?} is not among [management.domains]");
                return Err(document.wrong(&format!("{field}.domains"), what));
            }
            domains.push(name);
        }
        let scopes = scopes.into_iter().collect();
        Ok((id, ClientSettings { credential, scopes, domains }))
    }
}

impl Auth0Section {
    fn build(&self) -> Auth0 {
        Auth0 {
            revocation: match self.guard_revoke {
                true => Revocation::Guarded,
                false => Revocation::AtOnce,
            },
            alg: match self.remove_alg_from_jwks {
                true => AlgMember::LeftOut,
                false => AlgMember::Kept,
            },
        }
    }

    /// What certificates of new keys say.
    pub(super) const fn certificates(&self) -> Shape {
        if self.certificates { Shape::Auth0 } else { Shape::EndEntity }
    }
}
