//! The sample record in a database, with the audit key in its key set, and the command on it.

use super::book::{Signer, record};
use crate::harness::store::{commit, key_set};
use crate::harness::tools::{Output, run};
use signkeep::audit::{self, Checkpoint, Span};
use signkeep::key::Algorithm;
use signkeep::store::Store;
use signkeep::store::sqlite::SqliteStore;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, query};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A folder with a database in it: 35 records, checkpoints over 1 to 10, 11 to 20, 21 to 30.
pub(super) struct Stored {
    pub(super) signer: Arc<Signer>,
    folder: TempDir,
}

impl Stored {
    /// The database, and the service that has it open.
    pub(super) async fn sample() -> (Self, SqliteStore) {
        let stored = Self { signer: Signer::new(), folder: tempfile::tempdir().unwrap() };
        let store = SqliteStore::open(&stored.path("keys.db")).await.unwrap();
        let mut set = key_set(audit::KEY_SET, Algorithm::Es256);
        set.keys = vec![Arc::new(stored.signer.key())];
        commit(&store, None, &set).await.unwrap();
        store.append_audit(&(2..=35).map(record).collect::<Vec<_>>()).await.unwrap();
        let trail = store.audit_trail(0, 30).await.unwrap();
        let mut last: Option<Checkpoint> = None;
        for covered in trail.chunks(10) {
            let mut span = Span::default();
            covered.iter().for_each(|linked| span.push(linked));
            let checkpoint = stored.signer.sign_as(stored.signer.kid, last.as_ref(), &span);
            store.append_checkpoint(&checkpoint).await.unwrap();
            last = Some(checkpoint);
        }
        stored.write("keys.json", &stored.signer.jwks());
        (stored, store)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite:{}", self.path("keys.db").display())
    }

    /// Statements that no trigger and no check of the table holds back.
    pub(super) async fn tamper(&self, statements: &[&str]) {
        let options = SqliteConnectOptions::new().filename(self.path("keys.db"));
        let mut connection = options.connect().await.unwrap();
        let free = [
            "DROP TRIGGER audit_never_updated",
            "DROP TRIGGER audit_never_deleted",
            "DROP TRIGGER audit_only_at_its_end",
            "DROP TRIGGER audit_checkpoints_never_updated",
            "DROP TRIGGER audit_checkpoints_never_deleted",
            "DROP TRIGGER audit_checkpoints_only_at_its_end",
            "PRAGMA ignore_check_constraints = ON",
        ];
        for statement in free.iter().chain(statements) {
            query(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    /// `signkeep audit …`, in the folder.
    pub(super) async fn audit(&self, args: &[&str]) -> Output {
        audit(self.folder.path(), args).await
    }

    /// The verdict on the database, as JSON.
    pub(super) async fn verdict(&self) -> serde_json::Value {
        let url = self.url();
        let keys = self.path("keys.json");
        let args =
            ["verify", "--output", "json", "--store", &url, "--keys", keys.to_str().unwrap()];
        let said = self.audit(&args).await;
        let verdict: serde_json::Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("no verdict: {said:?}"));
        assert_eq!(said.success, verdict["sound"] == true, "{said:?}");
        verdict
    }
}

/// `signkeep audit …`; names of files that stand in `folder` become their paths.
pub(super) async fn audit(folder: &Path, args: &[&str]) -> Output {
    let resolved = args.iter().map(|arg| match folder.join(arg) {
        path if arg.contains('.') && path.is_file() => path.into_os_string(),
        _ => arg.into(),
    });
    let args: Vec<std::ffi::OsString> = std::iter::once("audit".into()).chain(resolved).collect();
    run(env!("CARGO_BIN_EXE_signkeep"), args).await
}
