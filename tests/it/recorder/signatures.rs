//! What is recorded of a signature, whatever becomes of it, and of what was refused.

use super::*;
use crate::harness::eventually;
use crate::harness::ring::{context, tester};
use signkeep::audit::{Action, Digest, Outcome};
use signkeep::jose::Members;
use signkeep::key::{Approval, Emergency};
use signkeep::keyring::{Error, SignJwt};

fn of(records: &[Record], action: Action) -> Vec<&Record> {
    records.iter().filter(|record| record.action == action).collect()
}

/// Holds signatures; the next that arrives is the test's own.
async fn hold(kept: &Kept) {
    eventually("the first checkpoint is made", PATIENCE, async || {
        kept.world.store.last_checkpoint().await.unwrap()
    })
    .await;
    kept.world.vault.hold_signatures().await;
    // The certificates of two key sets, and that checkpoint.
    for _ in 0..5 {
        kept.world.vault.signature_arrives().await;
    }
}

#[tokio::test]
async fn a_signature_is_recorded_with_who_had_what_signed_by_which_key() {
    let kept = Kept::new(Settings::default()).await;
    let (kid, now) = (kept.life.current(), kept.world.clock.now());
    kept.life.sign(b"hello").await.unwrap();
    let claims = SignJwt {
        key_set: kept.life.id.clone(),
        claims: Members::parse(br#"{"sub":"somebody"}"#).unwrap(),
        typ: None,
        header: Members::default(),
        lifetime: None,
        lifetime_usual_max: None,
    };
    let jwt = kept.life.ring.sign_jwt(&tester(), soon(), claims).await.unwrap();
    let (records, verdict) = kept.end_with(Algorithm::Es256).await;
    let expected = Record {
        key_set: Some("default".parse().unwrap()),
        kid: Some(kid),
        digest: Some(Digest::of(b"hello")),
        ..Record::new(now, &tester(), Action::Sign)
    };
    assert_eq!(of(&records, Action::Sign), [&expected]);
    let input = jwt.compact.rsplit_once('.').unwrap().0;
    let digest = Some(Digest::of(input.as_bytes()));
    let expected = Record { digest, action: Action::SignJwt, ..expected };
    assert_eq!(of(&records, Action::SignJwt), [&expected]);
    assert!(records.iter().all(|record| !format!("{record:?}").contains("somebody")));
    assert_eq!((verdict.unsigned, verdict.gaps, verdict.flaws), (0, 0, 0), "all of it is sealed");
    assert!(verdict.checkpoints > 0);
}

#[tokio::test]
async fn a_signature_that_a_revocation_overtakes_is_recorded_as_withheld() {
    let kept = Kept::new(Settings::default()).await;
    let old = kept.life.current();
    let vault = Arc::clone(&kept.world.vault);
    hold(&kept).await;
    let life = kept.life.clone();
    let signing = tokio::spawn(async move { life.sign(b"hello").await });
    vault.signature_arrives().await;
    kept.life.revoke(old, Emergency::Promote).await.unwrap();
    vault.let_sign();
    let signed = signing.await.unwrap().unwrap();
    let records = kept.end().await;
    let told: Vec<_> = of(&records, Action::Sign)
        .into_iter()
        .map(|record| (record.kid, record.outcome, record.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [(Some(old), Outcome::Withheld, "KEY_SET_CHANGED"), (Some(signed.kid), Outcome::Done, "")]
    );
}

#[tokio::test]
async fn a_signature_whose_caller_went_away_is_recorded_too() {
    let kept = Kept::new(Settings::default()).await;
    let vault = Arc::clone(&kept.world.vault);
    hold(&kept).await;
    let life = kept.life.clone();
    let signing = tokio::spawn(async move { life.sign(b"hello").await });
    vault.signature_arrives().await;
    signing.abort();
    signing.await.unwrap_err();
    vault.let_sign();
    let records = kept.end().await;
    let [record] = of(&records, Action::Sign)[..] else { panic!("{records:?}") };
    assert_eq!((record.outcome, record.digest), (Outcome::Withheld, Some(Digest::of(b"hello"))));
}

#[tokio::test]
async fn a_backend_that_is_out_is_counted_and_not_recorded_call_by_call() {
    let settings = Settings { refusal_interval: Duration::from_millis(20), ..Settings::default() };
    let kept = Kept::new(settings).await;
    kept.world.vault.set_out(true);
    for _ in 0..500 {
        kept.life.sign(b"hello").await.unwrap_err();
    }
    kept.world.vault.set_out(false);
    let records = kept.end().await;
    let failed = of(&records, Action::Sign);
    assert!(failed.len() < 100, "{}", failed.len());
    assert_eq!(failed.iter().map(|record| record.count).sum::<u64>(), 500);
    for record in failed {
        assert_eq!((record.outcome, record.digest), (Outcome::Failed, None));
        assert_eq!(record.reason, "BACKEND_UNAVAILABLE");
    }
}

#[tokio::test]
async fn a_change_that_a_guard_refuses_is_recorded() {
    let kept = Kept::new(Settings::default()).await;
    let rotation = kept.life.rotation(Approval::Guarded);
    for _ in 0..3 {
        let refused = kept.life.ring.rotate(context(None), rotation.clone()).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    }
    kept.life.revoke(kept.life.current(), Emergency::No).await.unwrap_err();
    let records = kept.end().await;
    let rotate = of(&records, Action::Rotate);
    assert_eq!(rotate.iter().map(|record| record.count).collect::<Vec<_>>(), [1, 2]);
    let [revoke] = of(&records, Action::Revoke)[..] else { panic!("{records:?}") };
    let reasons = [rotate[0], rotate[1], revoke].map(|record| record.reason.as_str());
    assert_eq!(reasons, ["NEXT_KEY_NOT_PROPAGATED", "NEXT_KEY_NOT_PROPAGATED", "CURRENT_KEY"]);
    for record in [rotate[0], revoke] {
        assert_eq!((record.outcome, &*record.caller), (Outcome::Refused, "tester"));
        assert_eq!(record.key_set.as_ref().map(KeySetId::as_str), Some("default"));
    }
}
