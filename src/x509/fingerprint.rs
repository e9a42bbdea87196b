//! Fingerprints of certificates, as people compare them: upper-case hex of a hash of the DER.

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// SHA-1 in upper-case hex with colons, 59 characters; Auth0's `fingerprint`.
pub fn sha1(certificate: &[u8]) -> String {
    hex(&Sha1::digest(certificate), ":")
}

/// SHA-256 in upper-case hex with colons, 95 characters.
pub fn sha256(certificate: &[u8]) -> String {
    hex(&Sha256::digest(certificate), ":")
}

/// SHA-1 in upper-case hex without colons, 40 characters; Auth0's `thumbprint`.
pub fn sha1_plain(certificate: &[u8]) -> String {
    hex(&Sha1::digest(certificate), "")
}

/// SHA-256 in upper-case hex without colons, 64 characters.
pub fn sha256_plain(certificate: &[u8]) -> String {
    hex(&Sha256::digest(certificate), "")
}

fn hex(bytes: &[u8], separator: &str) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(separator)
}
