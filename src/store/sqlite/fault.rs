//! What SQLite says, sorted by what the caller can do, in words that say what mends it.

use crate::audit::Record;
use crate::store::{Error, Kind, Outcome};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::path::Path;
use std::time::Duration;

/// The longest that one call waits, and then as long again for its COMMIT. A little more than
/// [`super::open::BUSY`], so that SQLite's own answer comes first.
pub(super) const WAIT: Duration = Duration::from_secs(6);

/// Primary result codes (<https://www.sqlite.org/rescode.html>).
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const CONSTRAINT: u32 = 19;
const NOTADB: u32 = 26;

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

    /// A file that is not as it should be, by its name.
    pub(super) fn file(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::new(Kind::Unavailable, format!("{}: {what}", path.display()))
    }

    /// The same fault with the name of the file in front.
    pub(super) fn of(self, path: &Path) -> Self {
        let message = format!("{}: {}", path.display(), self.message);
        Self { message, ..self }
    }

    pub(super) fn during(self, op: &'static str) -> Error {
        Error::new(self.kind, op, self.message)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let advice = match primary_code(&error) {
            Some(BUSY | LOCKED) => {
                "another program holds a lock on the database file; let it finish (signkeep itself reads and writes through its own connections only)"
            }
            Some(FULL) => "the disk is full; make room and it goes on by itself",
            Some(READONLY | PERM) => {
                "the database file cannot be written to; check its permissions and those of its directory, and whether the file system is mounted read-only"
            }
            Some(IOERR) => "the disk failed to read or write; check the file system and its log",
            Some(CANTOPEN) => {
                "the database file cannot be opened; check that it, its -wal and -shm files and its directory are there and may be read and written"
            }
            Some(CORRUPT) => {
                return Self::new(
                    Kind::Corrupt,
                    format!("the database file is damaged; restore it from a backup ({error})"),
                );
            }
            Some(NOTADB) => {
                return Self::new(
                    Kind::Corrupt,
                    "the file is not an SQLite database; name another file, or restore it from a backup",
                );
            }
            Some(CONSTRAINT) => {
                return Self::new(
                    Kind::Corrupt,
                    format!("the database refused a row that breaks its rules ({error})"),
                );
            }
            _ => match &error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::RowNotFound => return Self::new(Kind::Corrupt, error.to_string()),
                sqlx::Error::PoolTimedOut => "every connection to the database is busy",
                sqlx::Error::PoolClosed => "the store is closed",
                _ => "the database does not answer as it should",
            },
        };
        Self::new(Kind::Unavailable, format!("{advice} ({error})"))
    }
}

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

/// COMMIT, within [`WAIT`]. Whether one that failed was carried out all the same, nobody knows
/// before the file is read again.
pub(super) async fn finish(
    op: &'static str,
    transaction: sqlx::Transaction<'_, sqlx::Sqlite>,
) -> Result<(), Error> {
    let failed = match tokio::time::timeout(WAIT, transaction.commit()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => Fault::from(error).during(op),
        Err(_) => late(op),
    };
    Err(Error { outcome: Outcome::Unknown, ..failed })
}

/// The record as it is written: this engine takes any text.
pub(super) fn storable(record: &Record) -> Record {
    record.clone()
}

/// What names a row to a person.
pub(super) fn name_of(row: &SqliteRow, column: &str) -> String {
    row.try_get_unchecked(column).unwrap_or_default()
}

fn late(op: &'static str) -> Error {
    Error::new(
        Kind::Unavailable,
        op,
        format!(
            "the database did not answer within {} s; check the disk and whether another program holds the file",
            WAIT.as_secs()
        ),
    )
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
