use super::*;
use crate::access::{Action, Denied};
use crate::audit::recorder::NoRoom;
use crate::key::{StateName, TransitionError};
use jiff::Timestamp;
use std::collections::BTreeSet;
use tonic_types::StatusExt;

const REQUEST: &str = "req-1";
const SECRET: &str = "the cause is for the log";

/// Reasons that no case here can produce yet: they belong to leases.
const LATER: [Reason; 2] = [Reason::Unspecified, Reason::LeaseExpired];

fn kid() -> Kid {
    Kid::from_thumbprint([1; 32])
}

fn id() -> KeySetId {
    "default".parse().unwrap()
}

/// The name of the variant, so that a variant without a case is noticed: it does not compile.
fn variant(error: &Error) -> &'static str {
    match error {
        Error::KeySetNotFound { .. } => "KeySetNotFound",
        Error::Refused(refusal) => match refusal {
            Refusal::NextKeyNotPropagated { .. } => "NextKeyNotPropagated",
            Refusal::NextKeyMissing => "NextKeyMissing",
            Refusal::RotationHold => "RotationHold",
            Refusal::TokensStillValid { .. } => "TokensStillValid",
            Refusal::CurrentKey { .. } => "CurrentKey",
            Refusal::KeyDestroyed { .. } => "KeyDestroyed",
            Refusal::NothingToRollBack => "NothingToRollBack",
            Refusal::Changed { .. } => "Changed",
            Refusal::KeyNotFound { .. } => "KeyNotFound",
            Refusal::KeysInUse { .. } => "KeysInUse",
            Refusal::StillEnabled => "StillEnabled",
            Refusal::Transition(_) => "Transition",
        },
        Error::KeySetExists { .. } => "KeySetExists",
        Error::PublicKeyInUse => "PublicKeyInUse",
        Error::Invalid { .. } => "Invalid",
        Error::ClaimNotAllowed { .. } => "ClaimNotAllowed",
        Error::DigestLength { .. } => "DigestLength",
        Error::DigestNotAllowed => "DigestNotAllowed",
        Error::RequestIdReused => "RequestIdReused",
        Error::Disabled { .. } => "Disabled",
        Error::NoCurrentKey { .. } => "NoCurrentKey",
        Error::DeadlineExceeded { .. } => "DeadlineExceeded",
        Error::Overloaded => "Overloaded",
        Error::Backend { source, .. } => match source.kind {
            backend::Kind::NotFound => "backend NotFound",
            backend::Kind::Unsupported => "backend Unsupported",
            backend::Kind::TooLong => "backend TooLong",
            backend::Kind::Denied => "backend Denied",
            backend::Kind::Throttled => "backend Throttled",
            backend::Kind::Unavailable => "backend Unavailable",
            backend::Kind::Late => "backend Late",
            backend::Kind::Inconsistent => "backend Inconsistent",
        },
        Error::Store(source) => match source.kind {
            store::Kind::Conflict => "store Conflict",
            store::Kind::KeySetExists => "store KeySetExists",
            store::Kind::PublicKeyInUse => "store PublicKeyInUse",
            store::Kind::RequestAnswered => "store RequestAnswered",
            store::Kind::Unavailable => "store Unavailable",
            store::Kind::Corrupt => "store Corrupt",
        },
        Error::Unrecorded(_) => "Unrecorded",
        Error::Fault(_) => "Fault",
    }
}

/// How many names [`variant`] knows.
const VARIANTS: usize = 40;

fn from(kind: backend::Kind) -> Error {
    Error::Backend {
        name: "token".parse().unwrap(),
        source: backend::Error::new(kind, "C_Sign", SECRET),
    }
}

fn stored(kind: store::Kind) -> Error {
    Error::Store(store::Error::new(kind, "commit", SECRET))
}

#[rustfmt::skip]
fn table() -> Vec<(Error, Code, Reason)> {
    use Code::{Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound};
    use Code::{ResourceExhausted, Unavailable};
    let wait = Duration::from_millis(1500);
    let at = Timestamp::UNIX_EPOCH;
    let field = InvalidField { field: "kid".into(), why: "must be one".into() };
    let digest = Error::DigestLength { algorithm: crate::key::Algorithm::Es256, wanted: 32, given: 5 };
    vec![
        (Error::KeySetNotFound { id: "x".into() }, NotFound, Reason::KeySetNotFound),
        (Refusal::NextKeyNotPropagated { kid: kid(), ready: at, wait }.into(), FailedPrecondition, Reason::NextKeyNotPropagated),
        (Refusal::NextKeyMissing.into(), FailedPrecondition, Reason::NextKeyNotPropagated),
        (Refusal::RotationHold.into(), FailedPrecondition, Reason::RotationHold),
        (Refusal::TokensStillValid { kid: kid(), until: at, wait }.into(), FailedPrecondition, Reason::TokensStillValid),
        (Refusal::CurrentKey { kid: kid() }.into(), FailedPrecondition, Reason::CurrentKey),
        (Refusal::KeyDestroyed { kid: kid() }.into(), FailedPrecondition, Reason::KeyDestroyed),
        (Refusal::NothingToRollBack.into(), FailedPrecondition, Reason::NothingToRollBack),
        (Refusal::Changed { current: Some(kid()) }.into(), Aborted, Reason::KeySetChanged),
        (Refusal::Changed { current: None }.into(), Aborted, Reason::KeySetChanged),
        (Refusal::KeyNotFound { kid: kid() }.into(), NotFound, Reason::KeyNotFound),
        (Refusal::KeysInUse { kid: kid(), state: StateName::Next }.into(), FailedPrecondition, Reason::KeySetInUse),
        (Refusal::StillEnabled.into(), FailedPrecondition, Reason::KeySetInUse),
        (Refusal::Transition(TransitionError { verb: "retire", state: StateName::Next }).into(), Internal, Reason::InternalFault),
        (Error::KeySetExists { id: id() }, AlreadyExists, Reason::KeySetExists),
        (Error::PublicKeyInUse, AlreadyExists, Reason::PublicKeyInUse),
        (Error::Invalid { fields: vec![field] }, InvalidArgument, Reason::InvalidRequest),
        (Error::ClaimNotAllowed { claim: "jti".into(), field: "claims.jti".into(), why: "is the service's" }, Code::PermissionDenied, Reason::ClaimNotAllowed),
        (digest, InvalidArgument, Reason::DigestLength),
        (Error::DigestNotAllowed, InvalidArgument, Reason::DigestNotAllowed),
        (Error::RequestIdReused, InvalidArgument, Reason::RequestIdReused),
        (Error::Disabled { id: id() }, FailedPrecondition, Reason::KeySetDisabled),
        (Error::NoCurrentKey { id: id() }, Unavailable, Reason::NoCurrentKey),
        (Error::DeadlineExceeded { committed: Some(true) }, Code::DeadlineExceeded, Reason::DeadlineExceeded),
        (Error::Overloaded, ResourceExhausted, Reason::Overloaded),
        (NoRoom { sink: "store" }.into(), Unavailable, Reason::AuditUnavailable),
        (from(backend::Kind::NotFound), Internal, Reason::InternalFault),
        (from(backend::Kind::Unsupported), Internal, Reason::InternalFault),
        (from(backend::Kind::TooLong), InvalidArgument, Reason::MessageTooLarge),
        (from(backend::Kind::Denied), Unavailable, Reason::BackendUnavailable),
        (from(backend::Kind::Throttled), ResourceExhausted, Reason::Overloaded),
        (from(backend::Kind::Unavailable), Unavailable, Reason::BackendUnavailable),
        (from(backend::Kind::Late), Code::DeadlineExceeded, Reason::DeadlineExceeded),
        (from(backend::Kind::Inconsistent), Internal, Reason::InternalFault),
        (stored(store::Kind::Conflict), Aborted, Reason::KeySetChanged),
        (stored(store::Kind::KeySetExists), Internal, Reason::InternalFault),
        (stored(store::Kind::PublicKeyInUse), Internal, Reason::InternalFault),
        (stored(store::Kind::RequestAnswered), Internal, Reason::InternalFault),
        (stored(store::Kind::Unavailable), Unavailable, Reason::StoreUnavailable),
        (stored(store::Kind::Corrupt), Internal, Reason::InternalFault),
        (Error::Fault(SECRET.into()), Internal, Reason::InternalFault),
    ]
}

fn caller() -> Caller {
    Caller::new("uid:1000", [""; 0]).unwrap()
}

fn denied() -> Refused {
    let (caller, key_set) = (caller(), Some(id()));
    Refused::Denied(Denied { caller, action: Action::Sign, key_set })
}

fn limited() -> Refused {
    let wait = Duration::from_millis(1);
    Refused::Limited { caller: caller(), key_set: id(), limit: "rate", wait }
}

fn claim() -> Failed {
    let why = "must be a string like x".to_owned();
    let refused = ClaimRefused { claim: "aud".into(), rule: "audiences", why };
    Failed::Claim { refused, field: "claims.aud".into() }
}

/// Errors that are made by the face itself.
fn own() -> Vec<(Status, Code, Reason)> {
    use Code::{InvalidArgument, ResourceExhausted, Unavailable, Unimplemented};
    let made = |code, message| foreign(&Status::new(code, message), REQUEST);
    vec![
        (
            of_creation(from(backend::Kind::Unsupported).into(), REQUEST),
            InvalidArgument,
            Reason::AlgorithmUnsupported,
        ),
        (made(Unimplemented, ""), Unimplemented, Reason::UnknownMethod),
        (made(Unimplemented, "gzip"), Unimplemented, Reason::InvalidRequest),
        (made(Code::OutOfRange, "large"), ResourceExhausted, Reason::MessageTooLarge),
        (made(Code::Internal, "decode"), InvalidArgument, Reason::InvalidRequest),
        (made(Code::Cancelled, "timeout"), Code::DeadlineExceeded, Reason::DeadlineExceeded),
        (made(Code::DataLoss, SECRET), Code::Internal, Reason::InternalFault),
        (deadline_exceeded(), Code::DeadlineExceeded, Reason::DeadlineExceeded),
        (malformed_timeout(), InvalidArgument, Reason::InvalidRequest),
        (caller_unknown(&Unknown::Nothing), Code::Unauthenticated, Reason::CallerUnknown),
        (not_welcome(&caller()), Code::PermissionDenied, Reason::CallerNotAllowed),
        (of(denied(), REQUEST), Code::PermissionDenied, Reason::CallerNotAllowed),
        (
            of(Refused::Expired { caller: caller() }, REQUEST),
            Code::Unauthenticated,
            Reason::CallerUnknown,
        ),
        (of(limited(), REQUEST), ResourceExhausted, Reason::RateLimited),
        (of(claim(), REQUEST), Code::PermissionDenied, Reason::ClaimNotAllowed),
        (overloaded(), ResourceExhausted, Reason::Overloaded),
        (shutting_down(), Unavailable, Reason::ShuttingDown),
        (watch_lagged(), Code::Aborted, Reason::WatchLagged),
    ]
}

fn all() -> Vec<(Status, Code, Reason)> {
    let translated =
        table().into_iter().map(|(error, code, reason)| (of(error, REQUEST), code, reason));
    translated.chain(own()).collect()
}

#[test]
fn every_error_has_its_code_and_its_reason() {
    for (status, code, reason) in all() {
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(info.reason, crate::grpc::told::name(reason));
        assert_eq!(info.domain, "signkeep");
        assert!(!info.reason.starts_with("ERROR_REASON"));
        assert!(!status.message().is_empty());
    }
}

#[test]
fn the_record_has_the_reason_that_the_caller_is_told() {
    for (error, _, reason) in table() {
        assert_eq!(error.reason(), crate::grpc::told::name(reason), "{error:?}");
    }
}

#[test]
fn every_variant_has_a_case() {
    let seen: BTreeSet<_> = table().iter().map(|(error, ..)| variant(error)).collect();
    assert_eq!(seen.len(), VARIANTS, "{seen:?}");
}

#[test]
fn every_reason_is_given_by_some_case() {
    let given: BTreeSet<_> = all().into_iter().map(|(.., reason)| reason as i32).collect();
    let later = LATER.map(|reason| reason as i32);
    let missing: Vec<_> = (0..)
        .map_while(|number| Reason::try_from(number).ok())
        .filter(|reason| !given.contains(&(*reason as i32)) && !later.contains(&(*reason as i32)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(later.iter().all(|reason| !given.contains(reason)), "LATER is out of date");
}

#[test]
fn what_passes_says_when_to_come_back() {
    for (status, ..) in all() {
        let retry = status.get_details_retry_info();
        let passing = match status.code() {
            Code::Unavailable => true,
            Code::ResourceExhausted => reason(&status) != "MESSAGE_TOO_LARGE",
            _ => ["NEXT_KEY_NOT_PROPAGATED", "TOKENS_STILL_VALID"].contains(&&*reason(&status)),
        };
        assert_eq!(retry.is_some(), passing, "{status:?}");
        if let Some(retry) = retry {
            assert!(retry.retry_delay.unwrap() >= Duration::from_secs(1));
        }
    }
}

#[test]
fn a_fault_tells_nothing_but_its_request_id() {
    for (status, ..) in all() {
        // These two are told in the backend's own words.
        let told =
            ["ALGORITHM_UNSUPPORTED", "MESSAGE_TOO_LARGE"].contains(&reason(&status).as_str());
        assert!(told || !format!("{status:?}").contains(SECRET));
        assert!(told || !String::from_utf8_lossy(status.details()).contains(SECRET));
        if status.code() == Code::Internal {
            let metadata = status.get_details_error_info().unwrap().metadata;
            assert_eq!(metadata.len(), 1);
            assert_eq!(metadata["request_id"], REQUEST);
        }
    }
}

#[test]
fn refusals_by_a_guard_name_what_stands_in_the_way() {
    for (status, code, _) in all() {
        let guard = status.get_details_precondition_failure();
        assert_eq!(guard.is_some(), code == Code::FailedPrecondition, "{status:?}");
        if let Some(guard) = guard {
            assert_eq!(guard.violations[0].r#type, reason(&status));
        }
    }
}

#[test]
fn malformed_fields_are_named_each() {
    let fields: Vec<_> = (0..40)
        .map(|at| InvalidField { field: format!("field{at}"), why: "é".repeat(4000) })
        .collect();
    let status = of(Error::Invalid { fields }, REQUEST);
    let bad = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(bad[3].field, "field3");
    assert_eq!(bad.len(), 16);
    assert!(status.message().len() <= 2100);
}

#[test]
fn the_variables_of_a_message_stand_in_the_metadata() {
    let wait = Duration::from_millis(61_200);
    let ready = "2026-11-23T10:00:00Z".parse().unwrap();
    let refusal = Refusal::NextKeyNotPropagated { kid: kid(), ready, wait };
    let status = of(Error::from(refusal), REQUEST);
    let metadata = status.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["kid"], kid().to_string());
    assert_eq!(metadata["rotatable_time"], "2026-11-23T10:00:00Z");
    assert_eq!(metadata["wait_seconds"], "62");
    let retry = status.get_details_retry_info().unwrap();
    assert_eq!(retry.retry_delay, Some(Duration::from_secs(62)));

    let changed = of(Error::from(Refusal::Changed { current: Some(kid()) }), REQUEST);
    let metadata = changed.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["current_kid"], kid().to_string());

    let late = of(Error::DeadlineExceeded { committed: Some(true) }, REQUEST);
    let metadata = late.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["committed"], "true");
}

#[test]
fn a_peer_that_goes_away_in_the_middle_is_no_fault() {
    for code in [Code::Unknown, Code::Unavailable] {
        let broken = Status::new(code, "error reading a body from connection");
        assert_eq!(foreign(&broken, REQUEST).code(), Code::Cancelled);
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}
