//! The configuration: one TOML file, overlaid by the environment, read into the types of the
//! domain.
//!
//! Parsing builds what the service runs on, so nothing is validated later and no half-checked text
//! travels: a policy that does not hold together, a listener off loopback without TLS, a key set without a
//! backend are refused here, each with the file and line or the environment variable that said it,
//! and with what would be right. [`DEFAULTS`] is the manual.

mod audit;
mod backends;
mod callers;
mod difference;
mod document;
mod jwks;
mod key_sets;
mod limits;
mod list;
mod listeners;
mod log;
mod management;
mod policy;
mod span;
mod store;

pub use audit::{Audit, AuditFile, Sink, Sync, WhenFull};
pub use backends::{AwsKms, Backend, Pkcs11, Token};
pub use callers::Callers;
pub use difference::{Difference, Present, Remedy, differences};
pub use document::{Error, Place, Variable};
pub use jwks::Jwks;
pub use key_sets::Seed;
pub use limits::Limits;
pub use listeners::{Listener, Listeners, loopback};
pub use log::{Form, Log};
pub use span::{Span, words};
pub use store::{Host, HostName, Postgres, Store, StoreTls};

use crate::access::{self, Binding};
use crate::key::{BackendName, KeySetId, PublicationLimits};
use document::Document;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The manual: every setting with its default and what it is for.
pub const DEFAULTS: &str = include_str!("config/default.toml");

/// What the service runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the truth about keys is kept.
    pub store: Store,
    /// Where private keys live; at least one.
    pub backends: BTreeMap<BackendName, Backend>,
    /// Where the service listens.
    pub listeners: Listeners,
    /// How the JWKS may be cached.
    pub jwks: Jwks,
    /// Counted into the least propagation delay; nothing else hangs on it while one process serves.
    pub lease: Duration,
    /// How the record of signatures, refusals and changes is kept.
    pub audit: Audit,
    /// What is logged, and how.
    pub log: Log,
    /// How long things may take.
    pub limits: Limits,
    /// How callers are known.
    pub callers: Callers,
    /// What they may do; without an entry nobody may do anything.
    pub policy: Vec<Binding>,
    /// The key set behind the paths that name none.
    pub default_key_set: KeySetId,
    /// The API for Auth0's clients; none: there is none.
    pub management: Option<crate::management::Settings>,
    /// What certificates of new keys say.
    pub certificates: crate::x509::certificate::Shape,
    /// Key sets to be made at start if they do not exist.
    pub key_sets: BTreeMap<KeySetId, Seed>,
}

impl Config {
    /// Reads `file`, overlaid by those of `environment` that begin with `SIGNKEEP_`. Relative paths
    /// in it are taken from the file's own directory.
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(|error| Error::unreadable(file, &error))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, file, directory, environment)
    }

    /// Reads `text` as if it stood in `file`; relative paths are taken from `directory`.
    pub fn parse(
        text: &str,
        file: &Path,
        directory: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let variables = document::variables(environment);
        let (document, file) = Document::read(text, file, &variables)?;
        file.build(&document, directory)
    }

    /// Who is known, and what they may do.
    pub fn access(&self) -> access::Settings {
        access::Settings {
            certificate_names: self.callers.certificate_names.clone(),
            issuers: self.callers.issuers.clone(),
            policy: self.policy.clone(),
        }
    }

    /// What policies are checked against.
    pub fn publication_limits(&self) -> PublicationLimits {
        self.jwks.limits(self.lease)
    }
}

/// The process' environment, without what is not Unicode: no setting is.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct File {
    store: store::Section,
    backends: BTreeMap<BackendName, backends::Section>,
    listeners: listeners::Section,
    jwks: jwks::Section,
    lease: Lease,
    audit: audit::Section,
    log: Log,
    limits: limits::Section,
    callers: callers::Section,
    policy: Vec<policy::Section>,
    default_key_set: DefaultKeySet,
    management: management::Section,
    auth0: management::Auth0Section,
    key_sets: BTreeMap<KeySetId, key_sets::Section>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
struct Lease(Span);

impl Default for Lease {
    fn default() -> Self {
        Self(Span::from_secs(60))
    }
}

/// A key set's name as written; empty for `default`.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
struct DefaultKeySet(Option<KeySetId>);

impl File {
    fn build(self, document: &Document<'_>, directory: &Path) -> Result<Config, Error> {
        let mut backends = BTreeMap::new();
        for (name, section) in self.backends {
            let settings = section.build(document, &name, directory)?;
            backends.insert(name, settings);
        }
        if backends.is_empty() {
            return Err(document.wrong(
                "backends",
                "at least one is needed; `signkeep config defaults` shows one, under [backends.token]",
            ));
        }
        let lease = self.lease.0.get();
        if !(Duration::from_secs(5)..=Duration::from_secs(3600)).contains(&lease) {
            return Err(document.wrong("lease", "must be between 5s and 1h"));
        }
        let jwks = self.jwks.build(document)?;
        let limits = jwks.limits(lease);
        let for_listeners = self.limits.for_listeners(document)?;
        let mut key_sets = BTreeMap::new();
        for (id, section) in self.key_sets {
            let seed = section.build(document, &id, &backends, &limits)?;
            key_sets.insert(id, seed);
        }
        let audit = self.audit.build(document, &backends, directory)?;
        let bind = |(at, section): (usize, policy::Section)| section.build(document, at);
        let policy = self.policy.into_iter().enumerate().map(bind).collect::<Result<_, _>>()?;
        let listeners = self.listeners.build(document, directory, &for_listeners)?;
        let management =
            self.management.build(document, directory, &self.auth0, &backends, &listeners)?;
        Ok(Config {
            store: self.store.build(document, directory)?,
            backends,
            listeners,
            management,
            certificates: self.auth0.certificates(),
            jwks,
            lease,
            audit,
            log: self.log.checked(document)?,
            limits: self.limits.build(document)?,
            callers: self.callers.build(document, directory)?,
            policy,
            default_key_set: self.default_key_set.build(document)?,
            key_sets,
        })
    }
}

impl DefaultKeySet {
    fn build(self, document: &Document<'_>) -> Result<KeySetId, Error> {
        let id = match self.0 {
            Some(id) => id,
            None => "default".parse().map_err(|error| document.wrong("default_key_set", error))?,
        };
        if id.is_internal() {
            return Err(document.wrong(
                "default_key_set",
                "names that begin with signkeep- are the service's own",
            ));
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
