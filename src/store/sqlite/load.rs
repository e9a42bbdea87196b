//! Reading key sets with their keys, each time inside one read transaction.

use super::fault::{Fault, read};
use crate::key::{Key, KeySet, KeySetId, Service};
use crate::store::row::{KeyRow, KeySetRow, ReservationRow, Reserved, number};
use crate::store::{Image, Kind};
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that a replica holds in memory.
pub(super) async fn image(db: &mut SqliteConnection) -> Result<Image, Fault> {
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
pub(super) async fn key_set(
    db: &mut SqliteConnection,
    id: &KeySetId,
) -> Result<Option<KeySet>, Fault> {
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
