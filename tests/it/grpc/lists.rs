//! ListKeys: its order and its pages. SignJwt: what is not the caller's to say.

use super::*;
use crate::harness::eventually;

#[tokio::test]
async fn a_key_that_is_being_generated_is_listed_in_its_place_and_counts_for_the_page() {
    let server = Server::with_keys().await;
    server.life.rotate().await.unwrap();
    server.world.vault.hold_signatures().await;
    let life = server.life.clone();
    let rotation = tokio::spawn(async move { life.rotate().await });
    use pb::KeyState::{Current, Next, Pending, Previous};
    let mut keys = server.keys().await;
    let mut list = async |page_size, page_token: String| {
        let states = [Pending, Previous, Current, Next].map(i32::from).to_vec();
        let key_set = "default".to_owned();
        let request = pb::ListKeysRequest { key_set, page_size, page_token, states };
        keys.list_keys(request).await.unwrap().into_inner()
    };
    let all = eventually("the next key is being generated", PATIENCE, async || {
        let page = list(0, String::new()).await;
        (page.keys.len() == 4).then_some(page.keys)
    })
    .await;
    let states: Vec<_> = all.iter().map(pb::Key::state).collect();
    assert_eq!(states, [Next, Current, Previous, Pending]);

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(1, token).await;
        assert_eq!(page.keys.len(), 1, "{page:?}");
        paged.extend(page.keys);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    server.world.vault.let_sign();
    rotation.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_claim_or_header_parameter_of_the_services_own_is_named_by_its_path() {
    use pb::sign_jwt_request::Payload;
    use prost_types::{Struct, Value, value::Kind};
    let server = Server::with_keys().await;
    let object = |name: &str| Struct {
        fields: [(name.to_owned(), Value { kind: Some(Kind::StringValue("x".into())) })].into(),
    };
    let empty = || Some(Payload::Claims(Struct::default()));
    let requests = [
        ("claims.jti", Some(Payload::Claims(object("jti"))), None),
        ("claims.iss", Some(Payload::Claims(object("iss"))), None),
        ("claims_json.jti", Some(Payload::ClaimsJson(r#"{"jti":"x"}"#.into())), None),
        ("header.alg", empty(), Some(object("alg"))),
        ("header.kid", empty(), Some(object("kid"))),
    ];
    let mut signing = server.signing().await;
    for (field, payload, header) in requests {
        let key_set = "default".to_owned();
        let request =
            pb::SignJwtRequest { key_set, payload, header, ..pb::SignJwtRequest::default() };
        let refused = signing.sign_jwt(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert_eq!(reason(&refused), "CLAIM_NOT_ALLOWED");
        let bad = refused.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, field);
    }
    server.stop().await;
}
