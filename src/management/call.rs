//! What every request passes on its way in: a domain, an id, a line in the log; and where the
//! Management API is concerned, a token, a bucket and scopes.

use super::bearer::Grant;
use super::pace::Allowance;
use super::refusal::Refusal;
use super::{DomainName, Face, Scope, Served};
use crate::audit::Origin;
use crate::keyring::Context;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::{Instrument, Span, field};

/// The longest body that is read, in bytes.
const BODY_MAX: usize = 16 * 1024;
/// How long one may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Longest part of a path that is logged, in characters.
const PATH_LOGGED: usize = 96;

/// One request, once it is known which domain it is for.
#[derive(Clone)]
pub(super) struct Call {
    /// Its id, for the log and the record.
    pub(super) id: Arc<str>,
    /// The listener that it came in by.
    listener: Arc<str>,
    /// What it is for.
    pub(super) domain: Arc<Served>,
}

/// Who was let in, and what is left to them.
pub(super) struct Admitted {
    grant: Grant,
    allowance: Allowance,
}

/// Finds the domain of a request; one that is for none goes no further.
pub(super) async fn enter(State(face): State<Face>, mut request: Request, next: Next) -> Response {
    let id = random_id();
    let path: String = request.uri().path().chars().take(PATH_LOGGED).collect();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "management", %method, path, request = &*id, domain = field::Empty, client = field::Empty,
    );
    async {
        let began = Instant::now();
        let mut response = match face.management.served(&request) {
            Some(domain) => {
                Span::current().record("domain", field::display(&domain.name));
                let listener = face.listener.clone();
                request.extensions_mut().insert(Call { id: id.clone(), listener, domain });
                next.run(request).await
            }
            None => {
                let text = "This service knows no such domain; the operator names it under [management.domains].";
                Refusal::new(StatusCode::NOT_FOUND, "unknown_domain", text).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("x-request-id", id);
        }
        let (status, took) = (response.status().as_u16(), began.elapsed());
        tracing::debug!(status, ?took, "answered");
        response
    }
    .instrument(span)
    .await
}

impl Face {
    /// Lets a request in that brings a token for its domain with every scope of `needed`.
    pub(super) async fn admit(
        &self,
        call: &Call,
        headers: &HeaderMap,
        needed: &[Scope],
    ) -> Result<Admitted, Refusal> {
        let token =
            bearer(headers).ok_or_else(|| Refusal::unauthorized("Missing authentication"))?;
        let management = &self.management;
        let grant = management.grant(token, &call.domain.name).await.map_err(|invalid| {
            tracing::info!(%invalid, "a token was refused");
            Refusal::unauthorized(invalid.to_string())
        })?;
        Span::current().record("client", field::display(&grant.client));
        let allowance = management
            .buckets
            .take(&grant.client, management.keyring.now())
            .map_err(Refusal::spent)?;
        let lacking = grant.scopes.lack(needed);
        if !lacking.is_empty() {
            tracing::info!(client = %grant.client, "a token lacks a scope");
            return Err(Refusal::insufficient_scope(&lacking).with(allowance));
        }
        Ok(Admitted { grant, allowance })
    }
}

impl Admitted {
    /// What the keyring is told of whoever asks for a change.
    pub(super) fn context(&self, call: &Call, limit: Duration) -> Context {
        Context {
            origin: Origin {
                caller: format!("client:{}", self.grant.client).into(),
                listener: call.listener.clone(),
                request: call.id.clone(),
            },
            deadline: Instant::now() + limit,
            request_id: None,
        }
    }

    /// The answer, with what is left to the client.
    pub(super) fn answer(&self, answer: Result<Response, Refusal>) -> Response {
        let mut response = answer.unwrap_or_else(IntoResponse::into_response);
        self.allowance.stamp(&mut response);
        response
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The whole body of a request, within bounds of size and time.
pub(super) async fn read(body: Body) -> Result<Bytes, Refusal> {
    match timeout(BODY_WAIT, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Refusal::bad_request(
            "invalid_body",
            format!(
                "Payload validation error: the body must be whole, and at most {BODY_MAX} bytes"
            ),
        )),
        Err(_late) => Err(Refusal::bad_request(
            "invalid_body",
            "Payload validation error: the body did not arrive in time",
        )),
    }
}

/// Refuses a body that says something: official clients send none, or `null`.
pub(super) async fn nothing_in(body: Body) -> Result<(), Refusal> {
    let body = read(body).await?;
    match body.trim_ascii() {
        b"" | b"null" | b"{}" => Ok(()),
        _ => Err(Refusal::bad_request(
            "invalid_body",
            "Payload validation error: this endpoint takes no body",
        )),
    }
}

/// 32 digits of hex.
fn random_id() -> Arc<str> {
    let mut bytes = [0; 16];
    // Without randomness the id is all zeros: it names nothing, and nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes)).into()
}

impl super::Management {
    /// What is served under the domain that `request` is for.
    fn served(&self, request: &Request) -> Option<Arc<Served>> {
        let name = DomainName::of_request(request.uri(), request.headers())?;
        self.domains.get(&name).cloned()
    }
}
