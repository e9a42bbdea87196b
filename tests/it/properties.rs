//! The lifecycle as properties of the pure domain: any sequence of operations and clock steps.

use jiff::Timestamp;
use proptest::prelude::*;
use signkeep::key::{
    Act, Algorithm, Approval, Born, CLOCK_SKEW, Curve, Emergency, Hold, Key, KeySet, Kid,
    MaterialId, Place, Policy, PublicKey, Refusal, Reservation, Service, State, StateName, later,
    plan,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Rotate {
        forced: bool,
    },
    /// Two rotations thought out on the same state; the second has to think again.
    RotateTwice {
        forced: bool,
    },
    Revoke {
        pick: usize,
        forced: bool,
        emergency: Emergency,
    },
    RollBack,
    LiftHold,
    TokenTtl(u64),
    PropagationDelay(u64),
    Clockwork,
}

fn op() -> impl Strategy<Value = Op> {
    let emergency = prop_oneof![
        3 => Just(Emergency::No),
        1 => Just(Emergency::Promote),
        1 => Just(Emergency::ReplaceNext),
    ];
    prop_oneof![
        4 => (0_u64..100_000).prop_map(Op::Wait),
        4 => any::<bool>().prop_map(|forced| Op::Rotate { forced }),
        1 => any::<bool>().prop_map(|forced| Op::RotateTwice { forced }),
        3 => (any::<usize>(), any::<bool>(), emergency)
            .prop_map(|(pick, forced, emergency)| Op::Revoke { pick, forced, emergency }),
        2 => Just(Op::RollBack),
        1 => Just(Op::LiftHold),
        1 => (60_u64..90_000).prop_map(Op::TokenTtl),
        1 => (90_u64..2_000).prop_map(Op::PropagationDelay),
        3 => Just(Op::Clockwork),
    ]
}

/// A key set with everything that is remembered about it to hold it to its word.
struct World {
    now: Timestamp,
    set: KeySet,
    born: u8,
    /// By key: the end of the longest-lived token that it can have signed.
    tokens_end: HashMap<Kid, Timestamp>,
    tokens_until: HashMap<Kid, Timestamp>,
    published: HashMap<Kid, (Timestamp, Duration)>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let policy = Policy {
            propagation_delay: Duration::from_secs(90),
            max_token_ttl: Duration::from_secs(3_600),
            rotation_period: Some(Duration::from_secs(20_000)),
            ..Policy::default()
        };
        let set = KeySet {
            id: "default".parse().unwrap(),
            algorithm: Algorithm::Es256,
            issuer: "https://issuer.example/".parse().unwrap(),
            backend: "token".parse().unwrap(),
            policy,
            service: Service::Enabled,
            rotation_hold: Hold::Off,
            undo: None,
            revision: 1,
            created: now,
            keys: Vec::new(),
        };
        let mut world = Self {
            now,
            set,
            born: 0,
            tokens_end: HashMap::new(),
            tokens_until: HashMap::new(),
            published: HashMap::new(),
        };
        let mut current = world.bear();
        current.state = current.state.activate(now, world.set.policy.max_token_ttl).unwrap();
        let next = world.bear();
        world.set.keys = vec![Arc::new(current), Arc::new(next)];
        world.observe(Approval::Guarded);
        world
    }

    fn bear(&mut self) -> Key {
        self.born += 1;
        let mut point = [self.born; 65];
        point[0] = 4;
        let reservation = Reservation {
            material: MaterialId::from_bytes([self.born; 16]),
            key_set: self.set.id.clone(),
            algorithm: self.set.algorithm,
            spec: self.set.algorithm.key_spec(self.set.policy.rsa_bits),
            backend: self.set.backend.clone(),
            reserved: self.now,
        };
        let born = Born {
            kid: Kid::from_thumbprint([self.born; 32]),
            object: String::new(),
            public: PublicKey::ec(Curve::P256, &point).unwrap(),
            certificate: Vec::new(),
        };
        reservation.publish(self.now, &self.set.policy, born)
    }

    fn approval(forced: bool) -> Approval {
        if forced { Approval::Forced } else { Approval::Guarded }
    }

    /// Every token that could have been signed since the last look, has been.
    fn sign(&mut self) {
        if let Some(current) = self.set.current() {
            let end = later(self.now, self.set.policy.max_token_ttl + CLOCK_SKEW);
            let longest = self.tokens_end.entry(current.kid).or_insert(end);
            *longest = end.max(*longest);
        }
    }

    fn apply(&mut self, op: &Op) {
        self.sign();
        let mut approval = Approval::Guarded;
        let before = self.set.clone();
        match op {
            Op::Wait(seconds) => {
                self.now = later(self.now, Duration::from_secs(*seconds));
                self.sign();
            }
            Op::Rotate { forced } => {
                approval = Self::approval(*forced);
                self.rotate(approval, None);
            }
            Op::RotateTwice { forced } => {
                approval = Self::approval(*forced);
                let expected = self.set.current().map(|key| key.kid);
                let first = self.rotate(approval, expected);
                let second = self.set.expect_current(expected);
                if first {
                    assert!(
                        matches!(second, Err(Refusal::Changed { .. })) || expected.is_none(),
                        "the second of two rotations must notice the first"
                    );
                }
            }
            Op::Revoke { pick, forced, emergency } => {
                approval = Self::approval(*forced);
                let kids: Vec<_> = self.set.keys.iter().map(|key| key.kid).collect();
                let kid = kids[pick % kids.len()];
                match self.set.revoke(self.now, kid, *emergency, approval, "why") {
                    Ok(None) => {
                        assert_eq!(self.set.key(&kid).unwrap().state.name(), StateName::Revoked);
                    }
                    Ok(Some(after)) => {
                        assert_ne!(after, self.set);
                        assert_eq!(after.key(&kid).unwrap().state.name(), StateName::Revoked);
                        // An emergency is an operator's own choice to promote early.
                        if *emergency != Emergency::No {
                            approval = Self::approval(true);
                        }
                        self.set = after;
                    }
                    Err(refusal) => self.refused_with_reason(kid, &refusal, *emergency, approval),
                }
            }
            Op::RollBack => {
                if let Ok(after) = self.set.roll_back(self.now) {
                    assert_eq!(after.rotation_hold, Hold::On);
                    assert!(before.undo.is_some());
                    self.set = after;
                }
            }
            Op::LiftHold => self.set.rotation_hold = Hold::Off,
            Op::TokenTtl(seconds) => {
                let max_token_ttl = Duration::from_secs(*seconds);
                let policy = Policy { max_token_ttl, ..self.set.policy.clone() };
                self.set = self.set.with_policy(policy);
            }
            Op::PropagationDelay(seconds) => {
                let propagation_delay = Duration::from_secs(*seconds);
                let policy = Policy { propagation_delay, ..self.set.policy.clone() };
                self.set = self.set.with_policy(policy);
            }
            Op::Clockwork => self.clockwork(),
        }
        self.nothing_lost(&before);
        self.observe(approval);
    }

    fn rotate(&mut self, approval: Approval, expected: Option<Kid>) -> bool {
        if self.set.expect_current(expected).is_err() {
            return false;
        }
        let allowed = self.set.may_rotate(self.now, approval);
        let fresh = self.bear();
        match self.set.rotate(self.now, approval, Some(fresh)) {
            Ok(after) => {
                assert!(allowed.is_ok());
                assert_eq!(
                    after.current().map(|key| key.kid),
                    self.set.next().map(|key| key.kid),
                    "the next key becomes the current one"
                );
                self.set = after;
                true
            }
            Err(refusal) => {
                assert_eq!(Err(refusal), allowed);
                false
            }
        }
    }

    fn clockwork(&mut self) {
        for step in plan(self.now, &self.set) {
            match step.act {
                Act::Generate(place) => {
                    let fresh = self.bear();
                    self.set = self.set.mend(self.now, place, fresh).unwrap();
                    if place == Place::Current {
                        // Nothing is left that verifiers could know: exempt, like a first key.
                        let kid = self.set.current().unwrap().kid;
                        self.published.insert(kid, (Timestamp::MIN, Duration::ZERO));
                    }
                }
                Act::Rotate => {
                    self.rotate(Approval::Guarded, None);
                }
                Act::Retire(kid) => self.set = self.set.retire(self.now, kid).unwrap(),
                Act::Destroy(kid) => {
                    self.set = self.set.destroyed(self.now, kid).unwrap();
                    self.set.keys.retain(|key| key.kid != kid);
                }
            }
        }
        assert!(!self.set.missing().any(), "the clockwork leaves no key set incomplete");
    }

    fn refused_with_reason(
        &self,
        kid: Kid,
        refusal: &Refusal,
        emergency: Emergency,
        approval: Approval,
    ) {
        let state = &self.set.key(&kid).unwrap().state;
        match refusal {
            Refusal::CurrentKey { .. } => {
                assert_eq!((state.name(), emergency), (StateName::Current, Emergency::No));
            }
            Refusal::TokensStillValid { until, .. } => {
                assert_eq!(approval, Approval::Guarded);
                assert!(self.now < *until);
            }
            Refusal::RotationHold => assert_eq!(self.set.rotation_hold, Hold::On),
            other => panic!("refused without a reason: {other}"),
        }
    }

    /// Invariant 6, and with it all others: no key ever leaves the set but by destruction.
    fn nothing_lost(&self, before: &KeySet) {
        for key in &before.keys {
            let gone = matches!(key.state, State::Retired { .. } | State::Revoked { .. });
            assert!(
                self.set.key(&key.kid).is_some() || gone,
                "{} was {} and is lost",
                key.kid,
                key.state.name()
            );
        }
    }

    fn observe(&mut self, approval: Approval) {
        let count = |name| self.set.keys.iter().filter(|key| key.state.name() == name).count();
        assert!(count(StateName::Current) <= 1, "invariant 1: two current keys");
        assert!(count(StateName::Next) <= 1, "invariant 1: two next keys");

        for key in &self.set.keys {
            let first = self.published.insert(
                key.kid,
                *self
                    .published
                    .get(&key.kid)
                    .unwrap_or(&(key.state.publish_time(), self.set.policy.propagation_delay)),
            );
            let newly_signing = match &key.state {
                State::Current { since, .. } => *since == self.now,
                _ => false,
            };
            // Invariant 4; the first current key of the set is exempt.
            if let (true, Some((published, delay)), Approval::Guarded) =
                (newly_signing && !self.tokens_end.contains_key(&key.kid), first, approval)
            {
                assert!(
                    later(published, delay) <= self.now,
                    "invariant 4: {} signs before it is known",
                    key.kid
                );
            }
            // Invariant 5, and that tokens_until never decreases.
            if let Some(tokens_end) = self.tokens_end.get(&key.kid).copied() {
                let until = key.state.tokens_until(self.now).unwrap();
                let until_was = self.tokens_until.insert(key.kid, until);
                assert!(until_was.is_none_or(|was| was <= until), "tokens_until decreased");
                assert!(until >= tokens_end, "tokens_until comes before the last token's end");
                let withdrawn = key.state.name() == StateName::Revoked;
                if self.now < tokens_end && !withdrawn {
                    assert!(
                        key.state.name().is_published(),
                        "invariant 5: {} is {} while its tokens are valid",
                        key.kid,
                        key.state.name()
                    );
                }
            }
        }
        let published: Vec<_> = self.set.published().iter().map(|key| key.kid).collect();
        let expected = self.set.keys.iter().filter(|key| key.state.name().is_published()).count();
        assert_eq!(published.len(), expected, "the JWKS has exactly the published keys");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_keeps_the_invariants(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
    }
}

#[test]
fn a_raised_propagation_delay_counts_for_the_next_key_and_a_lowered_one_does_not() {
    let mut world = World::new();
    let ready = world.set.rotatable().unwrap();
    let policy =
        |seconds| Policy { propagation_delay: Duration::from_secs(seconds), ..Policy::default() };
    world.set = world.set.with_policy(policy(500));
    assert_eq!(world.set.rotatable().unwrap(), later(ready, Duration::from_secs(410)));
    world.set = world.set.with_policy(policy(10));
    assert_eq!(world.set.rotatable().unwrap(), ready);
}

#[test]
fn a_longer_token_lifetime_is_remembered_by_the_key_that_signs_and_a_shorter_one_changes_nothing() {
    let mut world = World::new();
    let ttl = |seconds| Policy { max_token_ttl: Duration::from_secs(seconds), ..Policy::default() };
    world.set = world.set.with_policy(ttl(7_200));
    world.set = world.set.with_policy(ttl(60));
    let until = world.set.current().unwrap().state.tokens_until(world.now).unwrap();
    assert_eq!(until, later(world.now, Duration::from_secs(7_200) + CLOCK_SKEW));
}

#[test]
fn rollback_restores_the_keys_that_signed_and_will_sign_and_holds_rotation() {
    let mut world = World::new();
    let forced = World::approval(true);
    let (old, new) = (world.set.current().unwrap().kid, world.set.next().unwrap().kid);
    assert!(world.rotate(forced, None));
    let fresh = world.set.next().unwrap().kid;
    world.now = later(world.now, SECOND);
    let set = world.set.roll_back(world.now).unwrap();
    assert_eq!(set.current().unwrap().kid, old);
    assert_eq!(set.next().unwrap().kid, new);
    assert_eq!(set.key(&fresh).unwrap().state.name(), StateName::Retired);
    assert_eq!(
        set.may_rotate(later(world.now, SECOND * 9_999), forced),
        Err(Refusal::RotationHold)
    );
    assert_eq!(set.roll_back(world.now), Err(Refusal::NothingToRollBack));
}

#[test]
fn a_refused_transition_names_the_verb_and_the_state() {
    let state = State::published(Timestamp::UNIX_EPOCH, SECOND);
    let refused = state.rotate_out(Timestamp::UNIX_EPOCH).unwrap_err();
    assert_eq!(refused.to_string(), "cannot rotate out a key that is next");
}

#[test]
fn every_transition_of_the_lifecycle_is_allowed_and_no_other() {
    let now = Timestamp::UNIX_EPOCH;
    let next = State::published(now, SECOND);
    let current = next.clone().activate(now, SECOND).unwrap();
    let previous = current.clone().rotate_out(now).unwrap();
    let next_again = current.clone().step_back(now, SECOND).unwrap();
    let retired = previous.clone().retire(now, now).unwrap();
    let revoked = current.clone().revoke(now, String::new(), now).unwrap();
    let destroyed = revoked.clone().destroy(now).unwrap();
    let states = [next, next_again, current, previous, retired, revoked, destroyed];
    type Verb = (&'static str, fn(State) -> bool);
    let verbs: [Verb; 7] = [
        ("activate", |state| state.activate(Timestamp::UNIX_EPOCH, SECOND).is_ok()),
        ("rotate out", |state| state.rotate_out(Timestamp::UNIX_EPOCH).is_ok()),
        ("reinstate", |state| state.reinstate(Timestamp::UNIX_EPOCH, SECOND).is_ok()),
        ("step back", |state| state.step_back(Timestamp::UNIX_EPOCH, SECOND).is_ok()),
        ("retire", |state| state.retire(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).is_ok()),
        ("revoke", |state| {
            state.revoke(Timestamp::UNIX_EPOCH, String::new(), Timestamp::UNIX_EPOCH).is_ok()
        }),
        ("destroy", |state| state.destroy(Timestamp::UNIX_EPOCH).is_ok()),
    ];
    let mut allowed = BTreeMap::new();
    for (verb, apply) in verbs {
        let from: Vec<_> = states.iter().filter(|state| apply((*state).clone())).collect();
        allowed.insert(verb, from.iter().map(|state| state.name().as_str()).collect::<Vec<_>>());
    }
    let expected = BTreeMap::from([
        ("activate", vec!["next", "next"]),
        ("rotate out", vec!["current"]),
        ("reinstate", vec!["previous"]),
        ("step back", vec!["current"]),
        ("retire", vec!["next", "previous"]),
        ("revoke", vec!["next", "next", "current", "previous", "retired"]),
        ("destroy", vec!["retired", "revoked"]),
    ]);
    assert_eq!(allowed, expected);
}
