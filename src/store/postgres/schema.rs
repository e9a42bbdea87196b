//! Bringing the tables up to date, by one process at a time.

use super::Connection;
use super::fault::Fault;
use super::migration::refused;
use sqlx::migrate::Migrator;
use sqlx::raw_sql;

static SHARED: Migrator = sqlx::migrate!("src/store/migrations/shared");
static OWN: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Makes the tables what this version knows, or refuses. The driver holds an advisory lock
/// meanwhile, so that two processes do not do it at once.
pub(super) async fn migrate(db: &mut Connection) -> Result<(), Fault> {
    raw_sql("SET statement_timeout = '50s'").execute(&mut *db).await?;
    let all = SHARED.iter().chain(OWN.iter()).cloned().collect();
    Migrator::with_migrations(all).run(&mut *db).await.map_err(refused)?;
    raw_sql("SET statement_timeout = '5s'").execute(db).await?;
    Ok(())
}
