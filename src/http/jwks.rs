//! The JWKS (RFC 7517 section 5).
//!
//! `application/json` and not `application/jwk-set+json`: there are verifiers that refuse the
//! latter, and none that refuses the former.

use super::document::{Document, Error};
use crate::jose::JwkSet;
use crate::key::KeySet;

/// The published keys of a key set.
pub(super) fn document(key_set: &KeySet) -> Result<Document, Error> {
    Document::inline("application/json; charset=utf-8", serde_json::to_vec(&JwkSet::new(key_set))?)
}
