//! Carrying out one change, inside a transaction that another function begins and commits.

use super::difference::{Difference, defect};
use super::fault::{Fault, is_taken};
use super::{Connection, Done, record};
use crate::audit::Head;
use crate::key::{Key, KeySet, KeySetId, State};
use crate::store::row::{AnswerRow, KeyRow, KeySetRow, number, number_to};
use crate::store::{Answer, Change, Kind};

/// Writes `change`; returns its revision, and the end of the record, which `known` was before as
/// far as this process knows.
pub(super) async fn apply(
    db: &mut Connection,
    known: Option<Head>,
    change: &Change,
) -> Result<(u64, Head), Fault> {
    let before = change.before.as_deref();
    let difference = Difference::between(before, &change.after)?;
    expect(db, before, &change.after.id).await?;
    let revision = raise_revision(db).await?;
    write_key_set(db, before, &change.after, revision).await?;
    for (from, key) in difference.moved {
        move_key(db, from, key).await?;
    }
    for key in difference.new {
        publish(db, key).await?;
    }
    let end = record::append(db, known, std::slice::from_ref(&change.record)).await?;
    if let Some(answer) = &change.answer {
        keep(db, answer, revision).await?;
    }
    let revision =
        number("number", revision).map_err(|wrong| defect(format!("revision {}", wrong.why)))?;
    Ok((revision, end))
}

/// Refuses unless the key set is as the change found it.
async fn expect(db: &mut Connection, before: Option<&KeySet>, id: &KeySetId) -> Result<(), Fault> {
    let found: Option<i64> = sqlx::query_scalar("SELECT revision FROM key_sets WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
    match (before, found) {
        (None, None) => Ok(()),
        (None, Some(_)) => {
            Err(Fault::new(Kind::KeySetExists, format!("there is, or was, a key set {id}")))
        }
        (Some(before), Some(found)) if found == number_to(before.revision) => Ok(()),
        (Some(before), Some(found)) => Err(Fault::new(
            Kind::Conflict,
            format!("key set {id} is at revision {found}, not {}; read it again", before.revision),
        )),
        (Some(_), None) => {
            Err(Fault::new(Kind::Conflict, format!("there is no key set {id} to change")))
        }
    }
}

async fn raise_revision(db: &mut Connection) -> Result<i64, Fault> {
    sqlx::query_scalar("UPDATE revision SET number = number + 1 WHERE id = 1 RETURNING number")
        .fetch_optional(db)
        .await?
        .ok_or_else(|| Fault::new(Kind::Corrupt, "table revision has lost its one row"))
}

async fn write_key_set(
    db: &mut Connection,
    before: Option<&KeySet>,
    after: &KeySet,
    revision: i64,
) -> Result<(), Fault> {
    let sql = match before {
        Some(_) => {
            "UPDATE key_sets SET id = $1, algorithm = $2, issuer = $3, backend = $4, \
             propagation_delay_us = $5, max_token_ttl_us = $6, retention_us = $7, \
             rotation_period_us = $8, destroy_after_us = $9, rsa_bits = $10, service = $11, \
             rotation_hold = $12, undo_kid = $13, undo_reinstates = $14, created_us = $15, \
             revision = $16 WHERE id = $1 AND revision = $17"
        }
        None => {
            "INSERT INTO key_sets (id, algorithm, issuer, backend, propagation_delay_us, \
             max_token_ttl_us, retention_us, rotation_period_us, destroy_after_us, rsa_bits, \
             service, rotation_hold, undo_kid, undo_reinstates, created_us, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
        }
    };
    let row = KeySetRow::from(after);
    let query = sqlx::query(sql)
        .bind(row.id)
        .bind(row.algorithm)
        .bind(row.issuer)
        .bind(row.backend)
        .bind(row.propagation_delay_us)
        .bind(row.max_token_ttl_us)
        .bind(row.retention_us)
        .bind(row.rotation_period_us)
        .bind(row.destroy_after_us)
        .bind(row.rsa_bits)
        .bind(row.service)
        .bind(row.rotation_hold)
        .bind(row.undo_kid)
        .bind(row.undo_reinstates)
        .bind(row.created_us)
        .bind(revision);
    let query = match before {
        Some(before) => query.bind(number_to(before.revision)),
        None => query,
    };
    one(query.execute(db).await?, || format!("key set {} changed in between", after.id))
}

async fn move_key(db: &mut Connection, from: &State, key: &Key) -> Result<(), Fault> {
    let row = KeyRow::from(key);
    let done = sqlx::query(
        "UPDATE keys SET state = $1, publish_us = $2, propagation_delay_us = $3, \
         token_ttl_us = $4, current_since_us = $5, current_until_us = $6, tokens_until_us = $7, \
         retire_us = $8, revoke_us = $9, revoke_reason = $10, destroy_due_us = $11, \
         destroy_us = $12 WHERE kid = $13 AND key_set = $14 AND state = $15",
    )
    .bind(row.state.state)
    .bind(row.state.publish_us)
    .bind(row.state.propagation_delay_us)
    .bind(row.state.token_ttl_us)
    .bind(row.state.current_since_us)
    .bind(row.state.current_until_us)
    .bind(row.state.tokens_until_us)
    .bind(row.state.retire_us)
    .bind(row.state.revoke_us)
    .bind(row.state.revoke_reason)
    .bind(row.state.destroy_due_us)
    .bind(row.state.destroy_us)
    .bind(row.kid)
    .bind(row.key_set)
    .bind(from.name().as_str())
    .execute(db)
    .await?;
    one(done, || format!("{} is no longer {}", key.kid, from.name()))
}

/// A new key takes the place of its reservation.
async fn publish(db: &mut Connection, key: &Key) -> Result<(), Fault> {
    let row = KeyRow::from(key);
    let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM keys WHERE kid = $1)")
        .bind(&row.kid)
        .fetch_one(&mut *db)
        .await?;
    if taken {
        return Err(Fault::new(
            Kind::PublicKeyInUse,
            format!("there is a key {} already", key.kid),
        ));
    }
    let reserved = sqlx::query(
        "DELETE FROM reservations WHERE material = $1 AND key_set = $2 AND algorithm = $3 \
         AND backend = $4 AND abandoned = 0",
    )
    .bind(&row.material)
    .bind(&row.key_set)
    .bind(&row.algorithm)
    .bind(&row.backend)
    .execute(&mut *db)
    .await?;
    one(reserved, || {
        format!("material {} of {} is not reserved for it, or is abandoned", key.material, key.kid)
    })?;
    sqlx::query(
        "INSERT INTO keys (kid, kid_bytes, material, key_set, algorithm, backend, object, \
         kty, n, e, crv, x, y, certificate, created_us, state, publish_us, \
         propagation_delay_us, token_ttl_us, current_since_us, current_until_us, \
         tokens_until_us, retire_us, revoke_us, revoke_reason, destroy_due_us, destroy_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)",
    )
    .bind(row.kid)
    .bind(row.kid_bytes)
    .bind(row.material)
    .bind(row.key_set)
    .bind(row.algorithm)
    .bind(row.backend)
    .bind(row.object)
    .bind(row.public.kty)
    .bind(row.public.n)
    .bind(row.public.e)
    .bind(row.public.crv)
    .bind(row.public.x)
    .bind(row.public.y)
    .bind(row.certificate)
    .bind(row.created_us)
    .bind(row.state.state)
    .bind(row.state.publish_us)
    .bind(row.state.propagation_delay_us)
    .bind(row.state.token_ttl_us)
    .bind(row.state.current_since_us)
    .bind(row.state.current_until_us)
    .bind(row.state.tokens_until_us)
    .bind(row.state.retire_us)
    .bind(row.state.revoke_us)
    .bind(row.state.revoke_reason)
    .bind(row.state.destroy_due_us)
    .bind(row.state.destroy_us)
    .execute(db)
    .await?;
    Ok(())
}

/// Keeps an answer that was given at `revision`.
pub(super) async fn keep(db: &mut Connection, answer: &Answer, revision: i64) -> Result<(), Fault> {
    let row = AnswerRow::from(answer);
    let kept = sqlx::query(
        "INSERT INTO answers (caller, request_id, asked, time_us, body, revision) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(row.caller)
    .bind(row.request_id)
    .bind(row.asked)
    .bind(row.time_us)
    .bind(row.body)
    .bind(revision)
    .execute(db)
    .await;
    match kept {
        Err(error) if is_taken(&error) => {
            Err(Fault::new(Kind::RequestAnswered, "the request has been answered already"))
        }
        other => other.map(|_| ()).map_err(Fault::from),
    }
}

/// Refuses unless exactly one row was written.
fn one(done: Done, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(Fault::new(Kind::Conflict, otherwise())),
    }
}
