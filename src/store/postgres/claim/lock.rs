//! The advisory lock: one for each schema of a database.

use super::PATIENCE;
use crate::store::postgres::Connection;
use tokio::time::{Instant, sleep};

/// The first part of the lock's name; the second is the schema.
const CLASS: i32 = 0x5349_474B;

/// Whether the lock could be had.
pub(super) async fn take(db: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext(COALESCE(current_schema(), '')))")
        .bind(CLASS)
        .fetch_one(db)
        .await
}

/// The same, when whoever had it may just have ended: a server needs a moment to notice.
pub(super) async fn take_soon(db: &mut Connection) -> Result<bool, sqlx::Error> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if take(db).await? {
            return Ok(true);
        }
        if Instant::now() > patience {
            return Ok(false);
        }
        sleep(PATIENCE / 20).await;
    }
}

/// Gives the lock back, at once: the end of a connection takes a server a moment to notice.
pub(super) async fn give_back(db: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock($1, hashtext(COALESCE(current_schema(), '')))")
        .bind(CLASS)
        .execute(db)
        .await?;
    Ok(())
}

/// The number of this session at the server.
pub(super) async fn session(db: &mut Connection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(db).await
}

/// Whether this session has the lock.
pub(super) async fn is_held(db: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' \
         AND classid::bigint = $1 AND pid = pg_backend_pid() AND granted)",
    )
    .bind(i64::from(CLASS))
    .fetch_one(db)
    .await
}

/// Ends `session`, which was ours, if it still has the lock.
pub(super) async fn end_session(db: &mut Connection, session: i32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) \
         WHERE locktype = 'advisory' AND classid::bigint = $1 AND granted AND pid = $2 \
         AND application_name = current_setting('application_name')",
    )
    .bind(i64::from(CLASS))
    .bind(session)
    .execute(db)
    .await?;
    Ok(())
}

/// Who has the lock, as far as the role may know.
pub(super) async fn holder(db: &mut Connection) -> Result<String, sqlx::Error> {
    let found: Option<(Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT application_name, COALESCE(host(client_addr), 'the server''s own machine') \
         FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' \
         AND classid::bigint = $1 AND pg_locks.granted AND pg_locks.database = \
         (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1",
    )
    .bind(i64::from(CLASS))
    .fetch_optional(db)
    .await?;
    Ok(match found {
        Some((Some(name), Some(address))) => format!(" ({name}, on {address})"),
        _ => String::new(),
    })
}
