//! The port, in statements that every engine takes.
//!
//! Each engine compiles the files of this folder for itself, with its own connection and rows
//! behind the same names, and gives three ways in: `read` for what is read as of one commit,
//! `write` for a transaction of its own, `record` for one that also moves the end of the record.
//! How a connection is had, how long may be waited and what a failure means is the engine's.

use super::read::read;
use super::{Adapter, commit, load, record, reservations};
use crate::audit::{Checkpoint, Head, Linked, Record};
use crate::key::{Key, KeySet, KeySetId, Kid, MaterialId, Reservation, StateName};
use crate::store::row::{AnswerRow, number_to, time_us};
use crate::store::{Answer, Change, Error, Image, RequestKey, Store};
use async_trait::async_trait;
use jiff::Timestamp;

#[async_trait]
impl Store for Adapter {
    async fn load(&self) -> Result<Image, Error> {
        self.read("load", async |db| load::image(db).await).await
    }

    async fn key_set(&self, id: &KeySetId) -> Result<Option<KeySet>, Error> {
        self.read("key_set", async |db| load::key_set(db, id).await).await
    }

    async fn key(&self, id: &KeySetId, kid: &Kid) -> Result<Option<Key>, Error> {
        self.read("key", async |db| load::key(db, id, kid).await).await
    }

    async fn keys(
        &self,
        id: &KeySetId,
        states: &[StateName],
        after: Option<(Timestamp, Kid)>,
        limit: u32,
    ) -> Result<Vec<Key>, Error> {
        self.read("keys", async |db| load::keys(db, id, states, after, limit).await).await
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<(), Error> {
        self.write("reserve", async |db| reservations::reserve(db, reservation).await).await
    }

    async fn reserved(&self, id: &KeySetId, limit: u32) -> Result<Vec<Reservation>, Error> {
        self.read("reserved", async |db| reservations::of(db, id, limit).await).await
    }

    async fn abandon(&self, material: MaterialId) -> Result<(), Error> {
        self.write("abandon", async |db| reservations::abandon(db, material).await).await
    }

    async fn forget(&self, material: MaterialId) -> Result<(), Error> {
        self.write("forget", async |db| reservations::forget(db, material).await).await
    }

    async fn commit(&self, change: &Change) -> Result<u64, Error> {
        self.record("commit", async |db, known| commit::apply(db, known, change).await).await
    }

    async fn answer(
        &self,
        request: &RequestKey,
        since: Timestamp,
    ) -> Result<Option<Answer>, Error> {
        self.read("answer", async |db| {
            let row = sqlx::query(
                "SELECT * FROM answers WHERE caller = $1 AND request_id = $2 AND time_us > $3",
            )
            .bind(&request.caller)
            .bind(&request.request_id)
            .bind(time_us(since))
            .fetch_optional(db)
            .await?;
            row.as_ref().map(read::<AnswerRow, _>).transpose()
        })
        .await
    }

    async fn keep_answer(&self, answer: &Answer) -> Result<(), Error> {
        let revision = number_to(answer.revision);
        self.write("keep_answer", async |db| commit::keep(db, answer, revision).await).await
    }

    async fn drop_answers(&self, until: Timestamp) -> Result<(), Error> {
        self.write("drop_answers", async |db| {
            sqlx::query("DELETE FROM answers WHERE time_us < $1")
                .bind(time_us(until))
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn append_audit(&self, records: &[Record]) -> Result<Head, Error> {
        self.record("append_audit", async |db, known| {
            let end = record::append(db, known, records).await?;
            Ok((end, end))
        })
        .await
    }

    async fn audit_head(&self) -> Result<Head, Error> {
        self.read("audit_head", async |db| record::head(db).await).await
    }

    async fn audit_trail(&self, after: u64, limit: u32) -> Result<Vec<Linked>, Error> {
        self.read("audit_trail", async |db| record::trail(db, after, limit).await).await
    }

    async fn append_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.write("append_checkpoint", async |db| record::append_checkpoint(db, checkpoint).await)
            .await
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, Error> {
        self.read("checkpoints", async |db| record::checkpoints(db, after, limit).await).await
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        self.read("last_checkpoint", async |db| record::last_checkpoint(db).await).await
    }

    async fn refused_pin(&self, token: &str) -> Result<Option<String>, Error> {
        self.read("refused_pin", async |db| {
            Ok(sqlx::query_scalar("SELECT hash FROM refused_pins WHERE token = $1")
                .bind(token)
                .fetch_optional(db)
                .await?)
        })
        .await
    }

    async fn set_refused_pin(&self, token: &str, hash: Option<&str>) -> Result<(), Error> {
        self.write("set_refused_pin", async |db| {
            let query = match hash {
                Some(hash) => sqlx::query(
                    "INSERT INTO refused_pins (token, hash) VALUES ($1, $2) \
                     ON CONFLICT (token) DO UPDATE SET hash = excluded.hash",
                )
                .bind(token)
                .bind(hash),
                None => sqlx::query("DELETE FROM refused_pins WHERE token = $1").bind(token),
            };
            query.execute(db).await?;
            Ok(())
        })
        .await
    }

    fn standing(&self) -> Result<(), Error> {
        Adapter::standing(self)
    }

    async fn settle(&self) -> Result<(), Error> {
        // Whatever still commits is before this write: writers go one after the other. A read would
        // not do, as it sees what was before until the COMMIT has been carried out.
        self.write("settle", async |db| {
            sqlx::query("UPDATE probe SET number = number + 1 WHERE id = 1").execute(db).await?;
            Ok(())
        })
        .await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.settle().await.map_err(|error| Error { op: "probe", ..error })?;
        Adapter::standing(self)
    }

    async fn close(&self) {
        Adapter::close(self).await;
    }
}
