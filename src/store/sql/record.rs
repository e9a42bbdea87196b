//! The record in the database: chained inside the transaction that writes it.
//!
//! The end of the chain is read in that transaction, and compared with where this process left it.
//! If somebody else has written meanwhile, that is said in a record of its own, and what was to be
//! recorded is recorded all the same: a damaged record must never stand in the way of a
//! revocation.

use super::fault::{Fault, storable};
use super::read::read;
use super::{Connection, Engine, TableRow};
use crate::audit::{Action, Checkpoint, Hash, Head, Linked, Origin, Outcome, Record};
use crate::store::Kind;
use crate::store::row::{AuditRow, CheckpointRow, number_to};
use sqlx::{QueryBuilder, Row};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records that one statement writes: enough to make a statement's own cost small, and always as
/// many, so that it is prepared once.
const ROWS: usize = 50;

/// Where this process left the record; unknown before it first writes, and while it is not known
/// whether a commit was carried out.
#[derive(Debug, Default)]
pub(super) struct KnownEnd(Mutex<(Turn, Option<Head>)>);

/// Whose turn it was to move the end.
type Turn = u64;

impl KnownEnd {
    pub(super) fn get(&self) -> Option<Head> {
        self.lock().1
    }

    /// A COMMIT that moves the end begins: until it is known to be carried out, nothing is known,
    /// also if whoever waits for it goes away.
    pub(super) fn moving(&self) -> Turn {
        let mut known = self.lock();
        *known = (known.0.wrapping_add(1), None);
        known.0
    }

    /// That COMMIT was carried out; of no interest if the next has begun.
    pub(super) fn moved(&self, turn: Turn, end: Head) {
        let mut known = self.lock();
        if known.0 == turn {
            known.1 = Some(end);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Turn, Option<Head>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends `records` and returns the new end; `known` is the end that this process last saw, if it
/// knows.
pub(super) async fn append(
    db: &mut Connection,
    known: Option<Head>,
    records: &[Record],
) -> Result<Head, Fault> {
    let mut end = head(db).await?;
    let mut rows = Vec::with_capacity(records.len());
    if let (Some(known), Some(first)) = (known.filter(|known| *known != end), records.first()) {
        let flaw = moved(known, end);
        tracing::error!(
            flaw,
            "somebody else has written to the audit record; the service goes on after what it found. Verify the record: signkeep audit verify"
        );
        let mut record = Record::new(first.time, &Origin::service(""), Action::Flaw);
        (record.outcome, record.detail) = (Outcome::Failed, flaw);
        rows.push(AuditRow::from(&end.link(record)));
    }
    rows.extend(records.iter().map(|record| AuditRow::from(&end.link(storable(record)))));
    let (chunks, rest) = rows.as_chunks::<ROWS>();
    for chunk in chunks {
        insert(db, chunk).await?;
    }
    for row in rest {
        insert(db, std::slice::from_ref(row)).await?;
    }
    Ok(end)
}

/// The end of the chain. A last record whose hash is none does not stop what follows: the chain
/// goes on from [`Hash::ZERO`], where every verifier sees the break.
pub(super) async fn head(db: &mut Connection) -> Result<Head, Fault> {
    let last = sqlx::query("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        .fetch_optional(db)
        .await?;
    let Some(row) = last else { return Ok(Head::EMPTY) };
    let number: i64 = row.try_get("number")?;
    let hash: Vec<u8> = row.try_get_unchecked("hash").unwrap_or_default();
    Ok(Head {
        number: u64::try_from(number).unwrap_or_default(),
        hash: hash.try_into().map_or(Hash::ZERO, Hash::from_bytes),
    })
}

/// At most `limit` records after number `after`.
pub(super) async fn trail(
    db: &mut Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<Linked>, Fault> {
    trail_rows(db, after, limit).await?.iter().map(read::<AuditRow, _>).collect()
}

/// The same as rows.
pub(super) async fn trail_rows(
    db: &mut Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<TableRow>, Fault> {
    let sql = "SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2";
    page(sql, db, after, limit).await
}

/// At most `limit` checkpoints after number `after`.
pub(super) async fn checkpoints(
    db: &mut Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<Checkpoint>, Fault> {
    checkpoint_rows(db, after, limit).await?.iter().map(read::<CheckpointRow, _>).collect()
}

/// The same as rows.
pub(super) async fn checkpoint_rows(
    db: &mut Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<TableRow>, Fault> {
    let sql = "SELECT * FROM audit_checkpoints WHERE number > $1 ORDER BY number LIMIT $2";
    page(sql, db, after, limit).await
}

/// The last checkpoint.
pub(super) async fn last_checkpoint(db: &mut Connection) -> Result<Option<Checkpoint>, Fault> {
    let row = sqlx::query("SELECT * FROM audit_checkpoints ORDER BY number DESC LIMIT 1")
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read::<CheckpointRow, _>).transpose()
}

/// Appends `checkpoint`, which must follow the last one; the same once more is no error.
pub(super) async fn append_checkpoint(
    db: &mut Connection,
    checkpoint: &Checkpoint,
) -> Result<(), Fault> {
    let row = CheckpointRow::from(checkpoint);
    let last = sqlx::query_as::<_, CheckpointRow>(
        "SELECT * FROM audit_checkpoints ORDER BY number DESC LIMIT 1",
    )
    .fetch_optional(&mut *db)
    .await?;
    let number = last.as_ref().map_or(0, |last| last.number);
    if last.as_ref() == Some(&row) {
        return Ok(());
    }
    if row.number != number + 1 {
        return Err(Fault::new(
            Kind::Conflict,
            format!("checkpoint {} does not follow the last one, {number}", row.number),
        ));
    }
    sqlx::query("INSERT INTO audit_checkpoints (number, last, jws) VALUES ($1, $2, $3)")
        .bind(row.number)
        .bind(row.last)
        .bind(row.jws)
        .execute(db)
        .await?;
    Ok(())
}

fn moved(known: Head, found: Head) -> String {
    format!(
        "the record ended with number {} and hash {}; found at its end number {} and hash {}",
        known.number, known.hash, found.number, found.hash
    )
}

async fn insert(db: &mut Connection, rows: &[AuditRow]) -> Result<(), Fault> {
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO audit (number, time_us, caller, listener, action, key_set, kid, outcome, \
         reason, request, digest, count, detail, previous, hash) ",
    );
    query.push_values(rows, |mut values, row| {
        values
            .push_bind(row.number)
            .push_bind(row.time_us)
            .push_bind(&row.caller)
            .push_bind(&row.listener)
            .push_bind(&row.action)
            .push_bind(&row.key_set)
            .push_bind(&row.kid)
            .push_bind(&row.outcome)
            .push_bind(&row.reason)
            .push_bind(&row.request)
            .push_bind(&row.digest)
            .push_bind(row.count)
            .push_bind(&row.detail)
            .push_bind(&row.previous)
            .push_bind(&row.hash);
    });
    query.build().execute(db).await?;
    Ok(())
}

async fn page(
    sql: &'static str,
    db: &mut Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<TableRow>, Fault> {
    let query = sqlx::query(sql).bind(number_to(after)).bind(i64::from(limit));
    Ok(query.fetch_all(db).await?)
}
