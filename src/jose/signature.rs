//! ECDSA signatures in their two forms: r‖s in full length (RFC 7518 section 3.4, and what a token
//! returns) and the DER `ECDSA-Sig-Value` (RFC 3279 section 2.2.3, in certificates and for callers
//! who ask for it).
//!
//! Both directions are strict. A lax reader would let one signature have many encodings, and a
//! short r or s passed through unpadded verifies nowhere, about once in 128 times.

use crate::key::Curve;
use der::asn1::UintRef;
use der::{Decode, Encode};

/// The DER form of an r‖s signature of exactly twice [`Curve::coordinate_len`] bytes.
pub fn to_der(curve: Curve, signature: &[u8]) -> Result<Vec<u8>, Error> {
    let wanted = curve.coordinate_len();
    let (Some(r), Some(s)) = (signature.get(..wanted), signature.get(wanted..)) else {
        return Err(Error::Length { given: signature.len(), wanted: 2 * wanted });
    };
    if s.len() != wanted {
        return Err(Error::Length { given: signature.len(), wanted: 2 * wanted });
    }
    let value = EcdsaSigValue { r: UintRef::new(r)?, s: UintRef::new(s)? };
    value.check(curve)?;
    Ok(value.to_der()?)
}

/// The r‖s form of a DER signature, exactly twice [`Curve::coordinate_len`] bytes. Refuses whatever
/// is not DER (other lengths of length, integers that are negative or not minimal, anything after
/// the end) and an r or s that is zero or longer than the curve's coordinates.
pub fn from_der(curve: Curve, der: &[u8]) -> Result<Vec<u8>, Error> {
    let value = EcdsaSigValue::from_der(der)?;
    value.check(curve)?;
    let len = curve.coordinate_len();
    let mut signature = Vec::with_capacity(2 * len);
    for part in [value.r, value.s] {
        let bytes = part.as_bytes();
        signature.resize(signature.len() + len.saturating_sub(bytes.len()), 0);
        signature.extend_from_slice(bytes);
    }
    Ok(signature)
}

/// `SEQUENCE { r INTEGER, s INTEGER }`.
#[derive(der::Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl EcdsaSigValue<'_> {
    fn check(&self, curve: Curve) -> Result<(), Error> {
        for (part, value) in [("r", &self.r), ("s", &self.s)] {
            let bytes = value.as_bytes();
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(Error::Zero { part });
            }
            if bytes.len() > curve.coordinate_len() {
                return Err(Error::TooLong {
                    part,
                    given: bytes.len(),
                    at_most: curve.coordinate_len(),
                });
            }
        }
        Ok(())
    }
}

/// Bytes that are no ECDSA signature; says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// r‖s of a length that does not fit the curve.
    #[error("an r‖s signature on this curve has {wanted} bytes, not {given}")]
    Length {
        /// The length that was given.
        given: usize,
        /// The length that fits.
        wanted: usize,
    },
    /// r or s is zero, which no signature has (FIPS 186-5 section 6.4.2).
    #[error("{part} must not be zero")]
    Zero {
        /// `r` or `s`.
        part: &'static str,
    },
    /// r or s does not fit the curve.
    #[error("{part} has {given} bytes; on this curve it has at most {at_most}")]
    TooLong {
        /// `r` or `s`.
        part: &'static str,
        /// Its length without leading zeros.
        given: usize,
        /// The curve's coordinate length.
        at_most: usize,
    },
    /// Not the DER of a sequence of two non-negative integers.
    #[error("must be the DER of SEQUENCE {{ r INTEGER, s INTEGER }} and nothing after it: {0}")]
    Der(#[from] der::Error),
}
