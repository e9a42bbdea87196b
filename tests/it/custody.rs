//! Whose word counts when something is in doubt: lost answers, late callers, repeats.

use crate::harness::fuse::{Fuse, Lost};
use crate::harness::ring::{Life, World, context, tester};
use signkeep::jose::Members;
use signkeep::key::{Approval, Emergency, KeySet, Refusal, Service, State, StateName, later};
use signkeep::keyring::{Changed, Context, Error, PolicyUpdate, SignJwt, Update};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A life whose commits can lose their answers.
async fn doubtful() -> (World, Life, Arc<Fuse>) {
    let world = World::new().await;
    let fuse = Fuse::none();
    let life = world.life_with(&fuse).await;
    life.create().await.unwrap();
    (world, life, fuse)
}

fn late_by(wait: Duration) -> Context {
    Context { deadline: Instant::now() + wait, ..context(None) }
}

async fn serve(life: &Life, id: Option<&str>, service: Service) -> Result<Changed, Error> {
    life.ring.set_service(context(id), life.id.clone(), service, String::new()).await
}

#[tokio::test]
async fn a_repeat_of_a_revocation_whose_answer_was_lost_is_confirmed_only_once_it_holds() {
    for lost in [Lost::Landed, Lost::Landing] {
        let (_world, life, fuse) = doubtful().await;
        let old = life.current();
        fuse.lose_next_commit(lost);
        let ask = || life.ring.revoke(context(Some("r")), life.revocation(old, Emergency::Promote));
        assert!(matches!(ask().await, Err(Error::Store(_))));
        let again = ask().await.unwrap();
        assert!(again.replayed, "{lost:?}");
        assert_ne!(life.sign(b"x").await.unwrap().kid, old, "{lost:?}");
        assert!(life.set().published().iter().all(|key| key.kid != old), "{lost:?}");
    }
}

#[tokio::test]
async fn a_commit_that_lands_late_is_seen_by_the_rotator() {
    let (world, life, fuse) = doubtful().await;
    let old = life.current();
    fuse.lose_next_commit(Lost::Landing);
    assert!(life.rotate().await.is_err());
    life.ring.tick().await;
    assert_ne!(life.current(), old);
    let sign = SignJwt {
        key_set: life.id.clone(),
        claims: Members::default(),
        typ: None,
        header: Members::default(),
        lifetime: None,
        lifetime_usual_max: None,
    };
    let jwt = life
        .ring
        .sign_jwt(&tester(), late_by(Duration::from_secs(9)).deadline, sign)
        .await
        .unwrap();
    assert_ne!(jwt.kid, old);
    let stored = world.store.key_set(&life.id).await.unwrap().unwrap();
    assert_eq!(stored.revision, life.set().revision);
}

#[tokio::test]
async fn a_commit_that_never_landed_leaves_neither_reservation_nor_material() {
    let (world, life, fuse) = doubtful().await;
    fuse.lose_next_commit(Lost::Failed);
    assert!(life.rotate().await.is_err());
    life.ring.tick().await;
    let image = world.store.load().await.unwrap();
    assert_eq!((image.reserved.len(), image.abandoned.len()), (0, 0));
    assert_eq!(world.vault.materials().len(), 2);
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_learned() {
    let (_world, life, fuse) = doubtful().await;
    life.revoke(life.current(), Emergency::ReplaceNext).await.unwrap();
    serve(&life, None, Service::Disabled).await.unwrap();
    life.ring.tick().await;
    assert!(life.set().keys.is_empty(), "their material is destroyed");
    fuse.lose_next_commit(Lost::Landed);
    assert!(serve(&life, None, Service::Deleted).await.is_err());
    life.ring.tick().await;
    assert!(matches!(life.ring.key_set(&life.id), Err(Error::KeySetNotFound { .. })));
}

#[tokio::test]
async fn a_deletion_can_be_repeated() {
    let (_world, life, _) = doubtful().await;
    life.revoke(life.current(), Emergency::ReplaceNext).await.unwrap();
    serve(&life, None, Service::Disabled).await.unwrap();
    assert!(!serve(&life, Some("d"), Service::Deleted).await.unwrap().replayed);
    assert!(serve(&life, Some("d"), Service::Deleted).await.unwrap().replayed);
    let rotation = life.ring.rotate(context(None), life.rotation(Approval::Forced)).await;
    assert!(matches!(rotation, Err(Error::KeySetNotFound { .. })), "{rotation:?}");
}

#[tokio::test]
async fn a_repeat_of_what_was_already_so_changes_nothing_either() {
    let (_world, life, _) = doubtful().await;
    serve(&life, None, Service::Disabled).await.unwrap();
    serve(&life, Some("x"), Service::Disabled).await.unwrap();
    serve(&life, None, Service::Enabled).await.unwrap();
    let again = serve(&life, Some("x"), Service::Disabled).await.unwrap();
    assert!(again.replayed);
    assert_eq!(life.set().service, Service::Enabled);
}

#[tokio::test]
async fn a_replay_carries_the_revision_of_the_first_answer() {
    let (_world, life, _) = doubtful().await;
    let ttl = |seconds| Update {
        policy: PolicyUpdate {
            max_token_ttl: Some(Duration::from_secs(seconds)),
            ..PolicyUpdate::default()
        },
        ..Update::default()
    };
    let update = |id, seconds| life.ring.update(context(id), life.id.clone(), ttl(seconds));
    let first = update(Some("a"), 3_600).await.unwrap();
    update(None, 7_200).await.unwrap();
    let again = update(Some("a"), 3_600).await.unwrap();
    assert_eq!(again.key_set.revision, first.key_set.revision);
    assert_eq!(again.barrier.revision, first.barrier.revision);
    assert_eq!(again.key_set.policy, first.key_set.policy);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_done_later() {
    let (world, life, _) = doubtful().await;
    let first = life.current();
    world.vault.hold_generations().await;
    for _ in 0..5 {
        let context = late_by(Duration::from_millis(20));
        let late = life.ring.rotate(context, life.rotation(Approval::Forced)).await;
        let committed = Some(false);
        assert!(matches!(late, Err(Error::DeadlineExceeded { committed: c }) if c == committed));
    }
    world.vault.let_generate();
    life.ring.settled().await;
    assert_eq!(life.current(), first);
    life.ring.tick().await;
    assert_eq!(world.vault.materials().len(), 2, "and nothing of it is left");
}

#[tokio::test]
async fn rotations_that_wait_for_the_vault_keep_no_revocation_waiting() {
    let (world, life, _) = doubtful().await;
    world.vault.hold_generations().await;
    let rotate = |_| {
        let life = life.clone();
        tokio::spawn(async move { life.rotate().await.map(drop) })
    };
    let rotations: Vec<_> = (0..300).map(rotate).collect();
    let refused = async {
        let mut refused = 0;
        for rotation in rotations {
            // Those that found a place wait; the others have been refused at once.
            let ended = tokio::time::timeout(Duration::from_millis(1), rotation).await;
            refused += usize::from(matches!(ended, Ok(Ok(Err(Error::Overloaded)))));
        }
        refused
    };
    assert!(refused.await > 200, "there is a bound");
    life.revoke(life.current(), Emergency::Promote).await.unwrap();
    world.vault.let_generate();
}

#[tokio::test]
async fn an_emergency_does_not_let_a_key_live_that_was_revoked_without_one() {
    let world = World::new().await;
    let life = world.life().await;
    let mut creation = life.creation();
    creation.policy.destroy_after = Duration::from_secs(7 * 86_400);
    life.ring.create(context(None), creation).await.unwrap();
    let old = life.current();
    life.rotate().await.unwrap();
    life.revoke(old, Emergency::No).await.unwrap();
    life.ring.tick().await;
    assert_eq!(state(&life.set(), old).name(), StateName::Revoked);
    life.revoke(old, Emergency::Promote).await.unwrap();
    life.ring.tick().await;
    let key = life.ring.key(&life.id, &old).await.unwrap();
    assert_eq!(key.state.name(), StateName::Destroyed);
}

#[tokio::test]
async fn replace_next_is_refused_where_the_next_key_has_no_part() {
    let (_world, life, _) = doubtful().await;
    let refused = life.revoke(life.next(), Emergency::ReplaceNext).await;
    match refused {
        Err(Error::Invalid { fields }) => assert_eq!(fields[0].field, "replace_next"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rollback_restores_the_key_that_the_rotation_took_out_even_if_the_clock_stood_still() {
    let (_world, life, _) = doubtful().await;
    life.rotate().await.unwrap();
    life.rotate().await.unwrap();
    let expected = life.current();
    life.rotate().await.unwrap();
    life.roll_back().await.unwrap();
    assert_eq!(life.current(), expected);
}

#[tokio::test]
async fn a_rotation_that_is_due_and_held_is_tried_and_counted() {
    let (world, life, _) = doubtful().await;
    let period = PolicyUpdate {
        rotation_period: Some(Some(Duration::from_secs(3_600))),
        ..PolicyUpdate::default()
    };
    let update = Update { policy: period, ..Update::default() };
    life.ring.update(context(None), life.id.clone(), update).await.unwrap();
    life.rotate().await.unwrap();
    life.roll_back().await.unwrap();
    let current = life.current();
    world.clock.advance(Duration::from_secs(3_600));
    life.ring.tick().await;
    assert_eq!(life.current(), current);
    let metrics = world.metrics.encode().unwrap();
    let line = r#"signkeep_due_failed_total{key_set="default",action="rotate"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_key_that_was_retired_does_not_live_longer_for_being_revoked() {
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let day = Duration::from_secs(86_400);
    let next = State::published(now, day);
    let retired = next.retire(now, later(now, day)).unwrap();
    let revoked = retired.revoke(later(now, day / 2), String::new(), later(now, 9 * day)).unwrap();
    match revoked {
        State::Revoked { destroy_due, .. } => assert_eq!(destroy_due, later(now, day)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_service_does_not_start_with_a_jwks_that_outlives_a_propagation_delay() {
    let (world, _life, _) = doubtful().await;
    let refused = world.start_with_max_age(Duration::from_secs(3_600)).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("default") && text.contains("max_age"), "{text}");
}

fn state(set: &KeySet, kid: signkeep::key::Kid) -> State {
    set.key(&kid).unwrap().state.clone()
}

#[tokio::test]
async fn keys_whose_material_is_gone_are_reported() {
    use signkeep::backend::Backend;
    let (world, life, _) = doubtful().await;
    let current = life.set().current().unwrap().clone();
    life.ring.tick().await;
    assert_eq!(life.ring.absent(), []);
    world.vault.destroy(current.material, None).await.unwrap();
    world.clock.advance(Duration::from_secs(2 * 3_600));
    life.ring.tick().await;
    let absent = life.ring.absent();
    assert_eq!(absent.len(), 1);
    assert_eq!((&absent[0].key_set, absent[0].kid), (&life.id, current.kid));
    assert!(life.ring.is_bereft(world.vault.name()));
    life.rotate().await.unwrap();
    assert!(!life.ring.is_bereft(world.vault.name()), "the next key is there");
}

#[test]
fn a_hold_names_both_ways_out() {
    let text = Refusal::RotationHold.to_string();
    assert!(text.contains("lift the hold") && text.contains("replace_next"), "{text}");
}
