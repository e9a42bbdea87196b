//! The PostgreSQL store under the contract, and what is true of a server alone.

use super::{Bed, every_case};
use crate::harness::postgres::Database;
use crate::harness::store::{commit, current, key, key_set, with_two_keys};
use signkeep::key::Algorithm;
use signkeep::store::postgres::PostgresStore;
use signkeep::store::{Kind, Store};
use sqlx::Connection;
use std::sync::Arc;
use tokio::sync::OnceCell;

struct Postgres(OnceCell<Database>);

impl Postgres {
    fn new() -> Self {
        Self(OnceCell::new())
    }

    async fn database(&self) -> &Database {
        self.0.get_or_init(Database::fresh).await
    }

    /// A database with a key set of two keys, closed.
    async fn filled(self) -> Self {
        let store = self.open().await;
        with_two_keys(&*store, "default").await;
        store.close().await;
        self
    }
}

impl Bed for Postgres {
    async fn open(&self) -> Arc<dyn Store> {
        let settings = self.database().await.settings();
        Arc::new(PostgresStore::open(settings).await.unwrap())
    }

    async fn raw(&self, sql: &str) -> Result<u64, String> {
        self.database().await.raw(&in_its_dialect(sql)).await
    }

    fn kept(&self, text: &str) -> String {
        text.replace('\0', "\u{2400}")
    }
}

/// What the contract says in SQLite's words.
fn in_its_dialect(sql: &str) -> String {
    let sql = sql
        .replace("zeroblob(32)", "decode(repeat('00', 32), 'hex')")
        .replace("X'00'", "decode('00', 'hex')")
        .replace("DROP TRIGGER audit_never_updated", "DROP TRIGGER audit_never_changed ON audit")
        .replace("DROP TRIGGER audit_never_deleted", "DROP TRIGGER audit_never_changed ON audit");
    match sql.strip_prefix("INSERT OR REPLACE").or_else(|| sql.strip_prefix("REPLACE")) {
        Some(rest) => format!("INSERT{rest} ON CONFLICT (number) DO UPDATE SET number = 7"),
        None => sql,
    }
}

every_case!(Postgres);

#[tokio::test]
async fn an_operator_reads_states_and_times_with_the_databases_own_shell() {
    let bed = Postgres::new();
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::EdDsa);
    set.keys = vec![Arc::new(key(&set, 1, current()))];
    commit(&*store, None, &set).await.unwrap();
    let mut connection = bed.database().await.connection().await;
    let row: (String, String, String, String) = sqlx::query_as(
        "SELECT key_set, state, to_timestamp(current_since_us / 1000000)::text, crv FROM keys",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let (set, state, since, curve) = row;
    assert_eq!((set.as_str(), state.as_str(), curve.as_str()), ("default", "current", "Ed25519"));
    assert!(since.starts_with("2026-09-21 14:13:22"), "{since}");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn every_table_has_the_columns_that_it_has_in_the_other_engine() {
    let bed = Postgres::new().filled().await;
    let mut connection = bed.database().await.connection().await;
    let here: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name NOT IN ('claim', '_sqlx_migrations') \
         ORDER BY table_name COLLATE \"C\", ordinal_position",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    signkeep::store::sqlite::SqliteStore::open(&file).await.unwrap().close().await;
    let url = format!("sqlite:{}", file.display());
    let mut sqlite = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let there: Vec<(String, String)> = sqlx::query_as(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables, \
         pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' \
         AND tables.name <> '_sqlx_migrations' ORDER BY tables.name, columns.cid",
    )
    .fetch_all(&mut sqlite)
    .await
    .unwrap();
    assert_eq!(here, there);
    assert!(here.len() > 50, "{here:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_is_named_by_table_row_and_column() {
    let bed = Postgres::new().filled().await;
    let store = bed.open().await;
    for (sql, row) in [
        ("UPDATE keys SET revoke_us = 1 WHERE state = 'next'", "table keys, row \"AgIC"),
        ("UPDATE key_sets SET issuer = ''", "table key_sets, row \"default\", column issuer: "),
    ] {
        bed.raw(sql).await.unwrap();
        let error = store.load().await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert!(error.message.contains(row), "{error}");
        bed.raw("UPDATE keys SET revoke_us = NULL WHERE state = 'next'").await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_row_of_bookkeeping_is_noticed() {
    for (table, op) in [("revision", "load"), ("claim", "commit")] {
        let bed = Postgres::new();
        let store = bed.open().await;
        bed.raw(&format!("DELETE FROM {table}")).await.unwrap();
        let set = key_set("default", Algorithm::Es256);
        let error = commit(&*store, None, &set).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert!(error.message.contains(table), "{error}");
        if op == "load" {
            assert_eq!(store.load().await.unwrap_err().kind, Kind::Corrupt);
        }
    }
}
