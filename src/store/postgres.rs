//! The store in a PostgreSQL database: for those who run one already, with backups and failover.
//!
//! Writers go one after the other: each transaction first locks the one row of `claim`, so that
//! what it compares and what it chains to cannot change beneath it. The same row says which process
//! the database belongs to; one that was replaced writes nothing more, whatever it believes. Reads
//! see the last commit, each in one snapshot.
//!
//! Every wait has an end: at the server (statements, locks, transactions left open) and, a little
//! later, here. A connection that a call was cut short on is closed, not used again. Whether a
//! COMMIT without an answer was carried out is unknown until [`super::Store::settle`] has had its turn at
//! that row, which the server gives it only once the other transaction has ended.

mod claim;
mod fault;
mod pool;
mod schema;
mod turn;
mod way;

#[path = "sql/commit.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod commit;
#[path = "sql/difference.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod difference;
#[path = "sql/load.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod load;
#[path = "sql/migration.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod migration;
#[path = "sql/port.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod port;
#[path = "sql/read.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod read;
#[path = "sql/record.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod record;
#[path = "sql/reservations.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each engine")]
mod reservations;

use super::{Error, Kind};
use crate::audit::Head;
use claim::Claim;
use fault::{Fault, late, within};
use pool::Pool;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use turn::Turn;
use way::Way;
// What the files of `sql/` call them.
use PostgresStore as Adapter;
use sqlx::Postgres as Engine;
use sqlx::postgres::{PgConnection as Connection, PgQueryResult as Done, PgRow as TableRow};

/// How long opening may take, migrations and waiting for a process that crashed included.
const OPEN_WAIT: Duration = Duration::from_secs(60);
const READERS: u32 = 4;

/// Where the database is, and how to come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server.
    pub host: Host,
    /// Its port; also part of the name of its Unix socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The file that holds the password, for its owner's eyes only; read for each connection, so
    /// that a new password needs no restart.
    pub password_file: Option<PathBuf>,
    /// How the connection is protected; none: not at all.
    pub tls: Option<Tls>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// On TCP, by name or address.
    Tcp(String),
    /// On a Unix socket in this directory.
    Socket(PathBuf),
}

/// How the server shows who it is, and the client too if it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What of its certificate is checked.
    pub check: Check,
    /// Certificate authorities that count beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, and the file with its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Who issued it, and that it names the host.
    Full,
    /// Who issued it.
    Issuer,
}

/// A store in a PostgreSQL database, served by one process.
#[derive(Debug)]
pub struct PostgresStore {
    claim: Claim,
    writer: Pool,
    readers: Pool,
    end: record::KnownEnd,
}

impl PostgresStore {
    /// Takes the database for this process and brings its tables up to date.
    /// [`Kind::Unavailable`] if another process serves it, or it cannot be reached or written;
    /// [`Kind::Corrupt`] if it is something else's, or a newer version's.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        const OP: &str = "open";
        let opening = async {
            let way = Arc::new(Way::new(settings)?);
            let claim = Claim::take(Arc::clone(&way)).await?;
            let (writer, readers) = (Pool::new(Arc::clone(&way), 1), Pool::new(way, READERS));
            Ok(Self { claim, writer, readers, end: record::KnownEnd::default() })
        };
        match tokio::time::timeout(OPEN_WAIT, opening).await {
            Ok(opened) => opened.map_err(|fault: Fault| fault.during(OP)),
            Err(_) => Err(late(OP)),
        }
    }

    /// Whether a process serves the database; it is left alone.
    pub async fn is_served(settings: Settings) -> Result<bool, Error> {
        within("look", async { Claim::is_taken(&Way::new(settings)?).await }).await
    }

    /// What `work` reads, all of it as of one commit.
    async fn read<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        within(op, async {
            let mut turn = Turn::to_read(&self.readers).await?;
            let done = work(turn.db()).await;
            match &done {
                Ok(_) => turn.end().await,
                Err(fault) => turn.undo(fault).await,
            }
            done
        })
        .await
    }

    /// A transaction that does `work`, alone among all that write.
    async fn write<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let (turn, done) = within(op, async {
            let mut turn = Turn::to_write(&self.writer, self.claim.epoch()).await?;
            let done = work(turn.db()).await;
            turn.go_on(done).await
        })
        .await?;
        turn.commit(op).await?;
        Ok(done)
    }

    /// The same for what moves the end of the record: `work` is told where this process knows it to
    /// be, and says where it is then.
    async fn record<T>(
        &self,
        op: &'static str,
        work: impl AsyncFnOnce(&mut Connection, Option<Head>) -> Result<(T, Head), Fault>,
    ) -> Result<T, Error> {
        let (turn, (done, end)) = within(op, async {
            let mut turn = Turn::to_write(&self.writer, self.claim.epoch()).await?;
            let done = work(turn.db(), self.end.get()).await;
            turn.go_on(done).await
        })
        .await?;
        let moving = self.end.moving();
        turn.commit(op).await?;
        self.end.moved(moving, end);
        Ok(done)
    }

    fn standing(&self) -> Result<(), Error> {
        let lost = |message| Error::new(Kind::Unavailable, "standing", message);
        self.claim.standing().map_err(lost)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        self.claim.release().await;
    }
}
