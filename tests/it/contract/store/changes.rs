//! Changes: all or none, one at a time, and back as they were written.

use super::Bed;
use crate::harness::store::{
    as_stored, at, change, commit, current, key, key_set, kid, material, next, previous, record,
    reservation, sorted, states, with_two_keys,
};
use signkeep::audit::Action;
use signkeep::key::{
    Algorithm, Approval, Emergency, Hold, Key, KeySet, Place, Policy, RsaBits, Service, State,
    StateName, Undo,
};
use signkeep::store::{Kind, Store};
use std::sync::Arc;
use std::time::Duration;

async fn loaded(store: &dyn Store, id: &str) -> Option<KeySet> {
    let image = store.load().await.unwrap();
    image.key_sets.into_iter().find(|set| set.id.as_str() == id).map(sorted)
}

pub(crate) async fn a_fresh_store_is_empty(bed: &impl Bed) {
    let store = bed.open().await;
    let image = store.load().await.unwrap();
    assert_eq!(image.revision, 0);
    assert!(image.key_sets.is_empty() && image.reserved.is_empty() && image.abandoned.is_empty());
    let id = "default".parse().unwrap();
    assert_eq!(store.key_set(&id).await.unwrap(), None);
    assert_eq!(store.key(&id, &kid(1)).await.unwrap(), None);
    store.probe().await.unwrap();
}

pub(crate) async fn every_state_and_every_time_in_it_comes_back(bed: &impl Bed) {
    let mut written = Vec::new();
    let store = bed.open().await;
    for (number, state) in (1..).zip(states()) {
        let mut set = key_set(&format!("set-{number}"), Algorithm::Es256);
        set.keys = vec![Arc::new(key(&set, number, state))];
        let stored = commit(&*store, None, &set).await.unwrap();
        written.push((Key::clone(&set.keys[0]), stored));
    }
    store.close().await;
    drop(store);
    let store = bed.open().await;
    for (key, set) in written {
        assert_eq!(store.key(&set.id, &key.kid).await.unwrap(), Some(key.clone()));
        let all = store.keys(&set.id, &[key.state.name()], None, 10).await.unwrap();
        assert_eq!(all, [key]);
        assert_eq!(store.key_set(&set.id).await.unwrap(), Some(set.clone()));
        assert_eq!(loaded(&*store, set.id.as_str()).await, Some(set));
    }
}

pub(crate) async fn every_algorithm_and_every_field_of_a_key_set_comes_back(bed: &impl Bed) {
    let store = bed.open().await;
    for (number, algorithm) in (1..).zip(Algorithm::ALL) {
        let mut set = key_set(&algorithm.name().to_lowercase(), algorithm);
        set.keys = vec![Arc::new(key(&set, number, next()))];
        let stored = commit(&*store, None, &set).await.unwrap();
        assert_eq!(loaded(&*store, set.id.as_str()).await, Some(stored.clone()));

        let mut changed = stored.clone();
        changed.backend = "kms".parse().unwrap();
        changed.policy = Policy {
            propagation_delay: Duration::from_micros(1),
            max_token_ttl: Duration::from_micros(2),
            retention: Some(Duration::from_micros(3)),
            rotation_period: Some(Duration::from_micros(4)),
            destroy_after: Duration::ZERO,
            rsa_bits: RsaBits::B4096,
        };
        changed.service = Service::Disabled;
        changed.rotation_hold = Hold::On;
        changed.undo = Some(Undo { made: kid(number), reinstates: kid(number) });
        let stored = commit(&*store, Some(&stored), &changed).await.unwrap();
        assert_eq!(loaded(&*store, set.id.as_str()).await, Some(stored));
    }
}

type Step<'a> = Box<dyn Fn(&KeySet) -> KeySet + 'a>;

pub(crate) async fn the_operations_of_a_key_set_go_through_one_after_the_other(bed: &impl Bed) {
    let store = bed.open().await;
    let forced = Approval::Forced;
    let mut set = with_two_keys(&*store, "default").await;
    let fresh = |set: &KeySet, number| key(set, number, next());
    let mut steps: Vec<Step> = vec![
        Box::new(|set| set.rotate(at(20), forced, Some(fresh(set, 3))).unwrap()),
        Box::new(|set| set.roll_back(at(21)).unwrap()),
        Box::new(|set| KeySet { rotation_hold: Hold::Off, ..set.clone() }),
        Box::new(|set| set.rotate(at(22), forced, Some(fresh(set, 4))).unwrap()),
        Box::new(|set| {
            set.with_policy(Policy {
                max_token_ttl: Duration::from_secs(1_000_000),
                ..set.policy.clone()
            })
        }),
    ];
    let revoke = |emergency, at| {
        move |set: &KeySet| {
            let current = set.current().unwrap().kid;
            set.revoke(at, current, emergency, forced, "drill").unwrap().unwrap()
        }
    };
    steps.push(Box::new(revoke(Emergency::Promote, at(23))));
    steps.push(Box::new(|set| set.mend(at(24), Place::Next, fresh(set, 5)).unwrap()));
    steps.push(Box::new(revoke(Emergency::ReplaceNext, at(25))));
    steps.push(Box::new(|set| set.mend(at(26), Place::Current, fresh(set, 6)).unwrap()));
    steps.push(Box::new(|set| set.destroyed(at(27), kid(5)).unwrap()));
    let mut revision = set.revision;
    for step in steps {
        let after = step(&set);
        set = commit(&*store, Some(&set), &after).await.unwrap();
        assert!(set.revision > revision);
        revision = set.revision;
        assert_eq!(loaded(&*store, "default").await, Some(set.clone()));
        assert_eq!(store.load().await.unwrap().revision, revision);
    }
    let destroyed = store.key(&set.id, &kid(5)).await.unwrap().unwrap();
    assert_eq!(destroyed.state.name(), StateName::Destroyed);
    assert!(set.key(&kid(5)).is_none());
}

pub(crate) async fn a_change_thought_out_on_an_older_revision_is_refused_whole(bed: &impl Bed) {
    let store = bed.open().await;
    let old = with_two_keys(&*store, "default").await;
    let mut after = old.clone();
    after.service = Service::Disabled;
    let new = commit(&*store, Some(&old), &after).await.unwrap();
    let trail = store.audit_trail(0, 100).await.unwrap().len();

    let mut late = old.clone();
    late.rotation_hold = Hold::On;
    let error = commit(&*store, Some(&old), &late).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(loaded(&*store, "default").await, Some(new));
    assert_eq!(store.audit_trail(0, 100).await.unwrap().len(), trail);

    let mut unknown = key_set("unknown", Algorithm::Es256);
    unknown.revision = 1;
    let error = commit(&*store, Some(&unknown), &unknown).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
}

pub(crate) async fn of_two_changes_on_one_revision_exactly_one_wins(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = with_two_keys(&*store, "default").await;
    for round in 0..50_u64 {
        let racers = [Hold::On, Hold::Off].map(|hold| {
            let (store, before) = (store.clone(), set.clone());
            tokio::spawn(async move {
                let mut after = before.clone();
                after.rotation_hold = hold;
                commit(&*store, Some(&before), &after).await
            })
        });
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                Ok(after) => winners.push(after),
                Err(error) => assert_eq!(error.kind, Kind::Conflict, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(loaded(&*store, "default").await.as_ref(), winners.first());
        set = winners.remove(0);
    }
    assert_eq!(store.audit_trail(0, 100).await.unwrap().len(), 51);
}

pub(crate) async fn a_name_is_used_once_even_after_deletion(bed: &impl Bed) {
    let store = bed.open().await;
    let set = key_set("default", Algorithm::Es256);
    let made = commit(&*store, None, &set).await.unwrap();
    let again = commit(&*store, None, &set).await.unwrap_err();
    assert_eq!(again.kind, Kind::KeySetExists);

    let mut deleted = made.clone();
    deleted.service = Service::Deleted;
    let deleted = commit(&*store, Some(&made), &deleted).await.unwrap();
    assert_eq!(loaded(&*store, "default").await, None);
    assert_eq!(
        store.key_set(&set.id).await.unwrap(),
        Some(deleted),
        "a deleted set can still be read by name"
    );
    let again = commit(&*store, None, &set).await.unwrap_err();
    assert_eq!(again.kind, Kind::KeySetExists);
}

pub(crate) async fn a_deleted_set_is_loaded_while_it_has_material(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::Es256);
    set.service = Service::Deleted;
    let retired = previous().retire(at(4), at(5)).unwrap();
    set.keys = vec![Arc::new(key(&set, 1, retired))];
    let set = commit(&*store, None, &set).await.unwrap();
    assert_eq!(loaded(&*store, "default").await, Some(set.clone()));
    let after = set.destroyed(at(6), kid(1)).unwrap();
    commit(&*store, Some(&set), &after).await.unwrap();
    assert_eq!(loaded(&*store, "default").await, None);
}

pub(crate) async fn a_public_key_is_registered_once(bed: &impl Bed) {
    let store = bed.open().await;
    let first = with_two_keys(&*store, "first").await;
    let mut second = key_set("second", Algorithm::Es256);
    let mut twin = key(&second, 1, next());
    twin.material = material(9);
    second.keys = vec![Arc::new(twin)];
    let error = commit(&*store, None, &second).await.unwrap_err();
    assert_eq!(error.kind, Kind::PublicKeyInUse);
    assert_eq!(loaded(&*store, "second").await, None);
    assert_eq!(store.load().await.unwrap().revision, first.revision);
}

pub(crate) async fn what_no_operation_does_is_refused_and_changes_nothing(bed: &impl Bed) {
    let store = bed.open().await;
    let before = with_two_keys(&*store, "default").await;
    let edits: [fn(&mut KeySet); 6] = [
        |set| set.keys.truncate(1),
        |set| set.issuer = "https://other.example/".parse().unwrap(),
        |set| set.created = at(99),
        |set| Arc::make_mut(&mut set.keys[0]).certificate = vec![1],
        |set| Arc::make_mut(&mut set.keys[1]).state = current(),
        |set| Arc::make_mut(&mut set.keys[0]).key_set = "other".parse().unwrap(),
    ];
    for edit in edits {
        let mut after = before.clone();
        edit(&mut after);
        let error = store.commit(&change(Some(&before), &after)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert_eq!(loaded(&*store, "default").await, Some(before.clone()));
    }
}

pub(crate) async fn two_new_keys_for_one_place_are_refused(bed: &impl Bed) {
    let store = bed.open().await;
    let before = with_two_keys(&*store, "default").await;
    for (number, state) in [(3, next()), (4, current())] {
        let mut after = before.clone();
        after.keys.push(Arc::new(key(&before, number, state.clone())));
        let error = commit(&*store, Some(&before), &after).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert_eq!(loaded(&*store, "default").await, Some(before.clone()));
    }
}

pub(crate) async fn two_currents_or_two_nexts_are_impossible_even_behind_its_back(bed: &impl Bed) {
    let store = bed.open().await;
    let before = with_two_keys(&*store, "default").await;
    let (one, two) = (kid(1), kid(2));
    for sql in [
        format!(
            "UPDATE keys SET state = 'current', propagation_delay_us = NULL, token_ttl_us = 1, \
             current_since_us = 1 WHERE kid = '{two}'"
        ),
        format!(
            "UPDATE keys SET state = 'next', token_ttl_us = NULL, current_since_us = NULL, \
             propagation_delay_us = 1 WHERE kid = '{one}'"
        ),
    ] {
        let refused = bed.raw(&sql).await.unwrap_err();
        assert!(refused.to_lowercase().contains("unique"), "{refused}");
    }
    assert_eq!(loaded(&*store, "default").await, Some(before));
}

pub(crate) async fn what_is_not_in_an_enumeration_is_impossible_even_behind_its_back(
    bed: &impl Bed,
) {
    let store = bed.open().await;
    with_two_keys(&*store, "default").await;
    for sql in [
        "UPDATE keys SET state = 'pending'",
        "UPDATE keys SET algorithm = 'HS256'",
        "UPDATE keys SET current_since_us = NULL WHERE state = 'current'",
        "UPDATE key_sets SET service = 'off'",
        "UPDATE key_sets SET rsa_bits = 1024",
        "DELETE FROM key_sets",
    ] {
        assert!(bed.raw(sql).await.is_err(), "{sql}");
    }
}

pub(crate) async fn pages_of_keys_are_newest_first_without_gap_or_repetition(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::Es256);
    // Pairs of one age; 0xfb and 0xfc differ in the last characters of base64url's alphabet, which
    // ASCII has in another order.
    let numbers = [1, 2, 3, 4, 5, 6, 0xe0, 0xfb, 0xfc, 0xff];
    for (place, number) in (0..).zip(numbers) {
        let mut made = key(&set, number, previous());
        made.created = at(place / 2);
        if number == 6 {
            made.state = previous().retire(at(4), at(5)).unwrap();
        }
        set.keys.push(Arc::new(made));
    }
    commit(&*store, None, &set).await.unwrap();
    let mut expected: Vec<Key> = set.keys.iter().map(|key| Key::clone(key)).collect();
    expected.retain(|key| key.state.name() == StateName::Previous);
    expected.sort_by_key(|key| std::cmp::Reverse((key.created, key.kid)));

    for size in [1, 2, 3, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.keys(&set.id, &[StateName::Previous], after, size).await.unwrap();
            assert!(page.len() <= size as usize);
            let Some(last) = page.last() else { break };
            after = Some((last.created, last.kid));
            found.extend(page);
        }
        assert_eq!(found, expected, "pages of {size}");
    }
    let both = [StateName::Previous, StateName::Retired];
    let all = store.keys(&set.id, &both, None, 100).await.unwrap();
    assert_eq!(all.len(), numbers.len());
    assert!(store.keys(&set.id, &[], None, 100).await.unwrap().is_empty());
    let other = "other".parse().unwrap();
    assert!(store.keys(&other, &both, None, 100).await.unwrap().is_empty());
}

pub(crate) async fn revisions_rise_over_reopening_and_over_key_sets(bed: &impl Bed) {
    let mut last = 0;
    for round in 0..3 {
        let store = bed.open().await;
        assert_eq!(store.load().await.unwrap().revision, last);
        for id in ["a", "b"] {
            let set = key_set(&format!("{id}-{round}"), Algorithm::EdDsa);
            let revision = store.commit(&change(None, &set)).await.unwrap();
            assert!(revision > last);
            last = revision;
        }
        store.close().await;
    }
}

pub(crate) async fn a_change_dropped_at_any_point_happens_whole_or_not_at_all(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = with_two_keys(&*store, "default").await;
    let (mut nothing, mut whole) = (0, 0);
    let mut polls = 0;
    for number in 3.. {
        let new = key(&set, number, next());
        let mut after = set.rotate(at(20), Approval::Forced, Some(new)).unwrap();
        after.undo = None;
        let new = after.keys.last().unwrap().clone();
        store.reserve(&reservation(&new)).await.unwrap();
        let trail = store.audit_trail(0, 1000).await.unwrap().len();
        let done = polled(store.commit(&change(Some(&set), &after)), polls).await;
        // A write of its own waits until whatever was under way has ended.
        store.probe().await.unwrap();
        let found = loaded(&*store, "default").await.unwrap();
        let image = store.load().await.unwrap();
        let records = store.audit_trail(0, 1000).await.unwrap().len() - trail;
        if found.revision == set.revision {
            assert!(done.is_none());
            assert_eq!(found, set);
            assert_eq!((image.revision, records), (set.revision, 0));
            assert_eq!(image.reserved.len(), 1);
            store.abandon(new.material).await.unwrap();
            store.forget(new.material).await.unwrap();
            nothing += 1;
        } else {
            assert_eq!(found, as_stored(&after, found.revision));
            assert_eq!((image.revision, records), (found.revision, 1));
            assert!(image.reserved.is_empty());
            set = found;
            whole += 1;
        }
        match done {
            None => polls += 1,
            Some(_) if nothing > 3 => break,
            // An engine that answers at once leaves few points; once more from the first.
            Some(_) => polls = 0,
        }
    }
    assert!(whole > 0);
}

/// The future's output, unless it is pending more than `polls` times: then it is dropped.
pub(super) async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
        std::task::Poll::Pending => {
            left -= 1;
            std::task::Poll::Pending
        }
    })
    .await
}

pub(crate) async fn a_key_that_is_destroyed_keeps_its_history(bed: &impl Bed) {
    let store = bed.open().await;
    let mut set = key_set("default", Algorithm::Rs256);
    let revoked = previous().revoke(at(4), "stolen".to_owned(), at(5)).unwrap();
    set.keys = vec![Arc::new(key(&set, 1, revoked))];
    let set = commit(&*store, None, &set).await.unwrap();
    let after = set.destroyed(at(6), kid(1)).unwrap();
    let mut destroying = change(Some(&set), &after);
    destroying.record = record(&after, Action::Destroy);
    let revision = store.commit(&destroying).await.unwrap();
    assert_eq!(store.key_set(&set.id).await.unwrap(), Some(as_stored(&after, revision)));
    let kept = store.key(&set.id, &kid(1)).await.unwrap().unwrap();
    assert_eq!(kept, Key::clone(&after.keys[0]));
    assert!(matches!(kept.state, State::Destroyed { revoked: Some(_), .. }));
    // The set as the caller may hold it, destroyed key included, can be changed further.
    let mut held = after.clone();
    held.revision = revision;
    let mut disabled = held.clone();
    disabled.service = Service::Disabled;
    store.commit(&change(Some(&held), &disabled)).await.unwrap();
}
