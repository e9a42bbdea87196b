//! The four calls: what they answer, in which order, and what they refuse.

use super::rig::{Got, Rig};
use crate::harness::fuse::Lost;
use axum::http::Method;
use serde_json::Value;
use signkeep::key::Emergency;
use signkeep::management::Revocation;
use std::time::Duration;

/// Statuses upon which official clients send a request again by themselves.
const RETRIED: [u16; 8] = [408, 409, 429, 500, 501, 502, 503, 504];

/// Longer than the propagation delay.
const HOUR: Duration = Duration::from_secs(3600);

fn kids(got: &Got) -> Vec<String> {
    let keys = got.body.as_array().unwrap_or_else(|| panic!("{got:?}"));
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn members(key: &Value) -> Vec<&str> {
    let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_list_is_an_array_of_next_current_previous_and_the_last_three_revoked() {
    let rig = Rig::new().await;
    let mut revoked = Vec::new();
    for _ in 0..5 {
        let before = rig.life.current().to_string();
        rig.life.rotate().await.unwrap();
        rig.world.clock.advance(HOUR);
        if revoked.len() < 4 {
            rig.life.revoke(before.parse().unwrap(), Emergency::No).await.unwrap();
            revoked.push(before);
        }
    }
    let set = rig.life.set();
    let token = rig.token("operator").await;
    let got = rig.api(Method::GET, "", &token).await;
    assert_eq!(got.status, 200);
    let mut expected: Vec<_> = set.published().iter().map(|key| key.kid.to_string()).collect();
    assert_eq!(expected.len(), 3);
    expected.extend(revoked.iter().rev().take(3).cloned());
    assert_eq!(kids(&got), expected);

    let always = ["cert", "fingerprint", "kid", "pkcs7", "thumbprint"];
    let with = |more: &[&'static str]| {
        let mut all: Vec<_> = always.iter().chain(more).copied().collect();
        all.sort_unstable();
        all
    };
    assert_eq!(members(&got.body[0]), with(&["next"]));
    assert_eq!(members(&got.body[1]), with(&["current", "current_since"]));
    assert_eq!(members(&got.body[2]), with(&["current_since", "current_until", "previous"]));
    let of_revoked = with(&["current_since", "current_until", "revoked", "revoked_at"]);
    assert_eq!(members(&got.body[3]), of_revoked);
    let since = got.body[1]["current_since"].as_str().unwrap();
    assert!(since.len() == 24 && since.ends_with(".000Z"), "{since}");
}

#[tokio::test]
async fn a_key_is_shown_with_its_certificate_in_auth0s_forms() {
    let rig = Rig::new().await;
    let token = rig.token("viewer").await;
    let key = rig.life.set().current().unwrap().clone();
    let got = rig.api(Method::GET, &format!("/{}", key.kid), &token).await;
    assert_eq!((got.status, &got.body["current"]), (200, &Value::Bool(true)));
    let cert = got.body["cert"].as_str().unwrap();
    assert!(cert.starts_with("-----BEGIN CERTIFICATE-----\r\n"), "{cert}");
    assert!(cert.ends_with("\r\n-----END CERTIFICATE-----"), "{cert}");
    assert_eq!(cert.matches('\n').count(), cert.matches("\r\n").count());
    let pkcs7 = got.body["pkcs7"].as_str().unwrap();
    assert!(pkcs7.starts_with("-----BEGIN PKCS7-----\r\n"), "{pkcs7}");
    let thumbprint = got.body["thumbprint"].as_str().unwrap();
    assert_eq!(got.body["fingerprint"].as_str().unwrap().replace(':', ""), thumbprint);
    assert_eq!(got.header("content-type"), "application/json; charset=utf-8");

    // A kid may come percent-encoded, whether or not it has to be.
    let encoded: String = key.kid.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let same = rig.api(Method::GET, &format!("/{encoded}"), &token).await;
    assert_eq!((same.status, &same.body), (200, &got.body));
    for unknown in ["unknown", "%FF", "%20", &"A".repeat(43)] {
        let got = rig.api(Method::GET, &format!("/{unknown}"), &token).await;
        assert_eq!((got.status, got.code()), (404, "inexistent_signing_key"), "{unknown}");
        assert_eq!(got.body["message"], "Signing key not found.");
    }
}

#[tokio::test]
async fn rotate_answers_201_with_the_fresh_next_key() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    let (current, next) = (rig.life.current(), rig.life.next());
    let got = rig.api(Method::POST, "/rotate", &token).await;
    assert_eq!(got.status, 201, "{got:?}");
    assert_eq!(members(&got.body), ["cert", "kid"]);
    assert_eq!(got.body["kid"], rig.life.next().to_string());
    assert_eq!(rig.life.current(), next);
    assert_eq!(rig.life.set().previous()[0].kid, current);
    let trail = rig.world.store.audit_trail(0, 100).await.unwrap();
    let record = &trail.last().unwrap().record;
    assert_eq!((&*record.caller, record.reason.as_str()), ("client:operator", "auth0-api"));
    assert_eq!(&*record.request, got.header("x-request-id"));
}

#[tokio::test]
async fn a_second_rotate_that_comes_too_soon_is_refused_and_nobody_tries_it_again() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    assert_eq!(rig.api(Method::POST, "/rotate", &token).await.status, 201);
    let current = rig.life.current();
    for wait in [0, 5, 600] {
        rig.world.clock.advance(Duration::from_secs(wait));
        let got = rig.api(Method::POST, "/rotate", &token).await;
        assert_eq!((got.status, got.code()), (400, "next_key_not_propagated"), "{got:?}");
    }
    assert_eq!(rig.life.current(), current);
    rig.world.clock.advance(HOUR);
    let token = rig.token("operator").await;
    assert_eq!(rig.api(Method::POST, "/rotate", &token).await.status, 201);
}

#[tokio::test]
async fn rotates_that_come_at_once_make_one_rotation() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    let next = rig.life.next();
    let (one, two, three) = tokio::join!(
        rig.api(Method::POST, "/rotate", &token),
        rig.api(Method::POST, "/rotate", &token),
        rig.api(Method::POST, "/rotate", &token),
    );
    let mut statuses = [one.status, two.status, three.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400, 400], "{one:?} {two:?} {three:?}");
    assert_eq!(rig.life.current(), next);
}

#[tokio::test]
async fn a_commit_of_which_nothing_is_heard_is_answered_with_nothing_that_is_tried_again() {
    for lost in [Lost::Landed, Lost::Landing, Lost::Failed] {
        let rig = Rig::new().await;
        let token = rig.token("operator").await;
        let next = rig.life.next();
        rig.fuse.lose_next_commit(lost);
        let first = rig.api(Method::POST, "/rotate", &token).await;
        assert!(!RETRIED.contains(&first.status), "{lost:?}: {first:?}");
        // Whoever asks again all the same gets one rotation, the first or this one.
        let second = rig.api(Method::POST, "/rotate", &token).await;
        assert!([201, 400].contains(&second.status), "{lost:?}: {second:?}");
        let made = [&first, &second].iter().filter(|got| got.status == 201).count();
        assert!(made <= 1, "{lost:?}: {first:?} {second:?}");
        assert_eq!(rig.life.current(), next, "{lost:?}");
        assert_eq!(rig.life.set().previous().len(), 1, "{lost:?}");
    }
}

#[tokio::test]
async fn rotations_are_limited_to_so_many_a_day() {
    let rig = Rig::with(|settings| settings.pace.rotations_per_day = 2).await;
    for _ in 0..2 {
        let token = rig.token("operator").await;
        assert_eq!(rig.api(Method::POST, "/rotate", &token).await.status, 201);
        rig.world.clock.advance(HOUR);
    }
    let token = rig.token("operator").await;
    let got = rig.api(Method::POST, "/rotate", &token).await;
    assert_eq!((got.status, got.code()), (429, "too_many_requests"));
    assert_eq!(got.header("retry-after"), (22 * 3600).to_string());
    rig.world.clock.advance(22 * HOUR);
    let token = rig.token("operator").await;
    assert_eq!(rig.api(Method::POST, "/rotate", &token).await.status, 201);
}

#[tokio::test]
async fn a_body_that_says_nothing_is_taken_and_any_other_refused_before_anything_is_done() {
    let rig = Rig::new().await;
    let bearer = format!("Bearer {}", rig.token("operator").await);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let current = rig.life.current();
    let path = "/api/v2/keys/signing/rotate";
    for body in ["[]", "{\"force\":true}", "nul", &"x".repeat(20_000)] {
        let got = rig.send(Method::POST, path, &headers, body).await;
        assert_eq!((got.status, got.code()), (400, "invalid_body"), "{body}");
    }
    assert_eq!(rig.life.current(), current);
    let got = rig.send(Method::POST, path, &headers, "null").await;
    assert_eq!(got.status, 201, "{got:?}");
    let path = format!("/api/v2/keys/signing/{current}/revoke");
    let got = rig.send(Method::PUT, &path, &headers, "null").await;
    assert_eq!((got.status, &got.body["kid"]), (200, &Value::from(current.to_string())));
}

#[tokio::test]
async fn revoke_takes_the_previous_key_at_once_and_once_more() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    let current = rig.life.current();
    rig.life.rotate().await.unwrap();
    for _ in 0..2 {
        let got = rig.api(Method::PUT, &format!("/{current}/revoke"), &token).await;
        assert_eq!(got.status, 200, "{got:?}");
        assert_eq!(members(&got.body), ["cert", "kid"]);
    }
    assert_eq!(rig.life.set().previous().len(), 0);
    let got = rig.api(Method::GET, &format!("/{current}"), &token).await;
    assert_eq!((got.status, &got.body["revoked"]), (200, &Value::Bool(true)));
    // Its material is destroyed; that it was revoked is not forgotten.
    rig.life.ring.tick().await;
    let got = rig.api(Method::PUT, &format!("/{current}/revoke"), &token).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(kids(&rig.api(Method::GET, "", &token).await)[2], current.to_string());
}

#[tokio::test]
async fn revoke_refuses_current_and_next_and_does_not_know_others() {
    let rig = Rig::new().await;
    let token = rig.token("operator").await;
    for kid in [rig.life.current(), rig.life.next()] {
        let got = rig.api(Method::PUT, &format!("/{kid}/revoke"), &token).await;
        assert_eq!((got.status, got.code()), (400, "operation_not_allowed"));
    }
    let unknown = "A".repeat(43);
    let got = rig.api(Method::PUT, &format!("/{unknown}/revoke"), &token).await;
    assert_eq!((got.status, got.code()), (404, "inexistent_signing_key"));
    // Rolling back retires a key that never signed.
    rig.life.rotate().await.unwrap();
    let retired = rig.life.next();
    rig.life.roll_back().await.unwrap();
    for (method, path) in
        [(Method::GET, format!("/{retired}")), (Method::PUT, format!("/{retired}/revoke"))]
    {
        assert_eq!(rig.api(method, &path, &token).await.status, 404);
    }
    let listed = kids(&rig.api(Method::GET, "", &token).await);
    assert!(!listed.contains(&retired.to_string()), "{listed:?}");
    let got = rig.api(Method::POST, "/rotate", &token).await;
    assert_eq!((got.status, got.code()), (400, "rotation_hold"));
}

#[tokio::test]
async fn a_guarded_revoke_refuses_while_tokens_are_valid() {
    let rig = Rig::with(|settings| settings.auth0.revocation = Revocation::Guarded).await;
    let token = rig.token("operator").await;
    let current = rig.life.current();
    rig.life.rotate().await.unwrap();
    let got = rig.api(Method::PUT, &format!("/{current}/revoke"), &token).await;
    assert_eq!((got.status, got.code()), (400, "tokens_still_valid"));
    rig.world.clock.advance(25 * HOUR);
    let token = rig.token("operator").await;
    let got = rig.api(Method::PUT, &format!("/{current}/revoke"), &token).await;
    assert_eq!(got.status, 200, "{got:?}");
}

#[tokio::test]
async fn each_call_takes_its_scopes_and_says_which_are_missing() {
    let rig = Rig::new().await;
    let (viewer, updater) = (rig.token("viewer").await, rig.token("updater").await);
    let current = rig.life.current();
    for (token, method, path, lacking) in [
        (&updater, Method::GET, String::new(), "read:signing_keys"),
        (&updater, Method::GET, format!("/{current}"), "read:signing_keys"),
        (&updater, Method::POST, "/rotate".to_owned(), "create:signing_keys"),
        (&viewer, Method::POST, "/rotate".to_owned(), "create:signing_keys, update:signing_keys"),
        (&viewer, Method::PUT, format!("/{current}/revoke"), "update:signing_keys"),
    ] {
        let got = rig.api(method, &path, token).await;
        assert_eq!((got.status, got.code()), (403, "insufficient_scope"), "{got:?}");
        let message = format!("Insufficient scope, expected any of: {lacking}");
        assert_eq!(got.body["message"], message);
        assert_eq!(
            (&got.body["statusCode"], &got.body["error"]),
            (&403.into(), &"Forbidden".into())
        );
    }
    assert_eq!(rig.life.current(), current);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let rig = Rig::with(|settings| {
        settings.pace.per_second = 1;
        settings.pace.burst = 3;
    })
    .await;
    let token = rig.token("viewer").await;
    for left in ["1", "0"] {
        let got = rig.api(Method::GET, "", &token).await;
        assert_eq!((got.status, got.header("x-ratelimit-remaining")), (200, left));
        assert_eq!(got.header("x-ratelimit-limit"), "3");
    }
    let got = rig.api(Method::GET, "", &token).await;
    assert_eq!((got.status, got.header("retry-after")), (429, "1"));
    assert_eq!(got.header("x-ratelimit-reset"), (rig.seconds() + 3).to_string());
    rig.world.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.api(Method::GET, "", &token).await.status, 200);
}
