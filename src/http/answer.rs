//! From a document, or a refusal, to a response.

use super::conditional;
use super::document::Document;
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_DISPOSITION,
    CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

impl Document {
    /// 200 with the body, or 304 if the caller holds it already. To HEAD the router gives the same
    /// without its body.
    pub(super) fn answer(&self, request: &HeaderMap, cache_control: &HeaderValue) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| conditional::accepts_gzip(request));
        let variant = gzip.unwrap_or(&self.plain);
        let held = variant.etag.to_str().is_ok_and(|etag| conditional::holds(request, etag));

        let mut response = if held {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(variant.body.clone()))
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, variant.etag.clone());
        headers.insert(CACHE_CONTROL, cache_control.clone());
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if !held {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if gzip.is_some() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            if let Some(disposition) = &self.disposition {
                headers.insert(CONTENT_DISPOSITION, disposition.clone());
            }
        }
        response
    }
}

/// Why there is no document. No cache may keep any of these.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// No such path or key set; which of the two is not said.
    NotFound,
    /// Something other than GET, HEAD or OPTIONS.
    Method,
    /// The key set has no current key, so it has no current certificate.
    NoCurrentKey,
    /// A fault of ours.
    Fault,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not found"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "use GET, HEAD or OPTIONS"),
            Self::NoCurrentKey => {
                (StatusCode::SERVICE_UNAVAILABLE, "no current key; the service is generating one")
            }
            Self::Fault => (StatusCode::INTERNAL_SERVER_ERROR, "internal fault"),
        };
        let mut response = json(status, serde_json::json!({ "error": error }));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("5"));
        }
        response
    }
}

/// A JSON answer that no cache may keep.
pub(super) fn json(status: StatusCode, value: Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/json; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, value.to_string()).into_response()
}

/// A browser asks before a script may send `If-None-Match`: everything here is public.
pub(super) async fn preflight() -> impl IntoResponse {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "If-None-Match, Cache-Control"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// What stands on every answer: scripts of any origin may read it, and nobody guesses its type.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
