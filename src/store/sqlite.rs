//! The store in one SQLite file: what a single instance needs, with nothing to install.
//!
//! Every change is on the disk before it is answered (`synchronous=FULL`), and one connection
//! writes, so that SQLite's lock is never fought over. Readers see the last commit (WAL). A file
//! that was deleted or replaced beneath the service is noticed before anything is written to it:
//! SQLite itself would go on writing to the one that is gone.

mod commit;
mod fault;
mod open;

use super::row::{
    AnswerRow, AuditRow, KeyRow, KeySetRow, ReservationRow, Reserved, number, number_to, time_us,
};
use super::{Answer, Change, Error, Image, Kind, RequestKey, Store};
use crate::audit;
use crate::key::{Key, KeySet, KeySetId, Kid, MaterialId, Reservation, StateName};
use async_trait::async_trait;
use fault::{Fault, finish, is_taken, read, within};
use jiff::Timestamp;
use open::{Claim, Identity};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Sqlite, Transaction};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
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
}

impl SqliteStore {
    /// Opens the database at `path`, and makes it (mode 0600) if its directory has no such file.
    /// [`Kind::Unavailable`] if another process has it open or the place cannot be used;
    /// [`Kind::Corrupt`] if it is damaged, no database of ours, or a newer version's.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        const OP: &str = "open";
        let opening = async {
            let claim = Claim::on(path)?;
            claim.ensure_database().await?;
            let named = |fault: Fault| Fault {
                message: format!("{}: {}", claim.path().display(), fault.message),
                ..fault
            };
            let writer = open::writer(claim.path()).await.map_err(named)?;
            let readers = open::readers(claim.path()).await.map_err(named)?;
            let files = claim.identities().await?;
            Ok(Self { claim, files, writer, readers })
        };
        match tokio::time::timeout(OPEN_WAIT, opening).await {
            Ok(opened) => opened.map_err(|fault: Fault| fault.during(OP)),
            Err(_) => Err(Fault::file(path, "the disk did not answer in time").during(OP)),
        }
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
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self) -> Result<Image, Error> {
        within("load", async {
            let mut db = self.readers.begin().await?;
            load(&mut db).await
        })
        .await
    }

    async fn key_set(&self, id: &KeySetId) -> Result<Option<KeySet>, Error> {
        within("key_set", async {
            let mut db = self.readers.begin().await?;
            let row = sqlx::query("SELECT * FROM key_sets WHERE id = $1")
                .bind(id.as_str())
                .fetch_optional(&mut *db)
                .await?;
            let Some(row) = row else { return Ok(None) };
            let mut set: KeySet = read::<KeySetRow, _>(&row)?;
            let rows =
                sqlx::query("SELECT * FROM keys WHERE key_set = $1 AND state <> 'destroyed'")
                    .bind(id.as_str())
                    .fetch_all(&mut *db)
                    .await?;
            for row in &rows {
                set.keys.push(Arc::new(read::<KeyRow, _>(row)?));
            }
            Ok(Some(set))
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
            reserve(&mut db, reservation).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn abandon(&self, material: MaterialId) -> Result<(), Error> {
        const OP: &str = "abandon";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            refuse_published(&mut db, material).await?;
            sqlx::query("UPDATE reservations SET abandoned = 1 WHERE material = $1")
                .bind(material.to_string())
                .execute(&mut *db)
                .await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn forget(&self, material: MaterialId) -> Result<(), Error> {
        const OP: &str = "forget";
        let db = within(OP, async {
            let mut db = self.begin().await?;
            forget(&mut db, material).await?;
            Ok(db)
        })
        .await?;
        finish(OP, db).await
    }

    async fn commit(&self, change: &Change) -> Result<u64, Error> {
        const OP: &str = "commit";
        let (db, revision) = within(OP, async {
            let mut db = self.begin().await?;
            let revision = commit::apply(&mut db, change).await?;
            Ok((db, revision))
        })
        .await?;
        finish(OP, db).await?;
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

    async fn audit_trail(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, audit::Record)>, Error> {
        within("audit_trail", async {
            let rows =
                sqlx::query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2")
                    .bind(number_to(after))
                    .bind(i64::from(limit))
                    .fetch_all(&self.readers)
                    .await?;
            rows.iter().map(read::<AuditRow, _>).collect()
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

async fn load(db: &mut SqliteConnection) -> Result<Image, Fault> {
    let revision: i64 = sqlx::query_scalar("SELECT number FROM revision WHERE id = 1")
        .fetch_optional(&mut *db)
        .await?
        .ok_or_else(|| Fault::new(Kind::Corrupt, "table revision has lost its one row"))?;
    let revision = number("number", revision)
        .map_err(|wrong| Fault::new(Kind::Corrupt, format!("table revision: {}", wrong.why)))?;
    let mut image = Image { revision, ..Image::default() };
    let mut keys: BTreeMap<KeySetId, Vec<Arc<Key>>> = BTreeMap::new();
    let rows =
        sqlx::query("SELECT * FROM keys WHERE state <> 'destroyed'").fetch_all(&mut *db).await?;
    for row in &rows {
        let key: Key = read::<KeyRow, _>(row)?;
        keys.entry(key.key_set.clone()).or_default().push(Arc::new(key));
    }
    let rows = sqlx::query("SELECT * FROM key_sets ORDER BY id").fetch_all(&mut *db).await?;
    for row in &rows {
        let mut set: KeySet = read::<KeySetRow, _>(row)?;
        if set.revision > revision {
            return Err(Fault::new(
                Kind::Corrupt,
                format!(
                    "table key_sets, row {:?}, column revision: must not be above the store's, {revision}",
                    set.id.as_str()
                ),
            ));
        }
        set.keys = keys.remove(&set.id).unwrap_or_default();
        if set.service != crate::key::Service::Deleted || !set.keys.is_empty() {
            image.key_sets.push(set);
        }
    }
    if let Some(id) = keys.keys().next() {
        return Err(Fault::new(
            Kind::Corrupt,
            format!("table keys, column key_set: there is no key set {id}"),
        ));
    }
    let rows = sqlx::query("SELECT * FROM reservations ORDER BY reserved_us, material")
        .fetch_all(db)
        .await?;
    for row in &rows {
        match read::<ReservationRow, _>(row)? {
            Reserved::Wanted(reservation) => image.reserved.push(reservation),
            Reserved::Abandoned(reservation) => image.abandoned.push(reservation),
        }
    }
    Ok(image)
}

async fn reserve(db: &mut SqliteConnection, reservation: &Reservation) -> Result<(), Fault> {
    refuse_published(db, reservation.material).await?;
    let row = ReservationRow::from(reservation);
    let reserved = sqlx::query(
        "INSERT INTO reservations (material, key_set, algorithm, spec, backend, reserved_us, \
         abandoned) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(row.material)
    .bind(row.key_set)
    .bind(row.algorithm)
    .bind(row.spec)
    .bind(row.backend)
    .bind(row.reserved_us)
    .bind(row.abandoned)
    .execute(db)
    .await;
    match reserved {
        Err(error) if is_taken(&error) => Err(Fault::new(
            Kind::Conflict,
            format!("material {} is reserved already", reservation.material),
        )),
        other => other.map(|_| ()).map_err(Fault::from),
    }
}

async fn forget(db: &mut SqliteConnection, material: MaterialId) -> Result<(), Fault> {
    let wanted: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM reservations WHERE material = $1 AND abandoned = 0)",
    )
    .bind(material.to_string())
    .fetch_one(&mut *db)
    .await?;
    if wanted {
        return Err(Fault::new(
            Kind::Conflict,
            format!("material {material} is reserved and not abandoned; abandon it first"),
        ));
    }
    sqlx::query("DELETE FROM reservations WHERE material = $1 AND abandoned = 1")
        .bind(material.to_string())
        .execute(db)
        .await?;
    Ok(())
}

async fn refuse_published(db: &mut SqliteConnection, material: MaterialId) -> Result<(), Fault> {
    let published: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM keys WHERE material = $1)")
            .bind(material.to_string())
            .fetch_one(db)
            .await?;
    if published {
        return Err(Fault::new(Kind::Conflict, format!("material {material} is published")));
    }
    Ok(())
}
