//! The store in one SQLite file: what a single instance needs, with nothing to install.
//!
//! Every change is on the disk before it is answered (`synchronous=FULL`), and one connection
//! writes, so that SQLite's lock is never fought over. Readers see the last commit (WAL). A file
//! that was deleted or replaced beneath the service is noticed before anything is written to it:
//! SQLite itself would go on writing to the one that is gone.

mod archive;
mod fault;
mod open;

#[path = "sql/commit.rs"]
mod commit;
#[path = "sql/difference.rs"]
mod difference;
#[path = "sql/load.rs"]
mod load;
#[path = "sql/migration.rs"]
mod migration;
#[path = "sql/port.rs"]
mod port;
#[path = "sql/read.rs"]
mod read;
#[path = "sql/record.rs"]
mod record;
#[path = "sql/reservations.rs"]
mod reservations;

pub use archive::Archive;

use super::Error;
use crate::audit::Head;
use fault::{Fault, finish, within};
use open::{Claim, Identity};
// What the files of `sql/` call them.
use SqliteStore as Adapter;
use sqlx::Sqlite as Engine;
use sqlx::Transaction;
use sqlx::sqlite::SqlitePool;
use sqlx::sqlite::{
    SqliteConnection as Connection, SqliteQueryResult as Done, SqliteRow as TableRow,
};
use std::path::Path;
use std::time::Duration;

/// How long opening may take, a check of the whole file included.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// A store in one SQLite file, served by one process.
#[derive(Debug)]
pub struct SqliteStore {
    claim: Claim,
    files: (Identity, Identity),
    writer: SqlitePool,
    readers: SqlitePool,
    end: record::KnownEnd,
}

impl SqliteStore {
    /// Opens the database at `path`, and makes it (mode 0600) if its directory has no such file.
    /// [`super::Kind::Unavailable`] if another process has it open or the place cannot be used;
    /// [`super::Kind::Corrupt`] if it is damaged, no database of ours, or a newer version's.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        const OP: &str = "open";
        let opening = async {
            let claim = Claim::on(path)?;
            claim.ensure_database().await?;
            let named = |fault: Fault| fault.of(claim.path());
            let writer = open::writer(claim.path()).await.map_err(named)?;
            let readers = open::readers(claim.path()).await.map_err(named)?;
            let files = claim.identities().await?;
            Ok(Self { claim, files, writer, readers, end: record::KnownEnd::default() })
        };
        match tokio::time::timeout(OPEN_WAIT, opening).await {
            Ok(opened) => opened.map_err(|fault: Fault| fault.during(OP)),
            Err(_) => Err(Fault::file(path, "the disk did not answer in time").during(OP)),
        }
    }

    /// Whether another process has the database at `path` open; it is left alone.
    pub fn is_served(path: &Path) -> bool {
        open::is_claimed(path)
    }

    async fn begin(&self) -> Result<Transaction<'static, Engine>, Fault> {
        if self.claim.identities().await? != self.files {
            return Err(Fault::file(
                self.claim.path(),
                "the file, or its lock file, was replaced while the service was running: nothing more is written; restart the service to use the new one",
            ));
        }
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// What `work` reads, all of it as of one commit.
    async fn read<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        within(op, async {
            let mut db = self.readers.begin().await?;
            work(&mut db).await
        })
        .await
    }

    /// A transaction that does `work`.
    async fn write<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let (db, done) = within(op, async {
            let mut db = self.begin().await?;
            let done = work(&mut db).await?;
            Ok((db, done))
        })
        .await?;
        finish(op, db).await?;
        Ok(done)
    }

    /// The same for what moves the end of the record: `work` is told where this process knows it to
    /// be, and says where it is then.
    async fn record<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection, Option<Head>) -> Result<(T, Head), Fault>,
    ) -> Result<T, Error> {
        let (db, done, end) = within(op, async {
            let mut db = self.begin().await?;
            let (done, end) = work(&mut db, self.end.get()).await?;
            Ok((db, done, end))
        })
        .await?;
        let turn = self.end.moving();
        finish(op, db).await?;
        self.end.moved(turn, end);
        Ok(done)
    }

    /// Nobody else can have the file.
    const fn standing(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) {
        let closing = async {
            self.readers.close().await;
            // What is left in the WAL is read at the next start, so failing here loses nothing.
            if let Err(error) =
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await
            {
                tracing::warn!(%error, "cannot write the WAL back into the database");
            }
            self.writer.close().await;
        };
        match tokio::time::timeout(fault::WAIT, closing).await {
            Ok(()) => self.claim.release(),
            Err(_) => tracing::warn!("the database did not close in time"),
        }
    }
}

#[cfg(test)]
mod tests;
