//! Why the tables could not be brought up to date.

use super::fault::Fault;
use crate::store::Kind;
use sqlx::migrate::MigrateError;

/// What the operator is told of it.
pub(super) fn refused(error: MigrateError) -> Fault {
    let why = match error {
        MigrateError::VersionMissing(version) => format!(
            "the database was written by a newer signkeep (it has schema change {version}, which this one does not know); run that version, or restore a backup from before"
        ),
        MigrateError::VersionMismatch(version) => format!(
            "the database was written by another build of signkeep (its schema change {version} is not the one that this build knows); run that build"
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return Fault::from(error);
        }
        other => format!("cannot bring the schema up to date: {other}"),
    };
    Fault::new(Kind::Corrupt, why)
}
