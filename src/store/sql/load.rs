//! Reading key sets and keys, each time inside one read transaction.

use super::Connection;
use super::fault::Fault;
use super::read::read;
use crate::key::{Key, KeySet, KeySetId, Kid, Service, StateName};
use crate::store::row::{KeyRow, KeySetRow, ReservationRow, Reserved, number, time_us};
use crate::store::{Image, Kind};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that a replica holds in memory.
pub(super) async fn image(db: &mut Connection) -> Result<Image, Fault> {
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
        if set.service != Service::Deleted || !set.keys.is_empty() {
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

/// One key set with the keys that are not destroyed.
pub(super) async fn key_set(db: &mut Connection, id: &KeySetId) -> Result<Option<KeySet>, Fault> {
    let row = sqlx::query("SELECT * FROM key_sets WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut set: KeySet = read::<KeySetRow, _>(&row)?;
    let rows = sqlx::query("SELECT * FROM keys WHERE key_set = $1 AND state <> 'destroyed'")
        .bind(id.as_str())
        .fetch_all(db)
        .await?;
    for row in &rows {
        set.keys.push(Arc::new(read::<KeyRow, _>(row)?));
    }
    Ok(Some(set))
}

/// One key.
pub(super) async fn key(
    db: &mut Connection,
    id: &KeySetId,
    kid: &Kid,
) -> Result<Option<Key>, Fault> {
    let row = sqlx::query("SELECT * FROM keys WHERE key_set = $1 AND kid = $2")
        .bind(id.as_str())
        .bind(kid.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read::<KeyRow, _>).transpose()
}

/// At most `limit` keys in any of `states`, newest first, those after `after`.
pub(super) async fn keys(
    db: &mut Connection,
    id: &KeySetId,
    states: &[StateName],
    after: Option<(Timestamp, Kid)>,
    limit: u32,
) -> Result<Vec<Key>, Fault> {
    // Before every key there is: no time is as late, and no kid as long.
    let (time, kid) = after
        .map_or((i64::MAX, vec![0xff; 33]), |(time, kid)| (time_us(time), kid.as_bytes().to_vec()));
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
    query.fetch_all(db).await?.iter().map(read::<KeyRow, _>).collect()
}
