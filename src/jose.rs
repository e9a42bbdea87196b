//! The JOSE forms of keys and signatures: RFC 7515 (JWS), 7517 (JWK), 7518 (JWA), 7638
//! (thumbprints) and 8037 (Ed25519).
//!
//! Pure: values in, bytes out. The formats are written out here, member by member, because their
//! exact bytes matter to verifiers (the order of members, base64url without padding, r‖s in full
//! length) and because general JOSE libraries know neither every algorithm nor the `x5` members.

pub mod foreign;
pub mod jwk;
pub mod jws;
mod members;
pub mod signature;
pub mod spki;
pub mod thumbprint;
pub mod verify;
mod verifying;

pub use jwk::{Jwk, JwkSet};
pub use members::{Members, NotMembers, REGISTERED};
pub use verifying::{Missing, NotKeys, VerifyingKeys};

use base64ct::{Base64UrlUnpadded, Encoding};

/// `bytes` in base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}
