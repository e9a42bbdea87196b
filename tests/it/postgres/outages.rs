//! The server dies, hangs, is locked or cut off: outcomes are told truthfully, nothing that was
//! answered is lost, every wait ends, and all goes on by itself.

use super::proxy::{Commit, Proxy, Then};
use crate::harness::eventually;
use crate::harness::postgres::{Database, Server};
use crate::harness::store::{change, key_set, record, with_two_keys};
use signkeep::audit::{Action, Head, Linked, Record};
use signkeep::key::{Algorithm, Hold};
use signkeep::store::postgres::PostgresStore;
use signkeep::store::{Kind, Outcome, Store};
use sqlx::{Connection, Executor};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for a server to start again, and for a store to find out.
pub(super) const BACK: Duration = Duration::from_secs(60);
/// The longest that one call takes: its work, its COMMIT, and what a busy machine adds.
const CALL_MAX: Duration = Duration::from_secs(20);

fn whole(trail: &[Linked]) {
    let mut head = Head::EMPTY;
    for linked in trail {
        assert_eq!(&head.link(linked.record.clone()), linked);
    }
}

/// What one writer was told of each of its records.
#[derive(Default)]
struct Told {
    done: BTreeSet<String>,
    not_done: BTreeSet<String>,
}

/// Writes until it is told that something failed.
async fn write_until_it_fails(store: Arc<PostgresStore>, writer: usize) -> Told {
    let set = key_set("default", Algorithm::Es256);
    let mut told = Told::default();
    for number in 0.. {
        let detail = format!("{writer}-{number}");
        let one = Record { detail: detail.clone(), ..record(&set, Action::Sign) };
        match store.append_audit(&[one]).await {
            Ok(_) => drop(told.done.insert(detail)),
            Err(error) => {
                assert_eq!(error.kind, Kind::Unavailable, "{error}");
                if error.outcome == Outcome::Nothing {
                    told.not_done.insert(detail);
                }
                break;
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_amid_commits_loses_nothing_and_nobody_is_lied_to() {
    let server = Server::fresh().await;
    let database = server.database().await;
    let store = Arc::new(PostgresStore::open(database.settings()).await.unwrap());
    let (mut done, mut not_done) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..3 {
        let before = store.audit_head().await.unwrap().number;
        let writers: Vec<_> = (0..6)
            .map(|writer| tokio::spawn(write_until_it_fails(store.clone(), round * 100 + writer)))
            .collect();
        eventually("records flow", BACK, async || {
            (store.audit_head().await.ok()?.number > before + 40).then_some(())
        })
        .await;
        server.crash().await;
        for writer in writers {
            let told = writer.await.unwrap();
            done.extend(told.done);
            not_done.extend(told.not_done);
        }
        server.start().await;
        eventually("the store is back by itself", BACK, async || store.probe().await.ok()).await;
    }
    let trail = store.audit_trail(0, 1_000_000).await.unwrap();
    whole(&trail);
    assert!(trail.iter().all(|linked| linked.record.action != Action::Flaw));
    let there: BTreeSet<_> = trail.into_iter().map(|linked| linked.record.detail).collect();
    assert!(done.len() > 100, "{}", done.len());
    assert_eq!(done.difference(&there).next(), None, "answered, and lost");
    assert_eq!(not_done.intersection(&there).next(), None, "denied, and done");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_unknown_until_the_store_has_settled() {
    for commit in [Commit::Withheld, Commit::Unanswered] {
        for then in [Then::Cut, Then::Hung] {
            let database = Database::fresh().await;
            let proxy = Proxy::to(&database).await;
            let settings = proxy.settings(database.settings());
            let store = PostgresStore::open(settings).await.unwrap();
            let set = with_two_keys(&store, "default").await;
            let mut after = set.clone();
            after.rotation_hold = Hold::On;

            proxy.lose(commit, then);
            let began = Instant::now();
            let error = store.commit(&change(Some(&set), &after)).await.unwrap_err();
            let place = format!("{commit:?}, {then:?}: {error}");
            assert!(began.elapsed() < CALL_MAX, "{place}");
            assert_eq!(
                (error.kind, error.outcome),
                (Kind::Unavailable, Outcome::Unknown),
                "{place}"
            );

            eventually("it settles", BACK, async || store.settle().await.ok()).await;
            let found = store.key_set(&set.id).await.unwrap().unwrap();
            let carried_out = commit == Commit::Unanswered;
            assert_eq!(found.rotation_hold == Hold::On, carried_out, "{place}");
            assert_eq!(found.revision > set.revision, carried_out, "{place}");
            let trail = store.audit_trail(0, 10).await.unwrap();
            assert_eq!(trail.len(), 1 + usize::from(carried_out), "{place}");
            // What was not known does not make the next writer suspicious.
            store.append_audit(&[record(&set, Action::Sign)]).await.unwrap();
            let trail = store.audit_trail(0, 10).await.unwrap();
            whole(&trail);
            assert!(trail.iter().all(|linked| linked.record.action != Action::Flaw), "{place}");
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_waits_for_a_commit_that_is_still_on_its_way_though_nobody_waits_for_it() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let store = Arc::new(PostgresStore::open(proxy.settings(database.settings())).await.unwrap());
    let set = with_two_keys(&*store, "default").await;
    let mut after = set.clone();
    after.rotation_hold = Hold::On;
    let change = change(Some(&set), &after);
    proxy.lose(Commit::Held, Then::Cut);
    tokio::select! {
        done = store.commit(&change) => panic!("it is not held: {done:?}"),
        () = proxy.holds() => {}
    }
    let settling = tokio::spawn({
        let store = store.clone();
        async move { store.settle().await }
    });
    eventually("settling waits for its turn", BACK, async || {
        database.is_blocked().await.then_some(())
    })
    .await;
    assert_eq!(store.key_set(&set.id).await.unwrap().unwrap().rotation_hold, Hold::Off);
    proxy.let_go();
    settling.await.unwrap().unwrap();
    assert_eq!(store.key_set(&set.id).await.unwrap().unwrap().rotation_hold, Hold::On);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_hangs_makes_nobody_wait_for_ever_and_leaves_nothing_behind() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let store = Arc::new(PostgresStore::open(proxy.settings(database.settings())).await.unwrap());
    let set = with_two_keys(&*store, "default").await;
    proxy.hang(true);
    let calls = (0..16).map(|number| {
        let (store, set) = (store.clone(), set.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let error = if number % 2 == 0 {
                store.load().await.map(drop).unwrap_err()
            } else {
                store.append_audit(&[record(&set, Action::Sign)]).await.map(drop).unwrap_err()
            };
            assert_eq!(error.kind, Kind::Unavailable, "{error}");
            assert!(began.elapsed() < CALL_MAX, "{:?}: {error}", began.elapsed());
        })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        call.await.unwrap();
    }
    let error = eventually("the hold runs out", BACK, async || store.standing().err()).await;
    assert!(error.message.contains("lost"), "{error}");
    proxy.hang(false);
    eventually("all is well again", BACK, async || store.probe().await.ok()).await;
    store.standing().unwrap();
    assert_eq!(store.load().await.unwrap().revision, set.revision);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_connections_wait_their_turn_and_a_lock_ends_them_in_words() {
    let database = Database::fresh().await;
    let store = Arc::new(PostgresStore::open(database.settings()).await.unwrap());
    let set = with_two_keys(&*store, "default").await;
    // Many more readers than connections.
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load().await.unwrap().revision })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), set.revision);
    }
    assert!(database.connections().await <= 6, "the pool has a bound");

    let mut other = database.connection().await;
    other.execute("BEGIN").await.unwrap();
    other.execute("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let began = Instant::now();
                let error = store.load().await.unwrap_err();
                assert!(began.elapsed() < CALL_MAX, "{:?}", began.elapsed());
                error
            })
        })
        .collect();
    let mut words = Vec::new();
    for call in calls {
        let error = call.await.unwrap();
        assert_eq!((error.kind, error.outcome), (Kind::Unavailable, Outcome::Nothing), "{error}");
        words.push(error.message);
    }
    assert!(words.iter().any(|words| words.contains("pg_stat_activity")), "{words:?}");
    other.execute("ROLLBACK").await.unwrap();
    store.load().await.unwrap();

    other.execute("BEGIN").await.unwrap();
    other.execute("SELECT * FROM claim FOR UPDATE").await.unwrap();
    let error = store.append_audit(&[record(&set, Action::Sign)]).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (Kind::Unavailable, Outcome::Nothing), "{error}");
    assert!(error.message.contains("holds a lock"), "{error}");
    other.close().await.unwrap();
    eventually("the lock is gone", BACK, async || store.probe().await.ok()).await;
    store.close().await;
}
