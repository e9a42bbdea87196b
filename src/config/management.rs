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

#[cfg(test)]
mod tests {
    use super::super::{Config, Error};
    use super::*;

    const FRAME: &str = r#"
[backends.token]
kind = "pkcs11"
module = "/usr/lib/module.so"
token_label = "signkeep"
pin_file = "pin"
[[listeners.management]]
address = "127.0.0.1:8443"
[management.domains]
"keys.example" = "default"
"#;
    const CLIENT: &str = r#"
[[management.clients]]
id = "script"
secret_hash_file = "script.hash"
scopes = ["read:signing_keys"]
"#;

    fn parse(text: &str) -> Result<Config, Error> {
        let file = Path::new("/etc/signkeep/signkeep.toml");
        Config::parse(text, file, Path::new("/etc/signkeep"), [])
    }

    #[track_caller]
    fn refused(text: &str, field: &str, why: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.what.contains(why), "{error}");
    }

    #[test]
    fn without_a_listener_there_is_no_management_api() {
        let config = parse(FRAME.split("[[listeners").next().unwrap()).unwrap();
        assert_eq!(config.management, None);
    }

    #[test]
    fn a_small_section_has_every_default() {
        let settings = parse(&format!("{FRAME}{CLIENT}")).unwrap().management.unwrap();
        assert_eq!(settings.tokens.backend.as_str(), "token");
        assert_eq!(settings.tokens.lifetime, Duration::from_secs(3600));
        assert_eq!(settings.pace, Pace { per_second: 15, burst: 50, rotations_per_day: 5 });
        assert_eq!(settings.auth0, Auth0::default());
        let client = &settings.clients[&"script".parse().unwrap()];
        let file = PathBuf::from("/etc/signkeep/script.hash");
        assert_eq!(client.credential, CredentialFile::SecretHash(file));
        assert_eq!(client.scopes.to_string(), "read:signing_keys");
    }

    #[test]
    fn auth0s_ways_can_be_chosen() {
        let text =
            "[auth0]\nguard_revoke = true\nremove_alg_from_jwks = true\ncertificates = true\n";
        let config = parse(&format!("{FRAME}{text}")).unwrap();
        let auth0 = config.management.unwrap().auth0;
        let wanted = Auth0 { revocation: Revocation::Guarded, alg: AlgMember::LeftOut };
        assert_eq!((auth0, config.certificates), (wanted, Shape::Auth0));
    }

    #[test]
    fn what_does_not_hold_together_is_refused_with_what_would_be_right() {
        let with = |more: &str| format!("{FRAME}{more}");
        let client = |from: &str, to: &str| with(&CLIENT.replace(from, to));
        let (no_domain, _) = FRAME.split_once("[management.domains]").unwrap();
        refused(no_domain, "management.domains", "at least one");
        let lonely = FRAME.replace("[[listeners.management]]", "[[listeners.metrics]]");
        refused(&lonely, "management.domains", "[[listeners.management]]");
        let inner = FRAME.replace("\"default\"", "\"signkeep-audit\"");
        refused(&inner, "management.domains", "the service's own");
        let url = FRAME.replace("\"keys.example\"", "\"https://keys.example/\"");
        refused(&url, "management.domains", "host name");
        refused(
            &client("read:signing_keys", "read:users"),
            "management.clients.0.scopes",
            "must be read:",
        );
        refused(
            &client("\"read:signing_keys\"", ""),
            "management.clients.0.scopes",
            "at least one",
        );
        refused(
            &client("script\"\n", "a script\"\n"),
            "management.clients.0.id",
            "must be 1 to 128",
        );
        let both = client("scopes", "public_keys_file = \"a\"\nscopes");
        refused(&both, "management.clients.0", "either");
        let elsewhere = client("scopes", "domains = [\"other.example\"]\nscopes");
        refused(&elsewhere, "management.clients.0.domains", "not among");
        refused(&with(&CLIENT.repeat(2)), "management.clients.1.id", "another of that name");
        let slow = with("").replace(
            "[management.domains]",
            "[management]\ntoken_lifetime = \"59s\"\n[management.domains]",
        );
        refused(&slow, "management.token_lifetime", "between 1m and 30d");
        let never = with("").replace(
            "[management.domains]",
            "[management]\nrotations_per_day = 0\n[management.domains]",
        );
        refused(&never, "management.rotations_per_day", "between 1 and 10000");
        let nowhere = with("").replace(
            "[management.domains]",
            "[management]\ntoken_backend = \"kms\"\n[management.domains]",
        );
        refused(&nowhere, "management.token_backend", "there is token");
    }
}
