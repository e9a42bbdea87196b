//! The way to the server: who to be, what to trust, and what is asked of every connection.

use super::fault::Fault;
use super::{Check, Connection, Host, Settings};
use crate::store::Kind;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, raw_sql};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long making a connection may take, the handshakes included.
const CONNECT_WAIT: Duration = Duration::from_secs(4);
/// More than any password, or any key.
const SECRET_FILE_MAX: u64 = 16384;

/// What every connection asks of the server: an end to every wait, a little before the end of
/// patience here, and for a lock before that, so that it is told what it was; a transaction whose client is gone to be undone, so that it lets the next one
/// write; a session whose client's machine is gone to end within a quarter of a minute, for the
/// same reason; and no answer to a COMMIT before it is on the disk, and on the standbys that have to have
/// it.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '4s'; \
    SET idle_in_transaction_session_timeout = '5s'; SET tcp_keepalives_idle = 5; \
    SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3; \
    SET client_min_messages = 'warning'; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') <> 'remote_apply'";

/// Variables that the driver would obey, and what to set in their place.
const VARIABLES: [(&str, &str); 5] = [
    ("PGPASSWORD", "store.password_file"),
    ("PGSSLROOTCERT", "store.ca_file"),
    ("PGSSLCERT", "store.certificate_file"),
    ("PGSSLKEY", "store.key_file"),
    ("PGOPTIONS", "ALTER ROLE … SET"),
];

/// How connections are made.
#[derive(Debug)]
pub(super) struct Way(Settings);

impl Way {
    /// Refuses an environment that would have a say in it behind the configuration's back.
    pub(super) fn new(settings: Settings) -> Result<Self, Fault> {
        for (name, instead) in VARIABLES {
            if std::env::var_os(name).is_some() {
                return Err(Fault::new(
                    Kind::Unavailable,
                    format!("the environment sets {name}, which is not taken: use {instead}"),
                ));
            }
        }
        Ok(Self(settings))
    }

    /// A connection to a server that can be written to.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        match tokio::time::timeout(CONNECT_WAIT, self.connected()).await {
            Ok(connected) => connected,
            Err(_) => Err(Fault::new(
                Kind::Unavailable,
                format!(
                    "{} did not let us in within {} s; check that the server runs, and the network between",
                    self.0.host_and_port(),
                    CONNECT_WAIT.as_secs()
                ),
            )),
        }
    }

    async fn connected(&self) -> Result<Connection, Fault> {
        let mut connection = self.options().await?.connect().await?;
        raw_sql(SESSION).execute(&mut connection).await?;
        let (read_only, encoding): (bool, String) = sqlx::query_as(
            "SELECT current_setting('transaction_read_only') = 'on', current_setting('server_encoding')",
        )
        .fetch_one(&mut connection)
        .await?;
        if read_only {
            return Err(Fault::new(
                Kind::Unavailable,
                format!(
                    "{} takes no writes: it is a standby, or read-only for this role; store.url must lead to the primary",
                    self.0.host_and_port()
                ),
            ));
        }
        if encoding != "UTF8" {
            return Err(Fault::new(
                Kind::Unavailable,
                format!("the database is encoded in {encoding}; make one with ENCODING 'UTF8'"),
            ));
        }
        Ok(connection)
    }

    async fn options(&self) -> Result<PgConnectOptions, Fault> {
        let Settings { host, port, user, database, password_file, tls } = &self.0;
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(*port)
            .username(user)
            .database(database)
            .application_name(&format!("signkeep {}", std::process::id()))
            .disable_statement_logging();
        options = match host {
            Host::Tcp(name) => options.host(name),
            Host::Socket(directory) => options.socket(directory),
        };
        if let Some(file) = password_file {
            options = options.password(password(file).await?.expose_secret());
        }
        let Some(tls) = tls else {
            return Ok(options.ssl_mode(PgSslMode::Disable));
        };
        options = options.ssl_mode(match tls.check {
            Check::Full => PgSslMode::VerifyFull,
            Check::Issuer => PgSslMode::VerifyCa,
        });
        if let Some(file) = &tls.ca_file {
            options = options.ssl_root_cert_from_pem(read(file).await?);
        }
        if let Some((certificate, key)) = &tls.client {
            for_its_owner_alone(key).await?;
            let key = Zeroizing::new(read(key).await?);
            options = options
                .ssl_client_cert_from_pem(read(certificate).await?)
                .ssl_client_key_from_pem(key.as_slice());
        }
        Ok(options)
    }
}

impl Settings {
    fn host_and_port(&self) -> String {
        match &self.host {
            Host::Tcp(name) => format!("{name}:{}", self.port),
            Host::Socket(directory) => format!("{}/.s.PGSQL.{}", directory.display(), self.port),
        }
    }
}

/// The password in `file`, without the newline at its end.
async fn password(file: &Path) -> Result<SecretString, Fault> {
    for_its_owner_alone(file).await?;
    let bytes = Zeroizing::new(read(file).await?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(file, "it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains(['\n', '\0']) {
        return Err(unreadable(file, "it must hold one line, the password"));
    }
    Ok(SecretString::from(text))
}

async fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    tokio::fs::read(file).await.map_err(|error| unreadable(file, error))
}

/// Refuses a secret that others can read.
async fn for_its_owner_alone(file: &Path) -> Result<(), Fault> {
    let found = tokio::fs::metadata(file).await.map_err(|error| unreadable(file, error))?;
    if !found.is_file() || found.len() > SECRET_FILE_MAX {
        return Err(unreadable(file, "it must be a regular file, and a small one"));
    }
    if found.mode() & 0o077 != 0 {
        let shown = file.display();
        return Err(unreadable(
            file,
            format!("others than its owner have access to it: chmod 600 {shown}"),
        ));
    }
    Ok(())
}

fn unreadable(file: &Path, what: impl std::fmt::Display) -> Fault {
    Fault::new(Kind::Unavailable, format!("{}: {what}", file.display()))
}
