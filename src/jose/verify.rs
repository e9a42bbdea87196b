//! Whether a signature verifies: for proof of what a backend has made, before anyone relies on it.

use super::spki;
use crate::key::{Algorithm, Digest, PublicKey};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as lc, UnparsedPublicKey, VerificationAlgorithm};

/// Whether `signature`, in JWS form, is one by `public` over `message` (RFC 7518 section 3,
/// RFC 8037 section 3.1). A key that does not fit the algorithm verifies nothing.
pub fn verifies(
    public: &PublicKey,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    key(public, algorithm).is_some_and(|key| key.verify(message, signature).is_ok())
}

/// Whether it is one over the message whose hash by the algorithm's own function is `digest`. An
/// algorithm that signs no hashes verifies nothing.
pub fn verifies_digest(
    public: &PublicKey,
    algorithm: Algorithm,
    digest: &[u8],
    signature: &[u8],
) -> bool {
    let Some((key, hash)) = key(public, algorithm).zip(algorithm.digest().map(hash)) else {
        return false;
    };
    digest::Digest::import_less_safe(digest, hash)
        .is_ok_and(|digest| key.verify_digest(&digest, signature).is_ok())
}

/// The key as the algorithm verifies with it.
fn key(public: &PublicKey, algorithm: Algorithm) -> Option<UnparsedPublicKey<Vec<u8>>> {
    let bytes = match public {
        _ if !public.fits(algorithm) => return None,
        PublicKey::Rsa { .. } => spki::to_der(public).ok()?,
        PublicKey::Ec { x, y, .. } => [&[4], x.as_slice(), y.as_slice()].concat(),
        PublicKey::Ed25519(bytes) => bytes.to_vec(),
    };
    Some(UnparsedPublicKey::new(rule(algorithm), bytes))
}

fn rule(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Rs256 => &lc::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &lc::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &lc::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &lc::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &lc::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &lc::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 => &lc::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &lc::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &lc::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &lc::ED25519,
    }
}

fn hash(digest: Digest) -> &'static digest::Algorithm {
    match digest {
        Digest::Sha256 => &digest::SHA256,
        Digest::Sha384 => &digest::SHA384,
        Digest::Sha512 => &digest::SHA512,
    }
}
