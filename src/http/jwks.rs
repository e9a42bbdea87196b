//! The JWKS (RFC 7517 section 5).
//!
//! `application/json` and not `application/jwk-set+json`: there are verifiers that refuse the
//! latter, and none that refuses the former.

use super::Form;
use super::document::{Document, Error};
use crate::jose::{Jwk, JwkSet};
use crate::key::KeySet;

/// The published keys of a key set.
pub(super) fn document(key_set: &KeySet, form: Form) -> Result<Document, Error> {
    let keys = JwkSet::new(key_set);
    let keys = match form {
        Form::Signkeep => keys,
        Form::Auth0 => keys.each(Jwk::without_x5t_s256),
        Form::Auth0WithoutAlg => keys.each(|key| key.without_x5t_s256().without_alg()),
    };
    Document::inline("application/json; charset=utf-8", serde_json::to_vec(&keys)?)
}
