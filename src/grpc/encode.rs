//! The forms in which keys, certificates and signatures are written, for answers.

use crate::jose::{Jwk, signature, spki};
use crate::key::{Algorithm, Key, KeySpec, PublicKey, RsaBits};
use crate::keyring::Error;

/// A public key as SubjectPublicKeyInfo in PEM (RFC 7468 section 13).
pub(super) fn public_key_pem(public: &PublicKey) -> String {
    // A public key is well-formed by construction, and so can be written.
    spki::to_pem(public).unwrap_or_default()
}

/// A key's public half as a JSON Web Key (RFC 7517).
pub(super) fn jwk(key: &Key) -> Result<String, Error> {
    serde_json::to_string(&Jwk::new(key)).map_err(|error| Error::Fault(format!("jwk: {error}")))
}

/// An ECDSA signature as DER (RFC 3279 section 2.2.3); any other is the same in both forms.
pub(super) fn signature_der(algorithm: Algorithm, jws: Vec<u8>) -> Result<Vec<u8>, Error> {
    match algorithm.key_spec(RsaBits::default()) {
        KeySpec::Ec(curve) => signature::to_der(curve, &jws)
            .map_err(|error| Error::Fault(format!("signature from the backend: {error}"))),
        KeySpec::Rsa(_) | KeySpec::Ed25519 => Ok(jws),
    }
}
