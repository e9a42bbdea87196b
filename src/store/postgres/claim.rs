//! One process serves a database at a time.
//!
//! An advisory lock, held by a connection of its own, keeps a second process out for as long as
//! that connection lives. Because a server may give the lock up before this process notices, two
//! things stand behind it. The epoch in table `claim`, raised by each new process, is compared in
//! every transaction that writes: a process that was replaced changes nothing more. And a process
//! acts on what it holds in memory only for [`HOLD`] after it last asked and heard that the lock is
//! its own, while one that takes over from a process that did not end in order waits a little longer
//! than that before it does anything.

mod keeper;
mod lock;

use super::fault::Fault;
use super::schema::migrate;
use super::way::Way;
use crate::clock::since_boot;
use crate::store::Kind;
use keeper::Keeper;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long what is in memory may be acted on after the lock was last known to be held.
const HOLD: Duration = Duration::from_secs(5);
/// How long a new process waits after one that may still be acting: [`HOLD`] and what clocks stray.
const TAKEOVER: Duration = Duration::from_secs(6);
/// How often the lock is asked after.
const PERIOD: Duration = Duration::from_millis(500);
/// How long an answer to that may take.
const PATIENCE: Duration = Duration::from_secs(2);

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
        if !lock::take_soon(&mut db).await? {
            let holder = lock::holder(&mut db).await.unwrap_or_default();
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
        let keeper = Keeper {
            way,
            epoch,
            session: lock::session(&mut db).await?,
            standing: Arc::clone(&standing),
            release: released_by_us,
        };
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
        let is_free = lock::take(&mut db).await?;
        if is_free {
            lock::give_back(&mut db).await?;
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
