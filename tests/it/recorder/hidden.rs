//! The key set that seals the record is nobody's but the service's.

use super::*;
use crate::harness::ring::{context, tester};
use crate::harness::service::Service;
use crate::harness::{eventually, reason};
use signkeep::backend::Input;
use signkeep::grpc::proto as pb;
use signkeep::key::{Approval, Emergency, Service as Serves};
use signkeep::keyring::{Error, Mode, Revoke, Rollback, Rotate, Sign};
use tonic::{Code, Status};

#[tokio::test]
async fn a_keyring_shows_an_internal_key_set_to_nobody() {
    let kept = Kept::on(World::new().await, small()).await;
    let ring = kept.life.ring.clone();
    let mut watcher = ring.watch(None).unwrap();
    watcher.next().await.unwrap();
    let set = ring.internal(internal()).await.unwrap();
    assert_eq!(ring.internal(internal()).await.unwrap(), set, "it is made once");
    assert_eq!(kept.world.vault.generations(), 2);
    let (id, kid) = (audit(), set.current().unwrap().kid);
    let unknown =
        |error: Error| assert!(matches!(error, Error::KeySetNotFound { .. }), "{error:?}");
    assert!(ring.key_sets(None, 100).is_empty());
    unknown(ring.key_set(&id).unwrap_err());
    unknown(ring.key(&id, &kid).await.unwrap_err());
    unknown(ring.keys(&id, &[], None, 10).await.unwrap_err());
    assert!(ring.watch(Some(id.clone())).is_err());
    assert!(!ring.still_signs(&id, kid));
    let (key_set, mode, reason) = (id.clone(), Mode::Commit, "why".to_owned());
    let (expected_current, approval) = (None, Approval::Forced);
    let rotate =
        Rotate { key_set: id.clone(), expected_current, approval, reason: reason.clone(), mode };
    unknown(ring.rotate(context(None), rotate).await.unwrap_err());
    let rollback = Rollback { key_set: id.clone(), reason: reason.clone(), expected_current, mode };
    unknown(ring.roll_back(context(None), rollback).await.unwrap_err());
    let emergency = Emergency::Promote;
    let revoke = Revoke { key_set, kid, approval, emergency, reason: reason.clone(), mode };
    unknown(ring.revoke(context(None), revoke).await.unwrap_err());
    let update = signkeep::keyring::Update::default();
    unknown(ring.update(context(None), id.clone(), update).await.unwrap_err());
    let disable = ring.set_service(context(None), id.clone(), Serves::Disabled, reason);
    unknown(disable.await.unwrap_err());
    let input = Input::Message(b"hello"[..].into());
    let sign = Sign { key_set: id.clone(), input, expected: None };
    unknown(ring.sign(&tester(), soon(), sign.clone()).await.unwrap_err());
    // Nobody's watch has heard of it: the next thing to be told is another key set.
    kept.life.create().await.unwrap();
    let event = watcher.next().await.unwrap();
    assert_eq!(event.key_sets.iter().map(|set| set.id.as_str()).collect::<Vec<_>>(), ["default"]);
    // And others are not signed for by the service's own way in.
    let own = Sign { key_set: kept.life.id.clone(), ..sign.clone() };
    assert!(matches!(ring.sign_internal(soon(), own).await, Err(Error::Fault(_))));
    assert_eq!(ring.sign_internal(soon(), sign).await.unwrap().kid, kid);
    kept.end().await;
}

/// What every rpc answers when it is asked for `key_set`.
async fn answers(service: &Service, key_set: &str) -> Vec<(&'static str, Status)> {
    let (mut keys, mut signing) = (service.keys(), service.signing());
    let (id, kid) = (|| key_set.to_owned(), "A".repeat(43));
    let set = || Some(pb::KeySet { id: id(), ..pb::KeySet::default() });
    macro_rules! asked {
        ($client:ident . $rpc:ident, $request:expr) => {
            (stringify!($rpc), $client.$rpc($request).await.map(drop).expect_err(stringify!($rpc)))
        };
    }
    let reason = || "why".to_owned();
    let mask = Some(prost_types::FieldMask { paths: vec!["rotation_hold".to_owned()] });
    let items = tokio_stream::iter([pb::SignStreamRequest {
        request_id: "1".to_owned(),
        request: Some(pb::SignRequest {
            key_set: id(),
            input: Some(pb::sign_request::Input::Message(b"x"[..].into())),
            ..pb::SignRequest::default()
        }),
    }]);
    let mut stream = signing.sign_stream(items).await.unwrap().into_inner();
    let item = match stream.message().await.unwrap().unwrap().outcome.unwrap() {
        pb::sign_stream_response::Outcome::Error(error) => error,
        other => panic!("{other:?}"),
    };
    let details = prost::Message::encode_to_vec(&item);
    let item = Status::with_details(Code::from_i32(item.code), item.message, details.into());
    vec![
        asked!(keys.get_key_set, pb::GetKeySetRequest { key_set: id() }),
        asked!(
            keys.update_key_set,
            pb::UpdateKeySetRequest { key_set: set(), update_mask: mask, ..Default::default() }
        ),
        asked!(
            keys.disable_key_set,
            pb::DisableKeySetRequest { key_set: id(), reason: reason(), ..Default::default() }
        ),
        asked!(
            keys.enable_key_set,
            pb::EnableKeySetRequest { key_set: id(), reason: reason(), ..Default::default() }
        ),
        asked!(
            keys.delete_key_set,
            pb::DeleteKeySetRequest { key_set: id(), reason: reason(), ..Default::default() }
        ),
        asked!(keys.list_keys, pb::ListKeysRequest { key_set: id(), ..Default::default() }),
        asked!(keys.get_key, pb::GetKeyRequest { key_set: id(), kid: kid.clone() }),
        asked!(
            keys.rotate,
            pb::RotateRequest {
                key_set: id(),
                force: true,
                reason: reason(),
                ..Default::default()
            }
        ),
        asked!(
            keys.revoke,
            pb::RevokeRequest {
                key_set: id(),
                kid: kid.clone(),
                reason: reason(),
                ..Default::default()
            }
        ),
        asked!(
            keys.rollback,
            pb::RollbackRequest { key_set: id(), reason: reason(), ..Default::default() }
        ),
        asked!(keys.watch_keys, pb::WatchKeysRequest { key_set: id() }),
        asked!(
            signing.get_public_key,
            pb::GetPublicKeyRequest { key_set: id(), ..Default::default() }
        ),
        asked!(
            signing.sign,
            pb::SignRequest {
                key_set: id(),
                input: Some(pb::sign_request::Input::Message(b"x"[..].into())),
                ..Default::default()
            }
        ),
        asked!(
            signing.sign_jwt,
            pb::SignJwtRequest {
                key_set: id(),
                payload: Some(pb::sign_jwt_request::Payload::ClaimsJson("{}".to_owned())),
                ..Default::default()
            }
        ),
        ("sign_stream", item),
    ]
}

#[tokio::test]
async fn every_rpc_and_path_answers_as_if_there_were_no_such_key_set() {
    let service = Service::serve().await.started().await;
    let store = format!("sqlite:{}", service.database().display());
    // It is there, or this would prove nothing.
    eventually("the key that seals the record is made", PATIENCE, async || {
        let keys = service.signkeep(&["audit", "keys", "--store", &store]).await;
        keys.success.then_some(())
    })
    .await;
    let hidden = answers(&service, "signkeep-audit").await;
    let absent = answers(&service, "signkeep-other").await;
    for ((rpc, hidden), (_, absent)) in hidden.iter().zip(&absent) {
        assert_eq!(reason(hidden), (Code::NotFound, "KEY_SET_NOT_FOUND".to_owned()), "{rpc}");
        let told = absent.message().replace("signkeep-other", "signkeep-audit");
        assert_eq!((hidden.code(), hidden.message()), (absent.code(), told.as_str()), "{rpc}");
    }
    let request = pb::ListKeySetsRequest { page_size: 1000, ..pb::ListKeySetsRequest::default() };
    let listed = service.keys().list_key_sets(request).await.unwrap().into_inner();
    let ids: Vec<_> = listed.key_sets.iter().map(|set| set.id.as_str()).collect();
    assert_eq!(ids, ["default"]);
    for path in [
        ".well-known/jwks.json",
        ".well-known/openid-configuration",
        ".well-known/oauth-authorization-server",
        "pem",
        "cer",
        "rawpem",
        "pb7",
        "fingerprint",
    ] {
        let hidden = service.http(&format!("/signkeep-audit/{path}")).await;
        let absent = service.http(&format!("/signkeep-other/{path}")).await;
        assert_eq!((hidden.status, absent.status), (404, 404), "{path}");
        assert_eq!(hidden.body, absent.body, "{path}");
    }
    let ready = service.http("/readyz").await;
    assert!(!String::from_utf8_lossy(&ready.body).contains("signkeep-audit"));
    let create = pb::CreateKeySetRequest {
        key_set: Some(pb::KeySet {
            id: "signkeep-audit".to_owned(),
            algorithm: "ES256".to_owned(),
            issuer: "x".to_owned(),
            ..pb::KeySet::default()
        }),
        ..pb::CreateKeySetRequest::default()
    };
    let refused = service.keys().create_key_set(create).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
}
