//! The store in one SQLite file: what a single instance needs, with nothing to install.
//!
//! Every change is on the disk before it is answered (`synchronous=FULL`), and one connection
//! writes, so that SQLite's lock is never fought over. Readers see the last commit (WAL). A file
//! that was deleted or replaced beneath the service is noticed before anything is written to it:
//! SQLite itself would go on writing to the one that is gone.

mod archive;
mod commit;
mod difference;
mod fault;
mod load;
mod open;
mod record;
mod reservations;

pub use archive::Archive;

use super::row::{AnswerRow, KeyRow, number_to, time_us};
use super::{Answer, Change, Error, Image, RequestKey, Store};
use crate::audit::{Checkpoint, Head, Linked, Record};
use crate::key::{Key, KeySet, KeySetId, Kid, MaterialId, Reservation, StateName};
use async_trait::async_trait;
use fault::{Fault, finish, read, within};
use jiff::Timestamp;
use open::{Claim, Identity};
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};
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

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Fault> {
        if self.claim.identities().await? != self.files {
            return Err(Fault::file(
                self.claim.path(),
                "the file, or its lock file, was replaced while the service was running: nothing more is written; restart the service to use the new one",
            ));
        }
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// COMMIT of what moves the end of the record to `end`.
    async fn finish_record(
        &self,
        op: &'static str,
        db: Transaction<'static, Sqlite>,
        end: Head,
    ) -> Result<(), Error> {
        let turn = self.end.moving();
        finish(op, db).await?;
        self.end.moved(turn, end);
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self) -> Result<Image, Error> {
        within("load", async {
            let mut db = self.readers.begin().await?;
            load::image(&mut db).await
        })
        .await
    }

    async fn key_set(&self, id: &KeySetId) -> Result<Option<KeySet>, Error> {
        within("key_set", async {
            let mut db = self.readers.begin().await?;
            load::key_set(&mut db, id).await
        })
        .await
    }

    async fn key(&self, id: &KeySetId, kid: &Kid) -> Result<Option<Key>, Error> {
        within("key", async {
            let row = sqlx::query("SELECT * FROM keys WHERE key_set = $1 AND kid = $2")
                .bind(id.as_str())
                .bind(kid.to_string())
                .fetch_optional(&self.readers)
                .await?;
            row.as_ref().map(read::<KeyRow, _>).transpose()
        })
        .await
    }

    async fn keys(
        &self,
        id: &KeySetId,
        states: &[StateName],
        after: Option<(Timestamp, Kid)>,
        limit: u32,
    ) -> Result<Vec<Key>, Error> {
        // Before every key there is: no time is as late, and no kid as long.
        let (time, kid) = after.map_or((i64::MAX, vec![0xff; 33]), |(time, kid)| {
            (time_us(time), kid.as_bytes().to_vec())
        });
        let mut query = sqlx::query(
            "SELECT * FROM keys WHERE key_set = $1 AND (created_us, kid_bytes) < ($2, $3) \
             AND state IN ($5, $6, $7, $8, $9, $10, $11) \
             ORDER BY created_us DESC, kid_bytes DESC LIMIT $4",
        )
        .bind(id.as_str())
        .bind(time)
        .bind(kid)
        .bind(i64::from(limit));
        for state in StateName::ALL {
            query = query.bind(states.contains(&state).then_some(state.as_str()));
        }
        within("keys", async {
            let rows = query.fetch_all(&self.readers).await?;
            rows.iter().map(read::<KeyRow, _>).collect()
        })
        .await
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<(), Error> {
        const OP: &str = "reserve";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            reservations::reserve(&mut db, reservation).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn reserved(&self, id: &KeySetId, limit: u32) -> Result<Vec<Reservation>, Error> {
        within("reserved", async {
            let mut db = self.readers.acquire().await?;
            reservations::of(&mut db, id, limit).await
        })
        .await
    }

    async fn abandon(&self, material: MaterialId) -> Result<(), Error> {
        const OP: &str = "abandon";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            reservations::abandon(&mut db, material).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn forget(&self, material: MaterialId) -> Result<(), Error> {
        const OP: &str = "forget";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            reservations::forget(&mut db, material).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn commit(&self, change: &Change) -> Result<u64, Error> {
        const OP: &str = "commit";
        let (db, revision, end) = within(OP, async {
            let mut db = self.begin().await?;
            let (revision, end) = commit::apply(&mut db, self.end.get(), change).await?;
            Ok((db, revision, end))
        })
        .await?;
        self.finish_record(OP, db, end).await?;
        Ok(revision)
    }

    async fn answer(
        &self,
        request: &RequestKey,
        since: Timestamp,
    ) -> Result<Option<Answer>, Error> {
        within("answer", async {
            let row = sqlx::query(
                "SELECT * FROM answers WHERE caller = $1 AND request_id = $2 AND time_us > $3",
            )
            .bind(&request.caller)
            .bind(&request.request_id)
            .bind(time_us(since))
            .fetch_optional(&self.readers)
            .await?;
            row.as_ref().map(read::<AnswerRow, _>).transpose()
        })
        .await
    }

    async fn keep_answer(&self, answer: &Answer) -> Result<(), Error> {
        const OP: &str = "keep_answer";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            commit::keep(&mut db, answer, number_to(answer.revision)).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn drop_answers(&self, until: Timestamp) -> Result<(), Error> {
        const OP: &str = "drop_answers";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            sqlx::query("DELETE FROM answers WHERE time_us < $1")
                .bind(time_us(until))
                .execute(&mut *db)
                .await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn append_audit(&self, records: &[Record]) -> Result<Head, Error> {
        const OP: &str = "append_audit";
        let (db, end) = within(OP, async {
            let mut db = self.begin().await?;
            let end = record::append(&mut db, self.end.get(), records).await?;
            Ok((db, end))
        })
        .await?;
        self.finish_record(OP, db, end).await?;
        Ok(end)
    }

    async fn audit_head(&self) -> Result<Head, Error> {
        within("audit_head", async { record::head(&mut *self.readers.acquire().await?).await })
            .await
    }

    async fn audit_trail(&self, after: u64, limit: u32) -> Result<Vec<Linked>, Error> {
        within("audit_trail", async {
            record::trail(&mut *self.readers.acquire().await?, after, limit).await
        })
        .await
    }

    async fn append_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        const OP: &str = "append_checkpoint";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            record::append_checkpoint(&mut db, checkpoint).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, Error> {
        within("checkpoints", async {
            record::checkpoints(&mut *self.readers.acquire().await?, after, limit).await
        })
        .await
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        within("last_checkpoint", async {
            record::last_checkpoint(&mut *self.readers.acquire().await?).await
        })
        .await
    }

    async fn refused_pin(&self, token: &str) -> Result<Option<String>, Error> {
        within("refused_pin", async {
            Ok(sqlx::query_scalar("SELECT hash FROM refused_pins WHERE token = $1")
                .bind(token)
                .fetch_optional(&self.readers)
                .await?)
        })
        .await
    }

    async fn set_refused_pin(&self, token: &str, hash: Option<&str>) -> Result<(), Error> {
        const OP: &str = "set_refused_pin";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            let query = match hash {
                Some(hash) => sqlx::query(
                    "INSERT INTO refused_pins (token, hash) VALUES ($1, $2) \
                     ON CONFLICT (token) DO UPDATE SET hash = excluded.hash",
                )
                .bind(token)
                .bind(hash),
                None => sqlx::query("DELETE FROM refused_pins WHERE token = $1").bind(token),
            };
            query.execute(&mut *db).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn settle(&self) -> Result<(), Error> {
        // A COMMIT whose caller has gone still holds the one connection that writes, and what probe
        // writes comes after it. A reader would not do: until the COMMIT is on the disk, readers
        // see what was before.
        self.probe().await
    }

    async fn probe(&self) -> Result<(), Error> {
        const OP: &str = "probe";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            sqlx::query("UPDATE probe SET number = number + 1 WHERE id = 1")
                .execute(&mut *db)
                .await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
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
