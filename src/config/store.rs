//! `[store]`: where the truth about keys is kept.
//!
//! A password never stands in the URL: URLs are logged, and shown by `ps`.

mod url;

use super::document::{Document, Error};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use url::{Protection, Url};

/// Where the truth about keys is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A SQLite database, by its file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Postgres),
}

/// A PostgreSQL database, and how to come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// The server.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
    /// How the connection is protected; none: not at all.
    pub tls: Option<StoreTls>,
}

/// Where a PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// On TCP, by name or address.
    Tcp(String),
    /// On a Unix socket in this directory.
    Socket(PathBuf),
}

/// TLS to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTls {
    /// Whether the server's certificate must name its host, beside being issued by an authority
    /// that is trusted.
    pub host_name: HostName,
    /// Certificate authorities that count beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, and the file with its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What a server's certificate has to say of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostName {
    /// Its name.
    Checked,
    /// Anything.
    Ignored,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(Postgres { host, port, user, database, .. }) => match host {
                Host::Tcp(name) => write!(f, "postgres://{user}@{name}:{port}/{database}"),
                Host::Socket(directory) => {
                    write!(f, "postgres://{user}@:{port}/{database}?host={}", directory.display())
                }
            },
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    url: String,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            url: "sqlite:signkeep.db".to_owned(),
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
        }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>, directory: &Path) -> Result<Store, Error> {
        let scheme = self.url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "sqlite" => self.sqlite(document, directory),
            "postgres" | "postgresql" => self.postgres(document, directory),
            _ => Err(document.wrong(
                "store.url",
                "must be sqlite:<path>, e.g. sqlite:/var/lib/signkeep/signkeep.db, or postgres://<user>@<host>/<database>",
            )),
        }
    }

    fn sqlite(self, document: &Document<'_>, directory: &Path) -> Result<Store, Error> {
        let files = [
            ("store.password_file", &self.password_file),
            ("store.ca_file", &self.ca_file),
            ("store.certificate_file", &self.certificate_file),
            ("store.key_file", &self.key_file),
        ];
        if let Some((field, _)) = files.into_iter().find(|(_, file)| file.is_some()) {
            return Err(document.wrong(field, "is for PostgreSQL; store.url names SQLite"));
        }
        let path = self.url.strip_prefix("sqlite:").unwrap_or_default();
        if path.is_empty() || path.starts_with("//") || path.starts_with(':') || path.contains('?')
        {
            return Err(document.wrong(
                "store.url",
                "must be sqlite: and the path of a file, without //, parameters or :memory:",
            ));
        }
        Ok(Store::Sqlite(directory.join(path)))
    }

    fn postgres(self, document: &Document<'_>, directory: &Path) -> Result<Store, Error> {
        let Url { host, port, user, database, protection } =
            Url::parse(&self.url).map_err(|wrong| document.wrong("store.url", wrong))?;
        let file = |file: PathBuf| directory.join(file);
        let client = match (self.certificate_file, self.key_file) {
            (Some(certificate), Some(key)) => Some((file(certificate), file(key))),
            (None, None) => None,
            (Some(_), None) => {
                return Err(document.wrong("store.key_file", "is missing beside certificate_file"));
            }
            (None, Some(_)) => {
                return Err(document.wrong("store.certificate_file", "is missing beside key_file"));
            }
        };
        let ca_file = self.ca_file.map(file);
        let tls = match protection {
            Protection::Tls(host_name) => Some(StoreTls { host_name, ca_file, client }),
            Protection::None if ca_file.is_none() && client.is_none() => None,
            Protection::None => {
                return Err(document.wrong(
                    "store.url",
                    "turns TLS off while there are files for it; add ?sslmode=verify-full",
                ));
            }
        };
        let password_file = self.password_file.map(file);
        Ok(Store::Postgres(Postgres { host, port, user, database, password_file, tls }))
    }
}
