//! No signature of a key that was revoked reaches a reader who takes it after the revocation.

use super::*;
use pb::sign_request::Input;
use pb::sign_stream_response::Outcome;

/// Items on the stream; fewer than are under way at once.
const ITEMS: usize = 200;
/// What the reader takes before it pauses, in bytes: fewer than ten answers.
const WINDOW: u32 = 1000;

fn item(at: usize) -> pb::SignStreamRequest {
    let request = pb::SignRequest {
        key_set: "default".to_owned(),
        input: Some(Input::Message(at.to_string().into_bytes().into())),
        ..pb::SignRequest::default()
    };
    pb::SignStreamRequest { request_id: at.to_string(), request: Some(request) }
}

#[tokio::test]
async fn a_stream_gives_no_signature_of_a_key_that_was_revoked_while_its_reader_paused() {
    let server = Server::with_keys().await;
    for _certificate in 0..2 {
        server.world.vault.signature_arrives().await;
    }
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(WINDOW).connect().await.unwrap();
    let mut signing = SigningServiceClient::new(channel);
    let items = tokio_stream::iter((0..ITEMS).map(item));
    let mut answers = signing.sign_stream(items).await.unwrap().into_inner();
    for _item in 0..ITEMS {
        server.world.vault.signature_arrives().await;
    }

    let revoked = server.life.current();
    let emergency = pb::RevokeRequest {
        key_set: "default".to_owned(),
        kid: revoked.to_string(),
        reason: "a drill".to_owned(),
        emergency: true,
        ..pb::RevokeRequest::default()
    };
    server.keys().await.revoke(emergency).await.unwrap();

    let (mut old, mut dropped) = (0, 0);
    for _item in 0..ITEMS {
        match answers.message().await.unwrap().unwrap().outcome.unwrap() {
            Outcome::Signed(signed) => old += usize::from(signed.kid == revoked.to_string()),
            Outcome::Error(error) => {
                assert_eq!(error.code, Code::Aborted as i32, "{error:?}");
                let details = prost::Message::encode_to_vec(&error).into();
                let status = Status::with_details(Code::Aborted, error.message, details);
                assert_eq!(reason(&status), "KEY_SET_CHANGED");
                let metadata = status.get_details_error_info().unwrap().metadata;
                assert_eq!(metadata["current_kid"], server.life.current().to_string());
                dropped += 1;
            }
        }
    }
    assert!(old < 10, "{old} signatures of the revoked key came after its revocation");
    assert!(dropped > 0, "none was waiting");
    assert!(answers.message().await.unwrap().is_none());
    server.stop().await;
}
