//! Opening: one process alone, on a file that is whole and of this version, or not at all.
//!
//! A new database is made under another name and renamed once its tables are there, so that the
//! file is never seen half made: an empty file is a truncated one, and is refused.
//!
//! The lock is taken on a file beside the database. A lock on the database itself would clash with
//! SQLite's own, and any close of that file by this process would drop them.

use super::fault::Fault;
use super::migration::refused;
use crate::store::Kind;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long SQLite waits for somebody else's lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);

const READERS: u32 = 4;

static SHARED: Migrator = sqlx::migrate!("src/store/migrations/shared");
static OWN: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// The database file and the lock on it.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

/// Which file a path led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Claim {
    /// Finds the file's place and locks it for this process, for as long as the claim lives.
    pub(super) fn on(path: &Path) -> Result<Self, Fault> {
        let path = resolved(path)?;
        let lock_path = beside(&path, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| {
                Fault::file(
                    &lock_path,
                    format!(
                        "cannot create the lock file: {error}; the directory has to be writable"
                    ),
                )
            })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock_path, lock }),
            Err(TryLockError::WouldBlock) => Err(Fault::file(
                &path,
                "another signkeep serves this database; only one process may. The commands of signkeep reach it over gRPC: give them its address instead of the file",
            )),
            Err(TryLockError::Error(error)) => Err(Fault::file(
                &lock_path,
                format!(
                    "cannot lock it: {error}; the file system has to support locks, so keep the database on a local disk"
                ),
            )),
        }
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Which files the paths lead to now: the database, its lock.
    pub(super) async fn identities(&self) -> Result<(Identity, Identity), Fault> {
        let of = async |path: &Path| match tokio::fs::metadata(path).await {
            Ok(metadata) => Ok(Identity::from(&metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Fault::file(
                path,
                "the file was deleted while the service was running: nothing more is written. Copy what is still needed from the service, put the file back, restart",
            )),
            Err(error) => Err(Fault::file(path, error)),
        };
        Ok((of(&self.path).await?, of(&self.lock_path).await?))
    }

    /// Lets another process have the database.
    pub(super) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(lock = %self.lock_path.display(), %error, "cannot unlock; the end of the process will");
        }
    }

    /// Makes the database if there is none; refuses what is there and cannot be one.
    pub(super) async fn ensure_database(&self) -> Result<(), Fault> {
        match std::fs::metadata(&self.path) {
            Ok(found) if !found.is_file() => {
                Err(Fault::file(&self.path, "is not a regular file; name a file for the database"))
            }
            Ok(found) if found.len() == 0 => Err(Fault::new(
                Kind::Corrupt,
                format!(
                    "{}: the file is empty, so it was truncated or made by something else; restore it from a backup, or delete it to start with a new database",
                    self.path.display()
                ),
            )),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => self.make().await,
            Err(error) => Err(Fault::file(&self.path, error)),
        }
    }

    async fn make(&self) -> Result<(), Fault> {
        let wal = beside(&self.path, "-wal");
        if wal.exists() {
            return Err(Fault::new(
                Kind::Corrupt,
                format!(
                    "{}: the database is missing while {} is there; put both back from where they were moved or from a backup, or delete the latter to start with a new database",
                    self.path.display(),
                    wal.display()
                ),
            ));
        }
        let draft = beside(&self.path, ".new");
        for left in ["", "-journal", "-wal", "-shm"] {
            match std::fs::remove_file(beside(&draft, left)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Fault::file(&draft, error));
                }
                _ => {}
            }
        }
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
            .map_err(|error| Fault::file(&draft, format!("cannot create it: {error}")))?;
        draw_up(&draft).await.map_err(|fault| fault.of(&draft))?;
        std::fs::rename(&draft, &self.path).map_err(|error| Fault::file(&draft, error))?;
        self.path
            .parent()
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
            .map_err(|error| Fault::file(&self.path, error))
    }
}

/// Makes the tables in an empty file, and leaves it closed and on the disk.
async fn draw_up(draft: &Path) -> Result<(), Fault> {
    let mut connection = options(draft).connect().await?;
    migrate(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// The one connection that writes, on a database that is whole and of this version.
pub(super) async fn writer(path: &Path) -> Result<SqlitePool, Fault> {
    let pool = pool(1).connect_with(options(path).journal_mode(SqliteJournalMode::Wal)).await?;
    let mut connection = pool.acquire().await?;
    check(&mut connection).await?;
    migrate(&mut connection).await?;
    drop(connection);
    Ok(pool)
}

/// Connections that only read.
pub(super) async fn readers(path: &Path) -> Result<SqlitePool, Fault> {
    Ok(pool(READERS).connect_with(options(path).pragma("query_only", "ON")).await?)
}

/// One connection that only reads, to a database that may be another process's.
pub(super) async fn archive(path: &Path) -> Result<SqlitePool, Fault> {
    Ok(pool(1).connect_with(options(path).read_only(true)).await?)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk fails it; the driver then believes it
        // to be open for ever. Such a connection is replaced.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

async fn check(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut *connection).await?;
    if found != ["ok"] {
        return Err(Fault::new(
            Kind::Corrupt,
            format!(
                "the database file is damaged; restore it from a backup ({})",
                found.join("; ")
            ),
        ));
    }
    let ours: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations')",
    )
    .fetch_one(connection)
    .await?;
    if ours {
        Ok(())
    } else {
        Err(Fault::new(
            Kind::Corrupt,
            "it is an SQLite database of something else; name another file",
        ))
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let all = SHARED.iter().chain(OWN.iter()).cloned().collect();
    Migrator::with_migrations(all).run(connection).await.map_err(refused)
}

/// Whether another process has claimed the database at `path`; makes no file.
pub(super) fn is_claimed(path: &Path) -> bool {
    let Ok(path) = resolved(path) else {
        return false;
    };
    File::open(beside(&path, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The path with links followed, so that a file has one lock whatever it is called by.
fn resolved(path: &Path) -> Result<PathBuf, Fault> {
    match path.canonicalize() {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Fault::file(path, error)),
    }
    if path.is_symlink() {
        return Err(Fault::file(path, "is a link that leads nowhere"));
    }
    let name = path.file_name().ok_or_else(|| Fault::file(path, "is not the name of a file"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) => Err(Fault::file(
            path,
            format!("its directory {} cannot be used: {error}; create it first", parent.display()),
        )),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
