//! Who gets in, who does not, and what they are told.

use crate::harness::postgres::{Database, GUARDED};
use crate::harness::store::with_two_keys;
use signkeep::store::postgres::{Host, PostgresStore, Settings};
use signkeep::store::{Error, Kind, Store};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Opening is refused, in these words.
async fn refused(settings: Settings, kind: Kind, words: &[&str]) -> Error {
    let error = PostgresStore::open(settings).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    for word in words {
        assert!(error.message.contains(word), "{word:?} is not in {error}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_is_refused_until_the_first_is_closed() {
    let database = Database::fresh().await;
    let first = PostgresStore::open(database.settings()).await.unwrap();
    assert!(PostgresStore::is_served(database.settings()).await.unwrap());
    let holder = format!("signkeep {}", std::process::id());
    let words = ["another signkeep", "gRPC", &holder, "the server's own machine"];
    refused(database.settings(), Kind::Unavailable, &words).await;
    first.probe().await.unwrap();
    first.close().await;
    assert!(!PostgresStore::is_served(database.settings()).await.unwrap());
    PostgresStore::open(database.settings()).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_start_at_once_on_an_empty_database_one_serves_it() {
    let database = Database::fresh().await;
    let open = || PostgresStore::open(database.settings());
    let (one, other) = tokio::join!(open(), open());
    let (winner, loser) = match (one, other) {
        (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
        both => panic!("not exactly one: {both:?}"),
    };
    assert!(loser.message.contains("another signkeep"), "{loser}");
    with_two_keys(&winner, "default").await;
    winner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schemas_of_one_database_are_two_stores() {
    let database = Database::fresh().await;
    let first = PostgresStore::open(database.settings()).await.unwrap();
    with_two_keys(&first, "default").await;
    database.raw("CREATE SCHEMA second").await.unwrap();
    let sql = format!("ALTER DATABASE {} SET search_path = second", database.name());
    database.raw(&sql).await.unwrap();
    let second = PostgresStore::open(database.settings()).await.unwrap();
    assert!(second.load().await.unwrap().key_sets.is_empty());
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let database = Database::fresh().await;
    let store = PostgresStore::open(database.settings()).await.unwrap();
    with_two_keys(&store, "default").await;
    store.close().await;
    database
        .raw(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'leases', true, '', 1)",
        )
        .await
        .unwrap();
    refused(database.settings(), Kind::Corrupt, &["newer signkeep", "9999"]).await;
    database.raw("DELETE FROM _sqlx_migrations WHERE version = 9999").await.unwrap();
    let store = PostgresStore::open(database.settings()).await.unwrap();
    assert_eq!(store.load().await.unwrap().key_sets.len(), 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_something_else_is_refused() {
    let database = Database::fresh().await;
    database.raw("CREATE TABLE keys (door TEXT)").await.unwrap();
    refused(database.settings(), Kind::Corrupt, &["not those of signkeep", "of its own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_refused() {
    let database = Database::fresh().await;
    let name = database.name();
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    database.raw(&sql).await.unwrap();
    refused(database.settings(), Kind::Unavailable, &["takes no writes", "primary"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let database = Database::fresh().await;
    let other = format!("{}_latin", database.name());
    let sql = format!("CREATE DATABASE {other} ENCODING 'LATIN1' TEMPLATE template0");
    database.raw(&sql).await.unwrap();
    let settings = Settings { database: other, ..database.settings() };
    refused(settings, Kind::Unavailable, &["LATIN1", "ENCODING 'UTF8'"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_leads_nowhere_is_refused_by_what_is_missing() {
    let database = Database::fresh().await;
    let base = database.settings();
    let nowhere = Settings { database: "nowhere".to_owned(), ..base.clone() };
    refused(nowhere, Kind::Unavailable, &["no such database", "nowhere"]).await;
    let nobody = Settings { user: "nobody".to_owned(), ..base.clone() };
    refused(nobody, Kind::Unavailable, &["does not let the role in", "pg_hba.conf"]).await;
    let gone = Settings { host: Host::Socket("/nonexistent".into()), ..base.clone() };
    refused(gone, Kind::Unavailable, &["cannot be reached"]).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let refusing = Settings { host: Host::Tcp("127.0.0.1".to_owned()), port, ..base };
    refused(refusing, Kind::Unavailable, &["cannot be reached", "store.url"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_make_tables_is_told_what_it_lacks() {
    let database = Database::fresh().await;
    let role = format!("{}_guest", database.name());
    database.raw(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let settings = Settings { user: role, ..database.settings() };
    refused(settings, Kind::Unavailable, &["lacks a right", "own the database"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_comes_from_its_file_anew_for_each_connection() {
    let database = Database::fresh().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let write = |text: &str, mode| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    };
    let role = format!("CREATE ROLE {GUARDED} LOGIN SUPERUSER PASSWORD 'correct horse'");
    database.raw(&role).await.unwrap();
    let settings = Settings {
        user: GUARDED.to_owned(),
        password_file: Some(file.clone()),
        ..database.settings()
    };
    refused(settings.clone(), Kind::Unavailable, &["password", "No such file"]).await;
    write("correct horse\n", 0o644);
    refused(settings.clone(), Kind::Unavailable, &["chmod 600"]).await;
    write("", 0o600);
    refused(settings.clone(), Kind::Unavailable, &["one line"]).await;
    write("battery staple\n", 0o600);
    let error = refused(settings.clone(), Kind::Unavailable, &["does not let the role in"]).await;
    assert!(!error.message.contains("battery"), "{error}");

    write("correct horse\n", 0o600);
    let store = PostgresStore::open(settings).await.unwrap();
    store.probe().await.unwrap();
    // The password is changed, then the file; connections that were open before are cut.
    database.raw(&format!("ALTER ROLE {GUARDED} PASSWORD 'new'")).await.unwrap();
    write("new\n", 0o600);
    database.cut_connections().await;
    crate::harness::eventually("it comes in again", super::outages::BACK, async || {
        store.probe().await.ok()
    })
    .await;
    store.close().await;
}
