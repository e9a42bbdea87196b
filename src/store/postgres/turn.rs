//! One transaction: of many that read side by side, or the one that writes.

use super::fault::{Fault, failed_commit, late};
use super::pool::{Pool, Seat};
use super::{Connection, claim};
use crate::store::{Error, Kind, Outcome};
use sqlx::raw_sql;
use std::time::Duration;

/// The longest that is waited for a COMMIT.
const COMMIT_WAIT: Duration = Duration::from_secs(6);
/// The longest that is waited for the end of a transaction that changes nothing.
const UNDO_WAIT: Duration = Duration::from_secs(1);

/// A transaction under way. If it is dropped its connection is closed, and the server undoes it.
#[derive(Debug)]
pub(super) struct Turn<'p>(Seat<'p>);

impl<'p> Turn<'p> {
    /// Begins to read, all of it as of now.
    pub(super) async fn to_read(pool: &'p Pool) -> Result<Self, Fault> {
        let mut seat = pool.take().await?;
        raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(seat.db()).await?;
        Ok(Self(seat))
    }

    /// Begins to write once nobody else does, if the database is still that of `epoch`. What is
    /// read from here on nobody else changes: at READ COMMITTED each statement sees what was
    /// committed before the lock was given.
    pub(super) async fn to_write(pool: &'p Pool, epoch: i64) -> Result<Self, Fault> {
        let mut seat = pool.take().await?;
        raw_sql("BEGIN ISOLATION LEVEL READ COMMITTED").execute(seat.db()).await?;
        let found: Option<i64> =
            sqlx::query_scalar("SELECT epoch FROM claim WHERE id = 1 FOR UPDATE")
                .fetch_optional(seat.db())
                .await?;
        match found {
            Some(found) if found == epoch => Ok(Self(seat)),
            Some(_) => Err(Fault::new(Kind::Unavailable, claim::TAKEN_OVER)),
            None => Err(Fault::new(Kind::Corrupt, "table claim has lost its one row")),
        }
    }

    pub(super) const fn db(&mut self) -> &mut Connection {
        self.0.db()
    }

    /// Ends a transaction that has read.
    pub(super) async fn end(mut self) {
        let ending = raw_sql("ROLLBACK").execute(self.0.db());
        if let Ok(Ok(_)) = tokio::time::timeout(UNDO_WAIT, ending).await {
            self.0.give_back();
        }
    }

    /// Undoes it after `fault`; the connection is used again only if it is certain to be whole.
    pub(super) async fn undo(self, fault: &Fault) {
        if fault.kind != Kind::Unavailable {
            self.end().await;
        }
    }

    /// Goes on to the COMMIT if all was `done`, or undoes what was.
    pub(super) async fn go_on<T>(self, done: Result<T, Fault>) -> Result<(Self, T), Fault> {
        match done {
            Ok(done) => Ok((self, done)),
            Err(fault) => {
                self.undo(&fault).await;
                Err(fault)
            }
        }
    }

    /// COMMIT. Whether one that failed was carried out all the same is known only if the server
    /// itself says that it was not.
    pub(super) async fn commit(mut self, op: &'static str) -> Result<(), Error> {
        let committing = raw_sql("COMMIT").execute(self.0.db());
        match tokio::time::timeout(COMMIT_WAIT, committing).await {
            Ok(Ok(_)) => {
                self.0.give_back();
                Ok(())
            }
            Ok(Err(error)) => Err(failed_commit(error, op)),
            Err(_) => Err(Error { outcome: Outcome::Unknown, ..late(op) }),
        }
    }
}
