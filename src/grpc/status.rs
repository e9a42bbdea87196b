//! The one translator from what went wrong to a gRPC status.
//!
//! An error has one of three shapes. A *refusal* is the caller's doing: exact words, every variable
//! in the metadata. A *passing* error is nobody's doing: UNAVAILABLE or RESOURCE_EXHAUSTED, and
//! RetryInfo says when to come back; its cause is in the log. A *fault* is ours: INTERNAL, a fixed
//! text and the request's id, under which the log has the cause.

use super::gate::Failed;
use super::proto::ErrorReason as Reason;
use super::told::Told;
use crate::access::{Caller, ClaimRefused, Refused, Role, Unknown};
use crate::key::{KeySetId, Kid, Refusal};
use crate::keyring::{Error, InvalidField};
use crate::{backend, store};
use std::fmt::Display;
use std::time::Duration;
use tonic::{Code, Status};

/// When to come back after our queue was full.
const AFTER_OVERLOAD: Duration = Duration::from_secs(1);
/// When to come back while the store or a backend is out, or another replica is to be found.
const AFTER_OUTAGE: Duration = Duration::from_secs(2);
/// When to come back while a key is being generated.
const AFTER_GENERATION: Duration = Duration::from_secs(5);

/// What the caller is told in place of an answer. `request` is the request's id.
pub(super) fn of(error: impl Into<Failed>, request: &str) -> Status {
    match error.into() {
        Failed::Keyring(error) => of_keyring(error, request),
        Failed::Refused(refused) => not_let_through(&refused),
        Failed::Claim { refused, field } => claim_refused(&refused, &field),
    }
}

fn of_keyring(error: Error, request: &str) -> Status {
    let text = error.to_string();
    match error {
        Error::Invalid { fields } => invalid(&fields),
        Error::KeySetNotFound { id } => Told::new(Code::NotFound, Reason::KeySetNotFound, text)
            .with("key_set", &id)
            .resource("KeySet", &id)
            .status(),
        Error::Refused(refusal) => refused(&refusal, request),
        Error::KeySetExists { id } => exists(&id, text),
        Error::PublicKeyInUse => {
            Told::new(Code::AlreadyExists, Reason::PublicKeyInUse, text).status()
        }
        Error::ClaimNotAllowed { claim, field, .. } => {
            Told::new(Code::PermissionDenied, Reason::ClaimNotAllowed, &text)
                .with("claim", &claim)
                .with("field", &field)
                .field(&field, &text)
                .status()
        }
        Error::DigestLength { algorithm, wanted, given } => {
            Told::new(Code::InvalidArgument, Reason::DigestLength, &text)
                .with("algorithm", algorithm)
                .with("wanted", wanted)
                .with("given", given)
                .field("digest", &text)
                .status()
        }
        Error::DigestNotAllowed => {
            Told::new(Code::InvalidArgument, Reason::DigestNotAllowed, &text)
                .field("digest", &text)
                .status()
        }
        Error::RequestIdReused => Told::new(Code::InvalidArgument, Reason::RequestIdReused, &text)
            .field("request_id", &text)
            .status(),
        Error::Disabled { id } => Told::new(Code::FailedPrecondition, Reason::KeySetDisabled, text)
            .with("key_set", &id)
            .subject(&id)
            .status(),
        Error::NoCurrentKey { id } => Told::new(Code::Unavailable, Reason::NoCurrentKey, text)
            .with("key_set", &id)
            .retry_in(AFTER_GENERATION)
            .status(),
        Error::DeadlineExceeded { committed } => late(&text, committed),
        Error::Overloaded => overloaded(),
        Error::Unrecorded(no_room) => {
            tracing::warn!(
                request,
                sink = no_room.sink,
                "not signed: the audit record has no room"
            );
            let text = "the audit record has no room for the signature; try again later";
            Told::new(Code::Unavailable, Reason::AuditUnavailable, text)
                .retry_in(AFTER_OUTAGE)
                .status()
        }
        Error::Backend { name, source } => from_backend(&name, &source, request),
        Error::Store(source) => from_store(&source, request),
        Error::Fault(cause) => fault(request, &cause),
    }
}

/// The same for CreateKeySet and UpdateKeySet, where a backend that lacks an algorithm is something
/// that the caller can put right.
pub(super) fn of_creation(error: Failed, request: &str) -> Status {
    match error {
        Failed::Keyring(Error::Backend { name, source })
            if source.kind == backend::Kind::Unsupported =>
        {
            let text = format!("backend {name} cannot do that: {}", source.message);
            Told::new(Code::InvalidArgument, Reason::AlgorithmUnsupported, &text)
                .with("backend", &name)
                .with("missing", &source.message)
                .field("key_set.algorithm", &text)
                .status()
        }
        other => of(other, request),
    }
}

/// A fault of ours. The cause goes into the log and nowhere else.
pub(super) fn fault(request: &str, cause: &dyn Display) -> Status {
    tracing::error!(request, error = %cause, "a fault of the service");
    let text = "a fault of the service; its log has the cause under the request id";
    Told::new(Code::Internal, Reason::InternalFault, text).with("request_id", request).status()
}

/// An error that tonic made by itself, before or in place of a handler.
pub(super) fn foreign(status: &Status, request: &str) -> Status {
    match status.code() {
        Code::Unimplemented if status.message().is_empty() => {
            Told::new(Code::Unimplemented, Reason::UnknownMethod, "there is no such rpc").status()
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            let text = "the message is larger than 64 KiB";
            Told::new(Code::ResourceExhausted, Reason::MessageTooLarge, text).status()
        }
        Code::Unimplemented => Told::new(
            Code::Unimplemented,
            Reason::InvalidRequest,
            "messages are to be sent without compression",
        )
        .with("header", "grpc-encoding")
        .status(),
        Code::Internal | Code::InvalidArgument => Told::new(
            Code::InvalidArgument,
            Reason::InvalidRequest,
            "the message cannot be decoded; it must be what the proto files say",
        )
        .status(),
        Code::Cancelled | Code::DeadlineExceeded => deadline_exceeded(),
        // The peer went away in the middle: nobody's fault here, and nobody is left to hear of it.
        Code::Unknown | Code::Unavailable => Status::cancelled("the connection broke off"),
        _ => fault(request, status),
    }
}

/// The caller's time ran out, and nothing was changed on the way.
pub(super) fn deadline_exceeded() -> Status {
    Told::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, "the time ran out").status()
}

/// A `grpc-timeout` header that cannot be read.
pub(super) fn malformed_timeout() -> Status {
    let why = "must be 1 to 8 digits and one of H, M, S, m, u, n, e.g. 500m";
    invalid(&[InvalidField { field: "grpc-timeout".to_owned(), why: why.to_owned() }])
}

/// The peer has shown no name that is known here.
pub(super) fn caller_unknown(unknown: &Unknown) -> Status {
    let text = format!("the caller is not known here: {unknown}");
    Told::new(Code::Unauthenticated, Reason::CallerUnknown, text).status()
}

/// Someone asks what services there are whom no binding names.
pub(super) fn not_welcome(caller: &Caller) -> Status {
    let text = format!("{caller} may not ask what services there are: no binding names it");
    Told::new(Code::PermissionDenied, Reason::CallerNotAllowed, text)
        .with("caller", caller)
        .status()
}

/// The reason that stands for why a call is not let through.
pub(super) const fn reason_of(refused: &Refused) -> Reason {
    match refused {
        Refused::Denied(_) => Reason::CallerNotAllowed,
        Refused::Expired { .. } => Reason::CallerUnknown,
        Refused::Limited { .. } => Reason::RateLimited,
    }
}

/// Too many calls are under way.
pub(super) fn overloaded() -> Status {
    let text = "too many requests are under way; try again shortly";
    Told::new(Code::ResourceExhausted, Reason::Overloaded, text).retry_in(AFTER_OVERLOAD).status()
}

/// The service is on its way out.
pub(super) fn shutting_down() -> Status {
    let text = "the service is shutting down; try again, perhaps with another replica";
    Told::new(Code::Unavailable, Reason::ShuttingDown, text).retry_in(AFTER_OUTAGE).status()
}

/// The watcher did not keep up.
pub(super) fn watch_lagged() -> Status {
    let text = "the watcher was too slow to take every change; watch again";
    Told::new(Code::Aborted, Reason::WatchLagged, text).status()
}

fn not_let_through(refused: &Refused) -> Status {
    let told = |code| Told::new(code, reason_of(refused), refused);
    match refused {
        Refused::Denied(denied) => {
            let roles: Vec<_> = denied.action.roles().map(Role::as_str).collect();
            let told = told(Code::PermissionDenied)
                .with("caller", &denied.caller)
                .with("action", denied.action)
                .with("roles", roles.join(","));
            match &denied.key_set {
                Some(key_set) => told.with("key_set", key_set),
                None => told,
            }
        }
        Refused::Expired { caller } => told(Code::Unauthenticated).with("caller", caller),
        Refused::Limited { caller, key_set, limit, wait } => told(Code::ResourceExhausted)
            .with("caller", caller)
            .with("key_set", key_set)
            .with("limit", limit)
            .retry_in(*wait),
    }
    .status()
}

fn claim_refused(refused: &ClaimRefused, field: &str) -> Status {
    Told::new(Code::PermissionDenied, Reason::ClaimNotAllowed, refused)
        .with("claim", &refused.claim)
        .with("rule", refused.rule)
        .with("field", field)
        .field(field, &refused.to_string())
        .status()
}

fn invalid(fields: &[InvalidField]) -> Status {
    let named = |wrong: &InvalidField| format!("{}: {}", wrong.field, wrong.why);
    let text: Vec<_> = fields.iter().map(named).collect();
    let told = Told::new(Code::InvalidArgument, Reason::InvalidRequest, text.join("; "));
    let names: Vec<_> = fields.iter().map(|wrong| wrong.field.as_str()).collect();
    fields
        .iter()
        .fold(told.with("fields", names.join(",")), |told, wrong| {
            told.field(&wrong.field, &wrong.why)
        })
        .status()
}

fn refused(refusal: &Refusal, request: &str) -> Status {
    let guard = |reason| Told::new(Code::FailedPrecondition, reason, refusal);
    match refusal {
        Refusal::NextKeyNotPropagated { kid, ready, wait } => guard(Reason::NextKeyNotPropagated)
            .with("kid", kid)
            .with("rotatable_time", ready)
            .with("wait_seconds", wait.as_secs() + 1)
            .retry_in(*wait)
            .subject(kid),
        Refusal::NextKeyMissing => {
            guard(Reason::NextKeyNotPropagated).retry_in(AFTER_GENERATION).subject("next")
        }
        Refusal::RotationHold => guard(Reason::RotationHold).subject("rotation_hold"),
        Refusal::TokensStillValid { kid, until, wait } => guard(Reason::TokensStillValid)
            .with("kid", kid)
            .with("tokens_until_time", until)
            .retry_in(*wait)
            .subject(kid),
        Refusal::CurrentKey { kid } => guard(Reason::CurrentKey).with("kid", kid).subject(kid),
        Refusal::KeyDestroyed { kid } => guard(Reason::KeyDestroyed).with("kid", kid).subject(kid),
        Refusal::NothingToRollBack => guard(Reason::NothingToRollBack).subject("rollback"),
        Refusal::Changed { current } => return changed(refusal, *current),
        Refusal::KeyNotFound { kid } => Told::new(Code::NotFound, Reason::KeyNotFound, refusal)
            .with("kid", kid)
            .resource("Key", kid),
        Refusal::KeysInUse { kid, state } => {
            guard(Reason::KeySetInUse).with("kid", kid).with("state", state).subject(kid)
        }
        Refusal::StillEnabled => guard(Reason::KeySetInUse).subject("key_set"),
        Refusal::Transition(defect) => return fault(request, defect),
    }
    .status()
}

fn changed(text: impl ToString, current: Option<Kid>) -> Status {
    let told = Told::new(Code::Aborted, Reason::KeySetChanged, text);
    match current {
        Some(kid) => told.with("current_kid", kid).status(),
        None => told.status(),
    }
}

fn exists(id: &KeySetId, text: String) -> Status {
    Told::new(Code::AlreadyExists, Reason::KeySetExists, text)
        .with("key_set", id)
        .resource("KeySet", id)
        .status()
}

fn late(text: &str, committed: Option<bool>) -> Status {
    let told = Told::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, text);
    match committed {
        Some(committed) => told.with("committed", committed),
        None => told,
    }
    .status()
}

fn from_backend(name: &crate::key::BackendName, source: &backend::Error, request: &str) -> Status {
    let passing = |code, reason, text: String, wait| {
        tracing::warn!(
            request, backend = %name, error = %source, "the backend could not serve a request"
        );
        Told::new(code, reason, text).with("backend", name).retry_in(wait).status()
    };
    match source.kind {
        backend::Kind::Throttled => passing(
            Code::ResourceExhausted,
            Reason::Overloaded,
            format!("backend {name} has too much to do; try again shortly"),
            AFTER_OVERLOAD,
        ),
        // That it refuses us is ours to put right: to the caller it is out.
        backend::Kind::Unavailable | backend::Kind::Denied => passing(
            Code::Unavailable,
            Reason::BackendUnavailable,
            format!("backend {name} is out; try again later"),
            AFTER_OUTAGE,
        ),
        backend::Kind::Late => late("the time ran out", Some(false)),
        backend::Kind::TooLong => {
            Told::new(Code::InvalidArgument, Reason::MessageTooLarge, &source.message)
                .with("backend", name)
                .field("message", &source.message)
                .status()
        }
        backend::Kind::NotFound | backend::Kind::Unsupported | backend::Kind::Inconsistent => {
            fault(request, &format!("backend {name}: {source}"))
        }
    }
}

fn from_store(source: &store::Error, request: &str) -> Status {
    match source.kind {
        store::Kind::Unavailable => {
            tracing::warn!(request, error = %source, "the store could not serve a request");
            let text = "the store is out; try again later";
            Told::new(Code::Unavailable, Reason::StoreUnavailable, text)
                .retry_in(AFTER_OUTAGE)
                .status()
        }
        store::Kind::Conflict => {
            changed("the key set was changed by another request at the same time; try again", None)
        }
        // The keyring has its own errors for the first three; one that gets here is a defect.
        store::Kind::KeySetExists
        | store::Kind::PublicKeyInUse
        | store::Kind::RequestAnswered
        | store::Kind::Corrupt => fault(request, source),
    }
}

#[cfg(test)]
mod tests;
