//! A crash at every step of every change, before and after the step: the next life goes on by
//! itself, and nothing is left that nobody can explain (invariant 7).

use crate::harness::fuse::{Fuse, Moment};
use crate::harness::ring::{Life, World, verifies};
#[cfg(feature = "aws-kms")]
use signkeep::key::Service;
use signkeep::key::{Emergency, StateName};
use std::collections::BTreeSet;
use std::time::Duration;

/// A change of the keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Create,
    Rotate,
    RevokeNext,
    RevokePrevious,
    RevokeCurrent,
    ReplaceBoth,
    RollBack,
    /// Of a key set whose keys are all revoked. Nothing is left that could sign, so this one is
    /// not in [`Verb::ALL`].
    #[cfg(feature = "aws-kms")]
    Delete,
}

impl Verb {
    pub(crate) const ALL: [Self; 7] = [
        Self::Create,
        Self::Rotate,
        Self::RevokeNext,
        Self::RevokePrevious,
        Self::RevokeCurrent,
        Self::ReplaceBoth,
        Self::RollBack,
    ];

    /// What has to be there before.
    pub(crate) async fn prepare(self, life: &Life) {
        if !matches!(self, Self::Create) {
            life.create().await.unwrap();
        }
        if matches!(self, Self::RevokePrevious | Self::RollBack) {
            life.rotate().await.unwrap();
        }
        #[cfg(feature = "aws-kms")]
        if matches!(self, Self::Delete) {
            life.serve(Service::Disabled).await.unwrap();
            for kid in [life.next(), life.current()] {
                life.revoke(kid, Emergency::Promote).await.unwrap();
            }
        }
    }

    /// The change, and what the rotator has to do after it.
    pub(crate) async fn run(self, life: &Life) {
        match self {
            Self::Create => drop(life.create().await),
            Self::Rotate => drop(life.rotate().await),
            Self::RevokeNext => drop(life.revoke(life.next(), Emergency::No).await),
            Self::RevokePrevious => {
                let previous = life.set().previous()[0].kid;
                drop(life.revoke(previous, Emergency::No).await);
            }
            Self::RevokeCurrent => drop(life.revoke(life.current(), Emergency::Promote).await),
            Self::ReplaceBoth => drop(life.revoke(life.current(), Emergency::ReplaceNext).await),
            Self::RollBack => drop(life.roll_back().await),
            #[cfg(feature = "aws-kms")]
            Self::Delete => drop(life.serve(Service::Deleted).await),
        }
        life.ring.tick().await;
    }
}

/// Whether the process died before it was done.
#[derive(PartialEq, Eq)]
enum End {
    Died,
    Done,
}

async fn live_and_die(verb: Verb, step: usize, moment: Moment) -> End {
    let world = World::new().await;
    verb.prepare(&world.life().await).await;
    let known: BTreeSet<_> = kids(&world).await;

    let fuse = Fuse::new(step, moment);
    let end = tokio::select! {
        () = async { verb.run(&world.life_with(&fuse).await).await } => End::Done,
        () = fuse.blown() => End::Died,
    };

    // A dead process writes nothing more; the store of this one may still be writing.
    world.store.settle().await.unwrap();
    let life = world.life().await;
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(120));
        life.ring.tick().await;
    }
    let place = format!("{verb:?}, dead {moment:?} act {step}");
    if !life.ring.key_sets(None, 10).is_empty() {
        let set = life.set();
        assert!(!set.missing().any(), "{place}: the key set is incomplete");
        let signed = life.sign(b"after").await.unwrap();
        assert!(verifies(&set, &signed, b"after"), "{place}: the signature does not verify");
    } else {
        assert!(matches!(verb, Verb::Create), "{place}: the key set is lost");
        life.create().await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    let after = kids(&world).await;
    assert!(known.is_subset(&after), "{place}: a key is lost");
    nothing_is_orphaned(&world, &life, &place).await;
    life.rotate().await.map(drop).unwrap_or_else(|error| {
        // After a rollback rotation is held, and that is all that may stop it.
        assert!(error.to_string().contains("on hold"), "{place}: {error}");
    });
    end
}

async fn kids(world: &World) -> BTreeSet<signkeep::key::Kid> {
    let id = "default".parse().unwrap();
    let keys = world.store.keys(&id, &StateName::ALL, None, 1_000).await.unwrap();
    keys.into_iter().map(|key| key.kid).collect()
}

async fn nothing_is_orphaned(world: &World, life: &Life, place: &str) {
    let image = world.store.load().await.unwrap();
    assert!(image.reserved.is_empty(), "{place}: a reservation is left");
    assert!(image.abandoned.is_empty(), "{place}: a mark is left");
    let explained: BTreeSet<_> =
        image.key_sets.iter().flat_map(|set| &set.keys).map(|key| key.material).collect();
    assert_eq!(world.vault.materials(), explained, "{place}: the vault and the store differ");
    let survey = life.ring.survey().await.unwrap();
    assert_eq!(
        (survey.unexplained.len(), survey.absent.len()),
        (0, 0),
        "{place}: something is unexplained"
    );
}

#[tokio::test]
async fn a_crash_at_any_step_of_any_change_leaves_a_state_that_mends_itself() {
    for verb in Verb::ALL {
        for moment in [Moment::Before, Moment::After] {
            let mut step = 1;
            while live_and_die(verb, step, moment).await == End::Died {
                step += 1;
                assert!(step < 100, "{verb:?} never ends");
            }
            assert!(step > 3, "{verb:?} has hardly any steps: is the fuse connected?");
        }
    }
}

#[tokio::test]
async fn material_that_cannot_be_destroyed_at_once_is_destroyed_when_the_vault_is_back() {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let fuse = Fuse::new(6, Moment::After);
    tokio::select! {
        () = async { Verb::Rotate.run(&world.life_with(&fuse).await).await } => panic!("it should die"),
        () = fuse.blown() => {}
    }
    world.vault.set_out(true);
    let life = world.life().await;
    world.vault.set_out(false);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(120));
        life.ring.tick().await;
    }
    nothing_is_orphaned(&world, &life, "after the outage").await;
}

#[tokio::test]
async fn material_that_nobody_can_explain_is_reported_and_left_alone() {
    use signkeep::backend::{Backend, Order};
    use signkeep::key::{Algorithm, MaterialId, RsaBits};
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let order = Order {
        material: MaterialId::from_bytes([9; 16]),
        key_set: "stray".parse().unwrap(),
        spec: Algorithm::Es256.key_spec(RsaBits::default()),
    };
    world.vault.generate(&order).await.unwrap();
    let reported = life.ring.survey().await.unwrap().unexplained;
    assert_eq!(reported.len(), 1);
    assert_eq!(reported[0].key_set.as_deref(), Some("stray"));
    life.ring.tick().await;
    assert!(world.vault.materials().contains(&order.material));
}
