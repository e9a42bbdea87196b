//! Key sets, keys and records made by hand, for tests that need a store and no token.

use jiff::Timestamp;
use signkeep::audit::{Action, Origin, Record};
use signkeep::key::{
    Algorithm, Curve, History, Hold, Key, KeySet, KeySpec, Kid, MaterialId, Policy, PublicKey,
    Reservation, RsaBits, Service, State,
};
use signkeep::store::{Answer, Change, Error, RequestKey, Store};
use std::sync::Arc;
use std::time::Duration;

/// The instant `seconds` after the tests' beginning of time, with microseconds to lose.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond(1_790_000_000_123_457 + seconds * 1_000_000).unwrap()
}

/// The last microsecond that there is.
pub(crate) fn the_last_instant() -> Timestamp {
    Timestamp::new(Timestamp::MAX.as_second(), 999_999_000).unwrap()
}

pub(crate) fn kid(number: u8) -> Kid {
    Kid::from_thumbprint([number; 32])
}

pub(crate) fn material(number: u8) -> MaterialId {
    MaterialId::from_bytes([number; 16])
}

/// A public key that fits `algorithm`; no private key goes with it.
pub(crate) fn public_key(algorithm: Algorithm, number: u8) -> PublicKey {
    let point = |len| [vec![4], vec![number; len], vec![number ^ 0xff; len]].concat();
    match algorithm.key_spec(RsaBits::default()) {
        KeySpec::Rsa(_) => {
            let mut modulus = vec![number; 256];
            modulus[0] = 0xc5;
            PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap()
        }
        KeySpec::Ec(Curve::P256) => PublicKey::ec(Curve::P256, &point(32)).unwrap(),
        KeySpec::Ec(Curve::P384) => PublicKey::ec(Curve::P384, &point(48)).unwrap(),
        KeySpec::Ec(Curve::P521) => PublicKey::ec(Curve::P521, &point(66)).unwrap(),
        KeySpec::Ed25519 => PublicKey::ed25519(&[number; 32]).unwrap(),
    }
}

/// A key set without keys.
pub(crate) fn key_set(id: &str, algorithm: Algorithm) -> KeySet {
    KeySet {
        id: id.parse().unwrap(),
        algorithm,
        issuer: format!("https://{id}.example/").parse().unwrap(),
        backend: "token".parse().unwrap(),
        policy: Policy::default(),
        service: Service::Enabled,
        rotation_hold: Hold::Off,
        undo: None,
        revision: 0,
        created: at(0),
        keys: Vec::new(),
    }
}

/// Key number `number` of `set`.
pub(crate) fn key(set: &KeySet, number: u8, state: State) -> Key {
    Key {
        kid: kid(number),
        material: material(number),
        key_set: set.id.clone(),
        algorithm: set.algorithm,
        backend: set.backend.clone(),
        object: format!("pkcs11:id={}", material(number)),
        public: public_key(set.algorithm, number),
        certificate: vec![0x30, number],
        created: at(i64::from(number)),
        state,
    }
}

pub(crate) fn next() -> State {
    State::published(at(1), Duration::from_secs(900))
}

pub(crate) fn current() -> State {
    next().activate(at(2), Duration::from_secs(3600)).unwrap()
}

pub(crate) fn previous() -> State {
    current().rotate_out(at(3)).unwrap()
}

/// A state of each kind, with and without what it may lack.
pub(crate) fn states() -> Vec<State> {
    let history = History { since: at(2), until: at(3), tokens_until: at(4000) };
    let withdrawn = |state: State| state.revoke(at(5), "lost \u{1F511}".to_owned(), at(6)).unwrap();
    let reinstated = previous().reinstate(at(4), Duration::from_micros(1)).unwrap();
    vec![
        next(),
        State::Next { published: at(1), propagation_delay: Duration::ZERO, history: Some(history) },
        current(),
        reinstated.clone(),
        previous(),
        reinstated.rotate_out(at(7)).unwrap(),
        next().retire(at(8), at(9)).unwrap(),
        previous().retire(at(8), the_last_instant()).unwrap(),
        withdrawn(next()),
        withdrawn(current()),
        next().retire(at(8), at(9)).unwrap().destroy(at(10)).unwrap(),
        withdrawn(current()).destroy(at(10)).unwrap(),
        withdrawn(next()).destroy(at(10)).unwrap(),
    ]
}

pub(crate) fn reservation(key: &Key) -> Reservation {
    Reservation {
        material: key.material,
        key_set: key.key_set.clone(),
        algorithm: key.algorithm,
        spec: key.public.spec().unwrap(),
        backend: key.backend.clone(),
        reserved: at(0),
    }
}

pub(crate) fn record(set: &KeySet, action: Action) -> Record {
    let origin =
        Origin { caller: "operator".into(), listener: "grpc".into(), request: "r-1".into() };
    Record {
        key_set: Some(set.id.clone()),
        kid: set.keys.first().map(|key| key.kid),
        reason: "because".to_owned(),
        ..Record::new(at(11), &origin, action)
    }
}

pub(crate) fn answer(request_id: &str, time: Timestamp) -> Answer {
    Answer {
        request: RequestKey { caller: "operator".to_owned(), request_id: request_id.to_owned() },
        asked: [7; 32],
        time,
        body: "{\"done\":true}".to_owned(),
        revision: 1,
    }
}

/// The change from `before` to `after`.
pub(crate) fn change(before: Option<&KeySet>, after: &KeySet) -> Change {
    let action = if before.is_some() { Action::Update } else { Action::Create };
    Change {
        before: before.cloned().map(Arc::new),
        after: after.clone(),
        record: record(after, action),
        answer: None,
    }
}

/// Reserves what is new in `after`, commits, and returns the set as it then stands.
pub(crate) async fn commit(
    store: &dyn Store,
    before: Option<&KeySet>,
    after: &KeySet,
) -> Result<KeySet, Error> {
    for key in &after.keys {
        if before.is_none_or(|before| before.key(&key.kid).is_none()) {
            store.reserve(&reservation(key)).await?;
        }
    }
    let revision = store.commit(&change(before, after)).await?;
    Ok(as_stored(after, revision))
}

/// What the store makes of `set` at `revision`: destroyed keys leave it.
pub(crate) fn as_stored(set: &KeySet, revision: u64) -> KeySet {
    let mut set = set.clone();
    set.revision = revision;
    set.keys.retain(|key| !matches!(key.state, State::Destroyed { .. }));
    sorted(set)
}

/// The set with its keys in an order that two sets can be compared in.
pub(crate) fn sorted(mut set: KeySet) -> KeySet {
    set.keys.sort_by_key(|key| key.kid);
    set
}

/// A key set of two keys, committed: 1 is current, 2 is next.
pub(crate) async fn with_two_keys(store: &dyn Store, id: &str) -> KeySet {
    let mut set = key_set(id, Algorithm::Es256);
    set.keys = vec![Arc::new(key(&set, 1, current())), Arc::new(key(&set, 2, next()))];
    commit(store, None, &set).await.unwrap()
}
