//! Public keys, in the form in which JWK names their parts.

use super::{Algorithm, Curve, KeySpec, RsaBits};
use std::fmt;

/// The public half of a key pair, well-formed by construction.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// RSA (RFC 7518 section 6.3.1); see [`PublicKey::rsa`].
    Rsa {
        /// The modulus, big-endian, no leading zero byte.
        n: Vec<u8>,
        /// The public exponent, big-endian, no leading zero byte.
        e: Vec<u8>,
    },
    /// A point on a NIST curve (RFC 7518 section 6.2.1); see [`PublicKey::ec`].
    Ec {
        /// The curve.
        curve: Curve,
        /// The x coordinate, big-endian, exactly [`Curve::coordinate_len`] bytes.
        x: Vec<u8>,
        /// The y coordinate, big-endian, exactly [`Curve::coordinate_len`] bytes.
        y: Vec<u8>,
    },
    /// An Ed25519 public key as RFC 8032 encodes it (RFC 8037 section 2).
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// An RSA key; leading zero bytes are dropped. Refuses moduli other than 2048, 3072 and 4096
    /// bits and exponents that are even or below 3.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, InvalidPublicKey> {
        let (n, e) = (trimmed(n), trimmed(e));
        let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
        let known = u32::try_from(bits).ok().and_then(RsaBits::from_bits);
        if known.is_none() {
            return Err(InvalidPublicKey("the RSA modulus must have 2048, 3072 or 4096 bits"));
        }
        if e.len() > 8 || e.last().is_none_or(|low| low % 2 == 0) || e == [1] {
            return Err(InvalidPublicKey(
                "the RSA exponent must be odd, at least 3, at most 64 bits",
            ));
        }
        Ok(Self::Rsa { n: n.to_vec(), e: e.to_vec() })
    }

    /// A point in uncompressed form, `04 || x || y` (SEC 1 section 2.3.3).
    pub fn ec(curve: Curve, point: &[u8]) -> Result<Self, InvalidPublicKey> {
        let len = curve.coordinate_len();
        match point.split_first() {
            Some((4, xy)) if xy.len() == 2 * len => {
                let (x, y) = xy.split_at(len);
                Ok(Self::Ec { curve, x: x.to_vec(), y: y.to_vec() })
            }
            _ => {
                Err(InvalidPublicKey("the EC point must be uncompressed: 04, x, y in full length"))
            }
        }
    }

    /// An Ed25519 key of 32 bytes.
    pub fn ed25519(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        bytes
            .try_into()
            .map(Self::Ed25519)
            .map_err(|_| InvalidPublicKey("an Ed25519 public key has 32 bytes"))
    }

    /// The kind of key that this is.
    pub fn spec(&self) -> Option<KeySpec> {
        match self {
            Self::Rsa { n, .. } => {
                let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
                u32::try_from(bits).ok().and_then(RsaBits::from_bits).map(KeySpec::Rsa)
            }
            Self::Ec { curve, .. } => Some(KeySpec::Ec(*curve)),
            Self::Ed25519(_) => Some(KeySpec::Ed25519),
        }
    }

    /// Whether `algorithm` signs with keys of this kind.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm.key_spec(RsaBits::default())) {
            (Self::Rsa { .. }, KeySpec::Rsa(_)) | (Self::Ed25519(_), KeySpec::Ed25519) => true,
            (Self::Ec { curve, .. }, KeySpec::Ec(wanted)) => *curve == wanted,
            _ => false,
        }
    }

    /// Length in bytes of a signature in JWS form (RFC 7518 sections 3.3 to 3.5, RFC 8037).
    pub fn signature_len(&self) -> usize {
        match self {
            Self::Rsa { n, .. } => n.len(),
            Self::Ec { curve, .. } => 2 * curve.coordinate_len(),
            Self::Ed25519(_) => 64,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spec() {
            Some(spec) => write!(f, "PublicKey({spec})"),
            None => f.write_str("PublicKey(?)"),
        }
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Bytes that are not the public key they should be; says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPublicKey(&'static str);
