//! Self-signed certificates, the form in which SAML, WS-Fed and Auth0's clients want public keys.
//!
//! Pure: the private key is somewhere else, so a certificate is made in two phases around a
//! signature that the backend makes ([`certificate::Draft`]). What is derived from the finished DER
//! (PKCS#7, PEM, fingerprints) is derived on demand; the store keeps the DER alone.

pub mod bundle;
pub mod certificate;
pub mod fingerprint;

pub use certificate::Draft;

use base64ct::{Base64, Encoding};

/// A certificate's DER as PEM (RFC 7468 section 5), `CERTIFICATE`, LF line ends.
pub fn pem(certificate: &[u8]) -> String {
    armour("CERTIFICATE", certificate)
}

/// RFC 7468's strict form: 48 bytes make a line of 64 characters, and every line ends with LF.
fn armour(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        text.push_str(&Base64::encode_string(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
