//! Every signature is verified before it is released.
//!
//! The key is on the other side of a network, behind a name that somebody else may have given to
//! another key; a KMS or an emulator may hash twice or salt wrongly. A verification costs
//! microseconds beside the milliseconds of a call, and what does not verify never leaves.

use super::spec::Payload;
use crate::backend::{Error, Kind};
use crate::jose::{signature, verify};
use crate::key::PublicKey;

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
    let Payload { algorithm, octets } = payload;
    let verified = match algorithm.digest() {
        Some(_) => verify::verifies_digest(public, *algorithm, octets, &signature),
        None => verify::verifies(public, *algorithm, octets, &signature),
    };
    if verified {
        return Ok(signature);
    }
    Err(wrong(
        "KMS answered with a signature that the public key in the store does not verify: it has used another key, or signs in another way than AWS does".to_owned(),
    ))
}
