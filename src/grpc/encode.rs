//! The forms in which keys, certificates and signatures are written, for answers.

use crate::jose::jwk::Jwk;
use crate::jose::{signature, spki};
use crate::key::{Algorithm, Key, KeySpec, PublicKey, RsaBits};
use crate::keyring::Error;
use std::fmt::Display;

/// A public key as SubjectPublicKeyInfo in PEM (RFC 7468 section 13). A key that is well-formed
/// always has that form.
pub(super) fn public_key_pem(public: &PublicKey) -> String {
    spki::to_pem(public).unwrap_or_default()
}

/// A key's public half as a JSON Web Key (RFC 7517).
pub(super) fn jwk(key: &Key) -> Result<String, Error> {
    serde_json::to_string(&Jwk::new(key)).map_err(fault)
}

/// An ECDSA signature as DER (RFC 3279 section 2.2.3); any other is the same in both forms.
pub(super) fn signature_der(algorithm: Algorithm, signature: Vec<u8>) -> Result<Vec<u8>, Error> {
    match algorithm.key_spec(RsaBits::default()) {
        KeySpec::Ec(curve) => signature::to_der(curve, &signature).map_err(fault),
        KeySpec::Rsa(_) | KeySpec::Ed25519 => Ok(signature),
    }
}

fn fault(error: impl Display) -> Error {
    Error::Fault(error.to_string())
}
