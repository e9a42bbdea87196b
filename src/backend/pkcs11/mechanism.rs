//! Which mechanism signs by which algorithm, and what a token offers of them.
//!
//! Nearly every token has the raw mechanisms (CKM_RSA_PKCS over a DigestInfo, CKM_RSA_PKCS_PSS and
//! CKM_ECDSA over a hash), and SoftHSM has no hashing ECDSA at all. So we hash, and use the raw one
//! wherever it exists; a token that has only the hashing one is given the message.

use crate::backend::{Error, Input, Kind};
use crate::key::{Algorithm, Digest, KeySpec};
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismInfo, MechanismType};
use cryptoki::slot::Slot;

/// DER of DigestInfo up to the hash itself (RFC 8017 section 9.2, note 1).
const DIGEST_INFO_SHA256: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
const DIGEST_INFO_SHA384: [u8; 19] = [
    0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0x04, 0x30,
];
const DIGEST_INFO_SHA512: [u8; 19] = [
    0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05,
    0x00, 0x04, 0x40,
];

/// The ways to sign by one algorithm.
#[derive(Debug)]
struct Ways {
    /// Takes a hash, or for RS* a DigestInfo.
    raw: Option<Mechanism<'static>>,
    /// Takes the message.
    hashing: Mechanism<'static>,
}

/// The mechanisms for an algorithm (PKCS#11 v3.1 sections 6.1 and 6.3). PSS as RFC 7518 section 3.5
/// wants it: MGF1 with the same hash, a salt as long as the hash.
fn ways(algorithm: Algorithm) -> Ways {
    let pss = |hash_alg, mgf, digest: Digest| PkcsPssParams {
        hash_alg,
        mgf,
        s_len: u64::try_from(digest.output_len()).unwrap_or_default().into(),
    };
    let (raw, hashing) = match algorithm {
        Algorithm::Rs256 => (Mechanism::RsaPkcs, Mechanism::Sha256RsaPkcs),
        Algorithm::Rs384 => (Mechanism::RsaPkcs, Mechanism::Sha384RsaPkcs),
        Algorithm::Rs512 => (Mechanism::RsaPkcs, Mechanism::Sha512RsaPkcs),
        Algorithm::Ps256 => {
            let pss = pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, Digest::Sha256);
            (Mechanism::RsaPkcsPss(pss), Mechanism::Sha256RsaPkcsPss(pss))
        }
        Algorithm::Ps384 => {
            let pss = pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, Digest::Sha384);
            (Mechanism::RsaPkcsPss(pss), Mechanism::Sha384RsaPkcsPss(pss))
        }
        Algorithm::Ps512 => {
            let pss = pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, Digest::Sha512);
            (Mechanism::RsaPkcsPss(pss), Mechanism::Sha512RsaPkcsPss(pss))
        }
        Algorithm::Es256 => (Mechanism::Ecdsa, Mechanism::EcdsaSha256),
        Algorithm::Es384 => (Mechanism::Ecdsa, Mechanism::EcdsaSha384),
        Algorithm::Es512 => (Mechanism::Ecdsa, Mechanism::EcdsaSha512),
        Algorithm::EdDsa => {
            return Ways {
                raw: None,
                hashing: Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
            };
        }
    };
    Ways { raw: Some(raw), hashing }
}

/// The mechanism that generates a key of that kind.
pub(super) const fn generation(spec: KeySpec) -> Mechanism<'static> {
    match spec {
        KeySpec::Rsa(_) => Mechanism::RsaPkcsKeyPairGen,
        KeySpec::Ec(_) => Mechanism::EccKeyPairGen,
        KeySpec::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
    }
}

/// An input in the forms that a token may want, hashed before it waits for a session.
#[derive(Debug)]
pub(super) struct Payload {
    algorithm: Algorithm,
    input: Input,
    digest: Option<Vec<u8>>,
}

impl Payload {
    /// Hashes a message; checks that a digest fits the algorithm.
    pub(super) fn new(algorithm: Algorithm, input: Input) -> Result<Self, Error> {
        let digest = match (&input, algorithm.digest()) {
            (Input::Message(_), None) => None,
            (Input::Message(message), Some(digest)) => Some(digest.of(message)),
            (Input::Digest(bytes), Some(digest)) if bytes.len() == digest.output_len() => {
                Some(bytes.to_vec())
            }
            (Input::Digest(bytes), wanted) => {
                return Err(Error::new(
                    Kind::Unsupported,
                    "C_Sign",
                    match wanted {
                        Some(digest) => format!(
                            "a digest for {algorithm} has {} bytes, not {}",
                            digest.output_len(),
                            bytes.len()
                        ),
                        None => format!("{algorithm} signs messages, not digests"),
                    },
                ));
            }
        };
        Ok(Self { algorithm, input, digest })
    }

    /// What to hand to C_SignInit and C_Sign on a token that offers `offer`.
    pub(super) fn call(&self, offer: &Offer) -> Result<(Mechanism<'static>, Vec<u8>), Error> {
        let Ways { raw, hashing } = ways(self.algorithm);
        match (raw, &self.digest, &self.input) {
            (Some(raw), Some(digest), _) if offer.signs(raw.mechanism_type()) => {
                Ok((raw, octets(self.algorithm, digest)))
            }
            (_, _, Input::Message(message)) if offer.signs(hashing.mechanism_type()) => {
                Ok((hashing, message.to_vec()))
            }
            (Some(_), _, Input::Digest(_)) if offer.signs(hashing.mechanism_type()) => {
                Err(Error::new(
                    Kind::Unsupported,
                    "C_SignInit",
                    format!(
                        "this token signs {} only over messages that it hashes itself; send the message",
                        self.algorithm
                    ),
                ))
            }
            _ => Err(missing(self.algorithm)),
        }
    }
}

/// What the raw mechanism signs: for PKCS#1 v1.5 a DigestInfo, otherwise the hash.
fn octets(algorithm: Algorithm, digest: &[u8]) -> Vec<u8> {
    let prefix: &[u8] = match algorithm {
        Algorithm::Rs256 => &DIGEST_INFO_SHA256,
        Algorithm::Rs384 => &DIGEST_INFO_SHA384,
        Algorithm::Rs512 => &DIGEST_INFO_SHA512,
        _ => &[],
    };
    [prefix, digest].concat()
}

/// What a token says it can do (C_GetMechanismList, C_GetMechanismInfo).
#[derive(Clone, Debug, Default)]
pub(super) struct Offer(Vec<(MechanismType, MechanismInfo)>);

impl Offer {
    /// Asks the token in `slot`.
    pub(super) fn of(pkcs11: &Pkcs11, slot: Slot) -> Result<Self, cryptoki::error::Error> {
        let mut offer = Vec::new();
        for mechanism in pkcs11.get_mechanism_list(slot)? {
            // A mechanism that is listed and cannot be described is as good as none.
            if let Ok(info) = pkcs11.get_mechanism_info(slot, mechanism) {
                offer.push((mechanism, info));
            }
        }
        Ok(Self(offer))
    }

    /// Whether it can generate `spec` and sign with it by `algorithm`; says what is missing.
    pub(super) fn supports(&self, algorithm: Algorithm, spec: KeySpec) -> Result<(), Error> {
        let Ways { raw, hashing } = ways(algorithm);
        let raw = raw.is_some_and(|raw| self.signs(raw.mechanism_type()));
        if !raw && !self.signs(hashing.mechanism_type()) {
            return Err(missing(algorithm));
        }
        let mechanism = generation(spec).mechanism_type();
        let Some(info) = self.info(mechanism).filter(|info| info.generate_key_pair()) else {
            return Err(Error::new(
                Kind::Unsupported,
                "C_GetMechanismList",
                format!("the token cannot generate {spec} keys: it lacks {mechanism}"),
            ));
        };
        let bits = match spec {
            KeySpec::Rsa(bits) => usize::try_from(bits.bits()).unwrap_or(usize::MAX),
            KeySpec::Ec(curve) => match curve.coordinate_len() {
                66 => 521,
                len => 8 * len,
            },
            // Tokens disagree on whether an Edwards key has 255 or 256 bits.
            KeySpec::Ed25519 => return Ok(()),
        };
        if bits < info.min_key_size() || bits > info.max_key_size() {
            return Err(Error::new(
                Kind::Unsupported,
                "C_GetMechanismInfo",
                format!(
                    "the token generates keys of {} to {} bits by {mechanism}, not {spec}",
                    info.min_key_size(),
                    info.max_key_size()
                ),
            ));
        }
        Ok(())
    }

    fn signs(&self, mechanism: MechanismType) -> bool {
        self.info(mechanism).is_some_and(MechanismInfo::sign)
    }

    fn info(&self, mechanism: MechanismType) -> Option<&MechanismInfo> {
        self.0.iter().find_map(|(offered, info)| (*offered == mechanism).then_some(info))
    }
}

fn missing(algorithm: Algorithm) -> Error {
    let Ways { raw, hashing } = ways(algorithm);
    let hashing = hashing.mechanism_type();
    let message = match raw {
        Some(raw) => format!(
            "the token cannot sign {algorithm}: it has neither {} nor {hashing}",
            raw.mechanism_type()
        ),
        None => format!("the token cannot sign {algorithm}: it lacks {hashing}"),
    };
    Error::new(Kind::Unsupported, "C_GetMechanismList", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_digest_info_ends_in_the_length_of_its_hash() {
        for algorithm in [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512] {
            let digest = algorithm.digest().unwrap();
            let octets = octets(algorithm, &vec![7; digest.output_len()]);
            assert_eq!(octets.len(), 19 + digest.output_len());
            assert_eq!(usize::from(octets[18]), digest.output_len());
            assert_eq!(usize::from(octets[1]), 17 + digest.output_len());
        }
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused_before_the_token_sees_it() {
        let short = Input::Digest(Bytes::from_static(&[0; 20]));
        let error = Payload::new(Algorithm::Es256, short).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported);
        assert!(error.message.contains("32 bytes, not 20"), "{error}");
    }

    #[test]
    fn eddsa_takes_no_digest() {
        let digest = Input::Digest(Bytes::from_static(&[0; 64]));
        assert!(Payload::new(Algorithm::EdDsa, digest).is_err());
    }

    #[test]
    fn a_token_that_offers_nothing_supports_nothing() {
        let spec = Algorithm::Es256.key_spec(Default::default());
        let error = Offer::default().supports(Algorithm::Es256, spec).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported);
    }
}
