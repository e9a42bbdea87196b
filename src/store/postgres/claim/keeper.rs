//! Keeps the lock while the service runs.

use super::{HOLD, PATIENCE, PERIOD, Standing, TAKEN_OVER, lock, locked};
use crate::clock::since_boot;
use crate::store::postgres::Connection;
use crate::store::postgres::way::Way;
use sqlx::Connection as _;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Watches the lock, and takes it again if it was lost and nobody else has had it.
pub(super) struct Keeper {
    pub(super) way: Arc<Way>,
    pub(super) epoch: i64,
    /// The session that has the lock.
    pub(super) session: i32,
    pub(super) standing: Arc<Standing>,
    pub(super) release: watch::Receiver<bool>,
}

impl Keeper {
    /// Until it is to be released.
    pub(super) async fn run(mut self, db: Connection) {
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
                lock::give_back(&mut db).await?;
                db.close().await
            };
            if let Ok(Err(error)) = timeout(PATIENCE, releasing).await {
                tracing::warn!(%error, "the database could not be released");
            }
        }
    }

    /// A new connection with the lock, if the database is still that of our epoch. Our old session
    /// may live on at the server when the network lost it: it is ended, since nobody else can.
    async fn take_again(&mut self) -> Result<Connection, Lost> {
        let mut db = self.way.connect().await.map_err(|fault| Lost::For(fault.message))?;
        if !lock::take(&mut db).await? {
            lock::end_session(&mut db, self.session).await?;
            if !lock::take_soon(&mut db).await? {
                let holder = lock::holder(&mut db).await.unwrap_or_default();
                return Err(Lost::For(format!("another process has it{holder}")));
            }
        }
        self.session = lock::session(&mut db).await?;
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
    if lock::is_held(&mut db).await? {
        return Ok(db);
    }
    let why = "the session has changed; if a pooler stands between, connect to the server itself";
    Err(Lost::For(why.to_owned()))
}
