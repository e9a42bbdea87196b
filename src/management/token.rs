//! `/oauth/token`: client credentials (RFC 6749 section 4.4), with Auth0's `audience`.

use super::assertion::{self, Unproven};
use super::call::{self, Call};
use super::clients::Client;
use super::pace::Spent;
use super::refusal::{answer, seconds};
use super::secret::Busy;
use super::{ClientId, Face, Scopes};
use crate::keyring::Error;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;
use tracing::{Span, field};

/// When to come back while tokens cannot be made, or too many ask.
const AFTER: Duration = Duration::from_secs(2);

/// What is asked, in a form or as JSON; parameters that mean nothing here are not looked at.
#[derive(Default, Deserialize)]
struct Asked {
    grant_type: Option<String>,
    client_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<SecretString>,
    audience: Option<String>,
    scope: Option<String>,
    client_assertion: Option<String>,
    client_assertion_type: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// RFC 6749 section 5.1.
#[derive(Serialize)]
struct Granted {
    access_token: String,
    scope: String,
    expires_in: u64,
    token_type: &'static str,
}

/// POST `/oauth/token`.
pub(super) async fn token(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match face.token(&call, &headers, body).await {
        Ok(granted) => answer(StatusCode::OK, &granted),
        Err(denial) => denial.into_response(),
    }
}

impl Face {
    async fn token(&self, call: &Call, headers: &HeaderMap, body: Body) -> Result<Granted, Denial> {
        let asked = Asked::read(headers, body).await?;
        match asked.grant_type.as_deref() {
            Some("client_credentials") => {}
            Some(_) => return Err(Denial::grant_type()),
            None => return Err(Denial::request("Missing required parameter: grant_type")),
        }
        let (id, client) = self.client(call, headers, &asked).await?;
        Span::current().record("client", field::display(id));
        let management = &self.management;
        let now = management.keyring.now();
        management.buckets.take(id, now).map_err(Denial::spent)?;
        let audience = call.domain.name.audience();
        match &asked.audience {
            Some(asked) if *asked != audience => return Err(Denial::audience(&audience)),
            Some(_) => {}
            None => return Err(Denial::request("Missing required parameter: audience")),
        }
        let scopes = match asked.scope.as_deref() {
            None | Some("") => client.scopes.clone(),
            Some(some) => Scopes::in_text(some).and(&client.scopes),
        };
        if scopes.is_empty() {
            return Err(Denial::scope());
        }
        let made = management.make_token(id, &scopes, &call.domain.name).await?;
        tracing::info!(client = %id, scope = %scopes, "an access token was made");
        Ok(Granted {
            access_token: made.token,
            scope: scopes.to_string(),
            expires_in: made.lifetime.as_secs(),
            token_type: "Bearer",
        })
    }

    /// The client that has proved to be there, in one of three ways and in one only.
    async fn client<'a>(
        &'a self,
        call: &Call,
        headers: &HeaderMap,
        asked: &Asked,
    ) -> Result<(&'a ClientId, &'a Client), Denial> {
        let management = &self.management;
        let domain = &call.domain.name;
        let basic = headers.get(AUTHORIZATION);
        let (id, secret) = match (basic, &asked.client_secret, &asked.client_assertion) {
            (Some(basic), None, None) => basic_pair(basic).ok_or_else(|| {
                Denial::request("Authorization must be HTTP Basic with the client's id and secret")
            })?,
            (None, Some(secret), None) => match &asked.client_id {
                Some(id) => (id.clone(), secret.clone()),
                None => return Err(Denial::request("Missing required parameter: client_id")),
            },
            (None, None, Some(proof)) => {
                if asked.client_assertion_type.as_deref() != Some(assertion::TYPE) {
                    let text = format!("client_assertion_type must be {}", assertion::TYPE);
                    return Err(Denial::request(text));
                }
                let (started, now) = (management.started, management.keyring.now());
                let named = asked.client_id.as_deref();
                let clients = &management.clients;
                return assertion::by_assertion(clients, named, proof, domain, started, now)
                    .map_err(Denial::unproven);
            }
            (None, None, None) => return Err(Denial::client("Unauthorized")),
            _ => {
                let text = "The client must prove itself in one way only: client_secret, client_assertion or HTTP Basic";
                return Err(Denial::request(text));
            }
        };
        let found = management.clients.by_secret(&id, secret, domain).await?;
        found.ok_or_else(|| Denial::client("Unauthorized"))
    }
}

impl Asked {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Denial> {
        let body = call::read(body).await.map_err(|_| {
            Denial::request("The body must arrive whole, in time, and be at most 16 KiB")
        })?;
        let form = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let form = form.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if form.eq_ignore_ascii_case("application/json") {
            // What is wrong where is not said: it would be a part of the body.
            serde_json::from_slice(&body)
                .map_err(|_| Denial::request("The body must be a JSON object of texts"))
        } else if form.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::in_form(&body)
        } else {
            let text = "Content-Type must be application/x-www-form-urlencoded or application/json";
            Err(Denial::request(text))
        }
    }

    fn in_form(body: &[u8]) -> Result<Self, Denial> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let value = Cow::into_owned(value);
            let twice = match name.as_ref() {
                "grant_type" => asked.grant_type.replace(value).is_some(),
                "client_id" => asked.client_id.replace(value).is_some(),
                "client_secret" => asked.client_secret.replace(value.into()).is_some(),
                "audience" => asked.audience.replace(value).is_some(),
                "scope" => asked.scope.replace(value).is_some(),
                "client_assertion" => asked.client_assertion.replace(value).is_some(),
                "client_assertion_type" => asked.client_assertion_type.replace(value).is_some(),
                _ => false,
            };
            if twice {
                return Err(Denial::request("A parameter must not be given twice"));
            }
        }
        Ok(asked)
    }
}

/// The client's id and secret (RFC 6749 section 2.3.1). Neither has characters that the encoding
/// demanded there would change.
fn basic_pair(header: &HeaderValue) -> Option<(String, SecretString)> {
    let (scheme, pair) = header.to_str().ok()?.split_once(' ')?;
    let pair = Base64::decode_vec(pair.trim()).ok()?;
    let pair = SecretString::from(String::from_utf8(pair).ok()?);
    let (id, secret) = pair.expose_secret().split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (id.to_owned(), SecretString::from(secret)))
}

/// Why there is no token (RFC 6749 section 5.2), as Auth0 says it.
struct Denial {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_after: Option<Duration>,
}

impl Denial {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), retry_after: None }
    }

    fn request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    fn grant_type() -> Self {
        let text = "Only the grant type client_credentials is served here";
        Self::new(StatusCode::FORBIDDEN, "unsupported_grant_type", text)
    }

    fn client(description: impl Into<String>) -> Self {
        tracing::info!("a client could not prove who it is");
        Self::new(StatusCode::UNAUTHORIZED, "access_denied", description)
    }

    fn unproven(why: Unproven) -> Self {
        tracing::info!(%why, "a client's assertion was refused");
        match why {
            Unproven::Full => Self {
                retry_after: Some(AFTER),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", why.to_string())
            },
            _ => Self::new(StatusCode::UNAUTHORIZED, "invalid_client", why.to_string()),
        }
    }

    fn audience(ours: &str) -> Self {
        let text = format!("Service not found; the audience here is {ours}");
        Self::new(StatusCode::FORBIDDEN, "access_denied", text)
    }

    fn scope() -> Self {
        let text = "The client may do nothing of what scope asks for";
        Self::new(StatusCode::FORBIDDEN, "access_denied", text)
    }

    fn spent(spent: Spent) -> Self {
        Self { retry_after: Some(spent.wait), ..Self::from(Busy) }
    }
}

impl From<Busy> for Denial {
    fn from(_: Busy) -> Self {
        let text = "Too many requests; try again shortly";
        let denial = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text);
        Self { retry_after: Some(AFTER), ..denial }
    }
}

impl From<Error> for Denial {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "an access token could not be made");
        let text = "The service cannot make tokens at the moment; try again shortly";
        let denial = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text);
        Self { retry_after: Some(AFTER), ..denial }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = answer(self.status, &body);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds(wait));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Basic realm=\"signkeep\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
