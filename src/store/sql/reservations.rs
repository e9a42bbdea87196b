//! Material between the decision to generate it and its publication, or its end.

use super::Connection;
use super::fault::{Fault, is_taken};
use super::read::read;
use crate::key::{KeySetId, MaterialId, Reservation};
use crate::store::Kind;
use crate::store::row::{ReservationRow, Reserved};

/// Writes down that material is about to be generated.
pub(super) async fn reserve(db: &mut Connection, reservation: &Reservation) -> Result<(), Fault> {
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

/// Material that is being generated for a key set.
pub(super) async fn of(
    db: &mut Connection,
    id: &KeySetId,
    limit: u32,
) -> Result<Vec<Reservation>, Fault> {
    let rows = sqlx::query(
        "SELECT * FROM reservations WHERE key_set = $1 AND abandoned = 0 \
         ORDER BY reserved_us, material LIMIT $2",
    )
    .bind(id.as_str())
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| read::<ReservationRow, _>(row).map(Reserved::into_inner)).collect()
}

/// Marks material as not wanted, if it is reserved; refuses if it is published.
pub(super) async fn abandon(db: &mut Connection, material: MaterialId) -> Result<(), Fault> {
    refuse_published(db, material).await?;
    sqlx::query("UPDATE reservations SET abandoned = 1 WHERE material = $1")
        .bind(material.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes the mark; refuses if the material is still wanted.
pub(super) async fn forget(db: &mut Connection, material: MaterialId) -> Result<(), Fault> {
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

async fn refuse_published(db: &mut Connection, material: MaterialId) -> Result<(), Fault> {
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
