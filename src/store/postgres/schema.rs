//! Bringing the tables up to date, by one process at a time.

use super::Connection;
use super::fault::Fault;
use crate::store::Kind;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::raw_sql;

static SHARED: Migrator = sqlx::migrate!("src/store/migrations/shared");
static OWN: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Makes the tables what this version knows, or refuses. The driver holds an advisory lock
/// meanwhile, so that two processes do not do it at once.
pub(super) async fn migrate(db: &mut Connection) -> Result<(), Fault> {
    raw_sql("SET statement_timeout = '50s'").execute(&mut *db).await?;
    let all = SHARED.iter().chain(OWN.iter()).cloned().collect();
    Migrator::with_migrations(all).run(&mut *db).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => Fault::new(
            Kind::Corrupt,
            format!(
                "the database was written by a newer signkeep (it has schema change {version}, which this one does not know); run that version, or restore a backup from before"
            ),
        ),
        MigrateError::VersionMismatch(version) => Fault::new(
            Kind::Corrupt,
            format!(
                "the database was written by another build of signkeep (its schema change {version} is not the one that this build knows); run that build"
            ),
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Fault::from(error)
        }
        other => {
            Fault::new(Kind::Corrupt, format!("cannot bring the schema up to date: {other}"))
        }
    })?;
    raw_sql("SET statement_timeout = '5s'").execute(db).await?;
    Ok(())
}
