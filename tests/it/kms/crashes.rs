//! A process that dies at every step of a change, with its keys in KMS: at each call to KMS, before
//! and after KMS has carried it out, and at each act on store and backend. The next life leaves no
//! key that nobody can explain, and pays for none that it does not need (invariant 7).

use crate::crash::Verb;
use crate::harness::eventually;
use crate::harness::fault_proxy::Fault;
use crate::harness::fuse::{Fuse, Moment};
use crate::harness::kms::{open, settings};
use crate::harness::ministack::Account;
use crate::harness::ring::{Life, World, verifies};
use futures_util::future::join_all;
use signkeep::backend::aws_kms::{AwsKmsBackend, Settings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The verbs that make keys or end them.
fn verbs() -> impl Iterator<Item = Verb> {
    Verb::ALL.into_iter().chain([Verb::Delete])
}

/// When the process dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// At its n-th call to KMS, which KMS does not carry out.
    BeforeCall(usize),
    /// At its n-th call to KMS, which KMS carries out.
    AfterCall(usize),
    /// At its n-th act on store or backend.
    Act(usize, Moment),
}

/// Whether the process died before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Died,
    Done,
}

/// Minutes become moments.
pub(super) fn brisk(account: &Account) -> Settings {
    Settings {
        patience: Duration::from_secs(5),
        absence: Duration::from_millis(300),
        // A dead process waits for nothing.
        attempt_timeout: Duration::from_secs(30),
        operation_timeout: Duration::from_secs(30),
        ..settings(account)
    }
}

async fn live_and_die(verb: Verb, death: Death) -> End {
    let place = format!("{verb:?}, {death:?}");
    let account = Account::fresh().await;
    let world = World::on(Arc::new(open(brisk(&account)).await)).await;
    verb.prepare(&world.life().await).await;
    let before = account.keys().await.len();
    account.proxy.forget();
    let end = one_life(verb, death, &account, &world).await;
    let lost = account.keys().await.len() - before;
    account.proxy.mend();

    // A dead process writes nothing more; the store of this one may still be writing.
    world.store.settle().await.unwrap();
    let world = world.with(Arc::new(open(brisk(&account)).await));
    let life = world.life().await;
    eventually(&format!("{place}: nothing is left to mend"), Duration::from_secs(30), async || {
        world.clock.advance(Duration::from_secs(120));
        life.ring.tick().await;
        let image = world.store.load().await.unwrap();
        let whole = image.key_sets.iter().all(|set| is_deleted(verb) || !set.missing().any());
        let mut keys = image.key_sets.iter().flat_map(|set| &set.keys);
        let ended = keys.all(|key| key.state.name().is_published());
        let none_left = image.reserved.is_empty() && image.abandoned.is_empty();
        (none_left && whole && ended).then_some(())
    })
    .await;
    if is_deleted(verb) {
        // Whoever is not sure asks again.
        verb.run(&life).await;
        assert!(life.ring.key_sets(None, 10).is_empty(), "{place}: it is not deleted");
        every_key_is_explained(&account, &world, &life, &place).await;
        assert_eq!(account.keys().await.len(), before, "{place}: keys were made");
        return end;
    }
    if life.ring.key_sets(None, 10).is_empty() {
        assert!(matches!(verb, Verb::Create), "{place}: the key set is lost");
        life.create().await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    let signed = life.sign(b"after").await.unwrap();
    assert!(verifies(&life.set(), &signed, b"after"), "{place}: it does not verify");
    every_key_is_explained(&account, &world, &life, &place).await;

    // Keys were made for the change that died, and once more at most.
    let made = account.keys().await.len() - before;
    let needed = if matches!(verb, Verb::Create | Verb::ReplaceBoth) { 2 } else { 1 };
    assert!(made <= lost + needed, "{place}: {made} keys made, {lost} of them for the dead");
    assert!(lost <= needed, "{place}: {lost} keys made before the end");
    end
}

fn is_deleted(verb: Verb) -> bool {
    matches!(verb, Verb::Delete)
}

/// A process: a runtime of its own, which is gone with all that it does.
async fn one_life(
    verb: Verb,
    death: Death,
    account: &Account,
    world: &World<AwsKmsBackend>,
) -> End {
    let fuse = match death {
        Death::BeforeCall(call) => {
            account.proxy.nth("*", call, Fault::Hang);
            Fuse::none()
        }
        Death::AfterCall(call) => {
            account.proxy.nth("*", call, Fault::HangAfter);
            Fuse::none()
        }
        Death::Act(act, moment) => Fuse::new(act, moment),
    };
    let doomed = process();
    let (settings, world) = (brisk(account), world.with(Arc::clone(&world.vault)));
    let running = {
        let fuse = Arc::clone(&fuse);
        doomed.spawn(async move {
            let world = world.with(Arc::new(open(settings).await));
            verb.run(&world.life_with(&fuse).await).await;
        })
    };
    let end = tokio::select! {
        outcome = running => {
            outcome.unwrap();
            End::Done
        }
        () = fuse.blown() => End::Died,
        () = account.proxy.strikes() => End::Died,
    };
    doomed.shutdown_background();
    end
}

fn process() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn every_key_is_explained(
    account: &Account,
    world: &World<AwsKmsBackend>,
    life: &Life,
    place: &str,
) {
    let image = world.store.load().await.unwrap();
    let rows = image.key_sets.iter().flat_map(|set| &set.keys);
    let wanted: BTreeSet<String> = rows
        .filter(|key| key.state.name().is_published())
        .map(|key| key.material.to_string())
        .collect();
    let mut enabled = BTreeSet::new();
    for id in account.keys_in("Enabled").await {
        let tags = account.tags(&id).await;
        enabled.insert(tags["signkeep:material"].clone());
    }
    assert_eq!(enabled, wanted, "{place}: what is enabled, and what is wanted");
    let left = account.keys().await.into_values().filter(|key| key["KeyState"] == "Disabled");
    assert_eq!(left.count(), 0, "{place}: keys are disabled, and paid for");
    let survey = life.ring.survey().await.unwrap();
    assert_eq!(
        (survey.unexplained.len(), survey.absent.len()),
        (0, 0),
        "{place}: something is unexplained"
    );
}

/// Dies at step 1, 2, … until the change is done before it dies; several at a time.
async fn die_at_every_step(verb: Verb, death: fn(usize) -> Death) -> usize {
    const AT_ONCE: usize = 6;
    let mut from = 1;
    loop {
        let steps = (from..from + AT_ONCE).map(|step| live_and_die(verb, death(step)));
        let ends = join_all(steps).await;
        let done = ends.into_iter().filter(|end| *end == End::Done).count();
        from += AT_ONCE;
        if done > 0 {
            return from - 1 - done;
        }
        assert!(from < 100, "{verb:?} never ends");
    }
}

#[tokio::test]
async fn a_crash_at_any_call_to_kms_leaves_no_stray_key() {
    for verb in verbs() {
        let before = die_at_every_step(verb, Death::BeforeCall).await;
        let after = die_at_every_step(verb, Death::AfterCall).await;
        assert!(before > 3 && after > 3, "{verb:?} has hardly any calls: {before}, {after}");
    }
}

#[tokio::test]
async fn a_crash_between_kms_and_the_store_leaves_no_stray_key() {
    for verb in verbs() {
        let before = die_at_every_step(verb, |step| Death::Act(step, Moment::Before)).await;
        let after = die_at_every_step(verb, |step| Death::Act(step, Moment::After)).await;
        assert!(before > 3 && after > 3, "{verb:?} has hardly any acts: {before}, {after}");
    }
}

#[tokio::test]
async fn a_key_that_shows_only_after_the_next_start_is_found_and_ended() {
    let account = Account::fresh().await;
    let patient = |account: &Account| Settings {
        absence: Duration::from_secs(3),
        patience: Duration::from_secs(10),
        ..brisk(account)
    };
    let world = World::on(Arc::new(open(patient(&account)).await)).await;
    account.proxy.youth(Duration::from_secs(2));
    account.proxy.nth("CreateKey", 1, Fault::HangAfter);
    let doomed = process();
    let (settings, in_it) = (patient(&account), world.with(Arc::clone(&world.vault)));
    doomed.spawn(async move {
        let world = in_it.with(Arc::new(open(settings).await));
        drop(world.life().await.create().await);
    });
    account.proxy.strikes().await;
    doomed.shutdown_background();

    let world = world.with(Arc::new(open(patient(&account)).await));
    let life = world.life().await;
    let marked = world.store.load().await.unwrap().abandoned.len();
    assert!(marked > 0, "forgotten before it could be known that nothing is there");
    eventually("the late key is ended", Duration::from_secs(30), async || {
        world.clock.advance(Duration::from_secs(120));
        life.ring.tick().await;
        world.store.load().await.unwrap().abandoned.is_empty().then_some(())
    })
    .await;
    let keys = account.keys().await;
    assert!(!keys.is_empty());
    assert!(keys.values().all(|key| key["KeyState"] == "PendingDeletion"), "{keys:?}");
}
