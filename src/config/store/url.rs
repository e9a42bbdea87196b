//! `postgres://user@host:port/database?sslmode=…`, as much of it as is safe.

use super::{Host, HostName};
use std::net::IpAddr;
use std::path::PathBuf;

const PORT: u16 = 5432;
const FORM: &str = "must be postgres://<user>@<host>/<database>?sslmode=verify-full, with :<port> unless it is 5432";

/// What the URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) protection: Protection,
}

/// Whether the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    Tls(HostName),
    None,
}

impl Url {
    /// Reads `text`; what is wrong is told without repeating what may be a secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or(FORM)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').ok_or(FORM)?;
        let (user, host) =
            authority.rsplit_once('@').ok_or("names no user, as in <user>@<host>")?;
        if user.contains(':') {
            return Err("must hold no password: put it into a file (chmod 600) and name that with store.password_file".to_owned());
        }
        let (host, port) = host_and_port(host)?;
        let parameters = Parameters::parse(query)?;
        let host = match (host.is_empty(), parameters.directory) {
            (true, Some(directory)) => Host::Socket(directory),
            (false, None) => Host::Tcp(host.to_owned()),
            (true, None) => return Err(format!("names no host; {FORM}")),
            (false, Some(_)) => {
                return Err(
                    "names a host twice; host= is for the directory of a Unix socket".to_owned()
                );
            }
        };
        let protection = protection(&host, parameters.sslmode.as_deref())?;
        let (user, database) = (name(user, "user")?, name(database, "database")?);
        Ok(Self { host, port, user, database, protection })
    }
}

/// What stands after the question mark.
#[derive(Default)]
struct Parameters {
    sslmode: Option<String>,
    directory: Option<PathBuf>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => parameters.sslmode = Some(decoded(mode)?),
                Some(("host", directory)) if decoded(directory)?.starts_with('/') => {
                    parameters.directory = Some(PathBuf::from(decoded(directory)?));
                }
                Some(("host", _)) => {
                    return Err("host= must be the directory of a Unix socket, from /".to_owned());
                }
                Some(("password", _)) => {
                    return Err("must hold no password: put it into a file (chmod 600) and name that with store.password_file".to_owned());
                }
                _ => {
                    let key = pair.split('=').next().unwrap_or_default();
                    return Err(format!(
                        "has a parameter {key:?}; only sslmode and host (a socket's directory) are taken, and certificates are settings of their own"
                    ));
                }
            }
        }
        Ok(parameters)
    }
}

/// Off this machine only TLS that knows who is at the other end: a password, and every answer about
/// which key signs, goes through there.
fn protection(host: &Host, mode: Option<&str>) -> Result<Protection, String> {
    let local = match host {
        Host::Socket(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    match (mode, host) {
        (None | Some("disable"), _) if local => Ok(Protection::None),
        (Some(_), Host::Socket(_)) => Err("sslmode must be disable on a Unix socket".to_owned()),
        (None | Some("verify-full"), _) => Ok(Protection::Tls(HostName::Checked)),
        (Some("verify-ca"), _) => Ok(Protection::Tls(HostName::Ignored)),
        (Some("disable"), _) => {
            Err("sslmode must be verify-full off loopback: passwords and keys' states go through there".to_owned())
        }
        (Some(_), _) => Err(
            "sslmode must be verify-full, or verify-ca where the certificate names no host; the others do not find out who answers"
                .to_owned(),
        ),
    }
}

fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("has a [ without a ] in its host")?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.contains([',', ' ']) {
        return Err("names several hosts; give one that always leads to the primary".to_owned());
    }
    let port = match port {
        None => PORT,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("must have a port between 1 and 65535 after its host")?,
    };
    Ok((host, port))
}

/// The name of a role or database.
fn name(text: &str, what: &str) -> Result<String, String> {
    let name = decoded(text)?;
    if name.is_empty() || name.len() > 63 || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(format!("must name a {what} in 1 to 63 bytes; {FORM}"));
    }
    Ok(name)
}

/// The text with `%2F` and the like made what they stand for.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (hex(*high)? << 4 | hex(*low)?, after),
            (b'%', _) => return Err(NOT_HEX.to_owned()),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "must be UTF-8".to_owned())
}

const NOT_HEX: &str = "has a % without two hexadecimal digits after it";

fn hex(digit: u8) -> Result<u8, String> {
    let digit = char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digit.ok_or_else(|| NOT_HEX.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Url::parse(text).unwrap_err()
    }

    #[test]
    fn a_url_says_where_and_who() {
        let url = Url::parse("postgres://signkeep@db.example/keys?sslmode=verify-full").unwrap();
        assert_eq!(url.host, Host::Tcp("db.example".to_owned()));
        assert_eq!(
            (url.port, url.user.as_str(), url.database.as_str()),
            (5432, "signkeep", "keys")
        );
        assert_eq!(url.protection, Protection::Tls(HostName::Checked));
        let url = Url::parse("postgresql://a%40b@[2001:db8::1]:6432/k%20s").unwrap();
        assert_eq!(url.host, Host::Tcp("2001:db8::1".to_owned()));
        assert_eq!((url.port, url.user.as_str(), url.database.as_str()), (6432, "a@b", "k s"));
        let url = Url::parse("postgres://me@:6432/keys?host=/run/postgresql").unwrap();
        assert_eq!(url.host, Host::Socket("/run/postgresql".into()));
        assert_eq!((url.port, url.protection), (6432, Protection::None));
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in [
            "postgres://me:hunter2@localhost/keys",
            "postgres://me@localhost/keys?password=hunter2",
        ] {
            let why = wrong(text);
            assert!(why.contains("store.password_file") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn off_this_machine_the_server_has_to_show_who_it_is() {
        let of = |host: &str, mode: &str| {
            Url::parse(&format!("postgres://me@{host}/keys{mode}")).map(|url| url.protection)
        };
        let full = Ok(Protection::Tls(HostName::Checked));
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(of(host, ""), Ok(Protection::None));
            assert_eq!(of(host, "?sslmode=disable"), Ok(Protection::None));
            assert_eq!(of(host, "?sslmode=verify-full"), full);
        }
        for host in ["db.example", "10.0.0.1", "localhost.example"] {
            assert_eq!(of(host, ""), full);
            assert_eq!(of(host, "?sslmode=verify-ca"), Ok(Protection::Tls(HostName::Ignored)));
            for mode in ["disable", "allow", "prefer", "require", "none"] {
                let why = of(host, &format!("?sslmode={mode}")).unwrap_err();
                assert!(why.contains("verify-full"), "{mode}: {why}");
            }
        }
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused_in_words() {
        for (text, words) in [
            ("postgres://", "<database>"),
            ("postgres://db.example/keys", "user"),
            ("postgres://me@/keys", "host"),
            ("postgres://me@db.example/", "database"),
            ("postgres://me@db.example", "<database>"),
            ("postgres://me@db.example:0/keys", "port"),
            ("postgres://me@db.example:x/keys", "port"),
            ("postgres://me@a,b/keys", "several hosts"),
            ("postgres://m%4@db.example/keys", "%"),
            ("postgres://me@db.example/keys?options=-c%20x", "options"),
            ("postgres://me@:5432/keys?host=db.example", "directory"),
            ("postgres://me@db.example/keys?host=/run", "twice"),
            ("postgres://me@:5432/keys?host=/run&sslmode=verify-full", "Unix socket"),
            ("postgres://me@[::1/keys", "]"),
        ] {
            let why = wrong(text);
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
