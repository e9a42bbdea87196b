//! Every signature is verified before it is released.
//!
//! The key is on the other side of a network, behind a name that somebody else may have given to
//! another key; a KMS or an emulator may hash twice or salt wrongly. A verification costs
//! microseconds beside the milliseconds of a call, and what does not verify never leaves.

use super::spec::Payload;
use crate::backend::{Error, Kind};
use crate::jose::{signature, spki};
use crate::key::{Algorithm, Digest, PublicKey};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as rules, UnparsedPublicKey, VerificationAlgorithm};

/// The signature in JWS form, if `public` verifies it over what was to be signed.
pub(super) fn released(
    public: &PublicKey,
    payload: &Payload,
    signature: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let wrong = |message: String| Error::new(Kind::Inconsistent, "Sign", message);
    let signature = match public {
        PublicKey::Ec { curve, .. } => signature::from_der(*curve, &signature)
            .map_err(|error| wrong(format!("KMS answered with no ECDSA signature: {error}")))?,
        _ => signature,
    };
    if verifies(public, payload, &signature) {
        return Ok(signature);
    }
    Err(wrong(
        "KMS answered with a signature that the public key in the store does not verify: it has used another key, or signs in another way than AWS does".to_owned(),
    ))
}

fn verifies(public: &PublicKey, payload: &Payload, signature: &[u8]) -> bool {
    let Ok(bytes) = (match public {
        PublicKey::Ed25519(key) => Ok(key.to_vec()),
        PublicKey::Ec { x, y, .. } => Ok([&[4], x.as_slice(), y.as_slice()].concat()),
        PublicKey::Rsa { .. } => spki::to_der(public),
    }) else {
        return false;
    };
    let key = UnparsedPublicKey::new(rule(payload.algorithm), bytes);
    let Some(hash) = payload.algorithm.digest().map(hash) else {
        return key.verify(&payload.octets, signature).is_ok();
    };
    digest::Digest::import_less_safe(&payload.octets, hash)
        .is_ok_and(|digest| key.verify_digest(&digest, signature).is_ok())
}

fn rule(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Rs256 => &rules::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &rules::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &rules::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &rules::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &rules::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &rules::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 => &rules::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &rules::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &rules::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &rules::ED25519,
    }
}

fn hash(digest: Digest) -> &'static digest::Algorithm {
    match digest {
        Digest::Sha256 => &digest::SHA256,
        Digest::Sha384 => &digest::SHA384,
        Digest::Sha512 => &digest::SHA512,
    }
}
