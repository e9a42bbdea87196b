//! Names: of domains, of clients, and of what a client may do.

use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header::HOST;
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The host, and the port where it is not 443, by which clients know an Auth0 tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName {
    host: String,
    port: Option<u16>,
}

impl DomainName {
    /// The same with `port` in place of the port 0, which stands for whatever the system chooses.
    #[must_use]
    pub fn at(&self, port: u16) -> Self {
        match self.port {
            Some(0) => Self { port: Some(port).filter(|port| *port != 443), ..self.clone() },
            _ => self.clone(),
        }
    }

    /// The domain that a request is for.
    pub(super) fn of_request(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        match uri.authority() {
            Some(authority) => authority.as_str().parse().ok(),
            None => headers.get(HOST)?.to_str().ok()?.parse().ok(),
        }
    }

    /// The issuer of its access tokens, and the audience of assertions.
    pub(super) fn issuer(&self) -> String {
        format!("https://{self}/")
    }

    /// The audience of its access tokens.
    pub(super) fn audience(&self) -> String {
        format!("https://{self}/api/v2/")
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl FromStr for DomainName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const WRONG: InvalidName = InvalidName(
            "must be a host name, with a port where that is not 443, and nothing else, e.g. keys.example or localhost:8443",
        );
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port: u16 = port.parse().ok().filter(|_| digits).ok_or(WRONG)?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        let host = host.to_ascii_lowercase();
        let known = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
            None => is_host_name(&host),
        };
        let port = port.filter(|port| *port != 443);
        if known { Ok(Self { host, port }) } else { Err(WRONG) }
    }
}

fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Names a client of the Management API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

impl ClientId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // What no form of encoding changes, so that it is the same in a form, in HTTP Basic and in
        // a token.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName("must be 1 to 128 of A-Z, a-z, 0-9, and -._~"))
        }
    }
}

/// One thing that a client may do, by Auth0's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Look at signing keys.
    ReadSigningKeys,
    /// With [`Scope::UpdateSigningKeys`]: rotate.
    CreateSigningKeys,
    /// Revoke; with [`Scope::CreateSigningKeys`]: rotate.
    UpdateSigningKeys,
    /// Look at custom keys.
    ReadCustomSigningKeys,
    /// With [`Scope::UpdateCustomSigningKeys`]: set custom keys.
    CreateCustomSigningKeys,
    /// With [`Scope::CreateCustomSigningKeys`]: set custom keys.
    UpdateCustomSigningKeys,
    /// Remove custom keys.
    DeleteCustomSigningKeys,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::ReadSigningKeys,
        Self::CreateSigningKeys,
        Self::UpdateSigningKeys,
        Self::ReadCustomSigningKeys,
        Self::CreateCustomSigningKeys,
        Self::UpdateCustomSigningKeys,
        Self::DeleteCustomSigningKeys,
    ];

    /// Auth0's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadSigningKeys => "read:signing_keys",
            Self::CreateSigningKeys => "create:signing_keys",
            Self::UpdateSigningKeys => "update:signing_keys",
            Self::ReadCustomSigningKeys => "read:custom_signing_keys",
            Self::CreateCustomSigningKeys => "create:custom_signing_keys",
            Self::UpdateCustomSigningKeys => "update:custom_signing_keys",
            Self::DeleteCustomSigningKeys => "delete:custom_signing_keys",
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or(InvalidName(
            "must be read:, create: or update:signing_keys, or read:, create:, update: or delete:custom_signing_keys",
        ))
    }
}

/// What a client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Those that `text` names, with spaces between; names that are not known here grant nothing.
    pub(super) fn in_text(text: &str) -> Self {
        text.split(' ').filter_map(|name| name.parse().ok()).collect()
    }

    /// Those that are in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Those of `needed` that are not here.
    pub(super) fn lack(&self, needed: &[Scope]) -> Vec<Scope> {
        needed.iter().filter(|scope| !self.0.contains(scope)).copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|scope| scope.name()).collect();
        f.write_str(&names.join(" "))
    }
}

/// A text that is not the name it should be; says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn a_domain_is_a_host_and_a_port_that_is_not_443() {
        assert_eq!(domain("Keys.Example"), domain("keys.example:443"));
        assert_ne!(domain("keys.example"), domain("keys.example:8443"));
        assert_eq!(domain("localhost:8443").audience(), "https://localhost:8443/api/v2/");
        assert_eq!(domain("[::1]:8443").issuer(), "https://[::1]:8443/");
        assert_eq!(domain("localhost:0").at(8443), domain("localhost:8443"));
        assert_eq!(domain("localhost").at(8443), domain("localhost"));
        for text in
            ["", "a b", "https://a", "a/", "a:", "a:99999", "a:+1", "-a", "a..b", "[::1", "u@a"]
        {
            assert!(text.parse::<DomainName>().is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_are_read_and_written_as_auth0_does() {
        let some = Scopes::in_text("read:signing_keys read:users update:signing_keys ");
        assert_eq!(some.to_string(), "read:signing_keys update:signing_keys");
        let needed = [Scope::CreateSigningKeys, Scope::UpdateSigningKeys];
        assert_eq!(some.lack(&needed), [Scope::CreateSigningKeys]);
        let read = Scopes::in_text("read:signing_keys");
        assert_eq!(some.and(&read), read);
        assert!(Scope::ALL.iter().all(|scope| scope.name().parse() == Ok(*scope)));
    }
}
