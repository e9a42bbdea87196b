//! The record read from the database file and nothing else: by an auditor, also while a service
//! has the file open. Nothing is written, and nothing is claimed.

use super::fault::{Fault, within};
use super::read::read;
use super::{open, record};
use crate::audit::{Checkpoint, Head, Linked};
use crate::key::{Key, KeySetId};
use crate::store::row::{AuditRow, CheckpointRow, KeyRow};
use crate::store::{Error, Kind};
use sqlx::Row;
use sqlx::sqlite::SqlitePool;
use std::path::Path;

/// The record in one SQLite file, as it was when it was opened: what is written later is left out.
#[derive(Debug)]
pub struct Archive {
    readers: SqlitePool,
    end: u64,
    last_checkpoint: u64,
}

impl Archive {
    /// Opens the database at `path` for reading alone. [`Kind::Unavailable`] if it cannot be
    /// opened; [`Kind::Corrupt`] if it is no database of ours.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        within("open", async {
            let named = |fault: Fault| fault.of(path);
            let readers = open::archive(path).await.map_err(named)?;
            // Both ends at one instant, so that no checkpoint speaks of records that are left out.
            let mut db = readers.begin().await?;
            let tables: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('audit', 'audit_checkpoints')",
            )
            .fetch_one(&mut *db)
            .await
            .map_err(|error| named(error.into()))?;
            if tables != 2 {
                let what = "it holds no audit record; name the database of a signkeep service";
                return Err(named(Fault::new(Kind::Corrupt, what)));
            }
            let Head { number: end, .. } = record::head(&mut db).await?;
            let last: Option<i64> = sqlx::query_scalar("SELECT MAX(number) FROM audit_checkpoints")
                .fetch_one(&mut *db)
                .await?;
            db.commit().await?;
            let last_checkpoint =
                last.and_then(|last| u64::try_from(last).ok()).unwrap_or_default();
            Ok(Self { readers, end, last_checkpoint })
        })
        .await
    }

    /// At most `limit` records after number `after`, oldest first; a row that cannot be one is an
    /// error in its place.
    pub async fn trail(&self, after: u64, limit: u32) -> Result<Vec<Result<Linked, Error>>, Error> {
        const OP: &str = "audit_trail";
        within(OP, async {
            let mut db = self.readers.acquire().await?;
            let rows = record::trail_rows(&mut db, after, limit).await?;
            let linked = rows.iter().map(read::<AuditRow, Linked>);
            Ok(linked
                .filter(|row| row.as_ref().map_or(true, |linked| linked.number <= self.end))
                .map(|row| row.map_err(|fault| fault.during(OP)))
                .collect())
        })
        .await
    }

    /// The place of the last checkpoint; 0 if there is none.
    pub const fn last_checkpoint(&self) -> u64 {
        self.last_checkpoint
    }

    /// At most `limit` checkpoints that stand after place `after`, each with its place; a row that
    /// cannot be one is an error in its place.
    pub async fn checkpoints(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Result<Checkpoint, Error>)>, Error> {
        const OP: &str = "checkpoints";
        within(OP, async {
            let mut db = self.readers.acquire().await?;
            let rows = record::checkpoint_rows(&mut db, after, limit).await?;
            let placed = rows.iter().map(|row| {
                let place = row.try_get("number").map(i64::unsigned_abs)?;
                let checkpoint = read::<CheckpointRow, _>(row).map_err(|fault| fault.during(OP));
                Ok((place, checkpoint))
            });
            let mut placed = placed.collect::<Result<Vec<_>, Fault>>()?;
            placed.retain(|(place, _)| *place <= self.last_checkpoint);
            Ok(placed)
        })
        .await
    }

    /// Every key that `key_set` ever had, the oldest first.
    pub async fn keys(&self, key_set: &KeySetId) -> Result<Vec<Key>, Error> {
        within("keys", async {
            let rows =
                sqlx::query("SELECT * FROM keys WHERE key_set = $1 ORDER BY created_us, kid_bytes")
                    .bind(key_set.as_str())
                    .fetch_all(&self.readers)
                    .await?;
            rows.iter().map(read::<KeyRow, _>).collect()
        })
        .await
    }
}
