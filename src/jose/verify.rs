//! Whether a signature verifies: for proof of what a backend has made, before anyone relies on it.

use crate::key::{Algorithm, PublicKey};
use aws_lc_rs::signature as lc;

/// Whether `signature`, in JWS form, is one by `public` over `message` (RFC 7518 section 3,
/// RFC 8037 section 3.1). A key that does not fit the algorithm verifies nothing.
pub fn verifies(
    public: &PublicKey,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    match public {
        PublicKey::Rsa { n, e } => rsa(algorithm).is_some_and(|parameters| {
            let key = lc::RsaPublicKeyComponents { n, e };
            key.verify(parameters, message, signature).is_ok()
        }),
        PublicKey::Ec { x, y, .. } => {
            ec(algorithm).filter(|_| public.fits(algorithm)).is_some_and(|parameters| {
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                lc::UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok()
            })
        }
        PublicKey::Ed25519(bytes) => {
            let key = lc::UnparsedPublicKey::new(&lc::ED25519, bytes);
            algorithm == Algorithm::EdDsa && key.verify(message, signature).is_ok()
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static lc::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&lc::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&lc::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&lc::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&lc::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&lc::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&lc::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn ec(algorithm: Algorithm) -> Option<&'static lc::EcdsaVerificationAlgorithm> {
    match algorithm {
        Algorithm::Es256 => Some(&lc::ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Some(&lc::ECDSA_P384_SHA384_FIXED),
        Algorithm::Es512 => Some(&lc::ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}
