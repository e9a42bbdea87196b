//! What is kept beside keys: reservations, answers, refused PINs.

use super::Bed;
use crate::harness::store::{
    answer, at, change, commit, key, key_set, kid, material, next, reservation, with_two_keys,
};
use signkeep::key::{Algorithm, Hold, KeySet};
use signkeep::store::{Answer, Kind, RequestKey};
use std::sync::Arc;

fn one_key(number: u8) -> KeySet {
    let mut set = key_set("default", Algorithm::Es256);
    set.keys = vec![Arc::new(key(&set, number, next()))];
    set
}

pub(crate) async fn a_reservation_stays_until_its_key_is_published(bed: &impl Bed) {
    let store = bed.open().await;
    let set = one_key(1);
    let reserved = reservation(&set.keys[0]);
    store.reserve(&reserved).await.unwrap();
    let twice = store.reserve(&reserved).await.unwrap_err();
    assert_eq!(twice.kind, Kind::Conflict);
    store.close().await;
    drop(store);

    let store = bed.open().await;
    let kept = store.load().await.unwrap().reserved;
    assert_eq!(kept, std::slice::from_ref(&reserved));
    store.commit(&change(None, &set)).await.unwrap();
    assert!(store.load().await.unwrap().reserved.is_empty());
    let used = store.reserve(&reserved).await.unwrap_err();
    assert_eq!(used.kind, Kind::Conflict);
}

pub(crate) async fn a_key_without_a_reservation_of_its_own_is_not_published(bed: &impl Bed) {
    let store = bed.open().await;
    let set = one_key(1);
    let error = store.commit(&change(None, &set)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    let mut other = reservation(&set.keys[0]);
    other.key_set = "other".parse().unwrap();
    store.reserve(&other).await.unwrap();
    let error = store.commit(&change(None, &set)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    let image = store.load().await.unwrap();
    assert_eq!((image.revision, image.key_sets.len()), (0, 0));
    assert_eq!(image.reserved, [other]);
}

pub(crate) async fn abandoned_material_is_never_published(bed: &impl Bed) {
    let store = bed.open().await;
    let set = one_key(1);
    let reserved = reservation(&set.keys[0]);
    store.reserve(&reserved).await.unwrap();
    store.abandon(material(1)).await.unwrap();
    store.abandon(material(1)).await.unwrap();
    let image = store.load().await.unwrap();
    assert!(image.reserved.is_empty());
    assert_eq!(image.abandoned, std::slice::from_ref(&reserved));
    let error = store.commit(&change(None, &set)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(store.reserve(&reserved).await.unwrap_err().kind, Kind::Conflict);

    store.forget(material(1)).await.unwrap();
    store.forget(material(1)).await.unwrap();
    assert!(store.load().await.unwrap().abandoned.is_empty());
    let error = store.commit(&change(None, &set)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
}

pub(crate) async fn published_material_cannot_be_abandoned(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    let error = store.abandon(material(1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    store.forget(material(1)).await.unwrap();
    assert!(store.key(&set.id, &kid(1)).await.unwrap().is_some());
}

pub(crate) async fn wanted_material_cannot_be_forgotten(bed: &impl Bed) {
    let store = bed.open().await;
    let reserved = reservation(&one_key(1).keys[0]);
    store.reserve(&reserved).await.unwrap();
    let error = store.forget(material(1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(store.load().await.unwrap().reserved, [reserved]);
}

pub(crate) async fn material_that_nobody_reserved_can_be_abandoned_and_forgotten(bed: &impl Bed) {
    let store = bed.open().await;
    store.abandon(material(1)).await.unwrap();
    store.forget(material(1)).await.unwrap();
    let image = store.load().await.unwrap();
    assert!(image.reserved.is_empty() && image.abandoned.is_empty());
}

pub(crate) async fn an_answer_is_kept_with_its_change(bed: &impl Bed) {
    let store = bed.open().await;
    let set = key_set("default", Algorithm::Es256);
    let mut creating = change(None, &set);
    let given = answer("a", at(10));
    creating.answer = Some(given.clone());
    let revision = store.commit(&creating).await.unwrap();
    let given = Answer { revision, ..given };
    let found = store.answer(&given.request, at(9)).await.unwrap();
    assert_eq!(found, Some(given.clone()));
    assert_eq!(store.answer(&given.request, at(10)).await.unwrap(), None);
    for (caller, request_id) in [("operator", "b"), ("other", "a")] {
        let request = RequestKey { caller: caller.to_owned(), request_id: request_id.to_owned() };
        assert_eq!(store.answer(&request, at(0)).await.unwrap(), None);
    }

    // The same request id again: neither the change nor its record happens.
    let mut before = set.clone();
    before.revision = revision;
    let mut after = before.clone();
    after.rotation_hold = Hold::On;
    let mut repeated = change(Some(&before), &after);
    repeated.answer = Some(answer("a", at(20)));
    let error = store.commit(&repeated).await.unwrap_err();
    assert_eq!(error.kind, Kind::RequestAnswered);
    assert_eq!(store.key_set(&set.id).await.unwrap(), Some(before));
    assert_eq!(store.audit_trail(0, 10).await.unwrap().len(), 1);

    store.drop_answers(at(10)).await.unwrap();
    let found = store.answer(&given.request, at(9)).await.unwrap();
    assert_eq!(found, Some(given.clone()));
    store.drop_answers(at(11)).await.unwrap();
    assert_eq!(store.answer(&given.request, at(9)).await.unwrap(), None);
    store.commit(&repeated).await.unwrap();
}

pub(crate) async fn a_refused_pin_is_remembered_by_token_over_reopening(bed: &impl Bed) {
    let store = bed.open().await;
    assert_eq!(store.refused_pin("0042").await.unwrap(), None);
    store.set_refused_pin("0042", Some("one")).await.unwrap();
    store.set_refused_pin("0042", Some("two")).await.unwrap();
    store.close().await;
    drop(store);
    let store = bed.open().await;
    let remembered = store.refused_pin("0042").await.unwrap();
    assert_eq!(remembered.as_deref(), Some("two"));
    assert_eq!(store.refused_pin("0043").await.unwrap(), None);
    store.set_refused_pin("0042", None).await.unwrap();
    store.set_refused_pin("0042", None).await.unwrap();
    assert_eq!(store.refused_pin("0042").await.unwrap(), None);
}

pub(crate) async fn an_answer_to_what_changed_nothing_is_kept_at_its_revision(bed: &impl Bed) {
    let store = bed.open().await;
    let given = Answer { revision: 41, ..answer("nothing", at(10)) };
    store.keep_answer(&given).await.unwrap();
    assert_eq!(store.answer(&given.request, at(9)).await.unwrap(), Some(given.clone()));
    let again = store.keep_answer(&given).await.unwrap_err();
    assert_eq!(again.kind, Kind::RequestAnswered);
    store.settle().await.unwrap();
}

pub(crate) async fn reservations_are_listed_by_key_set_the_oldest_first(bed: &impl Bed) {
    let store = bed.open().await;
    let set = key_set("default", Algorithm::Es256);
    let mut reserved = Vec::new();
    for number in [3, 1, 2] {
        let mut one = reservation(&key(&set, number, next()));
        one.reserved = at(i64::from(number));
        store.reserve(&one).await.unwrap();
        reserved.push(one);
    }
    store.abandon(material(2)).await.unwrap();
    reserved.sort_by_key(|one| one.reserved);
    reserved.retain(|one| one.material != material(2));
    assert_eq!(store.reserved(&set.id, 9).await.unwrap(), reserved);
    assert_eq!(store.reserved(&set.id, 1).await.unwrap(), reserved[..1]);
    assert_eq!(store.reserved(&"other".parse().unwrap(), 9).await.unwrap(), []);
}

pub(crate) async fn a_closed_store_answers_unavailable(bed: &impl Bed) {
    let store = bed.open().await;
    let set = with_two_keys(&*store, "default").await;
    store.close().await;
    store.close().await;
    assert_eq!(store.load().await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(store.probe().await.unwrap_err().kind, Kind::Unavailable);
    let error = commit(&*store, Some(&set), &set).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}
