//! A record that is full, or whose sink hangs, and a backend that is out: what goes on and what
//! does not.

use super::*;
use crate::harness::eventually;
use crate::harness::ring::tester;
use signkeep::audit::recorder::WhenFull;
use signkeep::audit::{Action, Outcome};
use signkeep::backend::Input;
use signkeep::key::Emergency;
use signkeep::keyring::{Error, Sign, Signed};
use std::time::Instant;

async fn sign_by(life: &Life, deadline: Instant) -> Result<Signed, Error> {
    let input = Input::Message(b"hello"[..].into());
    let sign = Sign { key_set: life.id.clone(), input, expected: None };
    life.ring.sign(&tester(), deadline, sign).await
}

/// Signs until the record is full; how many signatures there were.
async fn fill(kept: &Kept) -> u64 {
    for made in 0.. {
        match sign_by(&kept.life, Instant::now() + Duration::from_millis(200)).await {
            Ok(_) => assert!(made < 100, "it is never full"),
            Err(Error::Unrecorded(_)) => return made,
            Err(other) => panic!("{other:?}"),
        }
    }
    unreachable!("a hundred are enough")
}

#[tokio::test]
async fn a_full_record_that_blocks_stops_signatures_and_nothing_else() {
    let kept = Kept::new(small()).await;
    kept.shut();
    let made = fill(&kept).await;
    let (old, next) = (kept.life.current(), kept.life.next());
    // An emergency, a rotation and whatever the clock asks for go on.
    kept.life.revoke(old, Emergency::Promote).await.unwrap();
    assert_eq!(kept.life.current(), next);
    kept.life.ring.tick().await;
    kept.life.rotate().await.unwrap();
    let waiting = tokio::spawn({
        let life = kept.life.clone();
        async move { sign_by(&life, soon()).await }
    });
    kept.open();
    waiting.await.unwrap().unwrap();
    kept.life.sign(b"again").await.unwrap();
    let records = kept.end().await;
    let done = |record: &&Record| record.action == Action::Sign && record.outcome == Outcome::Done;
    assert_eq!(records.iter().filter(done).count(), usize::try_from(made).unwrap() + 2);
    let refused: u64 = records
        .iter()
        .filter(|record| record.reason == "AUDIT_UNAVAILABLE" || record.action == Action::Gap)
        .map(|record| record.count)
        .sum();
    assert_eq!(refused, 1, "the one that was refused is told, or the gap that it left");
}

#[tokio::test]
async fn a_full_record_that_counts_goes_on_signing_and_tells_how_many_it_lacks() {
    let kept = Kept::new(Settings { when_full: WhenFull::CountAndContinue, ..small() }).await;
    kept.shut();
    for _ in 0..100 {
        sign_by(&kept.life, soon()).await.unwrap();
    }
    let old = kept.life.current();
    kept.life.revoke(old, Emergency::Promote).await.unwrap();
    kept.open();
    let records = kept.end().await;
    let count = |action| -> u64 {
        records.iter().filter(|record| record.action == action).map(|record| record.count).sum()
    };
    assert_eq!(count(Action::Sign) + count(Action::Gap), 100);
    assert!(count(Action::Gap) >= 85, "{}", count(Action::Gap));
}

#[tokio::test]
async fn a_backend_that_is_out_at_the_start_holds_up_only_the_checkpoints() {
    let world = World::new().await;
    let settings =
        Settings { checkpoint_interval: Duration::from_millis(20), ..Settings::default() };
    let kept = Kept::on(world, settings).await;
    kept.life.create().await.unwrap();
    kept.world.vault.set_out(true);
    kept.life.ring.internal(internal()).await.unwrap_err();
    let why = eventually("checkpoints are found to wait", PATIENCE, async || {
        kept.world.recorder.status().pop()?.unsealed
    })
    .await;
    assert!(why.contains("has no current key yet"), "{why}");
    kept.world.vault.set_out(false);
    kept.life.sign(b"hello").await.unwrap();
    kept.life.ring.internal(internal()).await.unwrap();
    eventually("there is a checkpoint", PATIENCE, async || {
        kept.world.store.last_checkpoint().await.unwrap()
    })
    .await;
    // Its backend goes once more, and what is recorded meanwhile is sealed afterwards.
    kept.world.vault.set_out(true);
    for _ in 0..20 {
        kept.life.sign(b"hello").await.unwrap_err();
    }
    kept.world.vault.set_out(false);
    kept.life.sign(b"hello").await.unwrap();
    let (_, verdict) = kept.end_with(Algorithm::Es256).await;
    assert_eq!(verdict.unsigned, 0);
}
