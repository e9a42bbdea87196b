use super::*;
use crate::key::{Approval, Hold, Policy, RsaBits, StateName};
use crate::keyring::{Mode, PolicyUpdate};
use bytes::Bytes;
use prost_types::FieldMask;
use std::collections::BTreeSet;

const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

/// The names of the fields that were refused.
fn refused<T: std::fmt::Debug>(asked: Result<T, Error>) -> BTreeSet<String> {
    match asked {
        Err(Error::Invalid { fields }) => fields.into_iter().map(|wrong| wrong.field).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn new_set(change: impl FnOnce(&mut pb::KeySet)) -> pb::CreateKeySetRequest {
    let mut set = pb::KeySet {
        id: "default".into(),
        algorithm: "ES256".into(),
        issuer: "https://issuer.example/".into(),
        ..pb::KeySet::default()
    };
    change(&mut set);
    pb::CreateKeySetRequest { key_set: Some(set), request_id: String::new() }
}

#[test]
fn a_key_set_that_says_nothing_of_its_policy_has_the_default_one() {
    let (create, request_id) = create(new_set(|_| {})).unwrap();
    assert_eq!(create.policy, Policy::default());
    assert_eq!(create.backend, None);
    assert_eq!(request_id, None);
}

#[test]
fn the_policy_of_a_new_key_set_is_taken_over() {
    let asked = new_set(|set| {
        set.backend = "token".into();
        set.policy = Some(pb::Policy {
            propagation_delay: seconds(1000),
            max_token_ttl: seconds(3600),
            retention: seconds(7200),
            rotation_period: seconds(86_400),
            destroy_after: seconds(0),
            rsa_bits: 4096,
        });
    });
    let (create, _) = create(asked).unwrap();
    assert_eq!(create.backend.unwrap().as_str(), "token");
    let expected = Policy {
        propagation_delay: Duration::from_secs(1000),
        max_token_ttl: Duration::from_secs(3600),
        retention: Some(Duration::from_secs(7200)),
        rotation_period: Some(Duration::from_secs(86_400)),
        destroy_after: Duration::ZERO,
        rsa_bits: RsaBits::B4096,
    };
    assert_eq!(create.policy, expected);
}

#[test]
fn everything_that_is_wrong_with_a_new_key_set_is_said_at_once() {
    let mut asked = new_set(|set| {
        set.id = "Default".into();
        set.algorithm = "es256".into();
        set.backend = "-".into();
        set.issuer = "no spaces".into();
        set.policy = Some(pb::Policy {
            propagation_delay: seconds(-1),
            max_token_ttl: Some(prost_types::Duration { seconds: 1, nanos: -1 }),
            retention: Some(prost_types::Duration { seconds: 1, nanos: 1_000_000_000 }),
            rotation_period: seconds(i64::MAX),
            destroy_after: seconds(i64::MIN),
            rsa_bits: -2048,
        });
    });
    asked.request_id = "x".repeat(129);
    let expected = names(&[
        "request_id",
        "key_set.id",
        "key_set.algorithm",
        "key_set.backend",
        "key_set.issuer",
        "key_set.policy.propagation_delay",
        "key_set.policy.max_token_ttl",
        "key_set.policy.retention",
        "key_set.policy.rotation_period",
        "key_set.policy.destroy_after",
        "key_set.policy.rsa_bits",
    ]);
    assert_eq!(refused(create(asked)), expected);
    let nothing = pb::CreateKeySetRequest::default();
    assert_eq!(refused(create(nothing)), names(&["key_set"]));
}

#[test]
fn a_name_that_the_service_keeps_for_itself_cannot_be_created_and_is_not_found() {
    let taken = new_set(|set| set.id = "signkeep-audit".into());
    assert_eq!(refused(create(taken)), names(&["key_set.id"]));
    for asked in [
        key_set("signkeep-audit").map(drop),
        key("signkeep-audit", KID).map(drop),
        optional_key_set("signkeep-management").map(drop),
    ] {
        assert!(matches!(asked, Err(Error::KeySetNotFound { .. })));
    }
    assert_eq!(refused(key("signkeep-audit", "?")), names(&["kid"]));
}

#[test]
fn only_well_formed_names_are_looked_up() {
    assert_eq!(key_set("default").unwrap().as_str(), "default");
    assert_eq!(optional_key_set("").unwrap(), None);
    assert_eq!(key("default", KID).unwrap().1.to_string(), KID);
    assert_eq!(optional_key("default", "").unwrap().1, None);
    assert_eq!(refused(key_set("")), names(&["key_set"]));
    assert_eq!(refused(key("a b", "")), names(&["key_set", "kid"]));
    assert_eq!(refused(optional_key("default", "x")), names(&["kid"]));
}

#[test]
fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let asked = |paths: &[&str]| pb::UpdateKeySetRequest {
        key_set: Some(pb::KeySet {
            id: "default".into(),
            etag: "17".into(),
            rotation_hold: true,
            policy: Some(pb::Policy {
                max_token_ttl: seconds(60),
                rotation_period: seconds(86_400),
                ..pb::Policy::default()
            }),
            ..pb::KeySet::default()
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        reason: "shorter".into(),
        request_id: String::new(),
    };
    let (id, (changed, _)) = update(asked(&["policy.max_token_ttl", "policy.retention"])).unwrap();
    assert_eq!(id.as_str(), "default");
    let expected = Update {
        policy: PolicyUpdate {
            max_token_ttl: Some(Duration::from_secs(60)),
            retention: Some(None),
            ..PolicyUpdate::default()
        },
        rotation_hold: None,
        etag: Some(17),
        reason: "shorter".into(),
    };
    assert_eq!(changed, expected);

    let (_, (held, _)) = update(asked(&["rotation_hold"])).unwrap();
    assert_eq!(held.rotation_hold, Some(Hold::On));
    assert_eq!(held.policy, PolicyUpdate::default());

    let (_, (whole, _)) = update(asked(&["policy"])).unwrap();
    let default = Policy::default();
    assert_eq!(whole.policy.propagation_delay, Some(default.propagation_delay));
    assert_eq!(whole.policy.rotation_period, Some(Some(Duration::from_secs(86_400))));
    assert_eq!(whole.policy.rsa_bits, Some(default.rsa_bits));
}

#[test]
fn an_update_names_the_paths_that_it_does_not_know() {
    let mut asked = pb::UpdateKeySetRequest {
        key_set: Some(pb::KeySet {
            id: "default".into(),
            etag: "now".into(),
            ..pb::KeySet::default()
        }),
        ..pb::UpdateKeySetRequest::default()
    };
    let expected = names(&["key_set.etag", "update_mask"]);
    assert_eq!(refused(update(asked.clone())), expected);
    let paths = vec!["policy".into(), "issuer\n".into(), "*".into()];
    asked.update_mask = Some(FieldMask { paths });
    let Err(Error::Invalid { fields }) = update(asked) else {
        panic!("taken");
    };
    assert!(fields[1].why.ends_with(r"unknown: issuer\n, *"), "{}", fields[1].why);
}

#[test]
fn force_and_emergency_need_a_reason() {
    let mut rotation = pb::RotateRequest {
        key_set: "default".into(),
        force: true,
        reason: " ".into(),
        ..pb::RotateRequest::default()
    };
    assert_eq!(refused(rotate(rotation.clone())), names(&["reason"]));
    rotation.reason = "key ceremony".into();
    let (forced, _) = rotate(rotation).unwrap();
    assert_eq!((forced.approval, forced.reason.as_str()), (Approval::Forced, "key ceremony"));

    let mut revocation = pb::RevokeRequest {
        key_set: "default".into(),
        kid: KID.into(),
        emergency: true,
        ..pb::RevokeRequest::default()
    };
    assert_eq!(refused(revoke(revocation.clone())), names(&["reason"]));
    revocation.reason = "leaked".into();
    let (urgent, _) = revoke(revocation.clone()).unwrap();
    assert_eq!(urgent.emergency, Emergency::Promote);
    assert_eq!(urgent.approval, Approval::Guarded);
    revocation.replace_next = true;
    assert_eq!(revoke(revocation.clone()).unwrap().0.emergency, Emergency::ReplaceNext);
    revocation.emergency = false;
    assert_eq!(refused(revoke(revocation)), names(&["replace_next"]));
}

#[test]
fn a_reason_is_short_and_printable() {
    for reason in
        ["line\nbreak", "bell\u{7}", "\u{202e}desrever", "no\u{200b}width", &"é".repeat(513)]
    {
        let asked = pb::RollbackRequest {
            key_set: "default".into(),
            reason: reason.into(),
            ..pb::RollbackRequest::default()
        };
        assert_eq!(refused(roll_back(asked)), names(&["reason"]));
    }
    let asked = pb::RollbackRequest {
        key_set: "default".into(),
        reason: "é".repeat(512),
        request_id: "ticket 7".into(),
        dry_run: true,
        expected_current_kid: KID.into(),
    };
    let (back, request_id) = roll_back(asked).unwrap();
    assert_eq!(back.mode, Mode::DryRun);
    assert_eq!(back.expected_current.unwrap().to_string(), KID);
    assert_eq!(request_id.unwrap().as_str(), "ticket 7");
}

#[test]
fn request_ids_are_printable_ascii() {
    for request_id in ["tab\t", "é", &"x".repeat(129)] {
        let asked = serve("default", String::new(), request_id);
        assert_eq!(refused(asked), names(&["request_id"]));
    }
    let longest = "x".repeat(128);
    let (_, request_id) = serve("default", String::new(), &longest).unwrap();
    assert_eq!(request_id.unwrap().as_str(), longest);
}

#[test]
fn sign_takes_a_message_or_a_digest() {
    let mut asked = pb::SignRequest {
        key_set: "default".into(),
        input: Some(Given::Digest(Bytes::from_static(&[1; 32]))),
        encoding: pb::SignatureEncoding::Der.into(),
        ..pb::SignRequest::default()
    };
    let (digest, form) = sign(asked.clone()).unwrap();
    assert!(matches!(digest.input, Input::Digest(bytes) if bytes.len() == 32));
    assert_eq!(form, Form::Der);
    asked.input = Some(Given::Message(Bytes::new()));
    asked.encoding = 0;
    let (message, form) = sign(asked).unwrap();
    assert!(matches!(message.input, Input::Message(bytes) if bytes.is_empty()));
    assert_eq!(form, Form::Jws);
    let wrong =
        pb::SignRequest { key_set: "?".into(), expected_kid: "?".into(), encoding: 3, input: None };
    let expected = names(&["key_set", "expected_kid", "encoding", "message"]);
    assert_eq!(refused(sign(wrong)), expected);
}

#[test]
fn sign_jwt_takes_claims_a_typ_and_a_lifetime() {
    let asked = pb::SignJwtRequest {
        key_set: "default".into(),
        payload: Some(Payload::ClaimsJson("{\"sub\":\"me\"}".into())),
        typ: "at+jwt".into(),
        lifetime: seconds(60),
        header: None,
    };
    let jwt = sign_jwt(asked).unwrap();
    assert_eq!(jwt.claims.string("sub").as_deref(), Some("me"));
    assert_eq!(jwt.typ.as_deref(), Some("at+jwt"));
    assert_eq!(jwt.lifetime, Some(Duration::from_secs(60)));
    let wrong = pb::SignJwtRequest {
        key_set: String::new(),
        payload: None,
        typ: "a b".into(),
        lifetime: seconds(0),
        header: None,
    };
    let expected = names(&["key_set", "claims", "typ", "lifetime"]);
    assert_eq!(refused(sign_jwt(wrong)), expected);
}

#[test]
fn typ_is_a_media_type() {
    for typ in ["", "JWT", "at+jwt", "application/at+jwt", "secevent+jwt", "x.y-z_1"] {
        assert!(is_media_type(typ), "{typ}");
    }
    for typ in ["/", "a/", "/b", "a/b/c", "+jwt", "a\"b", "a\u{0}", "é", &"x".repeat(65)] {
        assert!(!is_media_type(typ), "{typ}");
    }
}

#[test]
fn states_are_taken_once_each_in_the_order_asked_for() {
    let mut wrong = Violations::default();
    let asked = [6, 2, 6].to_vec();
    let known = states(&mut wrong, &asked);
    assert_eq!(known, [StateName::Revoked, StateName::Next]);
    states(&mut wrong, &[3, 0, 99]);
    assert_eq!(refused(wrong.finish(Some(()))), names(&["states[1]", "states[2]"]));
}
