//! What a caller is told in place of an answer, in the shape that Auth0's clients read.
//!
//! Those clients repeat a request by themselves when they read 408, 409, 429 or 5xx. So each of
//! these means here that nothing was changed, and whatever may have been changed is answered with
//! 400.

use super::Scope;
use super::pace::{Allowance, Spent};
use crate::key::Refusal as Guard;
use crate::keyring::Error;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;

/// When to come back while a backend or the store is out.
const AFTER_OUTAGE: Duration = Duration::from_secs(2);
/// When to come back after a queue was full.
const AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// A refusal by the Management API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    allowance: Option<Allowance>,
}

impl Refusal {
    /// One with Auth0's or our own `errorCode`.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, allowance: None }
    }

    /// The caller's doing.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// No token, or none that counts.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", message)
    }

    /// A token without these scopes; in words that Auth0's own command line takes apart.
    pub(super) fn insufficient_scope(lacking: &[Scope]) -> Self {
        let names: Vec<_> = lacking.iter().map(|scope| scope.name()).collect();
        let message = format!("Insufficient scope, expected any of: {}", names.join(", "));
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", message)
    }

    /// No such key, or one that is none of this API's business any more.
    pub(super) fn key_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "inexistent_signing_key", "Signing key not found.")
    }

    /// No such path.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such endpoint.")
    }

    /// Too many calls, nothing was done.
    pub(super) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).after(wait)
    }

    /// A bucket that is empty.
    pub(super) fn spent(spent: Spent) -> Self {
        Self::too_many("Global limit has been reached", spent.wait).with(spent.allowance)
    }

    /// The same with what is left to the client.
    #[must_use]
    pub(super) fn with(self, allowance: Allowance) -> Self {
        Self { allowance: Some(allowance), ..self }
    }

    /// The same with when to come back.
    #[must_use]
    fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

/// What a guard of the key set says.
impl From<&Guard> for Refusal {
    fn from(guard: &Guard) -> Self {
        let code = match guard {
            Guard::KeyNotFound { .. } => return Self::key_not_found(),
            Guard::NextKeyNotPropagated { .. } | Guard::NextKeyMissing => "next_key_not_propagated",
            Guard::RotationHold => "rotation_hold",
            Guard::TokensStillValid { .. } => "tokens_still_valid",
            Guard::CurrentKey { .. } => "current_key",
            Guard::KeyDestroyed { .. } => "key_destroyed",
            Guard::Changed { .. } => "key_set_changed",
            _ => "operation_not_allowed",
        };
        Self::bad_request(code, guard.to_string())
    }
}

/// What went wrong before anything was changed.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            Error::Refused(guard) => Self::from(guard),
            Error::KeySetNotFound { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "inexistent_key_set",
                "The key set of this domain does not exist; the operator creates it.",
            ),
            Error::Overloaded => Self::too_many(error.to_string(), AFTER_OVERLOAD),
            Error::NoCurrentKey { .. }
            | Error::DeadlineExceeded { .. }
            | Error::Backend { .. }
            | Error::Store(_) => {
                tracing::warn!(%error, "a request to the Management API could not be served");
                let text = "The service cannot do that at the moment; nothing was changed.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text).after(AFTER_OUTAGE)
            }
            Error::Fault(_) => {
                tracing::error!(%error, "a fault of the service");
                let text = "A fault of the service; its log has the cause.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_fault", text)
            }
            _ => Self::bad_request("operation_not_allowed", error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "statusCode": self.status.as_u16(),
            "error": self.status.canonical_reason().unwrap_or("Error"),
            "message": self.message,
            "errorCode": self.code,
        });
        let mut response = answer(self.status, &body);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds(wait));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Some(allowance) = self.allowance {
            allowance.stamp(&mut response);
        }
        response
    }
}

/// JSON that no cache may keep.
pub(super) fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => {
            let headers =
                [(CONTENT_TYPE, "application/json; charset=utf-8"), (CACHE_CONTROL, "no-store")];
            (status, headers, body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whole seconds, rounded up: who comes back then finds it is time.
pub(super) fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use serde_json::Value;

    #[tokio::test]
    async fn a_refusal_has_the_members_that_clients_read() {
        let lacking = [Scope::ReadSigningKeys];
        let response = Refusal::insufficient_scope(&lacking).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({
                "statusCode": 403,
                "error": "Forbidden",
                "message": "Insufficient scope, expected any of: read:signing_keys",
                "errorCode": "insufficient_scope",
            })
        );
    }

    #[test]
    fn whoever_waits_as_told_comes_at_the_right_time() {
        let response = Refusal::too_many("later", Duration::from_millis(1200)).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
