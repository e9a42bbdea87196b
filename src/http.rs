//! The thin public shim: what verifiers fetch, over plain HTTP.
//!
//! It decides nothing. Every request asks the keyring's snapshot which keys are published now, and
//! answers with bytes that were rendered once for that state of the key set, so a key that was
//! withdrawn a moment ago is not served, and a hundred thousand verifiers cost no encoding.

mod answer;
mod certificates;
mod conditional;
mod discovery;
mod document;
mod jwks;
pub mod metrics;
mod probe;
mod publication;
mod server;

pub use server::serve;

use crate::health::Health;
use crate::key::{KeySet, KeySetId, Service};
use crate::keyring::Keyring;
use answer::Refusal;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Router, http};
use document::Document;
use publication::{Publication, Publications};
use std::sync::Arc;
use std::time::Duration;

/// What the shim is made of.
pub struct State {
    /// Where the key sets are.
    pub keyring: Keyring,
    /// What the probes report.
    pub health: Health,
    /// The key set that is served without a name in the path.
    pub default_key_set: KeySetId,
    /// How it is served.
    pub settings: Settings,
}

/// How the shim serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most that a cache may keep an answer, in whole seconds; each key set gets up to a fifth
    /// less, so that caches do not come back all at once. Never more, for the propagation delay is
    /// reckoned from it.
    pub max_age: Duration,
    /// `stale-while-revalidate` (RFC 5861 section 3), in whole seconds.
    pub stale_while_revalidate: Duration,
    /// `stale-if-error` (RFC 5861 section 4), in whole seconds.
    pub stale_if_error: Duration,
    /// The URL under which verifiers reach this listener, e.g. `https://keys.example`; none: the
    /// listener's own.
    pub public_url: Option<String>,
    /// The listener's own URL, e.g. `http://127.0.0.1:8080`.
    pub own_url: String,
}

impl Settings {
    /// The URL that all paths here hang from, without a slash at its end. It is configured, and not
    /// taken from the `Host` header, because a caller could make that say anything.
    fn base_url(&self) -> String {
        self.public_url.as_ref().unwrap_or(&self.own_url).trim_end_matches('/').to_owned()
    }
}

/// The routes of the public listener.
pub fn router(state: State) -> Router {
    let State { keyring, health, default_key_set, settings } = state;
    // That there is no such key set is all that can go wrong.
    let source = Box::new(move |id: &KeySetId| keyring.key_set(id).ok());
    routes(Shim {
        source,
        health,
        default_key_set,
        publications: Publications::default(),
        settings,
        form: Form::Signkeep,
    })
}

/// The documents of one key set under a domain that is its own.
pub struct Domain {
    /// Where the key set is.
    pub keyring: Keyring,
    /// Which one.
    pub key_set: KeySetId,
    /// How it is served; its `public_url` is the domain's.
    pub settings: Settings,
    /// What its JWKS looks like.
    pub form: Form,
}

/// What a JWKS looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// With every member that we have.
    #[default]
    Signkeep,
    /// With Auth0's members and no others.
    Auth0,
    /// The same without `alg`, for verifiers that are to take a key for more than one algorithm.
    Auth0WithoutAlg,
}

/// The routes of a domain: its documents, and nothing of any other key set.
pub fn domain_router(domain: Domain) -> Router {
    let Domain { keyring, key_set, settings, form } = domain;
    let router = DOCUMENTS
        .iter()
        .fold(Router::new(), |router, (path, pick)| router.route(path, default_key_set(*pick)));
    finished(
        router,
        Shim {
            source: Box::new(move |id: &KeySetId| keyring.key_set(id).ok()),
            health: Health::default(),
            default_key_set: key_set,
            publications: Publications::default(),
            settings,
            form,
        },
    )
}

/// Finds a key set in the keyring's snapshot.
type Source = Box<dyn Fn(&KeySetId) -> Option<Arc<KeySet>> + Send + Sync>;

struct Shim {
    source: Source,
    health: Health,
    default_key_set: KeySetId,
    publications: Publications,
    settings: Settings,
    form: Form,
}

type Handle = extract::State<Arc<Shim>>;

fn routes(shim: Shim) -> Router {
    let mut router = Router::new().route("/livez", get(async || probe::live())).route(
        "/readyz",
        get(async |extract::State(shim): Handle| probe::ready(&shim.health.report())),
    );
    for (path, pick) in DOCUMENTS {
        router = router
            .route(path, default_key_set(*pick))
            .route(&format!("/{{key_set}}{path}"), named_key_set(*pick));
    }
    finished(router, shim)
}

fn finished(router: Router<Arc<Shim>>, shim: Shim) -> Router {
    router
        .fallback(async || Refusal::NotFound.into_response())
        .method_not_allowed_fallback(async || Refusal::Method.into_response())
        .layer(axum::middleware::map_response(answer::harden))
        .with_state(Arc::new(shim))
}

/// Chooses one document of a key set.
type Pick = fn(&Publication) -> Result<&Document, Refusal>;

/// Every document, by its path under the key set's.
const DOCUMENTS: &[(&str, Pick)] = &[
    ("/.well-known/jwks.json", |all| Ok(&all.jwks)),
    ("/.well-known/openid-configuration", |all| Ok(&all.discovery)),
    ("/.well-known/oauth-authorization-server", |all| Ok(&all.discovery)),
    ("/pem", |all| Ok(&all.certificates()?.pem)),
    ("/cer", |all| Ok(&all.certificates()?.cer)),
    ("/rawpem", |all| Ok(&all.certificates()?.rawpem)),
    ("/pb7", |all| Ok(&all.certificates()?.pb7)),
    ("/fingerprint", |all| Ok(&all.certificates()?.fingerprint)),
];

fn default_key_set(pick: Pick) -> MethodRouter<Arc<Shim>> {
    get(async move |extract::State(shim): Handle, headers: http::HeaderMap| {
        shim.answer(&shim.default_key_set, pick, &headers)
    })
    .options(answer::preflight)
}

fn named_key_set(pick: Pick) -> MethodRouter<Arc<Shim>> {
    get(async move |extract::State(shim): Handle, name: Name, headers: http::HeaderMap| match name
        .ok()
        .and_then(|extract::Path(name)| name.parse().ok())
    {
        Some(id) => shim.answer(&id, pick, &headers),
        None => Refusal::NotFound.into_response(),
    })
    .options(answer::preflight)
}

/// A name in a path that may be no name, and not even text.
type Name = Result<extract::Path<String>, extract::rejection::PathRejection>;

impl Shim {
    fn answer(&self, id: &KeySetId, pick: Pick, headers: &http::HeaderMap) -> Response {
        let publication = match self.publication(id) {
            Ok(publication) => publication,
            Err(refusal) => return refusal.into_response(),
        };
        match pick(&publication) {
            Ok(document) => document.answer(headers, &publication.cache_control),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// What is published of a key set now. One that is unknown, internal or deleted is not found,
    /// each in the same words.
    fn publication(&self, id: &KeySetId) -> Result<Arc<Publication>, Refusal> {
        let served = |set: &Arc<KeySet>| !set.id.is_internal() && set.service != Service::Deleted;
        let Some(key_set) = (self.source)(id).filter(served) else {
            self.publications.forget(id);
            return Err(Refusal::NotFound);
        };
        self.publications
            .current(key_set, |key_set| {
                Publication::render(key_set, &self.settings, &self.default_key_set, self.form)
            })
            .map_err(|error| {
                tracing::error!(key_set = %id, %error, "the key set cannot be rendered");
                Refusal::Fault
            })
    }
}

#[cfg(test)]
mod tests;
