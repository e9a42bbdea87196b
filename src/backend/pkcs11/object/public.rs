//! Reading public keys, in the encodings that tokens have for them.

use super::super::error::Fault;
use super::inconsistent;
use crate::key::{Curve, KeySpec, PublicKey};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

/// The name of an Edwards curve as PKCS#11 v3.0 writes it, a PrintableString.
pub(super) const EDWARDS25519_NAME: [u8; 14] = *b"\x13\x0cedwards25519";
/// The same curve as RFC 8410 writes it, the OID 1.3.101.112.
pub(super) const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// The public key in an object that is to hold one of kind `spec`.
pub(super) fn public_key(
    session: &Session,
    public: ObjectHandle,
    spec: KeySpec,
) -> Result<PublicKey, Fault> {
    let wanted: &[AttributeType] = match spec {
        KeySpec::Rsa(_) => &[AttributeType::Modulus, AttributeType::PublicExponent],
        KeySpec::Ec(_) | KeySpec::Ed25519 => &[AttributeType::EcPoint, AttributeType::EcParams],
    };
    let (mut n, mut e, mut point, mut parameters) = (vec![], vec![], vec![], vec![]);
    for attribute in session.get_attributes(public, wanted)? {
        match attribute {
            Attribute::Modulus(bytes) => n = bytes,
            Attribute::PublicExponent(bytes) => e = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            Attribute::EcParams(bytes) => parameters = bytes,
            _ => {}
        }
    }
    let key = match spec {
        KeySpec::Rsa(_) => PublicKey::rsa(&n, &e),
        KeySpec::Ec(curve) if parameters == curve_oid(curve) => {
            PublicKey::ec(curve, octets(&point, 1 + 2 * curve.coordinate_len()))
        }
        KeySpec::Ed25519 if parameters == EDWARDS25519_NAME || parameters == ED25519_OID => {
            PublicKey::ed25519(octets(&point, 32))
        }
        KeySpec::Ec(_) | KeySpec::Ed25519 => {
            return Err(inconsistent(
                "C_GetAttributeValue",
                format!("the CKA_EC_PARAMS of the public key do not name {spec}"),
            ));
        }
    };
    key.map_err(|error| inconsistent("C_GetAttributeValue", error.to_string()))
}

/// A point of `len` bytes, whether it comes bare or wrapped in a DER OCTET STRING as PKCS#11
/// prescribes. Told apart by length, since an uncompressed point begins with the tag's own byte.
fn octets(point: &[u8], len: usize) -> &[u8] {
    if point.len() == len {
        return point;
    }
    match point {
        [0x04, short, rest @ ..] if *short < 0x80 && usize::from(*short) == rest.len() => rest,
        [0x04, 0x81, long, rest @ ..] if *long >= 0x80 && usize::from(*long) == rest.len() => rest,
        other => other,
    }
}

/// DER of the curve's OID (RFC 5480 section 2.1.1.1).
pub(super) const fn curve_oid(curve: Curve) -> &'static [u8] {
    match curve {
        Curve::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        Curve::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        Curve::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_same_bare_and_wrapped() {
        for len in [32, 65, 97, 133] {
            let mut bare = vec![4; len];
            bare[1] = u8::try_from(len - 2).unwrap_or(0x81);
            let mut wrapped = vec![4];
            if len >= 0x80 {
                wrapped.push(0x81);
            }
            wrapped.push(u8::try_from(len).unwrap());
            wrapped.extend(&bare);
            assert_eq!(octets(&bare, len), bare);
            assert_eq!(octets(&wrapped, len), bare);
        }
    }

    #[test]
    fn a_point_with_a_false_length_is_not_unwrapped() {
        assert_eq!(octets(&[4, 3, 1, 2], 2), [4, 3, 1, 2]);
        assert!(PublicKey::ec(Curve::P256, octets(&[4, 2, 1, 2], 65)).is_err());
    }

    #[test]
    fn the_curve_name_is_a_printable_string_of_twelve_letters() {
        assert_eq!(EDWARDS25519_NAME[0], 0x13);
        assert_eq!(usize::from(EDWARDS25519_NAME[1]), EDWARDS25519_NAME.len() - 2);
    }
}
