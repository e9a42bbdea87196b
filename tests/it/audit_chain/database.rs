//! The record in the database under attack, by somebody who can write to it.

use super::stored::Stored;
use serde_json::Value;

async fn verdict_after(statements: &[&str]) -> Value {
    let (stored, store) = Stored::sample().await;
    stored.tamper(statements).await;
    let verdict = stored.verdict().await;
    drop(store);
    verdict
}

#[tokio::test]
async fn a_sound_database_is_verified_while_a_service_has_it_open_and_once_it_is_closed() {
    use signkeep::store::Store;
    let (stored, store) = Stored::sample().await;
    let open = stored.verdict().await;
    assert_eq!(open["sound"], true, "{open}");
    assert_eq!(open["head"]["number"], 35);
    assert_eq!((&open["checkpoints"], &open["unsigned"]), (&3.into(), &5.into()));
    store.append_audit(&[super::book::record(36)]).await.unwrap();
    store.close().await;
    drop(store);
    let closed = stored.verdict().await;
    assert_eq!((&closed["sound"], &closed["unsigned"]), (&true.into(), &6.into()), "{closed}");
    assert_eq!(closed["checkpoint"], open["checkpoint"]);
}

#[tokio::test]
async fn a_column_changed_behind_the_stores_back_names_the_record() {
    for set in [
        "time_us = time_us + 1",
        "caller = 'somebody else'",
        "listener = ''",
        "action = 'view'",
        "key_set = 'other'",
        "key_set = NULL",
        "kid = NULL",
        "outcome = 'done'",
        "reason = reason || '.'",
        "request = 'R-14'",
        "digest = replace(digest, 'a', 'b') || ''",
        "digest = NULL",
        "count = count - 1",
        "detail = ''",
        "previous = hash",
        "hash = previous",
        // What no record can be.
        "time_us = 'then'",
        "action = 'nothing'",
        "kid = 'k'",
        "outcome = ''",
        "digest = 'md5:00'",
        "count = -1",
        "hash = zeroblob(31)",
        "caller = x'ff00'",
    ] {
        let verdict = verdict_after(&[&format!("UPDATE audit SET {set} WHERE number = 14")]).await;
        assert_eq!(verdict["sound"], false, "{set}");
        assert_eq!(verdict["record"], 14, "{set}: {verdict}");
    }
}

#[tokio::test]
async fn rows_dropped_put_in_moved_and_cut_off_are_named() {
    let copy = "INSERT INTO audit SELECT 36, time_us, caller, listener, action, key_set, kid, \
                outcome, reason, request, digest, count, detail, previous, hash FROM audit \
                WHERE number = 9";
    let cases: [(&[&str], &str, Value); 6] = [
        (&["DELETE FROM audit WHERE number = 14"], "missing", 14.into()),
        (
            &[
                "UPDATE audit SET number = 99 WHERE number = 14",
                "UPDATE audit SET number = 14 WHERE number = 15",
                "UPDATE audit SET number = 15 WHERE number = 99",
            ],
            "changed",
            14.into(),
        ),
        (&["UPDATE audit SET number = number + 100 WHERE number > 13"], "changed", 14.into()),
        (&[copy], "changed", 36.into()),
        (&["DELETE FROM audit WHERE number > 25"], "truncated", 26.into()),
        (&["DELETE FROM audit WHERE number < 3"], "beheaded", 1.into()),
    ];
    for (statements, finding, record) in cases {
        let verdict = verdict_after(statements).await;
        assert_eq!(verdict["finding"], finding, "{statements:?}: {verdict}");
        assert_eq!(verdict["record"], record, "{statements:?}: {verdict}");
    }
}

#[tokio::test]
async fn checkpoints_dropped_swapped_replayed_and_changed_are_named() {
    let jws = |number: u8| format!("(SELECT jws FROM audit_checkpoints WHERE number = {number})");
    let cases: [(Vec<String>, &str, u64); 5] = [
        (vec!["DELETE FROM audit_checkpoints WHERE number = 2".into()], "checkpoint-missing", 2),
        (
            vec![
                "UPDATE audit_checkpoints SET number = 9 WHERE number = 2".into(),
                "UPDATE audit_checkpoints SET number = 2 WHERE number = 3".into(),
                "UPDATE audit_checkpoints SET number = 3 WHERE number = 9".into(),
            ],
            "checkpoint-moved",
            2,
        ),
        (
            vec![format!("UPDATE audit_checkpoints SET jws = {} WHERE number = 3", jws(1))],
            "replayed",
            1,
        ),
        (vec![format!("INSERT INTO audit_checkpoints VALUES (4, 35, {})", jws(2))], "replayed", 2),
        (
            vec!["UPDATE audit_checkpoints SET jws = 'no' WHERE number = 2".into()],
            "checkpoint-unreadable",
            2,
        ),
    ];
    for (statements, finding, checkpoint) in cases {
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        let verdict = verdict_after(&statements).await;
        assert_eq!(verdict["finding"], finding, "{statements:?}: {verdict}");
        assert_eq!(verdict["checkpoint"], checkpoint, "{statements:?}: {verdict}");
    }
}
