//! The SQLite store under the contract, and what is true of a file alone.

use super::{Bed, every_case};
use crate::harness::store::{change, current, key, key_set, with_two_keys};
use signkeep::key::Algorithm;
use signkeep::store::sqlite::SqliteStore;
use signkeep::store::{Error, Kind, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("keys.db")
    }

    async fn refused(&self) -> Error {
        SqliteStore::open(&self.path()).await.unwrap_err()
    }

    /// A statement that not even the table's checks hold back.
    async fn force(&self, sql: &str) {
        let mut connection = raw_connection(&self.path()).await;
        sqlx::query("PRAGMA ignore_check_constraints = ON").execute(&mut connection).await.unwrap();
        let done = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
        connection.close().await.unwrap();
    }

    /// A database with a key set of two keys, closed.
    async fn filled(self) -> Self {
        let store = self.open().await;
        with_two_keys(&*store, "default").await;
        store.close().await;
        self
    }
}

impl Bed for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.path()).await.unwrap())
    }

    async fn raw(&self, sql: &str) -> Result<u64, String> {
        let mut connection = raw_connection(&self.path()).await;
        let done = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        connection.close().await.unwrap();
        done.map(|done| done.rows_affected()).map_err(|error| error.to_string())
    }
}

async fn raw_connection(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(true).connect().await.unwrap()
}

every_case!(Sqlite);

#[tokio::test]
async fn a_row_that_cannot_be_is_named_by_table_row_and_column() {
    let cases = [
        ("UPDATE keys SET state = 'pending'", "keys", "state"),
        ("UPDATE keys SET state = 'previous' WHERE state = 'next'", "keys", "current_until_us"),
        ("UPDATE keys SET token_ttl_us = NULL WHERE state = 'current'", "keys", "token_ttl_us"),
        ("UPDATE keys SET token_ttl_us = -1 WHERE state = 'current'", "keys", "token_ttl_us"),
        ("UPDATE keys SET revoke_us = 1 WHERE state = 'next'", "keys", "revoke_us"),
        ("UPDATE keys SET publish_us = 9223372036854775807", "keys", "publish_us"),
        ("UPDATE keys SET created_us = 'then'", "keys", "created_us"),
        ("UPDATE keys SET kid = substr(kid, 1, 42)", "keys", "kid"),
        ("UPDATE keys SET kid_bytes = zeroblob(32)", "keys", "kid_bytes"),
        ("UPDATE keys SET algorithm = 'EdDSA'", "keys", "algorithm"),
        ("UPDATE keys SET algorithm = 'none'", "keys", "algorithm"),
        ("UPDATE keys SET material = material || 'z'", "keys", "material"),
        ("UPDATE keys SET kty = 'oct'", "keys", "kty"),
        ("UPDATE keys SET crv = 'P-384'", "keys", "x"),
        ("UPDATE keys SET n = 'AQAB'", "keys", "n"),
        ("UPDATE keys SET y = '+/+/'", "keys", "y"),
        ("UPDATE key_sets SET algorithm = 'es256'", "key_sets", "algorithm"),
        ("UPDATE key_sets SET issuer = ''", "key_sets", "issuer"),
        ("UPDATE key_sets SET service = 'on'", "key_sets", "service"),
        ("UPDATE key_sets SET rotation_hold = '1'", "key_sets", "rotation_hold"),
        ("UPDATE key_sets SET undo_kid = '?', undo_reinstates = '?'", "key_sets", "undo_kid"),
        (
            "UPDATE key_sets SET undo_kid = '?', undo_reinstates = NULL",
            "key_sets",
            "undo_reinstates",
        ),
        ("UPDATE key_sets SET rsa_bits = 1024", "key_sets", "rsa_bits"),
        ("UPDATE key_sets SET revision = 9", "key_sets", "revision"),
        ("UPDATE key_sets SET destroy_after_us = -5", "key_sets", "destroy_after_us"),
        (
            "INSERT INTO reservations VALUES ('00000000000000000000000000000000', 'a', 'ES256', 'P-384', 'b', 0, NULL, 0)",
            "reservations",
            "spec",
        ),
    ];
    for (sql, table, column) in cases {
        let bed = Sqlite::new().filled().await;
        let store = bed.open().await;
        bed.force(sql).await;
        let error = store.load().await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{sql}: {error}");
        let message = &error.message;
        assert!(message.contains(&format!("table {table}, row ")), "{sql}: {message}");
        assert!(message.contains(&format!("column {column}: ")), "{sql}: {message}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_row_that_breaks_the_tables_rules_is_found_at_opening() {
    let bed = Sqlite::new().filled().await;
    bed.force("UPDATE keys SET state = 'pending'").await;
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.contains("in keys"), "{error}");
}

#[tokio::test]
async fn a_lost_revision_is_noticed() {
    let bed = Sqlite::new().filled().await;
    bed.force("DELETE FROM revision").await;
    let store = bed.open().await;
    assert_eq!(store.load().await.unwrap_err().kind, Kind::Corrupt);
    let set = key_set("other", Algorithm::Es256);
    let error = store.commit(&change(None, &set)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt);
}

#[tokio::test]
async fn an_operator_reads_states_and_times_with_the_databases_own_shell() {
    let bed = Sqlite::new();
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::EdDsa);
    set.keys = vec![Arc::new(key(&set, 1, current()))];
    crate::harness::store::commit(&*store, None, &set).await.unwrap();
    let mut connection = raw_connection(&bed.path()).await;
    let row: (String, String, String, String) = sqlx::query_as(
        "SELECT key_set, state, datetime(current_since_us / 1000000, 'unixepoch'), crv FROM keys",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        row,
        (
            "default".to_owned(),
            "current".to_owned(),
            "2026-09-21 14:13:22".to_owned(),
            "Ed25519".to_owned()
        )
    );
}

#[tokio::test]
async fn the_file_and_its_companions_are_for_the_owner_alone() {
    let bed = Sqlite::new();
    let store = bed.open().await;
    store.probe().await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(bed.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 4, "database, WAL, shared memory, lock");
}

#[tokio::test]
async fn a_second_opening_is_refused_until_the_first_is_closed() {
    let bed = Sqlite::new();
    let first = bed.open().await;
    let link = bed.0.path().join("link.db");
    std::os::unix::fs::symlink(bed.path(), &link).unwrap();
    for path in [bed.path(), link] {
        let error = SqliteStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        for words in ["keys.db", "another signkeep", "gRPC"] {
            assert!(error.message.contains(words), "{error}");
        }
    }
    first.probe().await.unwrap();
    first.close().await;
    bed.open().await.probe().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused() {
    const CHILD: &str = "SIGNKEEP_TEST_SECOND_PROCESS";
    if let Some(path) = std::env::var_os(CHILD) {
        let error = SqliteStore::open(Path::new(&path)).await.unwrap_err();
        assert!(error.message.contains("another signkeep"), "{error}");
        return;
    }
    let bed = Sqlite::new();
    let store = bed.open().await;
    let (_, room) = module_path!().split_once("::").unwrap();
    let again = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{room}::a_second_process_is_refused")])
            .env(CHILD, bed.path())
            .output()
            .unwrap()
    };
    let child = again();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    store.close().await;
    assert!(!again().status.success(), "once it is free, it opens");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let bed = Sqlite::new();
    let text = "this is a shopping list, not a database. ".repeat(100);
    std::fs::write(bed.path(), &text).unwrap();
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.contains("keys.db"), "{error}");
    assert!(error.message.contains("not an SQLite database"), "{error}");
    assert_eq!(std::fs::read_to_string(bed.path()).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_something_else_is_refused() {
    let bed = Sqlite::new();
    let mut connection = SqliteConnectOptions::new()
        .filename(bed.path())
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE recipes (name TEXT)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.contains("something else"), "{error}");
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let bed = Sqlite::new().filled().await;
    let whole = std::fs::metadata(bed.path()).unwrap().len();
    for (len, words) in [(whole / 2, "damaged"), (0, "empty")] {
        let file = std::fs::File::options().write(true).open(bed.path()).unwrap();
        file.set_len(len).unwrap();
        let error = bed.refused().await;
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert!(error.message.contains("backup"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_refused() {
    let bed = Sqlite::new().filled().await;
    let mut bytes = std::fs::read(bed.path()).unwrap();
    let page = 4096;
    for byte in &mut bytes[2 * page..2 * page + 200] {
        *byte = 0xa5;
    }
    std::fs::write(bed.path(), bytes).unwrap();
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt, "{error}");
    assert!(error.message.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let bed = Sqlite::new().filled().await;
    bed.raw(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'leases', 1, x'00', 1)",
    )
    .await
    .unwrap();
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.contains("newer signkeep"), "{error}");
    bed.raw("DELETE FROM _sqlx_migrations WHERE version = 9999").await.unwrap();
    assert_eq!(bed.open().await.load().await.unwrap().key_sets.len(), 1);
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_database_is_refused_by_name() {
    let bed = Sqlite::new();
    let file = bed.0.path().join("file");
    std::fs::write(&file, "").unwrap();
    let directory = bed.0.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let link = bed.0.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for path in [
        file.join("keys.db"),
        directory,
        link,
        bed.0.path().join("missing").join("keys.db"),
        // A directory in which nobody, root included, can create a file.
        PathBuf::from("/proc/self/keys.db"),
    ] {
        let error = SqliteStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.message.contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_wal_without_its_database_is_not_taken_for_a_new_one() {
    let bed = Sqlite::new();
    std::fs::write(bed.0.path().join("keys.db-wal"), "left over").unwrap();
    let error = bed.refused().await;
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.contains("keys.db-wal"), "{error}");
}

#[tokio::test]
async fn what_a_crash_while_making_the_database_left_is_cleared_away() {
    let bed = Sqlite::new();
    std::fs::write(bed.0.path().join("keys.db.new"), "half").unwrap();
    std::fs::write(bed.0.path().join("keys.db.new-journal"), "half").unwrap();
    bed.open().await.probe().await.unwrap();
    assert!(!bed.0.path().join("keys.db.new").exists());
}

#[tokio::test]
async fn a_file_deleted_or_replaced_beneath_the_service_is_noticed_before_writing() {
    for replacement in [None, Some("keys.db"), Some("keys.db.lock")] {
        let bed = Sqlite::new();
        let store = bed.open().await;
        let set = with_two_keys(&*store, "default").await;
        match replacement {
            None => std::fs::remove_file(bed.path()).unwrap(),
            Some(name) => {
                let (copy, target) = (bed.0.path().join("copy"), bed.0.path().join(name));
                std::fs::copy(&target, &copy).unwrap();
                std::fs::rename(&copy, &target).unwrap();
            }
        }
        let words = replacement.map_or("deleted", |_| "replaced");
        let probed = store.probe().await.unwrap_err();
        let committed = store.commit(&change(Some(&set), &set)).await.unwrap_err();
        for error in [probed, committed] {
            assert_eq!(error.kind, Kind::Unavailable);
            assert!(error.message.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn somebody_elses_lock_is_waited_for_only_so_long() {
    let bed = Sqlite::new();
    let store = bed.open().await;
    let mut other = raw_connection(&bed.path()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = store.probe().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("another program"), "{error}");
    store.load().await.unwrap();
    lock.rollback().await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn what_was_answered_survives_a_process_that_never_closed_its_store() {
    let bed = Sqlite::new();
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    // The files as a crash at this instant would leave them.
    let crashed = Sqlite::new();
    for suffix in ["", "-wal"] {
        let name = format!("keys.db{suffix}");
        std::fs::copy(bed.0.path().join(&name), crashed.0.path().join(&name)).unwrap();
    }
    let recovered = crashed.open().await;
    assert_eq!(recovered.load().await.unwrap().revision, set.revision);
    assert_eq!(
        recovered.key_set(&set.id).await.unwrap().map(crate::harness::store::sorted),
        Some(set)
    );
}
