//! The keyring on a real store and a vault in memory: what a caller may rely on.

use crate::harness::memory::soon;
use crate::harness::ring::{World, context, tester, verifies};
use signkeep::audit::Action;
use signkeep::jose::Members;
use signkeep::key::{Approval, Emergency, Refusal, Service, StateName};
use signkeep::keyring::{Error, Mode, PolicyUpdate, Rotate, SignJwt, Update};
use std::time::Duration;

#[tokio::test]
async fn a_signature_under_way_when_its_key_is_revoked_is_dropped_and_made_by_the_new_key() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let old = life.current();
    world.vault.hold_signatures().await;
    while_held(&world).await;
    let signing = tokio::spawn({
        let life = life.clone();
        async move { life.sign(b"hello").await }
    });
    world.vault.signature_arrives().await;
    life.revoke(old, Emergency::Promote).await.unwrap();
    world.vault.let_sign();
    let signed = signing.await.unwrap().unwrap();
    assert_ne!(signed.kid, old);
    assert!(verifies(&life.set(), &signed, b"hello"));
}

/// Creation has signed two certificates; their arrivals are not the ones that a test waits for.
async fn while_held(world: &World) {
    world.vault.signature_arrives().await;
    world.vault.signature_arrives().await;
}

#[tokio::test]
async fn a_caller_that_expects_a_key_hears_of_the_new_one_instead_of_getting_another_signature() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let old = life.current();
    life.rotate().await.unwrap();
    let sign = signkeep::keyring::Sign {
        key_set: life.id.clone(),
        input: signkeep::backend::Input::Message(b"x"[..].into()),
        expected: Some(old),
    };
    match life.ring.sign(&tester(), soon(), sign).await {
        Err(Error::Refused(Refusal::Changed { current })) => {
            assert_eq!(current, Some(life.current()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rotation_within_the_propagation_delay_is_refused_and_costs_no_key() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let generated = world.vault.generations();
    let guarded = life.rotation(Approval::Guarded);
    match life.ring.rotate(context(None), guarded.clone()).await {
        Err(Error::Refused(Refusal::NextKeyNotPropagated { wait, .. })) => {
            assert_eq!(wait, Duration::from_secs(15 * 60));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.vault.generations(), generated);
    world.clock.advance(Duration::from_secs(15 * 60));
    let next = life.next();
    let changed = life.ring.rotate(context(None), guarded).await.unwrap();
    assert_eq!(changed.key_set.current().unwrap().kid, next);
    assert!(changed.caches_at_risk.is_empty());
}

#[tokio::test]
async fn a_forced_rotation_names_the_caches_at_risk() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let changed = life.rotate().await.unwrap();
    assert_eq!(changed.caches_at_risk, [".NET ConfigurationManager (asks again after 5 min)"]);
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_changes_nothing_more() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let first =
        life.ring.rotate(context(Some("r-1")), life.rotation(Approval::Forced)).await.unwrap();
    life.rotate().await.unwrap();
    let again =
        life.ring.rotate(context(Some("r-1")), life.rotation(Approval::Forced)).await.unwrap();
    assert!(again.replayed && !first.replayed);
    let states = |changed: &signkeep::keyring::Changed| {
        let mut states: Vec<_> =
            changed.key_set.keys.iter().map(|key| (key.kid, key.state.clone())).collect();
        states.sort_by_key(|(kid, _)| *kid);
        states
    };
    assert_eq!(states(&first), states(&again));
    assert_eq!(first.subject, again.subject);

    let other = Rotate { reason: "other".to_owned(), ..life.rotation(Approval::Guarded) };
    let reused = life.ring.rotate(context(Some("r-1")), other).await;
    assert!(matches!(reused, Err(Error::RequestIdReused)), "{reused:?}");

    world.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    let later =
        life.ring.rotate(context(Some("r-1")), life.rotation(Approval::Forced)).await.unwrap();
    assert!(!later.replayed, "an answer is kept for 24 hours");
}

#[tokio::test]
async fn a_repeat_in_flight_waits_for_the_first() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    while_held(&world).await;
    world.vault.hold_signatures().await;
    let rotate = |life: crate::harness::ring::Life| async move {
        life.ring.rotate(context(Some("same")), life.rotation(Approval::Forced)).await.unwrap()
    };
    let first = tokio::spawn(rotate(life.clone()));
    world.vault.signature_arrives().await;
    let second = tokio::spawn(rotate(life.clone()));
    world.vault.let_sign();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_ne!(first.replayed, second.replayed);
    assert_eq!(first.subject.map(|key| key.kid), second.subject.map(|key| key.kid));
}

#[tokio::test]
async fn a_refusal_and_a_dry_run_are_not_recorded_under_their_request_id() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let guarded = life.rotation(Approval::Guarded);
    assert!(life.ring.rotate(context(Some("r")), guarded.clone()).await.is_err());
    let dry = Rotate { mode: Mode::DryRun, ..life.rotation(Approval::Forced) };
    let before = life.set();
    let told = life.ring.rotate(context(Some("r")), dry).await.unwrap();
    assert!(told.key_set.next().is_none(), "a dry run generates nothing");
    assert_eq!(life.set(), before);
    let done = life.ring.rotate(context(Some("r")), life.rotation(Approval::Forced)).await.unwrap();
    assert!(!done.replayed);
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_has_gone() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    while_held(&world).await;
    let old = life.current();
    let mut watcher = life.ring.watch(None).unwrap();
    watcher.next().await.unwrap();
    world.vault.hold_signatures().await;
    let rotation = tokio::spawn({
        let life = life.clone();
        async move { life.rotate().await }
    });
    world.vault.signature_arrives().await;
    rotation.abort();
    world.vault.let_sign();
    watcher.next().await.unwrap();
    assert_ne!(life.current(), old);
}

#[tokio::test]
async fn a_slow_generation_does_not_keep_a_revocation_waiting() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    while_held(&world).await;
    world.vault.hold_signatures().await;
    let rotation = tokio::spawn({
        let life = life.clone();
        async move { life.rotate().await }
    });
    world.vault.signature_arrives().await;
    let current = life.current();
    let changed = life.revoke(current, Emergency::Promote).await.unwrap();
    assert!(changed.key_set.missing().next, "what is missing is mended afterwards");
    world.vault.let_sign();
    // There was no next key left to promote, so the rotation is refused and leaves nothing.
    assert!(rotation.await.unwrap().is_err());
    life.ring.tick().await;
    assert!(!life.set().missing().any());
    assert_eq!(world.store.load().await.unwrap().reserved, []);
}

#[tokio::test]
async fn replacing_both_keys_leaves_nothing_old_published_and_mends_itself() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let (current, next) = (life.current(), life.next());
    world.vault.set_out(true);
    let changed = life.revoke(current, Emergency::ReplaceNext).await.unwrap();
    assert!(changed.key_set.published().is_empty());
    assert_eq!(life.ring.incomplete(), std::slice::from_ref(&life.id));
    assert!(matches!(life.sign(b"x").await, Err(Error::NoCurrentKey { .. })));
    life.ring.tick().await;
    assert!(life.set().missing().current, "the vault is out");
    world.vault.set_out(false);
    world.clock.advance(Duration::from_secs(60));
    life.ring.tick().await;
    assert!(life.ring.incomplete().is_empty());
    assert!(![current, next].contains(&life.current()));
    life.sign(b"x").await.unwrap();
}

#[tokio::test]
async fn a_previous_key_is_retired_and_destroyed_by_the_clock() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let period = PolicyUpdate {
        rotation_period: Some(Some(Duration::from_secs(90 * 24 * 3600))),
        ..PolicyUpdate::default()
    };
    let update = Update { policy: period, ..Update::default() };
    life.ring.update(context(None), life.id.clone(), update).await.unwrap();
    let old = life.current();
    life.rotate().await.unwrap();
    life.ring.tick().await;
    assert_eq!(life.set().key(&old).unwrap().state.name(), StateName::Previous);
    world.clock.advance(Duration::from_secs(25 * 3600));
    life.ring.tick().await;
    life.ring.tick().await;
    let key = life.ring.key(&life.id, &old).await.unwrap();
    assert_eq!(key.state.name(), StateName::Destroyed);
    assert!(!world.vault.materials().contains(&key.material));
    let refused = life.revoke(old, Emergency::No).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::KeyDestroyed { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_key_set_rotates_by_itself_when_its_period_has_passed() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let next = life.next();
    let period = PolicyUpdate {
        rotation_period: Some(Some(Duration::from_secs(3_600))),
        ..PolicyUpdate::default()
    };
    let update = Update { policy: period, ..Update::default() };
    life.ring.update(context(None), life.id.clone(), update).await.unwrap();
    life.ring.tick().await;
    assert_ne!(life.current(), next);
    world.clock.advance(Duration::from_secs(3_600));
    life.ring.tick().await;
    assert_eq!(life.current(), next);
}

#[tokio::test]
async fn the_key_that_was_rolled_back_is_not_promoted_until_the_hold_is_lifted() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let (old, troublesome) = (life.current(), life.next());
    life.rotate().await.unwrap();
    life.roll_back().await.unwrap();
    assert_eq!((life.current(), life.next()), (old, troublesome));
    let held = |outcome: Result<_, Error>| {
        assert!(matches!(outcome, Err(Error::Refused(Refusal::RotationHold))), "{outcome:?}");
    };
    held(life.rotate().await);
    held(life.revoke(old, Emergency::Promote).await);
    let lift = Update { rotation_hold: Some(signkeep::key::Hold::Off), ..Update::default() };
    life.ring.update(context(None), life.id.clone(), lift).await.unwrap();
    life.rotate().await.unwrap();
    assert_eq!(life.current(), troublesome);
}

#[tokio::test]
async fn a_key_set_is_deleted_only_once_it_is_disabled_and_its_keys_are_withdrawn() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let serve = |service| {
        life.ring.set_service(context(None), life.id.clone(), service, "the end".to_owned())
    };
    let refused = serve(Service::Deleted).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::StillEnabled))), "{refused:?}");
    serve(Service::Disabled).await.unwrap();
    assert!(matches!(life.sign(b"x").await, Err(Error::Disabled { .. })));
    let refused = serve(Service::Deleted).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::KeysInUse { .. }))), "{refused:?}");
    life.revoke(life.current(), Emergency::ReplaceNext).await.unwrap();
    life.ring.tick().await;
    assert!(life.set().missing().any(), "a disabled key set is not mended");
    serve(Service::Deleted).await.unwrap();
    assert!(matches!(life.ring.key_set(&life.id), Err(Error::KeySetNotFound { .. })));
    life.ring.tick().await;
    assert!(world.vault.materials().is_empty(), "nothing of it is left in the vault");
    let again = life.create().await;
    assert!(matches!(again, Err(Error::KeySetExists { .. })), "{again:?}");
}

#[tokio::test]
async fn every_change_is_in_the_audit_record_with_who_and_why() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let old = life.current();
    life.rotate().await.unwrap();
    life.revoke(old, Emergency::No).await.unwrap();
    life.ring.tick().await;
    let trail = world.store.audit_trail(0, 100).await.unwrap();
    let told: Vec<_> = trail
        .iter()
        .map(|linked| &linked.record)
        .map(|record| (record.action, &*record.caller, record.reason.as_str()))
        .collect();
    let destroyed = "it is out of use and destroy_after has passed";
    assert_eq!(
        told,
        [
            (Action::Create, "tester", ""),
            (Action::Rotate, "tester", "a test"),
            (Action::Revoke, "tester", "a test"),
            (Action::Destroy, "signkeep", destroyed),
        ]
    );
}

#[tokio::test]
async fn claims_are_kept_as_given_and_what_the_service_says_is_its_own() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let sign = |claims: &'static str| {
        let sign = SignJwt {
            key_set: life.id.clone(),
            claims: Members::parse(claims.as_bytes()).unwrap(),
            typ: None,
            header: Members::default(),
            lifetime: None,
            lifetime_usual_max: None,
        };
        async { life.ring.sign_jwt(&tester(), soon(), sign).await }
    };
    let jwt = sign(r#"{"z":1,"a":123456789012345678901234567890,"n":{"k":1.0}}"#).await.unwrap();
    let payload = jwt.compact.split('.').nth(1).unwrap();
    let payload = <base64ct::Base64UrlUnpadded as base64ct::Encoding>::decode_vec(payload).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(
        payload.starts_with(
            r#"{"iss":"https://issuer.example/","iat":1800000000,"exp":1800003600,"jti":""#
        ),
        "{payload}"
    );
    assert!(
        payload.ends_with(r#","z":1,"a":123456789012345678901234567890,"n":{"k":1.0}}"#),
        "{payload}"
    );

    for (claims, name) in
        [(r#"{"iat":1}"#, "iat"), (r#"{"jti":"x"}"#, "jti"), (r#"{"iss":"x"}"#, "iss")]
    {
        match sign(claims).await {
            Err(Error::ClaimNotAllowed { claim, .. }) => assert_eq!(claim, name),
            other => panic!("{other:?}"),
        }
    }
    for claims in [r#"{"exp":"soon"}"#, r#"{"exp":1}"#, r#"{"exp":1800086401}"#] {
        let outcome = sign(claims).await;
        assert!(matches!(outcome, Err(Error::Invalid { .. })), "{claims}: {outcome:?}");
    }
    sign(r#"{"exp":1800086400}"#).await.unwrap();
    sign(r#"{"iss":"https://issuer.example/"}"#).await.unwrap();
}

#[tokio::test]
async fn header_parameters_that_say_how_to_verify_are_the_services_own() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    for name in ["alg", "kid", "typ", "jwk", "jku", "x5u", "x5c", "crit", "b64"] {
        let header = format!(r#"{{"cty":"x","{name}":"x"}}"#);
        let sign = SignJwt {
            key_set: life.id.clone(),
            claims: Members::default(),
            typ: None,
            header: Members::parse(header.as_bytes()).unwrap(),
            lifetime: None,
            lifetime_usual_max: None,
        };
        match life.ring.sign_jwt(&tester(), soon(), sign).await {
            Err(Error::ClaimNotAllowed { claim, .. }) => assert_eq!(claim, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_reason_of_an_emergency_is_kept_with_every_key_that_it_withdrew() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let (current, next) = (life.current(), life.next());
    let revocation = signkeep::keyring::Revoke {
        approval: Approval::Guarded,
        reason: "the token was copied".to_owned(),
        ..life.revocation(current, Emergency::ReplaceNext)
    };
    let changed = life.ring.revoke(context(None), revocation).await.unwrap();
    for kid in [current, next] {
        match &changed.key_set.key(&kid).unwrap().state {
            signkeep::key::State::Revoked { reason, .. } => {
                assert_eq!(reason, "the token was copied");
            }
            other => panic!("{other:?}"),
        }
    }
}
