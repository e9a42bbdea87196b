//! Requests that are wrong.

use crate::harness::service::Service;
use crate::harness::{bad_fields, reason};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use signkeep::grpc::proto::sign_jwt_request::Payload;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::{
    CreateKeySetRequest, GetKeyRequest, GetKeySetRequest, GetPublicKeyRequest, KeySet,
    ListKeySetsRequest, ListKeysRequest, Policy, RevokeRequest, SignJwtRequest,
};
use std::fmt::Debug;
use tonic::{Code, Response, Status};

/// A thumbprint that no key has.
const STRANGER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[track_caller]
fn refused<T: Debug>(answer: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), (code, expected.to_owned()), "{status:?}");
    status
}

#[track_caller]
fn malformed<T: Debug>(answer: Result<T, Status>, field: &str) {
    let status = refused(answer, Code::InvalidArgument, "INVALID_REQUEST");
    let fields = bad_fields(&status);
    assert!(fields.iter().any(|named| named == field), "{field} is not among {fields:?}");
}

/// Still up, still signing, and never panicked.
async fn stands(service: &mut Service) {
    service.key_set("default").sign_message(b"still here").await.unwrap();
    service.is_unharmed();
}

#[tokio::test]
async fn key_sets_and_keys_that_do_not_exist_are_not_found() {
    let mut service = Service::dev().await;
    for id in ["nobody", "signkeep-audit", "signkeep-management"] {
        let unknown = service.key_set(id);
        let mut keys = service.keys();
        let expected = "KEY_SET_NOT_FOUND";
        refused(unknown.rotate().await, Code::NotFound, expected);
        refused(unknown.force_rotate().await, Code::NotFound, expected);
        refused(unknown.revoke(STRANGER).await, Code::NotFound, expected);
        refused(unknown.roll_back().await, Code::NotFound, expected);
        refused(unknown.sign_message(b"m").await, Code::NotFound, expected);
        refused(unknown.sign_jwt("{}").await, Code::NotFound, expected);
        let key_set = id.to_owned();
        let request = GetKeySetRequest { key_set: key_set.clone() };
        refused(keys.get_key_set(request).await, Code::NotFound, expected);
        let request = ListKeysRequest { key_set: key_set.clone(), ..Default::default() };
        refused(keys.list_keys(request).await, Code::NotFound, expected);
        let request = GetPublicKeyRequest { key_set, kid: String::new() };
        refused(service.signing().get_public_key(request).await, Code::NotFound, expected);
        let jwks = service.http(&format!("/{id}/.well-known/jwks.json")).await;
        assert_eq!(jwks.status, 404);
        let cached = jwks.header("cache-control").unwrap_or("no-store");
        assert!(cached.contains("no-store"), "a 404 is not to be cached: {cached}");
    }
    let known = service.key_set("default");
    refused(known.revoke(STRANGER).await, Code::NotFound, "KEY_NOT_FOUND");
    let request = GetKeyRequest { key_set: "default".to_owned(), kid: STRANGER.to_owned() };
    refused(service.keys().get_key(request).await, Code::NotFound, "KEY_NOT_FOUND");
    assert!(service.log().contains("KEY_NOT_FOUND"), "the log gives the reason: {}", service.log());
    stands(&mut service).await;
}

#[tokio::test]
async fn malformed_names_are_refused_by_field() {
    let mut service = Service::dev().await;
    let long = "a".repeat(64);
    for id in ["", "UPPER", "-a", "a-", "a/b", "a b", "..", "ä", "a\0", &long] {
        let key_set = service.key_set(id);
        malformed(key_set.rotate().await, "key_set");
        malformed(key_set.sign_message(b"m").await, "key_set");
        malformed(key_set.sign_jwt("{}").await, "key_set");
    }
    let long = "A".repeat(44);
    for kid in ["", "x", "not base64url but 43 characters long, quite so", &long] {
        malformed(service.key_set("default").revoke(kid).await, "kid");
    }
    let long_reason =
        RevokeRequest { reason: "x".repeat(513), force: true, ..RevokeRequest::default() };
    let key_set = service.key_set("default");
    malformed(key_set.revoke_as(STRANGER, long_reason).await, "reason");
    let odd_id = RevokeRequest { request_id: "line\nbreak".to_owned(), ..RevokeRequest::default() };
    malformed(key_set.revoke_as(STRANGER, odd_id).await, "request_id");
    stands(&mut service).await;
}

#[tokio::test]
async fn key_sets_that_would_not_hold_together_are_refused() {
    let mut service = Service::dev().await;
    let key_set = |id: &str, algorithm: &str, policy: Policy| KeySet {
        id: id.to_owned(),
        algorithm: algorithm.to_owned(),
        issuer: "https://issuer.example/".to_owned(),
        policy: Some(policy),
        ..KeySet::default()
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let create = async |key_set: KeySet| {
        let request = CreateKeySetRequest { key_set: Some(key_set), request_id: String::new() };
        service.keys().create_key_set(request).await.map(Response::into_inner)
    };
    for algorithm in ["", "none", "HS256", "rs256", "ES256K"] {
        let answer = create(key_set("odd", algorithm, Policy::default())).await;
        malformed(answer, "key_set.algorithm");
    }
    malformed(create(key_set("Odd", "ES256", Policy::default())).await, "key_set.id");
    malformed(create(key_set("signkeep-mine", "ES256", Policy::default())).await, "key_set.id");
    let policy = Policy { rsa_bits: 1024, ..Policy::default() };
    malformed(create(key_set("odd", "RS256", policy)).await, "key_set.policy.rsa_bits");
    let policy = Policy { propagation_delay: seconds(1), ..Policy::default() };
    let answer = create(key_set("odd", "ES256", policy)).await;
    malformed(answer, "key_set.policy.propagation_delay");
    for span in [-1, 0, i64::MAX] {
        let policy = Policy { max_token_ttl: seconds(span), ..Policy::default() };
        let answer = create(key_set("odd", "ES256", policy)).await;
        malformed(answer, "key_set.policy.max_token_ttl");
    }
    let policy = Policy { retention: seconds(60), ..Policy::default() };
    malformed(create(key_set("odd", "ES256", policy)).await, "key_set.policy.retention");
    let again = create(key_set("default", "RS256", Policy::default())).await;
    refused(again, Code::AlreadyExists, "KEY_SET_EXISTS");
    stands(&mut service).await;
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused() {
    let mut service = Service::dev().await;
    let es256 = service.key_set("demo-es256");
    for length in [0, 1, 31, 33, 64] {
        let answer = es256.sign(Input::Digest(vec![7; length].into())).await;
        refused(answer, Code::InvalidArgument, "DIGEST_LENGTH");
    }
    let eddsa = service.key_set("eddsa");
    eddsa.create("EdDSA", Policy::default()).await;
    let answer = eddsa.sign(Input::Digest(vec![7; 64].into())).await;
    refused(answer, Code::InvalidArgument, "DIGEST_NOT_ALLOWED");

    let answer = es256.sign_message(&vec![7; 10 << 20]).await;
    let status = answer.unwrap_err();
    let (code, why) = reason(&status);
    assert_eq!((code, &*why), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{status:?}");
    es256.sign_message(&vec![7; 60 << 10]).await.unwrap();
    es256.sign_message(b"").await.unwrap();
    stands(&mut service).await;
}

#[tokio::test]
async fn pages_of_odd_sizes_and_foreign_places_are_refused() {
    let mut service = Service::dev().await;
    let list = async |key_set: &str, page_size: i32, page_token: &str| {
        let request = ListKeysRequest {
            key_set: key_set.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
            states: Vec::new(),
        };
        service.keys().list_keys(request).await.map(Response::into_inner)
    };
    malformed(list("default", -1, "").await, "page_size");
    malformed(list("default", i32::MIN, "").await, "page_size");
    let first = list("default", 1, "").await.unwrap();
    assert_eq!(first.keys.len(), 1);
    let second = list("default", 1, &first.next_page_token).await.unwrap();
    assert_ne!(first.keys, second.keys);
    assert!(second.next_page_token.is_empty());
    malformed(list("demo-es256", 1, &first.next_page_token).await, "page_token");
    let long = "A".repeat(5_000);
    for foreign in ["x", "AAAA", "%%%", "eyJhIjoxfQ", &long] {
        malformed(list("default", 1, foreign).await, "page_token");
    }
    let sets = ListKeySetsRequest { page_size: 1, page_token: String::new() };
    let sets = service.keys().list_key_sets(sets).await.unwrap().into_inner();
    assert_eq!(sets.key_sets.len(), 1);
    malformed(list("default", 1, &sets.next_page_token).await, "page_token");
    let foreign = ListKeySetsRequest { page_size: 1, page_token: first.next_page_token };
    malformed(service.keys().list_key_sets(foreign).await, "page_token");
    assert_eq!(list("default", i32::MAX, "").await.unwrap().keys.len(), 2, "coerced");
    let odd = ListKeysRequest {
        key_set: "default".to_owned(),
        states: vec![99],
        ..ListKeysRequest::default()
    };
    malformed(service.keys().list_keys(odd).await, "states[0]");
    stands(&mut service).await;
}

#[tokio::test]
async fn claims_that_are_not_the_callers_to_make_are_refused() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("default");
    for claims in ["", "[]", "7", "null", "\"text\"", "{", "{}{}", "{\"a\":1,}"] {
        malformed(key_set.sign_jwt(claims).await, "claims_json");
    }
    for (claims, field) in [
        (r#"{"iss":"https://else.example/"}"#, "claims_json.iss"),
        (r#"{"iat":1}"#, "claims_json.iat"),
        (r#"{"jti":"mine"}"#, "claims_json.jti"),
    ] {
        let answer = key_set.sign_jwt(claims).await;
        let status = refused(answer, Code::PermissionDenied, "CLAIM_NOT_ALLOWED");
        assert_eq!(bad_fields(&status), [field]);
    }
    for exp in ["99999999999", "1", "-1", "\"soon\"", "1e400", "null"] {
        let status = key_set.sign_jwt(&format!(r#"{{"exp":{exp}}}"#)).await.unwrap_err();
        let expected = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
        assert_eq!(reason(&status), expected, "exp {exp}: {status:?}");
    }
    let request = |lifetime: i64, typ: &str| SignJwtRequest {
        key_set: "default".to_owned(),
        payload: Some(Payload::ClaimsJson("{}".to_owned())),
        typ: typ.to_owned(),
        header: None,
        lifetime: Some(prost_types::Duration { seconds: lifetime, nanos: 0 }),
    };
    for lifetime in [-1, 0, 24 * 60 * 60 + 1, i64::MAX] {
        let answer = service.signing().sign_jwt(request(lifetime, "")).await;
        malformed(answer, "lifetime");
    }
    for typ in ["line\nbreak", "\u{e4}", &"x".repeat(500)] {
        malformed(service.signing().sign_jwt(request(60, typ)).await, "typ");
    }
    let none = SignJwtRequest { payload: None, ..request(60, "") };
    let status = service.signing().sign_jwt(none).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
    stands(&mut service).await;
}

#[tokio::test]
async fn header_parameters_among_the_claims_never_reach_the_header() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("default");
    let current = key_set.current().await;
    for name in ["alg", "kid", "jwk", "jku", "x5u", "x5c", "crit"] {
        let claims = format!(r#"{{"{name}":"none"}}"#);
        match key_set.sign_jwt(&claims).await {
            Err(status) => {
                refused(Err::<(), _>(status), Code::PermissionDenied, "CLAIM_NOT_ALLOWED");
            }
            Ok(signed) => {
                let header = signed.jwt.split('.').next().unwrap();
                let header = Base64UrlUnpadded::decode_vec(header).unwrap();
                let header: Value = serde_json::from_slice(&header).unwrap();
                assert_eq!(
                    header,
                    serde_json::json!({ "alg": "RS256", "kid": current, "typ": "JWT" })
                );
            }
        }
    }
    stands(&mut service).await;
}
