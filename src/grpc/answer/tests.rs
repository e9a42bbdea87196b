use super::*;
use crate::key::{Algorithm, Kid, MaterialId, PublicKey, RsaBits};

const HOUR: Duration = Duration::from_secs(3600);

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_795_428_000 + hour * 3600).unwrap()
}

fn on_wire(hour: i64) -> Option<prost_types::Timestamp> {
    Some(time(at(hour)))
}

fn made(number: u8, state: State) -> Arc<Key> {
    Arc::new(Key {
        kid: Kid::from_thumbprint([number; 32]),
        material: MaterialId::from_bytes([number; 16]),
        key_set: "default".parse().unwrap(),
        algorithm: Algorithm::EdDsa,
        backend: "token".parse().unwrap(),
        object: "pkcs11:id=00".to_owned(),
        public: PublicKey::Ed25519([number; 32]),
        certificate: b"abc".to_vec(),
        created: at(0),
        state,
    })
}

fn set(keys: Vec<Arc<Key>>) -> KeySet {
    KeySet {
        id: "default".parse().unwrap(),
        algorithm: Algorithm::EdDsa,
        issuer: "https://issuer.example/".parse().unwrap(),
        backend: "token".parse().unwrap(),
        policy: Policy {
            propagation_delay: HOUR,
            max_token_ttl: HOUR,
            retention: None,
            rotation_period: Some(48 * HOUR),
            destroy_after: HOUR,
            rsa_bits: RsaBits::B3072,
        },
        service: Service::Enabled,
        rotation_hold: Hold::Off,
        undo: None,
        revision: 17,
        created: at(0),
        keys,
    }
}

fn next() -> State {
    State::published(at(1), HOUR)
}

fn current() -> State {
    State::published(at(0), HOUR).activate(at(1), HOUR).unwrap()
}

fn previous() -> State {
    current().rotate_out(at(2)).unwrap()
}

#[test]
fn a_next_key_says_when_rotate_stops_being_refused() {
    let next = made(1, next());
    let told = key(&next, &set(vec![next.clone()]));
    assert_eq!(told.state(), pb::KeyState::Next);
    assert_eq!(told.kid, next.kid.to_string());
    assert_eq!(told.key_set, "default");
    assert_eq!(told.algorithm, "EdDSA");
    assert_eq!(told.backend, "token");
    assert_eq!(told.create_time, on_wire(0));
    assert_eq!(told.publish_time, on_wire(1));
    assert_eq!(told.rotatable_time, on_wire(2));
    assert_eq!(told.current_since_time, None);
    assert_eq!(told.tokens_until_time, None);
}

#[test]
fn a_previous_key_says_when_revoke_stops_being_refused() {
    let previous = made(1, previous());
    let told = key(&previous, &set(vec![previous.clone(), made(2, next())]));
    assert_eq!(told.state(), pb::KeyState::Previous);
    assert_eq!(told.current_since_time, on_wire(1));
    assert_eq!(told.current_until_time, on_wire(2));
    let skew = Duration::from_secs(60);
    let until = time(crate::key::later(at(3), skew));
    assert_eq!(told.tokens_until_time, Some(until));
    assert_eq!(told.rotatable_time, None, "the other key's");
    assert_eq!(told.revoke_time, None);
}

#[test]
fn a_revoked_and_destroyed_key_keeps_its_history() {
    let revoked = previous().revoke(at(4), "leaked".to_owned(), at(5)).unwrap();
    let told = key(&made(1, revoked.clone()), &set(vec![]));
    assert_eq!(told.state(), pb::KeyState::Revoked);
    assert_eq!(told.revoke_time, on_wire(4));
    assert_eq!(told.revoke_reason, "leaked");
    assert_eq!(told.destroy_time, None);
    let told = key(&made(1, revoked.destroy(at(6)).unwrap()), &set(vec![]));
    assert_eq!(told.state(), pb::KeyState::Destroyed);
    assert_eq!(told.revoke_time, on_wire(4));
    assert_eq!(told.destroy_time, on_wire(6));
    assert_eq!(told.current_until_time, on_wire(2));
}

#[test]
fn a_certificate_is_told_as_pem_and_by_its_thumbprints() {
    let told = key(&made(1, next()), &set(vec![]));
    let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    assert_eq!(told.certificate_pem, pem);
    // FIPS 180-4's own example: the hashes of "abc".
    let sha1 = "A9993E364706816ABA3E25717850C26C9CD0D89D";
    assert_eq!(told.thumbprint_sha1, sha1);
    let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    assert_eq!(told.thumbprint_sha256, sha256);
}

#[test]
fn a_key_set_tells_its_published_keys_in_order() {
    let retired = previous().retire(at(5), at(6)).unwrap();
    let keys = vec![made(4, retired), made(3, previous()), made(2, current()), made(1, next())];
    let told = key_set(&set(keys));
    let states: Vec<_> = told.keys.iter().map(pb::Key::state).collect();
    use pb::KeyState::{Current, Next, Previous};
    assert_eq!(states, [Next, Current, Previous]);
    assert_eq!(told.etag, "17");
    assert_eq!(told.state(), pb::KeySetState::Enabled);
    assert!(!told.incomplete && !told.rotation_hold && !told.can_roll_back);
    assert_eq!(told.next_rotation_time, on_wire(49));
    let policy = told.policy.unwrap();
    assert_eq!(policy.rsa_bits, 3072);
    assert_eq!(policy.retention, None);
    assert_eq!(policy.max_token_ttl.unwrap().seconds, 3600);
}

#[test]
fn a_dry_rotation_has_no_next_key() {
    let old = made(1, previous());
    let changed = Changed {
        key_set: Arc::new(set(vec![old.clone(), made(2, current())])),
        subject: Some(old.clone()),
        replayed: false,
        barrier: Barrier { all_acknowledged: true, revision: 18, ..Barrier::default() },
        caches_at_risk: vec!["a cache".to_owned()],
    };
    let told = rotated(changed, Mode::DryRun);
    assert_eq!(told.next, None);
    assert_eq!(told.previous.unwrap().kid, old.kid.to_string());
    assert!(told.dry_run && !told.incomplete, "a rotation would make the next key");
    assert_eq!(told.barrier, None, "nothing was changed");
    assert_eq!(told.caches_at_risk, ["a cache"]);
}

#[test]
fn times_before_1970_count_nanoseconds_forward() {
    let before: Timestamp = "1969-12-31T23:59:58.25Z".parse().unwrap();
    let expected = prost_types::Timestamp { seconds: -2, nanos: 250_000_000 };
    assert_eq!(time(before), expected);
}

#[test]
fn a_snapshot_too_long_for_one_message_goes_on_until_it_says_no_more() {
    let one = Arc::new(set(vec![made(1, next()), made(2, current())]));
    let snapshot = Event { key_sets: vec![one.clone(); 5], revision: 17, snapshot: true };
    let len = key_set(&one).encoded_len();
    let told = |bytes_max| -> Vec<_> {
        let pieces = event(&snapshot, bytes_max);
        assert!(pieces.iter().all(|piece| piece.revision == 17));
        let shape =
            |piece: &pb::WatchKeysResponse| (piece.key_sets.len(), piece.snapshot, piece.more);
        pieces.iter().map(shape).collect()
    };
    assert_eq!(told(5 * len), [(5, true, false)]);
    assert_eq!(told(2 * len), [(2, true, true), (2, false, true), (1, false, false)]);
    assert_eq!(told(1).len(), 5, "one key set is never divided");
    let none = Event { key_sets: vec![], revision: 17, snapshot: true };
    assert_eq!(event(&none, 1).len(), 1, "a watcher of nothing is told so");
}
