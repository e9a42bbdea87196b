//! The JWK of each key type, byte for byte, and the order of keys in a set.

use super::{
    RFC_7515_A3_X, RFC_7515_A3_Y, RFC_7515_A4_X, RFC_7515_A4_Y, RFC_7638_N, RFC_8037_X, ec,
    ed25519, rsa,
};
use jiff::Timestamp;
use signkeep::jose::{Jwk, JwkSet, thumbprint};
use signkeep::key::{
    Algorithm, Curve, Hold, Key, KeySet, MaterialId, Policy, PublicKey, Service, State,
};
use std::sync::Arc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3600);
const X5: &str = r#""x5t":"c1rVccGJ17qERkv0qfHSKAF1sSg","x5t#S256":"A9Zt0Ig1wco_EozOrNHzGslBYwlrIPRFroQoW8CDLXI","x5c":["Y2VydGlmaWNhdGU="]"#;

fn key(algorithm: Algorithm, public: PublicKey, state: State) -> Key {
    Key {
        kid: thumbprint::kid(&public),
        material: MaterialId::from_bytes([7; 16]),
        key_set: "default".parse().unwrap(),
        algorithm,
        backend: "token".parse().unwrap(),
        object: "pkcs11:id=07".into(),
        public,
        certificate: b"certificate".to_vec(),
        created: Timestamp::UNIX_EPOCH,
        state,
    }
}

fn next() -> State {
    State::published(Timestamp::UNIX_EPOCH, TTL)
}

fn current() -> State {
    next().activate(at(100), TTL).unwrap()
}

fn previous(until: i64) -> State {
    current().rotate_out(at(until)).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn json(algorithm: Algorithm, public: PublicKey) -> String {
    serde_json::to_string(&Jwk::new(&key(algorithm, public, current()))).unwrap()
}

#[test]
fn an_rsa_jwk_has_these_members_in_this_order() {
    for algorithm in [Algorithm::Rs256, Algorithm::Ps512] {
        assert_eq!(
            json(algorithm, rsa(RFC_7638_N)),
            format!(
                r#"{{"alg":"{algorithm}","kty":"RSA","use":"sig","n":"{RFC_7638_N}","e":"AQAB","kid":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",{X5}}}"#
            )
        );
    }
}

#[test]
fn an_ec_jwk_has_these_members_in_this_order_and_keeps_leading_zeros() {
    assert_eq!(
        json(Algorithm::Es256, ec(Curve::P256, RFC_7515_A3_X, RFC_7515_A3_Y)),
        format!(
            r#"{{"alg":"ES256","kty":"EC","use":"sig","crv":"P-256","x":"{RFC_7515_A3_X}","y":"{RFC_7515_A3_Y}","kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",{X5}}}"#
        )
    );
    assert_eq!(
        json(Algorithm::Es512, ec(Curve::P521, RFC_7515_A4_X, RFC_7515_A4_Y)),
        format!(
            r#"{{"alg":"ES512","kty":"EC","use":"sig","crv":"P-521","x":"{RFC_7515_A4_X}","y":"{RFC_7515_A4_Y}","kid":"u5YUSjQ2-2chBi51NSk3t3g7IM4o2KYcnPqPtCNGd3U",{X5}}}"#
        )
    );
}

#[test]
fn an_okp_jwk_has_these_members_in_this_order() {
    assert_eq!(
        json(Algorithm::EdDsa, ed25519(RFC_8037_X)),
        format!(
            r#"{{"alg":"EdDSA","kty":"OKP","use":"sig","crv":"Ed25519","x":"{RFC_8037_X}","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",{X5}}}"#
        )
    );
}

#[test]
fn a_set_has_current_first_then_next_then_previous_newest_first_and_nothing_withdrawn() {
    let states = [
        ("older", previous(200)),
        ("retired", previous(150).retire(at(90_000), at(90_000)).unwrap()),
        ("next", next()),
        ("newer", previous(300)),
        ("current", current()),
    ];
    let keys: Vec<_> = states
        .into_iter()
        .zip(1u8..)
        .map(|((name, state), byte)| {
            let public = PublicKey::Ed25519([byte; 32]);
            (name, Arc::new(key(Algorithm::EdDsa, public, state)))
        })
        .collect();
    let set = KeySet {
        id: "default".parse().unwrap(),
        algorithm: Algorithm::EdDsa,
        issuer: "https://issuer.example/".parse().unwrap(),
        backend: "token".parse().unwrap(),
        policy: Policy::default(),
        service: Service::Enabled,
        rotation_hold: Hold::Off,
        undo: None,
        revision: 1,
        created: Timestamp::UNIX_EPOCH,
        keys: keys.iter().map(|(_, key)| key.clone()).collect(),
    };
    let order: Vec<_> = JwkSet::new(&set)
        .keys()
        .iter()
        .map(|jwk| {
            let named = keys.iter().find(|(_, key)| Jwk::new(key) == *jwk);
            named.map(|(name, _)| *name).unwrap()
        })
        .collect();
    assert_eq!(order, ["current", "next", "newer", "older"]);
    let json = serde_json::to_value(JwkSet::new(&set)).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 1);
    assert_eq!(json["keys"].as_array().unwrap().len(), 4);
}
