//! Callers × actions × key sets, each cell by its rpc.

use super::{Guarded, let_through, reason, sign};
use crate::harness::access::binding;
use signkeep::access::{Action, Role};
use signkeep::grpc::proto as pb;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

/// Who may do what with `default`, and with any key set that begins with `prod-`; nobody may do
/// anything with `other`. One letter for each action in the order of [`Action::ALL`]: V S J R K B H C
/// U D E X.
const TABLE: [(&str, &str); 8] = [
    ("viewer", "V..........."),
    ("signer", "VSJ........."),
    ("jwt-signer", "V.J........."),
    ("operator", "V..RKBH....."),
    ("admin", "V..RKBHCUDEX"),
    ("signing-admin", "VSJRKBHCUDEX"),
    ("stranger", "............"),
    ("", "............"),
];

async fn guarded() -> Guarded {
    let all = Role::ALL.map(|role| {
        let mut one = binding(&format!("jwt:ci:{role}"), "default", &[role]);
        one.key_sets.push("prod-*".parse().unwrap());
        one
    });
    let mut both = binding("jwt:ci:signing-*", "default", &[Role::Signer, Role::Admin]);
    both.key_sets.push("prod-*".parse().unwrap());
    Guarded::by(all.into_iter().chain([both]).collect()).await
}

const NOBODYS_KID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Asks for `action` in such a way that nothing changes if it is let through.
pub(super) async fn ask(
    guarded: &Guarded,
    sub: &str,
    action: Action,
    key_set: &str,
) -> Result<(), Status> {
    let (mut keys, mut signing) = (guarded.keys(), guarded.signing());
    let id = key_set.to_owned();
    match action {
        Action::View => {
            let request = guarded.from(sub, pb::GetKeySetRequest { key_set: id });
            keys.get_key_set(request).await.map(drop)
        }
        Action::Sign => signing.sign(guarded.from(sub, sign(key_set))).await.map(drop),
        Action::SignJwt => {
            let payload = Some(pb::sign_jwt_request::Payload::ClaimsJson("{}".into()));
            let jwt = pb::SignJwtRequest { key_set: id, payload, ..Default::default() };
            signing.sign_jwt(guarded.from(sub, jwt)).await.map(drop)
        }
        Action::Rotate => {
            let rotate = pb::RotateRequest { key_set: id, dry_run: true, ..Default::default() };
            keys.rotate(guarded.from(sub, rotate)).await.map(drop)
        }
        Action::Revoke => {
            let kid = NOBODYS_KID.to_owned();
            let revoke =
                pb::RevokeRequest { key_set: id, kid, dry_run: true, ..Default::default() };
            keys.revoke(guarded.from(sub, revoke)).await.map(drop)
        }
        Action::Rollback => {
            let back = pb::RollbackRequest { key_set: id, dry_run: true, ..Default::default() };
            keys.rollback(guarded.from(sub, back)).await.map(drop)
        }
        Action::Hold => update(guarded, sub, id, &["rotation_hold"]).await,
        Action::Update => update(guarded, sub, id, &["rotation_hold", "policy.rsa_bits"]).await,
        Action::Create => {
            let set = pb::KeySet {
                id,
                algorithm: "ES256".into(),
                backend: "nowhere".into(),
                issuer: "https://issuer.example/".into(),
                ..Default::default()
            };
            let create = pb::CreateKeySetRequest { key_set: Some(set), ..Default::default() };
            keys.create_key_set(guarded.from(sub, create)).await.map(drop)
        }
        Action::Disable => {
            let disable = pb::DisableKeySetRequest { key_set: id, ..Default::default() };
            let outcome = keys.disable_key_set(guarded.from(sub, disable)).await.map(drop);
            if outcome.is_ok() {
                let enable =
                    pb::EnableKeySetRequest { key_set: key_set.into(), ..Default::default() };
                keys.enable_key_set(guarded.from("admin", enable)).await.unwrap();
            }
            outcome
        }
        Action::Enable => {
            let enable = pb::EnableKeySetRequest { key_set: id, ..Default::default() };
            keys.enable_key_set(guarded.from(sub, enable)).await.map(drop)
        }
        Action::Delete => {
            // Refused by the keyring: it is enabled.
            let delete = pb::DeleteKeySetRequest { key_set: id, ..Default::default() };
            keys.delete_key_set(guarded.from(sub, delete)).await.map(drop)
        }
    }
}

/// Fails in the keyring if it is let through: no key set has that etag.
async fn update(guarded: &Guarded, sub: &str, id: String, mask: &[&str]) -> Result<(), Status> {
    let update = pb::UpdateKeySetRequest {
        key_set: Some(pb::KeySet { id, etag: "999999".into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    guarded.keys().update_key_set(guarded.from(sub, update)).await.map(drop)
}

#[tokio::test]
async fn every_cell_of_the_table_is_as_it_stands() {
    let guarded = guarded().await;
    let mut cells = 0;
    for (sub, row) in TABLE {
        for (action, cell) in Action::ALL.into_iter().zip(row.chars()) {
            for (key_set, is_bound) in [
                ("default", true),
                ("prod-nowhere", true),
                ("other", false),
                ("nowhere", false),
                ("prod", false),
            ] {
                let outcome = ask(&guarded, sub, action, key_set).await;
                let allowed = is_bound && cell != '.';
                assert_eq!(
                    let_through(&outcome),
                    allowed,
                    "{sub:?} {action} {key_set}: {outcome:?}"
                );
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 8 * 12 * 5);
}

#[tokio::test]
async fn whoever_may_not_learns_nothing_of_what_there_is() {
    let guarded = guarded().await;
    for action in Action::ALL {
        let there = ask(&guarded, "stranger", action, "other").await.unwrap_err();
        let not_there = ask(&guarded, "stranger", action, "nowhere").await.unwrap_err();
        assert_eq!(reason(&there), reason(&not_there), "{action}");
        let message = there.message().replace("other", "nowhere");
        assert_eq!(message, not_there.message(), "{action}");
    }
}

#[tokio::test]
async fn the_services_own_key_sets_are_nobodys() {
    let guarded = Guarded::by(vec![binding("**", "**", &[Role::Signer, Role::Admin])]).await;
    for action in Action::ALL {
        let outcome = ask(&guarded, "admin", action, "signkeep-audit").await;
        let (code, _) = reason(&outcome.unwrap_err());
        let expected =
            if action == Action::Create { Code::InvalidArgument } else { Code::NotFound };
        assert_eq!(code, expected, "{action}");
    }
}

#[tokio::test]
async fn without_a_binding_nobody_may_do_anything() {
    let guarded = Guarded::by(Vec::new()).await;
    for sub in ["", "admin"] {
        for action in Action::ALL {
            let refused = ask(&guarded, sub, action, "default").await.unwrap_err();
            let expected = (Code::PermissionDenied, "CALLER_NOT_ALLOWED".to_owned());
            assert_eq!(reason(&refused), expected, "{sub} {action}");
        }
    }
    assert_eq!(guarded.world.vault.signatures(), 0);
}

#[tokio::test]
async fn what_is_malformed_is_told_before_who_may() {
    let guarded = guarded().await;
    let refused = guarded.sign("stranger", "No Such Name").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_refusal_says_who_what_where_and_what_would_do_and_is_told_of() {
    use tonic_types::StatusExt;
    let guarded = guarded().await;
    let refused = guarded.sign("viewer", "default").await.unwrap_err();
    for word in ["jwt:ci:viewer", "sign", "default", "role signer"] {
        assert!(refused.message().contains(word), "{refused:?}");
    }
    let metadata = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["caller"], "jwt:ci:viewer");
    assert_eq!(metadata["action"], "sign");
    assert_eq!(metadata["key_set"], "default");
    assert_eq!(metadata["roles"], "signer");
    let mut request = Request::new(sign("default"));
    request.metadata_mut().insert("authorization", "Bearer x.y.z".parse().unwrap());
    let unknown = guarded.signing().sign(request).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    assert!(!unknown.message().contains("x.y.z"));
    let noted = guarded.noted.0.lock().unwrap();
    let word = |text: &str| text.to_owned();
    assert_eq!(
        *noted,
        [
            (word("jwt:ci:viewer"), word("sign"), word("default"), word("CALLER_NOT_ALLOWED")),
            (word(""), word(""), word(""), word("CALLER_UNKNOWN")),
        ]
    );
}

#[tokio::test]
async fn the_authorization_header_is_one_bearer_token_or_the_call_is_refused() {
    let guarded = guarded().await;
    let good = format!("Bearer {}", guarded.minter.token("signer"));
    for headers in [
        vec!["Basic c2lnbmVyOng="],
        vec!["Bearer"],
        vec!["Bearer "],
        vec![good.as_str(), good.as_str()],
        vec![good.trim_start_matches("Bearer ")],
    ] {
        let mut request = Request::new(sign("default"));
        for header in &headers {
            request.metadata_mut().append("authorization", header.parse().unwrap());
        }
        let refused = guarded.signing().sign(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{headers:?}");
    }
    for header in [good.replace("Bearer", "bearer"), good] {
        let mut request = Request::new(sign("default"));
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        guarded.signing().sign(request).await.unwrap();
    }
}

#[tokio::test]
async fn lists_have_what_the_caller_may_see_page_after_page() {
    let mut seen = binding("jwt:ci:viewer", "list-a*", &[Role::Viewer]);
    seen.key_sets.push("list-c*".parse().unwrap());
    let guarded = Guarded::by(vec![seen]).await;
    for id in ["list-a1", "list-a2", "list-b1", "list-b2", "list-b3", "list-c1", "list-d1"] {
        let create =
            signkeep::keyring::Create { id: id.parse().unwrap(), ..guarded.life.creation() };
        guarded.life.ring.create(crate::harness::ring::context(None), create).await.unwrap();
    }
    for page_size in [1, 2, 3, 50] {
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListKeySetsRequest { page_size, page_token };
            let page = guarded.keys().list_key_sets(guarded.from("viewer", request)).await;
            let page = page.unwrap().into_inner();
            assert!(page.key_sets.len() <= usize::try_from(page_size).unwrap());
            listed.extend(page.key_sets.into_iter().map(|set| set.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, ["list-a1", "list-a2", "list-c1"], "{page_size} a page");
    }
    let request = guarded.from("stranger", pb::ListKeySetsRequest::default());
    let refused = guarded.keys().list_key_sets(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn each_item_of_a_stream_is_judged_by_itself() {
    let guarded = guarded().await;
    let item = |id: &str, key_set: &str| pb::SignStreamRequest {
        request_id: id.into(),
        request: Some(sign(key_set)),
    };
    let items = vec![item("a", "default"), item("b", "other"), item("c", "default")];
    let request = guarded.from("signer", tokio_stream::iter(items));
    let answers = guarded.signing().sign_stream(request).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 3);
    for answer in answers {
        match (answer.request_id.as_str(), answer.outcome.unwrap()) {
            ("a" | "c", pb::sign_stream_response::Outcome::Signed(_)) => {}
            ("b", pb::sign_stream_response::Outcome::Error(error)) => {
                assert_eq!(error.code, i32::from(Code::PermissionDenied));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(guarded.world.vault.signatures(), 2);
}

#[tokio::test]
async fn reads_and_watches_of_one_key_set_need_its_view() {
    let guarded = guarded().await;
    let (mut keys, mut signing) = (guarded.keys(), guarded.signing());
    for (key_set, allowed) in [("default", true), ("other", false)] {
        let id = || key_set.to_owned();
        let list = pb::ListKeysRequest { key_set: id(), ..Default::default() };
        let key = pb::GetKeyRequest { key_set: id(), kid: NOBODYS_KID.into() };
        let public = pb::GetPublicKeyRequest { key_set: id(), kid: String::new() };
        let watch = pb::WatchKeysRequest { key_set: id() };
        let outcomes = [
            keys.list_keys(guarded.from("viewer", list)).await.map(drop),
            keys.get_key(guarded.from("viewer", key)).await.map(drop),
            signing.get_public_key(guarded.from("viewer", public)).await.map(drop),
            keys.watch_keys(guarded.from("viewer", watch)).await.map(drop),
        ];
        for (at, outcome) in outcomes.iter().enumerate() {
            assert_eq!(let_through(outcome), allowed, "{key_set}: rpc {at}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn services_are_told_to_whoever_comes_over_loopback() {
    let guarded = Guarded::by(Vec::new()).await;
    let list = MessageRequest::ListServices(String::new());
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = ServerReflectionClient::new(guarded.channel.clone());
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    assert!(answers.next().await.unwrap().is_ok());
}
