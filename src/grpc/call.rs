//! What is known of a call before its message has been read: its id, who calls, how long they wait.

use super::deadline::Deadline;
use super::gate::{Failed, Gate, Refusal};
use super::proto::ErrorReason;
use super::status;
use super::told;
use crate::access::{Action, Caller, ClaimRefused, Permit, Refused};
use crate::audit::Origin;
use crate::key::{KeySetId, Kid};
use crate::keyring::{Context, RequestId, SignJwt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::codegen::http::{HeaderMap, HeaderValue};
use tonic::{Request, Response, Status};
use tracing::Span;

/// The header in which a request's id comes and goes.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Longest id that is taken over from a caller, in bytes.
const ID_LEN_MAX: usize = 64;

/// One call.
#[derive(Clone)]
pub(super) struct Call {
    /// The request's id, for log and audit.
    pub(super) id: Arc<str>,
    /// Who calls.
    pub(super) caller: Caller,
    /// The listener that it came in by.
    pub(super) listener: Arc<str>,
    /// Until when.
    pub(super) deadline: Deadline,
    /// What it has to pass.
    pub(super) gate: Gate,
}

impl Call {
    /// Takes a request apart. The edge has put the call in; a request without one is a fault.
    pub(super) fn open<T>(mut request: Request<T>) -> Result<(Self, T), Status> {
        match request.extensions_mut().remove::<Self>() {
            Some(call) => Ok((call, request.into_inner())),
            None => Err(status::fault("?", &"the call did not come through the edge")),
        }
    }

    /// Where it comes from, for the record.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            caller: self.caller.name(),
            listener: self.listener.clone(),
            request: self.id.clone(),
        }
    }

    /// What a change is told of its caller. `limit` counts where the caller has set no deadline.
    pub(super) fn context(&self, request_id: Option<RequestId>, limit: Duration) -> Context {
        Context { origin: self.origin(), deadline: self.until(limit), request_id }
    }

    /// When the caller stops waiting for a piece of work that begins now.
    pub(super) fn until(&self, limit: Duration) -> Instant {
        self.deadline.within(Instant::now(), limit)
    }

    /// Leave to do `action` with `key_set`, kept for as long as that takes. To be had before anything
    /// is looked up.
    pub(super) fn may(&self, action: Action, key_set: &KeySetId) -> Result<Permit, Failed> {
        let admitted = self.gate.access.admit(&self.caller, action, key_set, Instant::now());
        admitted.map_err(|refused| self.refused(action, Some(key_set), refused))
    }

    /// Whether `key_set` may be looked at, as one of many.
    pub(super) fn may_see(&self, key_set: &KeySetId) -> bool {
        self.gate.access.check(&self.caller, Action::View, key_set).is_ok()
    }

    /// Whether the caller may still look at `only`, or if that is none, at anything.
    pub(super) fn may_look(&self, only: Option<&KeySetId>) -> Result<(), Failed> {
        let access = &self.gate.access;
        match only {
            Some(key_set) => access.check(&self.caller, Action::View, key_set),
            None => access.check_any(&self.caller, Action::View),
        }
        .map_err(|refused| self.refused(Action::View, only, refused))
    }

    /// Leave to have claims signed, and they as they may be.
    pub(super) fn may_say(&self, mut sign: SignJwt) -> Result<(Permit, SignJwt), Failed> {
        let permit = self.may(Action::SignJwt, &sign.key_set)?;
        let lifetime = self.gate.access.lifetime(sign.lifetime);
        let judged = permit
            .judge(&sign.claims, lifetime)
            .map_err(|refused| self.claim_refused(&sign.key_set, refused))?;
        sign.claims = judged.claims;
        sign.lifetime_usual_max = judged.lifetime_max;
        Ok((permit, sign))
    }

    fn refused(&self, action: Action, key_set: Option<&KeySetId>, refused: Refused) -> Failed {
        self.note(action, key_set, told::name(status::reason_of(&refused)));
        Failed::Refused(refused)
    }

    fn claim_refused(&self, key_set: &KeySetId, refused: ClaimRefused) -> Failed {
        self.note(Action::SignJwt, Some(key_set), told::name(ErrorReason::ClaimNotAllowed));
        let field = format!("claims.{}", refused.claim);
        Failed::Claim { refused, field }
    }

    fn note(&self, action: Action, key_set: Option<&KeySetId>, reason: &'static str) {
        let origin = self.origin();
        let refusal = Refusal { origin: &origin, action: Some(action), key_set, reason };
        self.gate.refusals.refused(&refusal);
    }

    /// The answer, or what the caller is told in its place.
    pub(super) fn reply<T>(&self, answer: Result<T, Failed>) -> Result<Response<T>, Status> {
        answer.map(Response::new).map_err(|error| status::of(error, &self.id))
    }
}

/// Writes into the log's span which key set the call is about.
pub(super) fn about(key_set: &KeySetId) {
    Span::current().record("key_set", key_set.as_str());
}

/// Writes into the log's span which key the call is about.
pub(super) fn about_key(kid: &Kid) {
    Span::current().record("kid", tracing::field::display(kid));
}

/// The id in the headers if it is 1 to 64 visible ASCII characters, else a random one: 32 digits of
/// hex.
pub(super) fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers
        .get(REQUEST_ID)
        .map(HeaderValue::as_bytes)
        .filter(|id| (1..=ID_LEN_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic))
        .and_then(|id| std::str::from_utf8(id).ok());
    given.map_or_else(random_id, Arc::from)
}

fn random_id() -> Arc<str> {
    let mut bytes = [0; 16];
    // Without randomness the id is all zeros: it names nothing, and nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(id: &str) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_well_formed_request_id_is_taken_over() {
        assert_eq!(&*from("build-17/4"), "build-17/4");
        assert_eq!(&*from(&"x".repeat(64)), "x".repeat(64));
    }

    #[test]
    fn any_other_request_id_is_replaced_by_a_random_one() {
        for id in ["", "two words", "tab\there", "é", &"x".repeat(65)] {
            let made = from(id);
            assert_eq!(made.len(), 32, "{id:?}");
            assert!(made.bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
        assert_ne!(random_id(), random_id());
    }
}
