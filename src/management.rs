//! Auth0's Management API for signing keys, and the JWKS under each domain, for clients that were
//! written for Auth0 and know nothing of Signkeep.
//!
//! It translates and decides nothing but who may call: clients of the configuration get access
//! tokens at `/oauth/token`, and with them rotate and revoke under `/api/v2/keys/signing`. A
//! request's `Host` says which domain it is for, a domain is one key set, and a token is good for
//! one domain. Everything else under a domain is public: its JWKS, discovery and certificates.

mod assertion;
mod bearer;
mod call;
mod clients;
mod custom;
mod key_object;
mod keys;
mod names;
mod pace;
mod refusal;
mod secret;
mod settings;
mod token;

pub use bearer::{Grant, OutsideIssuer};
pub use clients::ClientError;
pub use names::{ClientId, DomainName, InvalidName, Scope, Scopes};
pub use secret::{HashError, SecretHash};
pub use settings::{
    AlgMember, Auth0, ClientSettings, CredentialFile, Pace, Revocation, Settings, Tokens,
};

use crate::http;
use crate::key::{InvalidId, KeySetId};
use crate::keyring::{Internal, Keyring};
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use call::Call;
use clients::Clients;
use jiff::Timestamp;
use pace::{Buckets, Rotations};
use refusal::Refusal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// The key set that signs access tokens.
const TOKEN_KEY_SET: &str = "signkeep-management";
/// Pauses between attempts to make it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the face is made of.
pub struct Parts {
    /// The custodian that is asked.
    pub keyring: Keyring,
    /// Who may call, and what is served.
    pub settings: Settings,
    /// How the JWKS is served under each domain; its URL is the domain's own.
    pub publication: http::Settings,
    /// The port that the first listener got, for domains whose port is 0.
    pub port: u16,
    /// Whose access tokens count beside our own.
    pub outside: Option<Arc<dyn OutsideIssuer>>,
}

/// The Management API of every domain.
pub struct Management {
    keyring: Keyring,
    settings: Settings,
    domains: BTreeMap<DomainName, Arc<Served>>,
    clients: Clients,
    buckets: Buckets,
    rotations: Rotations,
    outside: Option<Arc<dyn OutsideIssuer>>,
    token_key_set: KeySetId,
    /// Since when uses of assertions are remembered.
    started: Timestamp,
}

/// What is served under one domain.
struct Served {
    name: DomainName,
    key_set: KeySetId,
    /// JWKS, discovery, certificates.
    documents: Router,
}

/// Why the face cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A client's file.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The system gave no random bytes, or too little memory.
    #[error(transparent)]
    Secret(#[from] HashError),
    /// The name of the key set for tokens is none: a defect.
    #[error(transparent)]
    Name(#[from] InvalidId),
}

/// Whether the clients' files can be used.
pub fn check(settings: &Settings) -> Result<(), OpenError> {
    Clients::open(&settings.clients, 0).map(drop)
}

impl Management {
    /// Reads the clients' files and is ready to serve.
    pub fn open(parts: Parts) -> Result<Self, OpenError> {
        let Parts { keyring, settings, publication, port, outside } = parts;
        let domains = settings.domains.iter().map(|(name, key_set)| {
            let name = name.at(port);
            let served = Served::new(&keyring, &settings, &publication, &name, key_set);
            (name, Arc::new(served))
        });
        Ok(Self {
            domains: domains.collect(),
            clients: Clients::open(&settings.clients, port)?,
            buckets: Buckets::new(settings.pace),
            rotations: Rotations::new(settings.pace),
            outside,
            token_key_set: TOKEN_KEY_SET.parse()?,
            started: keyring.now(),
            keyring,
            settings,
        })
    }

    /// Makes the key set that signs access tokens if it is not there, trying again until it is.
    pub async fn prepare(&self) {
        let mut pause = PAUSE_FIRST;
        loop {
            let tokens = &self.settings.tokens;
            let wanted = Internal {
                id: self.token_key_set.clone(),
                algorithm: tokens.algorithm,
                backend: tokens.backend.clone(),
            };
            match self.keyring.internal(wanted).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(
                    %error,
                    "access tokens cannot be made yet: the key set for them is missing; trying again",
                ),
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// The routes for a listener, which the record and the log call `listener`.
    pub fn router(self: Arc<Self>, listener: &Arc<str>) -> Router {
        let face = Face { management: self, listener: listener.clone() };
        let api = Router::new()
            .route("/keys/signing", get(keys::list))
            .route("/keys/signing/rotate", post(keys::rotate))
            .route("/keys/signing/{kid}", get(keys::one))
            .route("/keys/signing/{kid}/revoke", put(keys::revoke))
            .route(
                "/keys/custom-signing",
                get(custom::read).put(custom::set).delete(custom::remove),
            )
            .fallback(async || Refusal::not_found().into_response())
            .method_not_allowed_fallback(method_not_allowed);
        Router::new()
            .nest("/api/v2", api)
            .route("/oauth/token", post(token::token))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(documents)
            .layer(middleware::from_fn_with_state(face.clone(), call::enter))
            .with_state(face)
    }
}

impl Served {
    fn new(
        keyring: &Keyring,
        settings: &Settings,
        publication: &http::Settings,
        name: &DomainName,
        key_set: &KeySetId,
    ) -> Self {
        let domain = http::Domain {
            keyring: keyring.clone(),
            key_set: key_set.clone(),
            settings: http::Settings {
                public_url: Some(format!("https://{name}")),
                ..publication.clone()
            },
            form: match settings.auth0.alg {
                AlgMember::Kept => http::Form::Auth0,
                AlgMember::LeftOut => http::Form::Auth0WithoutAlg,
            },
        };
        Self {
            name: name.clone(),
            key_set: key_set.clone(),
            documents: http::domain_router(domain),
        }
    }
}

/// The face on one listener.
#[derive(Clone)]
struct Face {
    management: Arc<Management>,
    listener: Arc<str>,
}

/// What is public under the domain.
async fn documents(Extension(call): Extension<Call>, request: Request) -> Response {
    match call.domain.documents.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn method_not_allowed() -> Response {
    let text = "This endpoint does not know that method.";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).into_response()
}
