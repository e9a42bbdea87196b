//! A real deadline, before and after a change is made.

use super::*;
use crate::harness::eventually;

/// Sends `request` to an rpc of KeyService with a deadline that the client itself does not keep,
/// and returns the error that is answered.
async fn late<Q, A>(server: &Server, rpc: &str, request: Q) -> Status
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = server.patient();
    client.ready().await.unwrap();
    let mut request = Request::new(request);
    let timeout = "500m".parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", timeout);
    let path = format!("/signkeep.v1.KeyService/{rpc}").parse().unwrap();
    let call = client.unary(request, path, tonic_prost::ProstCodec::<Q, A>::default());
    let answered = tokio::time::timeout(PATIENCE, call).await;
    answered.expect("it is answered").map(|_| ()).unwrap_err()
}

#[track_caller]
fn is_late(status: &Status, committed: &str) {
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(reason(status), "DEADLINE_EXCEEDED");
    let metadata = status.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["committed"], committed);
}

#[tokio::test]
async fn a_change_whose_deadline_comes_first_is_not_made_and_says_so() {
    let server = Server::with_keys().await;
    let before = server.life.current();
    server.world.vault.hold_signatures().await;
    let rotation = pb::RotateRequest {
        key_set: "default".to_owned(),
        force: true,
        reason: "a drill".to_owned(),
        ..pb::RotateRequest::default()
    };
    let status = late::<_, pb::RotateResponse>(&server, "Rotate", rotation).await;
    is_late(&status, "false");
    server.world.vault.let_sign();
    eventually("the key that was being generated is gone", PATIENCE, async || {
        (server.world.vault.materials().len() == 2).then_some(())
    })
    .await;
    assert_eq!(server.life.current(), before, "and it stays so");
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_after_the_change_is_made_says_so() {
    let server = Server::with_keys().await;
    let revoked = server.life.current();
    server.world.vault.hold_disabling().await;
    let revocation = pb::RevokeRequest {
        key_set: "default".to_owned(),
        kid: revoked.to_string(),
        reason: "a drill".to_owned(),
        emergency: true,
        ..pb::RevokeRequest::default()
    };
    let status = late::<_, pb::RevokeResponse>(&server, "Revoke", revocation).await;
    is_late(&status, "true");
    assert_ne!(server.life.current(), revoked);
    server.stop().await;
}
