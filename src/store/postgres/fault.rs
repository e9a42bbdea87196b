//! What PostgreSQL says, sorted by what the caller can do, in words that say what mends it.

use super::TableRow;
use crate::audit::Record;
use crate::store::{Error, Kind, Outcome};
use sqlx::Row;
use std::io::ErrorKind;
use std::time::Duration;

/// The longest that one call waits, and then as long again for its COMMIT. A little more than the
/// server allows itself, so that its own answer comes first.
pub(super) const WAIT: Duration = Duration::from_secs(6);

/// An [`Error`] that does not know yet what was being done.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn during(self, op: &'static str) -> Error {
        Error::new(self.kind, op, self.message)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let (kind, advice) = match code(&error).as_deref() {
            // Somebody else, not this program, appended to the record in the same moment.
            Some("23505") if is_of(&error, "audit_pkey") => said("40001"),
            Some(code) => said(code),
            None => unsaid(&error),
        };
        Self::new(kind, format!("{advice} ({error})"))
    }
}

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn said(code: &str) -> (Kind, &'static str) {
    let unavailable = match code {
        "25006" => {
            "the server takes no writes: it is a standby, or read-only for this role; store.url must lead to the primary"
        }
        "25P03" => "the server ended a transaction that it heard nothing of for too long",
        "28000" | "28P01" => {
            "the server does not let the role in; check the user in store.url, its password or certificate, and pg_hba.conf"
        }
        "3D000" => "there is no such database; create it, owned by the role in store.url",
        "3F000" => "there is no schema to make tables in; check the role's search_path",
        "40001" | "40P01" => "a transaction of somebody else stood in the way; try again",
        "42501" => {
            "the role lacks a right; let it own the database or the schema that its search_path begins with"
        }
        "53100" => "the server's disk is full; make room and it goes on by itself",
        "53300" => "the server has no connection free; raise max_connections, or close others",
        "55P03" => "another transaction holds a lock for too long; look at pg_stat_activity",
        "57014" => "the server took too long; look at its load and its disk",
        "57P01" | "57P02" | "57P03" => "the server is shutting down or starting up",
        _ => match code.get(..2) {
            Some("08") => "the connection to the server broke",
            Some("22") => {
                return (Kind::Corrupt, "the database refused a value that it cannot hold");
            }
            Some("23" | "P0") => {
                return (Kind::Corrupt, "the database refused a row that breaks its rules");
            }
            Some("42") => {
                return (
                    Kind::Corrupt,
                    "the tables are not those of signkeep; give it a database or a schema of its own, or restore a backup",
                );
            }
            Some("XX") => {
                return (Kind::Corrupt, "the database is damaged; restore it from a backup");
            }
            _ => "the server cannot do it now; its log says more",
        },
    };
    (Kind::Unavailable, unavailable)
}

fn unsaid(error: &sqlx::Error) -> (Kind, &'static str) {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => {
            (Kind::Corrupt, "the tables are not those that this version knows")
        }
        sqlx::Error::Tls(_) => (Kind::Unavailable, INSECURE),
        // As which the TLS library's own complaints arrive.
        sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            (Kind::Unavailable, INSECURE)
        }
        sqlx::Error::Io(_) => (
            Kind::Unavailable,
            "the server cannot be reached, or the connection broke; check that it runs, the host and port in store.url, and the network",
        ),
        _ => (Kind::Unavailable, "the database does not answer as it should"),
    }
}

const INSECURE: &str = "no secure connection to the server; check its certificate, store.ca_file and the host in store.url";

/// Whether a row was refused because one like it is there.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// `work`, within [`WAIT`]; what is late has changed nothing, because it was not committed.
pub(super) async fn within<T>(
    op: &'static str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Error> {
    match tokio::time::timeout(WAIT, work).await {
        Ok(done) => done.map_err(|fault| fault.during(op)),
        Err(_) => Err(late(op)),
    }
}

/// A COMMIT that was not answered with success. The server says outright that it undid the
/// transaction, or it is not known.
pub(super) fn failed_commit(error: sqlx::Error, op: &'static str) -> Error {
    let outcome = match code(&error).as_deref() {
        Some("25P03" | "40001" | "40P01") => Outcome::Nothing,
        _ => Outcome::Unknown,
    };
    Error { outcome, ..Fault::from(error).during(op) }
}

pub(super) fn late(op: &'static str) -> Error {
    Error::new(
        Kind::Unavailable,
        op,
        format!(
            "the server did not answer within {} s; check it and the network between",
            WAIT.as_secs()
        ),
    )
}

/// The record as it is written. PostgreSQL's text has no NUL: its symbol stands for it, in the
/// chain too, so that what is read back is what was hashed.
pub(super) fn storable(record: &Record) -> Record {
    let mut record = record.clone();
    for text in [&mut record.reason, &mut record.detail] {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{2400}");
        }
    }
    for text in [&mut record.caller, &mut record.listener, &mut record.request] {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{2400}").into();
        }
    }
    record
}

/// What names a row to a person.
pub(super) fn name_of(row: &TableRow, column: &str) -> String {
    row.try_get::<String, _>(column)
        .or_else(|_| row.try_get::<i64, _>(column).map(|number| number.to_string()))
        .unwrap_or_default()
}

fn is_of(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(|error| error.constraint()) == Some(constraint)
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
