//! Discovery (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2): how a verifier that
//! knows the issuer finds the JWKS.
//!
//! There are no endpoints for logging in here, and none are named. What the specifications demand
//! of every provider all the same (`response_types_supported`, `subject_types_supported`) has the
//! values that other issuers without a login use, Kubernetes among them.

use super::Settings;
use super::document::{Document, Error};
use crate::key::{Algorithm, KeySet, KeySetId};
use serde::Serialize;

#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [Algorithm; 1],
}

/// The discovery document of a key set. Its `issuer` is the key set's, character for character;
/// its `jwks_uri` is the one URL that this listener has for the JWKS.
pub(super) fn document(
    key_set: &KeySet,
    settings: &Settings,
    default_key_set: &KeySetId,
) -> Result<Document, Error> {
    let base = settings.base_url();
    let jwks_uri = if key_set.id == *default_key_set {
        format!("{base}/.well-known/jwks.json")
    } else {
        format!("{base}/{}/.well-known/jwks.json", key_set.id)
    };
    let metadata = Metadata {
        issuer: key_set.issuer.as_str(),
        jwks_uri,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: [key_set.algorithm],
    };
    Document::inline("application/json; charset=utf-8", serde_json::to_vec(&metadata)?)
}
