//! The audit record: every field comes back, the chain is whole whoever writes, and nothing that is
//! wrong with it stands in the way of a change.

use super::Bed;
use super::changes::polled;
use crate::harness::store::{at, change, commit, key_set, kid, record, with_two_keys};
use signkeep::audit::{Action, Checkpoint, Digest, Draft, Hash, Head, Linked, Origin, Outcome};
use signkeep::audit::{Record, Span};
use signkeep::key::{self, Algorithm, Hold};
use signkeep::store::{Kind, inspect};

/// Records that differ in every field.
fn records() -> Vec<Record> {
    let set = key_set("default", Algorithm::Es256);
    let bare = Record::new(at(1), &Origin::service(""), Action::Start);
    let mut records = vec![bare.clone()];
    for (number, action) in Action::ALL.into_iter().enumerate() {
        let outcome = Outcome::ALL[number % Outcome::ALL.len()];
        let detail = format!("{action:?}; \u{0}, \" and \u{1F4D3}");
        records.push(Record { outcome, detail, kid: Some(kid(3)), ..record(&set, action) });
    }
    for hash in [key::Digest::Sha256, key::Digest::Sha384, key::Digest::Sha512] {
        let digest = Digest::made(hash, &hash.of(b"message"));
        records.push(Record { digest, count: u64::from(u32::MAX) + 1, ..bare.clone() });
    }
    records
}

fn assert_whole(trail: &[Linked]) {
    let mut head = Head::EMPTY;
    for linked in trail {
        assert_eq!(&head.link(linked.record.clone()), linked);
    }
}

pub(crate) async fn every_record_comes_back_as_it_was_chained(bed: &impl Bed) {
    let store = bed.open().await;
    assert_eq!(store.audit_head().await.unwrap(), Head::EMPTY);
    let written = records();
    let end = store.append_audit(&written).await.unwrap();
    let trail = store.audit_trail(0, 100).await.unwrap();
    let found: Vec<Record> = trail.iter().map(|linked| linked.record.clone()).collect();
    let kept = |record: Record| Record { detail: bed.kept(&record.detail), ..record };
    assert_eq!(found, written.into_iter().map(kept).collect::<Vec<_>>());
    assert_whole(&trail);
    assert_eq!(trail.last().unwrap().head(), end);
    store.close().await;
    drop(store);
    let store = bed.open().await;
    assert_eq!(store.audit_head().await.unwrap(), end);
    assert_eq!(store.append_audit(&[]).await.unwrap(), end);
    assert_eq!(store.audit_trail(0, 100).await.unwrap(), trail);
}

pub(crate) async fn changes_and_batches_make_one_chain_without_a_gap(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::Es256);
    let mut expected = 0;
    for round in 0..7 {
        let before = (set.revision > 0).then(|| set.clone());
        let change = change(before.as_ref(), &set);
        set.revision = store.commit(&change).await.unwrap();
        // A change that is refused leaves no number behind.
        let error = store.commit(&change).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Conflict | Kind::KeySetExists));
        let batch = vec![record(&set, Action::Sign); round * 17];
        let end = store.append_audit(&batch).await.unwrap();
        expected += 1 + u64::try_from(batch.len()).unwrap();
        assert_eq!(end.number, expected);
    }
    let (mut trail, mut after) = (Vec::new(), 0);
    loop {
        let page = store.audit_trail(after, 40).await.unwrap();
        assert!(page.len() <= 40);
        let Some(last) = page.last() else { break };
        after = last.number;
        trail.extend(page);
    }
    assert_eq!(after, expected);
    assert_whole(&trail);
    assert!(store.audit_trail(u64::MAX, 4).await.unwrap().is_empty());
}

pub(crate) async fn writers_at_once_make_one_chain(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    let writers = (0..8).map(|writer| {
        let (store, record) = (store.clone(), record(&set, Action::Sign));
        tokio::spawn(async move {
            for batch in 0..10 {
                store.append_audit(&vec![record.clone(); (writer + batch) % 5]).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let trail = store.audit_trail(0, 1000).await.unwrap();
    assert_eq!(trail.len(), 1 + 8 * 20);
    assert_whole(&trail);
    assert!(trail.iter().all(|linked| linked.record.action != Action::Flaw));
}

pub(crate) async fn a_batch_dropped_at_any_point_is_there_whole_or_not_at_all(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    let batch = vec![record(&set, Action::Sign); 120];
    let mut done = None;
    for polls in 0.. {
        done = polled(store.append_audit(&batch), polls).await;
        store.settle().await.unwrap();
        if done.is_some() {
            break;
        }
    }
    done.unwrap().unwrap();
    store.append_audit(&batch).await.unwrap();
    let trail = store.audit_trail(0, 100_000).await.unwrap();
    assert_eq!((trail.len() - 1) % 120, 0);
    assert_whole(&trail);
    assert!(trail.iter().all(|linked| linked.record.action != Action::Flaw));
}

/// A checkpoint after `before` over `trail`; nobody has signed it.
fn checkpoint(before: Option<&Checkpoint>, trail: &[Linked]) -> Checkpoint {
    let mut span = Span::default();
    trail.iter().for_each(|linked| span.push(linked));
    let key = (Algorithm::Es256, kid(9));
    Draft::new(before, &span, at(30), key).unwrap().finish(&[7; 64])
}

pub(crate) async fn checkpoints_come_back_in_order_and_follow_each_other(bed: &impl Bed) {
    let store = bed.open().await;
    with_two_keys(&*store, "default").await;
    store.append_audit(&records()).await.unwrap();
    let trail = store.audit_trail(0, 100).await.unwrap();
    assert_eq!(store.last_checkpoint().await.unwrap(), None);
    let first = checkpoint(None, &trail[..3]);
    let second = checkpoint(Some(&first), &trail[3..]);
    let early = store.append_checkpoint(&second).await.unwrap_err();
    assert_eq!(early.kind, Kind::Conflict);
    for one in [&first, &first, &second, &second] {
        store.append_checkpoint(one).await.unwrap();
    }
    for late in [&first, &checkpoint(Some(&first), &trail[4..])] {
        let error = store.append_checkpoint(late).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{error}");
    }
    store.close().await;
    drop(store);
    let store = bed.open().await;
    assert_eq!(store.checkpoints(0, 9).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.checkpoints(0, 1).await.unwrap(), [first]);
    assert_eq!(store.checkpoints(1, 9).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(store.last_checkpoint().await.unwrap(), Some(second));
}

pub(crate) async fn the_record_only_grows_even_behind_its_back(bed: &impl Bed) {
    let store = bed.open().await;
    with_two_keys(&*store, "default").await;
    store.append_audit(&records()).await.unwrap();
    let trail = store.audit_trail(0, 100).await.unwrap();
    store.append_checkpoint(&checkpoint(None, &trail)).await.unwrap();
    let checkpoints = store.checkpoints(0, 9).await.unwrap();
    for sql in [
        "UPDATE audit SET reason = 'another'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 1",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE number = 2",
        "REPLACE INTO audit SELECT * FROM audit WHERE number = 2",
        "UPDATE audit_checkpoints SET jws = 'another'",
        "DELETE FROM audit_checkpoints",
        "INSERT OR REPLACE INTO audit_checkpoints VALUES (1, 1, 'another')",
        "INSERT INTO audit_checkpoints VALUES (3, 1, 'another')",
    ] {
        let refused = bed.raw(sql).await.unwrap_err();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    assert_eq!(store.audit_trail(0, 100).await.unwrap(), trail);
    assert_eq!(store.checkpoints(0, 9).await.unwrap(), checkpoints);
}

/// One more row, like the last but for its number.
const INTRUDER: &str = "INSERT INTO audit SELECT number + 1, time_us, 'intruder', listener, action, \
    key_set, kid, outcome, reason, request, digest, count, detail, previous, hash FROM audit \
    ORDER BY number DESC LIMIT 1";

pub(crate) async fn a_change_goes_through_and_tells_when_somebody_else_wrote(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    bed.raw(INTRUDER).await.unwrap();
    let mut held = set.clone();
    held.rotation_hold = Hold::On;
    let held = commit(&*store, Some(&set), &held).await.unwrap();
    let trail = store.audit_trail(0, 100).await.unwrap();
    let actions: Vec<Action> = trail.iter().map(|linked| linked.record.action).collect();
    assert_eq!(actions, [Action::Create, Action::Create, Action::Flaw, Action::Update]);
    let flaw = &trail[2].record;
    assert_eq!(flaw.outcome, Outcome::Failed);
    for words in ["ended with number 1 ", "found at its end number 2 ", &trail[0].hash.to_string()]
    {
        assert!(flaw.detail.contains(words), "{}", flaw.detail);
    }
    // It is told once.
    commit(&*store, Some(&held), &held).await.unwrap();
    assert_eq!(store.audit_head().await.unwrap().number, 5);
}

pub(crate) async fn a_hash_that_is_none_stops_no_change(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    let ruined = INTRUDER.replace("previous, hash", "previous, previous || X'00'");
    assert!(bed.raw(&ruined).await.unwrap_err().to_lowercase().contains("check"));
    bed.raw("DROP TRIGGER audit_never_updated").await.unwrap();
    bed.raw("UPDATE audit SET hash = zeroblob(32)").await.unwrap();
    commit(&*store, Some(&set), &set).await.unwrap();
    let trail = store.audit_trail(1, 100).await.unwrap();
    assert_eq!(trail[0].previous, Hash::ZERO);
    assert_eq!(trail[0].record.action, Action::Flaw);
}

pub(crate) async fn what_does_not_fit_since_the_last_checkpoint_is_told_and_stops_nothing(
    bed: &impl Bed,
) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    store.append_audit(&vec![record(&set, Action::Sign); 9]).await.unwrap();
    let trail = store.audit_trail(0, 4).await.unwrap();
    store.append_checkpoint(&checkpoint(None, &trail)).await.unwrap();
    assert_eq!(inspect(&*store, at(40)).await.unwrap(), None);
    assert_eq!(store.audit_head().await.unwrap().number, 10);

    bed.raw("DROP TRIGGER audit_never_updated").await.unwrap();
    // What a checkpoint has signed is for the verifier: only what is not signed yet is looked at.
    bed.raw("UPDATE audit SET caller = 'somebody else' WHERE number = 3").await.unwrap();
    assert_eq!(inspect(&*store, at(40)).await.unwrap(), None);
    bed.raw("UPDATE audit SET caller = 'somebody else' WHERE number = 7").await.unwrap();
    let flaw = inspect(&*store, at(41)).await.unwrap().unwrap();
    assert!(flaw.starts_with("record 7 was changed"), "{flaw}");
    let last = store.audit_trail(10, 9).await.unwrap();
    assert_eq!(last.len(), 1);
    let told = &last[0].record;
    assert_eq!((told.action, told.time, &told.detail), (Action::Flaw, at(41), &flaw));
    commit(&*store, Some(&set), &set).await.unwrap();
}

pub(crate) async fn an_end_that_was_cut_off_below_its_checkpoint_is_told(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    store.append_audit(&vec![record(&set, Action::Sign); 9]).await.unwrap();
    let trail = store.audit_trail(0, 10).await.unwrap();
    store.append_checkpoint(&checkpoint(None, &trail)).await.unwrap();
    bed.raw("DROP TRIGGER audit_never_deleted").await.unwrap();
    bed.raw("DELETE FROM audit WHERE number > 8").await.unwrap();
    let flaw = inspect(&*store, at(41)).await.unwrap().unwrap();
    assert!(flaw.contains("ends with number 8") && flaw.contains("up to number 10"), "{flaw}");
    commit(&*store, Some(&set), &set).await.unwrap();
}

pub(crate) async fn of_a_long_unsigned_record_only_the_end_is_looked_at(bed: &impl Bed) {
    let store = bed.open().await;
    let set = key_set("default", Algorithm::Es256);
    let batch = vec![record(&set, Action::Sign); 1_000];
    for _ in 0..21 {
        store.append_audit(&batch).await.unwrap();
    }
    bed.raw("DROP TRIGGER audit_never_updated").await.unwrap();
    bed.raw("UPDATE audit SET caller = 'somebody else' WHERE number = 900").await.unwrap();
    assert_eq!(inspect(&*store, at(41)).await.unwrap(), None);
    bed.raw("UPDATE audit SET caller = 'somebody else' WHERE number = 20900").await.unwrap();
    let flaw = inspect(&*store, at(41)).await.unwrap().unwrap();
    assert!(flaw.starts_with("record 20900 was changed"), "{flaw}");
}
