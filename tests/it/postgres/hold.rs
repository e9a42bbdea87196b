//! One process serves a database: how it holds it, loses it, and finds out that it was replaced.

use super::outages::BACK;
use super::proxy::Proxy;
use crate::harness::eventually;
use crate::harness::postgres::Database;
use crate::harness::store::{change, commit, with_two_keys};
use signkeep::key::Hold;
use signkeep::store::postgres::PostgresStore;
use signkeep::store::{Kind, Outcome, Store};
use std::time::{Duration, Instant};

/// What a process takes that serves a database.
const LOCK: &str = "SELECT pg_advisory_lock(1397311307, hashtext('public'))";

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_cut_is_taken_again_and_nothing_stops() {
    let database = Database::fresh().await;
    let store = PostgresStore::open(database.settings()).await.unwrap();
    let set = with_two_keys(&store, "default").await;
    let before = database.locks().await;
    assert_eq!(before.len(), 1);
    database.cut_connections().await;
    let since = Instant::now();
    eventually("the lock is held by another session", BACK, async || {
        // Within the five seconds that the hold outlives its session by.
        assert!(store.standing().is_ok() || since.elapsed() > Duration::from_secs(5));
        let now = database.locks().await;
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    eventually("all is well", BACK, async || store.probe().await.ok()).await;
    commit(&store, Some(&set), &set).await.unwrap();
    store.close().await;
    assert!(database.locks().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_network_lost_does_not_keep_its_own_process_out() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let store = PostgresStore::open(proxy.settings(database.settings())).await.unwrap();
    let before = database.locks().await;
    proxy.strand();
    eventually("the lock is held by another session", BACK, async || {
        let now = database.locks().await;
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    eventually("all is well", BACK, async || store.probe().await.ok()).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_else_has_the_lock_nothing_in_memory_is_acted_on() {
    let database = Database::fresh().await;
    let store = PostgresStore::open(database.settings()).await.unwrap();
    // Waits in line for the lock, so that it is next when the session that has it is cut.
    let mut other = database.connection().await;
    let taking = tokio::spawn(async move {
        sqlx::query(LOCK).execute(&mut other).await.unwrap();
        other
    });
    eventually("it stands in line", BACK, async || database.is_waiting().await.then_some(())).await;
    store.standing().unwrap();
    database.cut_holder().await;
    let other = taking.await.unwrap();
    let error = eventually("it stops", BACK, async || store.standing().err()).await;
    assert_eq!((error.kind, error.outcome), (Kind::Unavailable, Outcome::Nothing));
    assert!(error.message.contains("another process has it"), "{error}");
    assert!(store.probe().await.is_err());
    drop(other);
    eventually("it goes on", BACK, async || store.standing().ok()).await;
    store.probe().await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_replaced_changes_nothing_more_and_says_so() {
    let database = Database::fresh().await;
    let store = PostgresStore::open(database.settings()).await.unwrap();
    let set = with_two_keys(&store, "default").await;
    // As another process does that takes the database over.
    database.raw("UPDATE claim SET epoch = epoch + 1").await.unwrap();
    let mut after = set.clone();
    after.rotation_hold = Hold::On;
    let error = store.commit(&change(Some(&set), &after)).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (Kind::Unavailable, Outcome::Nothing));
    assert!(error.message.contains("taken the database over"), "{error}");
    assert_eq!(store.key_set(&set.id).await.unwrap().unwrap().rotation_hold, Hold::Off);
    assert_eq!(store.audit_head().await.unwrap().number, 1);

    database.cut_connections().await;
    let error = eventually("it stops at once", BACK, async || {
        store.standing().err().filter(|error| error.message.contains("taken the database over"))
    })
    .await;
    assert!(error.message.contains("restart"), "{error}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_process_that_did_not_end_in_order_the_next_one_waits() {
    let database = Database::fresh().await;
    let first = PostgresStore::open(database.settings()).await.unwrap();
    let set = with_two_keys(&first, "default").await;
    drop(first);
    let began = Instant::now();
    let second = PostgresStore::open(database.settings()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(6), "only {:?}", began.elapsed());
    second.standing().unwrap();
    assert_eq!(second.load().await.unwrap().revision, set.revision);
    second.close().await;
    let began = Instant::now();
    let third = PostgresStore::open(database.settings()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "after an end in order nobody waits");
    third.close().await;
}
