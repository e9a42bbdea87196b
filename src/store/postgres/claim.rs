//! One process serves a database at a time.
//!
//! An advisory lock, held by a connection of its own, keeps a second process out for as long as
//! that connection lives. Because a server may give the lock up before this process notices, two
//! things stand behind it. The epoch in table `claim`, raised by each new process, is compared in
//! every transaction that writes: a process that was replaced changes nothing more. And a process
//! acts on what it holds in memory only for [`HOLD`] after it last asked and heard that the lock is
//! its own, while one that takes over from a process that did not end in order waits a little longer
//! than that before it does anything.

use super::Connection;
use super::fault::Fault;
use super::schema::migrate;
use super::way::Way;
use crate::clock::since_boot;
use crate::store::Kind;
use sqlx::Connection as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long what is in memory may be acted on after the lock was last known to be held.
const HOLD: Duration = Duration::from_secs(5);
/// How long a new process waits after one that may still be acting: [`HOLD`] and what clocks stray.
const TAKEOVER: Duration = Duration::from_secs(6);
/// How often the lock is asked after.
const PERIOD: Duration = Duration::from_millis(500);
/// How long an answer to that may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first part of the lock's name; the second is the schema.
const CLASS: i32 = 0x5349_474B;

/// What a process is told that was replaced.
pub(super) const TAKEN_OVER: &str = "another signkeep has taken the database over, because this one had lost touch with it: it signs and changes nothing more; let one of the two run, and restart it";

/// This process' claim to the database.
#[derive(Debug)]
pub(super) struct Claim {
    epoch: i64,
    standing: Arc<Standing>,
    release: watch::Sender<bool>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// How the claim stands.
#[derive(Debug, Default)]
struct Standing {
    /// When the lock was last known to be ours, in milliseconds since boot; nought: it is given up.
    confirmed: AtomicU64,
    /// Why it is not known to be ours; none: it is.
    lost: Mutex<Option<String>>,
}

impl Claim {
    /// Takes the lock, brings the tables up to date, and waits for a process that may still be
    /// acting. The lock is watched from then on.
    pub(super) async fn take(way: Arc<Way>) -> Result<Self, Fault> {
        let mut db = way.connect().await?;
        let asked = since_boot();
        if !lock_soon(&mut db).await? {
            let holder = holder(&mut db).await.unwrap_or_default();
            return Err(Fault::new(
                Kind::Unavailable,
                format!(
                    "another signkeep serves this database{holder}; only one process may. The commands of signkeep reach it over gRPC: give them its address instead of the database"
                ),
            ));
        }
        migrate(&mut db).await?;
        let (epoch, released): (i64, i64) = sqlx::query_as(
            "UPDATE claim SET epoch = claim.epoch + 1, released = 0 FROM claim AS before \
             WHERE claim.id = 1 AND before.id = 1 RETURNING claim.epoch, before.released",
        )
        .fetch_optional(&mut db)
        .await?
        .ok_or_else(|| Fault::new(Kind::Corrupt, "table claim has lost its one row"))?;
        let standing = Arc::new(Standing::default());
        standing.confirm(asked);
        let (release, released_by_us) = watch::channel(false);
        let keeper =
            Keeper { way, epoch, standing: Arc::clone(&standing), release: released_by_us };
        let keeper = Mutex::new(Some(tokio::spawn(keeper.run(db))));
        let claim = Self { epoch, standing, release, keeper };
        if released == 0 {
            tracing::warn!(
                seconds = TAKEOVER.as_secs(),
                "the process that had the database before did not end in order; waiting until it can no longer sign"
            );
            sleep(TAKEOVER).await;
        }
        Ok(claim)
    }

    /// Whether a process has the lock.
    pub(super) async fn is_taken(way: &Way) -> Result<bool, Fault> {
        let mut db = way.connect().await?;
        let is_free = lock(&mut db).await?;
        if is_free {
            unlock(&mut db).await?;
        }
        Ok(!is_free)
    }

    /// What every transaction that writes must find.
    pub(super) const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether what is in memory may be acted on; if not, why.
    pub(super) fn standing(&self) -> Result<(), String> {
        self.standing.check()
    }

    /// Says that nobody acts any more, and lets another process have the database.
    pub(super) async fn release(&self) {
        self.standing.give_up("the store is closed".to_owned());
        self.release.send_replace(true);
        let keeper = locked(&self.keeper).take();
        if let Some(keeper) = keeper
            && timeout(2 * PATIENCE, keeper).await.is_err()
        {
            tracing::warn!(
                "the database could not be released in time; the next process waits a little"
            );
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(keeper) = locked(&self.keeper).take() {
            keeper.abort();
        }
    }
}

impl Standing {
    fn confirm(&self, asked: Duration) {
        self.confirmed.store(millis(asked), Ordering::SeqCst);
        *locked(&self.lost) = None;
    }

    fn lose(&self, why: String) {
        *locked(&self.lost) = Some(why);
    }

    fn give_up(&self, why: String) {
        self.confirmed.store(0, Ordering::SeqCst);
        self.lose(why);
    }

    fn check(&self) -> Result<(), String> {
        let confirmed = self.confirmed.load(Ordering::SeqCst);
        let age = millis(since_boot()).saturating_sub(confirmed);
        if confirmed != 0 && age <= millis(HOLD) {
            return Ok(());
        }
        let why = locked(&self.lost).clone();
        Err(why.unwrap_or_else(|| "it is not known whether the database is still ours".to_owned()))
    }
}

/// Watches the lock, and takes it again if it was lost and nobody else has had it.
struct Keeper {
    way: Arc<Way>,
    epoch: i64,
    standing: Arc<Standing>,
    release: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self, db: Connection) {
        let mut db = Some(db);
        loop {
            tokio::select! {
                biased;
                _ = self.release.wait_for(|release| *release) => break,
                () = sleep(PERIOD) => {}
            }
            let asked = since_boot();
            let looked = match db.take() {
                Some(held) => timeout(PATIENCE, still_held(held)).await,
                None => timeout(2 * PATIENCE, self.take_again()).await,
            };
            match looked {
                Ok(Ok(held)) => {
                    db = Some(held);
                    self.regained();
                    self.standing.confirm(asked);
                }
                Ok(Err(Lost::ForGood)) => {
                    tracing::error!("{TAKEN_OVER}");
                    self.standing.give_up(TAKEN_OVER.to_owned());
                    return;
                }
                Ok(Err(Lost::For(why))) => self.lost(why),
                Err(_late) => self.lost("the server does not answer".to_owned()),
            }
        }
        if let Some(mut db) = db {
            let releasing = async {
                sqlx::query("UPDATE claim SET released = 1 WHERE id = 1 AND epoch = $1")
                    .bind(self.epoch)
                    .execute(&mut db)
                    .await?;
                unlock(&mut db).await?;
                db.close().await
            };
            if let Ok(Err(error)) = timeout(PATIENCE, releasing).await {
                tracing::warn!(%error, "the database could not be released");
            }
        }
    }

    /// A new connection with the lock, if the database is still that of our epoch.
    async fn take_again(&self) -> Result<Connection, Lost> {
        let mut db = self.way.connect().await.map_err(|fault| Lost::For(fault.message))?;
        if !lock(&mut db).await? {
            let holder = holder(&mut db).await.unwrap_or_default();
            return Err(Lost::For(format!("another process has it{holder}")));
        }
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM claim WHERE id = 1")
            .fetch_optional(&mut db)
            .await?;
        if epoch == Some(self.epoch) { Ok(db) } else { Err(Lost::ForGood) }
    }

    /// Says so, once.
    fn lost(&self, why: String) {
        if locked(&self.standing.lost).is_none() {
            tracing::error!(
                %why,
                "the hold on the database is lost; signing stops in {} s unless it is taken again",
                HOLD.as_secs()
            );
        }
        self.standing.lose(format!(
            "the hold on the database is lost, so another process may have changed it ({why})"
        ));
    }

    fn regained(&self) {
        if locked(&self.standing.lost).is_some() {
            tracing::info!("the database is held again, and nobody else has had it");
        }
    }
}

/// Why the lock is not held.
enum Lost {
    /// It may be had again.
    For(String),
    /// Another process has had the database.
    ForGood,
}

impl From<sqlx::Error> for Lost {
    fn from(error: sqlx::Error) -> Self {
        Self::For(error.to_string())
    }
}

/// The same connection, if it still has the lock: a lock lives as long as its session does.
async fn still_held(mut db: Connection) -> Result<Connection, Lost> {
    let held: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = $1 \
         AND pid = pg_backend_pid() AND granted)",
    )
    .bind(i64::from(CLASS))
    .fetch_one(&mut db)
    .await?;
    if held {
        return Ok(db);
    }
    let why = "the session has changed; if a pooler stands between, connect to the server itself";
    Err(Lost::For(why.to_owned()))
}

/// The same, when whoever had it may just have ended: a server needs a moment to notice.
async fn lock_soon(db: &mut Connection) -> Result<bool, sqlx::Error> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if lock(db).await? {
            return Ok(true);
        }
        if Instant::now() > patience {
            return Ok(false);
        }
        sleep(PATIENCE / 20).await;
    }
}

/// Whether the lock could be had.
async fn lock(db: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext(COALESCE(current_schema(), '')))")
        .bind(CLASS)
        .fetch_one(db)
        .await
}

/// Gives the lock back, at once: the end of a connection takes a server a moment to notice.
async fn unlock(db: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock($1, hashtext(COALESCE(current_schema(), '')))")
        .bind(CLASS)
        .execute(db)
        .await?;
    Ok(())
}

/// Who has the lock, as far as the role may know.
async fn holder(db: &mut Connection) -> Result<String, sqlx::Error> {
    let found: Option<(Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT application_name, COALESCE(host(client_addr), 'the server''s own machine') \
         FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' \
         AND classid::bigint = $1 AND pg_locks.granted AND pg_locks.database = \
         (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1",
    )
    .bind(i64::from(CLASS))
    .fetch_optional(db)
    .await?;
    Ok(match found {
        Some((Some(name), Some(address))) => format!(" ({name}, on {address})"),
        _ => String::new(),
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
