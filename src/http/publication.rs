//! What a key set looks like from outside, rendered once for each state that it is in.
//!
//! What is kept is compared with the snapshot on every request, by value if need be, and never by
//! time or by notice: there is no moment at which an old rendering could still be served.

use super::answer::Refusal;
use super::certificates::Certificates;
use super::document::{Document, Error};
use super::{Form, Settings};
use super::{discovery, jwks};
use crate::key::{KeySet, KeySetId};
use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Everything that is served of one key set.
pub(super) struct Publication {
    /// The JWKS.
    pub(super) jwks: Document,
    /// The discovery document.
    pub(super) discovery: Document,
    /// The current key's certificate, or why there is none. That must not keep the JWKS back.
    certificates: Result<Certificates, Refusal>,
    /// How long all this may be kept.
    pub(super) cache_control: HeaderValue,
}

impl Publication {
    /// Renders `key_set` as it stands.
    pub(super) fn render(
        key_set: &KeySet,
        settings: &Settings,
        default_key_set: &KeySetId,
        form: Form,
    ) -> Result<Self, Error> {
        Ok(Self {
            jwks: jwks::document(key_set, form)?,
            discovery: discovery::document(key_set, settings, default_key_set)?,
            certificates: certificates(key_set),
            cache_control: cache_control(&key_set.id, settings)?,
        })
    }

    /// The current key's certificate.
    pub(super) fn certificates(&self) -> Result<&Certificates, Refusal> {
        self.certificates.as_ref().map_err(|refusal| *refusal)
    }
}

/// Renderings kept, one for each key set that exists and was asked for.
#[derive(Default)]
pub(super) struct Publications(RwLock<HashMap<KeySetId, Kept>>);

#[derive(Clone)]
struct Kept {
    source: Arc<KeySet>,
    publication: Arc<Publication>,
}

impl Publications {
    /// The rendering of just this state of the key set, made now if it is not at hand.
    pub(super) fn current(
        &self,
        key_set: Arc<KeySet>,
        render: impl FnOnce(&KeySet) -> Result<Publication, Error>,
    ) -> Result<Arc<Publication>, Error> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key_set.id).cloned();
        let publication = match kept {
            Some(kept) if Arc::ptr_eq(&kept.source, &key_set) => return Ok(kept.publication),
            Some(kept) if kept.source == key_set => kept.publication,
            _ => Arc::new(render(&key_set)?),
        };
        let kept = Kept { source: key_set.clone(), publication: publication.clone() };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key_set.id.clone(), kept);
        Ok(publication)
    }

    /// Lets go of a key set that is no more.
    pub(super) fn forget(&self, id: &KeySetId) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(id);
        if known {
            self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }
}

fn certificates(key_set: &KeySet) -> Result<Certificates, Refusal> {
    let key = key_set.current().ok_or(Refusal::NoCurrentKey)?;
    Certificates::of(key).map_err(|error| {
        tracing::error!(key_set = %key_set.id, kid = %key.kid, %error, "no certificate to serve");
        Refusal::Fault
    })
}

/// `Cache-Control` of a key set's documents. Its `max-age` lies in the upper fifth below the one
/// that is set, always at the same place for one key set.
fn cache_control(id: &KeySetId, settings: &Settings) -> Result<HeaderValue, Error> {
    let max_age = settings.max_age.as_secs();
    let [spread, ..] = <[u8; 32]>::from(Sha256::digest(id.as_str()));
    let max_age = max_age - max_age / 5 * u64::from(spread) / 255;
    let value = format!(
        "public, max-age={max_age}, stale-while-revalidate={}, stale-if-error={}",
        settings.stale_while_revalidate.as_secs(),
        settings.stale_if_error.as_secs()
    );
    Ok(value.try_into()?)
}
