//! From the wire to the domain. Each function takes a message and returns what the keyring is
//! asked, or everything that is wrong with the message at once; nothing malformed goes further.

mod field;

pub(super) use field::states;

use super::claims;
use super::gate::Failed;
use super::proto as pb;
use super::violations::Violations;
use crate::backend::Input;
use crate::jose::Members;
use crate::key::{BackendName, Emergency, KeySetId, Kid};
use crate::keyring::{
    Create, Error, InvalidField, RequestId, Revoke, Rollback, Rotate, Sign, SignJwt, Update,
};
use field::{MASK, WHY_NEEDED, apply, approval, both, is_media_type, mode, policy, span};
use pb::sign_jwt_request::Payload;
use pb::sign_request::Input as Given;
use std::time::Duration;

/// A change, and the id under which it may be repeated.
pub(super) type Asked<T> = (T, Option<RequestId>);

/// How an ECDSA signature is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// r‖s.
    Jws,
    /// Ecdsa-Sig-Value.
    Der,
}

const NEEDED: &str = "must be set";

/// A request with one field wrong.
pub(super) fn wrong(field: &str, why: &str) -> Error {
    Error::Invalid { fields: vec![InvalidField { field: field.to_owned(), why: why.to_owned() }] }
}

/// A request about one key set.
pub(super) fn key_set(text: &str) -> Result<KeySetId, Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", text);
    wrong.finish(id)
}

/// A request about one key set, or about all if none is named.
pub(super) fn optional_key_set(text: &str) -> Result<Option<KeySetId>, Error> {
    (!text.is_empty()).then(|| key_set(text)).transpose()
}

/// A request about one key.
pub(super) fn key(set: &str, kid: &str) -> Result<(KeySetId, Kid), Error> {
    let mut wrong = Violations::default();
    let named = (wrong.key_set("key_set", set), wrong.kid("kid", kid));
    wrong.finish(both(named))
}

/// A request about one key, or about the current one if none is named.
pub(super) fn optional_key(set: &str, kid: &str) -> Result<(KeySetId, Option<Kid>), Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", set);
    let kid = wrong.optional_kid("kid", kid);
    wrong.finish(id.map(|id| (id, kid)))
}

/// CreateKeySet.
pub(super) fn create(request: pb::CreateKeySetRequest) -> Result<Asked<Create>, Error> {
    let mut wrong = Violations::default();
    let request_id = wrong.request_id(&request.request_id);
    let Some(set) = request.key_set else {
        wrong.note("key_set", NEEDED);
        return wrong.finish(None);
    };
    let id: Option<KeySetId> = wrong.check("key_set.id", set.id.parse());
    if id.as_ref().is_some_and(KeySetId::is_internal) {
        wrong.note(
            "key_set.id",
            "must not begin with signkeep-, which the service keeps for itself",
        );
    }
    let algorithm = wrong.check("key_set.algorithm", set.algorithm.parse());
    let issuer = wrong.check("key_set.issuer", set.issuer.parse());
    let backend: Option<BackendName> = (!set.backend.is_empty())
        .then(|| wrong.check("key_set.backend", set.backend.parse()))
        .flatten();
    let policy = policy(&mut wrong, &set.policy.unwrap_or_default());
    let create = both((id, both((algorithm, issuer)))).map(|(id, (algorithm, issuer))| Create {
        id,
        algorithm,
        backend,
        issuer,
        policy,
    });
    wrong.finish(create.map(|create| (create, request_id)))
}

/// UpdateKeySet: the key set's name, and what is to change.
pub(super) fn update(request: pb::UpdateKeySetRequest) -> Result<(KeySetId, Asked<Update>), Error> {
    let mut wrong = Violations::default();
    let request_id = wrong.request_id(&request.request_id);
    wrong.reason(&request.reason);
    let set = request.key_set.unwrap_or_default();
    let id = wrong.key_set("key_set.id", &set.id);
    let mut update = Update { reason: request.reason, ..Update::default() };
    if !set.etag.is_empty() {
        let etag = set.etag.parse::<u64>();
        update.etag =
            wrong.check("key_set.etag", etag.map_err(|_| "must be an etag as it was answered"));
    }
    let policy = policy(&mut wrong, &set.policy.unwrap_or_default());
    let paths = request.update_mask.unwrap_or_default().paths;
    if paths.is_empty() {
        wrong.note("update_mask", MASK);
    }
    let unknown: Vec<_> = paths
        .into_iter()
        .filter(|path| !apply(path, &mut update, &policy, set.rotation_hold))
        .collect();
    if !unknown.is_empty() {
        let named: String = unknown.join(", ").chars().take(128).collect();
        wrong.note("update_mask", format!("{MASK}; unknown: {}", named.escape_debug()));
    }
    wrong.finish(id.map(|id| (id, (update, request_id))))
}

/// EnableKeySet, DisableKeySet, DeleteKeySet: the key set's name and the reason.
pub(super) fn serve(
    set: &str,
    reason: String,
    request_id: &str,
) -> Result<Asked<(KeySetId, String)>, Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", set);
    wrong.reason(&reason);
    let request_id = wrong.request_id(request_id);
    wrong.finish(id.map(|id| ((id, reason), request_id)))
}

/// Rotate.
pub(super) fn rotate(request: pb::RotateRequest) -> Result<Asked<Rotate>, Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", &request.key_set);
    let expected_current =
        wrong.optional_kid("expected_current_kid", &request.expected_current_kid);
    wrong.reason(&request.reason);
    let request_id = wrong.request_id(&request.request_id);
    let approval = approval(&mut wrong, request.force, &request.reason);
    let rotate = id.map(|key_set| Rotate {
        key_set,
        expected_current,
        approval,
        reason: request.reason,
        mode: mode(request.dry_run),
    });
    wrong.finish(rotate.map(|rotate| (rotate, request_id)))
}

/// Revoke.
pub(super) fn revoke(request: pb::RevokeRequest) -> Result<Asked<Revoke>, Error> {
    let mut wrong = Violations::default();
    let named = (wrong.key_set("key_set", &request.key_set), wrong.kid("kid", &request.kid));
    wrong.reason(&request.reason);
    let request_id = wrong.request_id(&request.request_id);
    let approval = approval(&mut wrong, request.force, &request.reason);
    if request.emergency && !request.force && request.reason.trim().is_empty() {
        wrong.note("reason", WHY_NEEDED);
    }
    let emergency = match (request.emergency, request.replace_next) {
        (false, false) => Emergency::No,
        (true, false) => Emergency::Promote,
        (true, true) => Emergency::ReplaceNext,
        (false, true) => {
            wrong.note("replace_next", "must be set together with emergency only");
            Emergency::No
        }
    };
    let revoke = both(named).map(|(key_set, kid)| Revoke {
        key_set,
        kid,
        approval,
        emergency,
        reason: request.reason,
        mode: mode(request.dry_run),
    });
    wrong.finish(revoke.map(|revoke| (revoke, request_id)))
}

/// Rollback.
pub(super) fn roll_back(request: pb::RollbackRequest) -> Result<Asked<Rollback>, Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", &request.key_set);
    let expected_current =
        wrong.optional_kid("expected_current_kid", &request.expected_current_kid);
    wrong.reason(&request.reason);
    let request_id = wrong.request_id(&request.request_id);
    let rollback = id.map(|key_set| Rollback {
        key_set,
        expected_current,
        reason: request.reason,
        mode: mode(request.dry_run),
    });
    wrong.finish(rollback.map(|rollback| (rollback, request_id)))
}

/// Sign, and how the signature is to be written.
pub(super) fn sign(request: pb::SignRequest) -> Result<(Sign, Form), Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", &request.key_set);
    let expected = wrong.optional_kid("expected_kid", &request.expected_kid);
    let form = match pb::SignatureEncoding::try_from(request.encoding) {
        Ok(pb::SignatureEncoding::Der) => Form::Der,
        Ok(_) => Form::Jws,
        Err(_) => {
            wrong.note("encoding", "must be JWS (the default) or DER");
            Form::Jws
        }
    };
    let input = match request.input {
        Some(Given::Message(message)) => Some(Input::Message(message)),
        Some(Given::Digest(digest)) => Some(Input::Digest(digest)),
        None => {
            wrong.note("message", "must be set, unless digest is");
            None
        }
    };
    let sign = both((id, input)).map(|(key_set, input)| Sign { key_set, input, expected });
    wrong.finish(sign.map(|sign| (sign, form)))
}

/// SignJwt.
pub(super) fn sign_jwt(request: pb::SignJwtRequest) -> Result<SignJwt, Error> {
    let mut wrong = Violations::default();
    let id = wrong.key_set("key_set", &request.key_set);
    let claims: Option<Members> = match request.payload {
        Some(Payload::Claims(claims)) => claims::from_struct(&mut wrong, "claims", claims)
            .and_then(|text| wrong.check("claims", Members::parse(&text))),
        Some(Payload::ClaimsJson(text)) => claims::from_text(&mut wrong, text)
            .and_then(|text| wrong.check("claims_json", Members::parse(&text))),
        None => {
            wrong.note("claims", "must be set, unless claims_json is");
            None
        }
    };
    if !is_media_type(&request.typ) {
        wrong.note(
            "typ",
            "must be a media type, with or without application/, of at most 64 characters, e.g. at+jwt",
        );
    }
    let header = request.header.map(|header| {
        claims::from_struct(&mut wrong, "header", header)
            .and_then(|text| wrong.check("header", Members::parse(&text)))
    });
    let lifetime = span(&mut wrong, "lifetime", request.lifetime.as_ref());
    if lifetime == Some(Duration::ZERO) {
        wrong.note("lifetime", "must be longer than nothing");
    }
    let jwt = both((id, claims)).map(|(key_set, claims)| SignJwt {
        key_set,
        claims,
        typ: (!request.typ.is_empty()).then_some(request.typ),
        header: header.flatten().unwrap_or_default(),
        lifetime,
        lifetime_usual_max: None,
    });
    wrong.finish(jwt)
}

/// An error about claims, where they were given as text: it names the field that they came in.
pub(super) fn in_text(error: Failed) -> Failed {
    let named = |field: String| match field.strip_prefix("claims") {
        Some(path) if path.is_empty() || path.starts_with('.') => format!("claims_json{path}"),
        _ => field,
    };
    match error {
        Failed::Keyring(Error::ClaimNotAllowed { claim, field, why }) => {
            Error::ClaimNotAllowed { claim, field: named(field), why }.into()
        }
        Failed::Keyring(Error::Invalid { fields }) => {
            let renamed = |wrong: InvalidField| InvalidField { field: named(wrong.field), ..wrong };
            Error::Invalid { fields: fields.into_iter().map(renamed).collect() }.into()
        }
        Failed::Claim { refused, field } => Failed::Claim { refused, field: named(field) },
        other => other,
    }
}

#[cfg(test)]
mod tests;
