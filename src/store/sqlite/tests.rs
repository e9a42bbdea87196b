use super::*;
use crate::store::{Kind, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

async fn store() -> (tempfile::TempDir, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("keys.db")).await.unwrap();
    (directory, store)
}

async fn pragma_of_writer(store: &SqliteStore, pragma: &'static str) -> i64 {
    sqlx::query_scalar(pragma).fetch_one(&store.writer).await.unwrap()
}

#[tokio::test]
async fn every_change_is_on_the_disk_before_it_is_answered() {
    let (_directory, store) = store().await;
    let full = 2;
    assert_eq!(pragma_of_writer(&store, "PRAGMA synchronous").await, full);
    assert_eq!(pragma_of_writer(&store, "PRAGMA foreign_keys").await, 1);
    assert_eq!(pragma_of_writer(&store, "PRAGMA busy_timeout").await, 5000);
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.unwrap();
    assert_eq!(journal, "wal");
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_directory, store) = store().await;
    let refused =
        sqlx::query("UPDATE probe SET number = 7").execute(&store.readers).await.unwrap_err();
    let fault = Fault::from(refused);
    assert_eq!(fault.kind, Kind::Unavailable);
    assert!(fault.message.contains("cannot be written"), "{fault:?}");
}

#[tokio::test]
async fn a_full_disk_is_named_and_passes_when_there_is_room_again() {
    let (_directory, store) = store().await;
    let pages = pragma_of_writer(&store, "PRAGMA page_count").await;
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
        .execute(&store.writer)
        .await
        .unwrap();
    let large = "x".repeat(1 << 20);
    let error = store.set_refused_pin("token", Some(&large)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.message.contains("disk is full"), "{error}");
    assert_eq!(error.outcome, crate::store::Outcome::Nothing);
    assert_eq!(store.refused_pin("token").await.unwrap(), None);
    sqlx::query("PRAGMA max_page_count = 1073741823").execute(&store.writer).await.unwrap();
    store.set_refused_pin("token", Some(&large)).await.unwrap();
    assert_eq!(store.refused_pin("token").await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_connection_that_is_lost_in_a_transaction_is_replaced() {
    let (_directory, store) = store().await;
    {
        let mut connection = store.writer.acquire().await.unwrap();
        let transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        // The transaction is never dropped, so nobody tells SQLite to roll it back.
        std::mem::forget(transaction);
    }
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let error = SqliteConnectOptions::new()
        .filename(directory.path().join("missing.db"))
        .connect()
        .await
        .unwrap_err();
    let fault = Fault::from(error);
    assert_eq!(fault.kind, Kind::Unavailable);
    assert!(fault.message.contains("cannot be opened"), "{fault:?}");
}
