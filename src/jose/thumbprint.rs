//! JWK thumbprints (RFC 7638; RFC 8037 section 2 for OKP).
//!
//! The hash covers the required members alone, in lexicographic order, without white space. Every
//! value in it is base64url or a registered name, so no character ever needs escaping and the JSON
//! can be written as text.

use super::base64url;
use crate::key::{Kid, PublicKey};
use sha2::{Digest, Sha256};

/// The kid of a key: the SHA-256 thumbprint of its public half.
pub fn kid(public: &PublicKey) -> Kid {
    Kid::from_thumbprint(Sha256::digest(canonical(public)).into())
}

/// The JSON that is hashed (RFC 7638 section 3.2).
fn canonical(public: &PublicKey) -> String {
    match public {
        PublicKey::Rsa { n, e } => {
            let (n, e) = (base64url(n), base64url(e));
            format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
        }
        PublicKey::Ec { curve, x, y } => {
            let (crv, x, y) = (curve.name(), base64url(x), base64url(y));
            format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        PublicKey::Ed25519(x) => {
            let x = base64url(x);
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
        }
    }
}
