//! What KMS calls our algorithms and kinds of key, and in which form it signs them.
//!
//! RSA and ECDSA are always signed as a digest that is made here: one path for every size, and the
//! payload never leaves. Ed25519 is signed RAW, since KMS knows no other way that is RFC 8032's
//! pure form, and RAW has a limit.

use crate::backend::{Error, Input, Kind};
use crate::key::{Algorithm, Curve, KeySpec, RsaBits};
use aws_sdk_kms::types::{
    KeySpec as KmsKeySpec, MessageType, SigningAlgorithmSpec as KmsAlgorithm,
};
use bytes::Bytes;

/// The longest message that KMS signs RAW.
const RAW_MAX: usize = 4096;

/// What KMS is to sign.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) algorithm: Algorithm,
    /// The digest, or for Ed25519 the message.
    pub(super) octets: Bytes,
}

impl Payload {
    /// Hashes a message; refuses what KMS cannot sign.
    pub(super) fn new(algorithm: Algorithm, input: Input) -> Result<Self, Error> {
        let refused = |kind, message| Err(Error::new(kind, "Sign", message));
        let octets = match (input, algorithm.digest()) {
            (Input::Message(message), Some(digest)) => digest.of(&message).into(),
            (Input::Digest(octets), Some(digest)) if octets.len() == digest.output_len() => octets,
            (Input::Digest(octets), Some(digest)) => {
                let message = format!(
                    "a digest for {algorithm} has {} bytes, not {}",
                    digest.output_len(),
                    octets.len()
                );
                return refused(Kind::Unsupported, message);
            }
            (Input::Digest(_), None) => {
                return refused(
                    Kind::Unsupported,
                    format!("{algorithm} signs messages, not digests"),
                );
            }
            (Input::Message(message), None) if message.len() > RAW_MAX => {
                let message = format!(
                    "AWS KMS signs at most {RAW_MAX} bytes by {algorithm}, and these are {}; shorten them, or use a key set of another algorithm",
                    message.len()
                );
                return refused(Kind::TooLong, message);
            }
            (Input::Message(message), None) => message,
        };
        Ok(Self { algorithm, octets })
    }

    /// Whether [`Payload::octets`] are a digest.
    pub(super) fn message_type(&self) -> MessageType {
        match self.algorithm.digest() {
            Some(_) => MessageType::Digest,
            None => MessageType::Raw,
        }
    }
}

/// KMS's name for an algorithm.
pub(super) fn algorithm(algorithm: Algorithm) -> KmsAlgorithm {
    match algorithm {
        Algorithm::Rs256 => KmsAlgorithm::RsassaPkcs1V15Sha256,
        Algorithm::Rs384 => KmsAlgorithm::RsassaPkcs1V15Sha384,
        Algorithm::Rs512 => KmsAlgorithm::RsassaPkcs1V15Sha512,
        Algorithm::Ps256 => KmsAlgorithm::RsassaPssSha256,
        Algorithm::Ps384 => KmsAlgorithm::RsassaPssSha384,
        Algorithm::Ps512 => KmsAlgorithm::RsassaPssSha512,
        Algorithm::Es256 => KmsAlgorithm::EcdsaSha256,
        Algorithm::Es384 => KmsAlgorithm::EcdsaSha384,
        Algorithm::Es512 => KmsAlgorithm::EcdsaSha512,
        Algorithm::EdDsa => KmsAlgorithm::Ed25519Sha512,
    }
}

/// KMS's name for a kind of key.
pub(super) fn key_spec(spec: KeySpec) -> KmsKeySpec {
    match spec {
        KeySpec::Rsa(RsaBits::B2048) => KmsKeySpec::Rsa2048,
        KeySpec::Rsa(RsaBits::B3072) => KmsKeySpec::Rsa3072,
        KeySpec::Rsa(RsaBits::B4096) => KmsKeySpec::Rsa4096,
        KeySpec::Ec(Curve::P256) => KmsKeySpec::EccNistP256,
        KeySpec::Ec(Curve::P384) => KmsKeySpec::EccNistP384,
        KeySpec::Ec(Curve::P521) => KmsKeySpec::EccNistP521,
        KeySpec::Ed25519 => KmsKeySpec::EccNistEdwards25519,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_size_becomes_a_digest_except_for_ed25519() {
        let message = || Input::Message(vec![7; RAW_MAX + 1].into());
        for algorithm in Algorithm::ALL {
            match algorithm.digest() {
                Some(digest) => {
                    let payload = Payload::new(algorithm, message()).unwrap();
                    assert_eq!(payload.octets.len(), digest.output_len());
                    assert_eq!(payload.message_type(), MessageType::Digest);
                }
                None => {
                    let error = Payload::new(algorithm, message()).unwrap_err();
                    assert_eq!(error.kind, Kind::TooLong);
                    assert!(error.message.contains("4096 bytes"), "{error}");
                    let fits = Input::Message(vec![7; RAW_MAX].into());
                    let payload = Payload::new(algorithm, fits).unwrap();
                    assert_eq!(payload.message_type(), MessageType::Raw);
                }
            }
        }
    }

    #[test]
    fn a_digest_that_does_not_fit_is_refused() {
        let short = || Input::Digest(vec![0; 20].into());
        assert_eq!(Payload::new(Algorithm::Es256, short()).unwrap_err().kind, Kind::Unsupported);
        assert_eq!(Payload::new(Algorithm::EdDsa, short()).unwrap_err().kind, Kind::Unsupported);
    }
}
