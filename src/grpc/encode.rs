//! The forms in which keys, certificates and signatures are written, for answers.

use crate::key::{Algorithm, Key, KeySpec, PublicKey, RsaBits};
use crate::keyring::Error;
use der::pem::{LineEnding, encode_string};
use sha1::Digest;
use std::fmt::Write;

/// An X.509 certificate in PEM (RFC 7468 section 5); empty if there is none.
pub(super) fn certificate_pem(certificate: &[u8]) -> String {
    if certificate.is_empty() {
        return String::new();
    }
    encode_string("CERTIFICATE", LineEnding::LF, certificate).unwrap_or_default()
}

/// SHA-1 of a certificate's DER, upper-case hex; empty if there is none.
pub(super) fn thumbprint_sha1(certificate: &[u8]) -> String {
    thumbprint::<sha1::Sha1>(certificate)
}

/// SHA-256 of a certificate's DER, upper-case hex; empty if there is none.
pub(super) fn thumbprint_sha256(certificate: &[u8]) -> String {
    thumbprint::<sha2::Sha256>(certificate)
}

fn thumbprint<D: Digest>(certificate: &[u8]) -> String {
    if certificate.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for byte in D::digest(certificate).iter() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// A public key as SubjectPublicKeyInfo in PEM (RFC 7468 section 13).
pub(super) fn public_key_pem(_public: &PublicKey) -> String {
    // WIRE: crate::jose::spki
    String::new()
}

/// A key's public half as a JSON Web Key (RFC 7517).
pub(super) fn jwk(_key: &Key) -> Result<String, Error> {
    // WIRE: crate::jose::jwk
    Err(Error::Fault("jose is not wired".to_owned()))
}

/// An ECDSA signature as DER (RFC 3279 section 2.2.3); any other is the same in both forms.
pub(super) fn signature_der(algorithm: Algorithm, signature: Vec<u8>) -> Result<Vec<u8>, Error> {
    match algorithm.key_spec(RsaBits::default()) {
        // WIRE: crate::jose::signature
        KeySpec::Ec(_) => Err(Error::Fault("jose is not wired".to_owned())),
        KeySpec::Rsa(_) | KeySpec::Ed25519 => Ok(signature),
    }
}
