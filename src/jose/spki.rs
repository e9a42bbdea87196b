//! `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7): how a public key stands in certificates, in
//! PEM files and in what a KMS answers.
//!
//! RSA keys are always `rsaEncryption`, also those that sign by PSS: verifiers that know RSA at all
//! read that, and the signature algorithm is named elsewhere.

use crate::key::{Curve, InvalidPublicKey, PublicKey};
use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5912, rfc8410};
use der::asn1::{Any, BitString, Null, UintRef};
use der::pem::LineEnding;
use der::{Decode, Encode, EncodePem};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// The DER of a key's `SubjectPublicKeyInfo`.
pub fn to_der(public: &PublicKey) -> Result<Vec<u8>, Error> {
    Ok(info(public)?.to_der()?)
}

/// The same as PEM (RFC 7468 section 13), `PUBLIC KEY`, LF line ends.
pub fn to_pem(public: &PublicKey) -> Result<String, Error> {
    Ok(info(public)?.to_pem(LineEnding::LF)?)
}

/// The key in a DER `SubjectPublicKeyInfo`; refuses anything after its end, unknown key types and
/// curves, and what [`PublicKey`] refuses.
pub fn from_der(der: &[u8]) -> Result<PublicKey, Error> {
    let info = SubjectPublicKeyInfoOwned::from_der(der)?;
    let bytes = info.subject_public_key.as_bytes().ok_or(Error::UnusedBits)?;
    let parameters = info.algorithm.parameters.as_ref();
    match info.algorithm.oid {
        rfc5912::RSA_ENCRYPTION => {
            if parameters.is_none_or(|any| !any.is_null()) {
                return Err(Error::Parameters);
            }
            let RsaPublicKey { n, e } = RsaPublicKey::from_der(bytes)?;
            Ok(PublicKey::rsa(n.as_bytes(), e.as_bytes())?)
        }
        rfc5912::ID_EC_PUBLIC_KEY => {
            let named = parameters.ok_or(Error::Parameters)?;
            let curve = curve(named.decode_as().map_err(|_| Error::Parameters)?)?;
            Ok(PublicKey::ec(curve, bytes)?)
        }
        rfc8410::ID_ED_25519 if parameters.is_some() => Err(Error::Parameters),
        rfc8410::ID_ED_25519 => Ok(PublicKey::ed25519(bytes)?),
        oid => Err(Error::Unsupported { oid }),
    }
}

/// The `SubjectPublicKeyInfo` of a key, to be put into a larger structure.
pub(crate) fn info(public: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, Error> {
    let (oid, parameters, bytes) = match public {
        PublicKey::Rsa { n, e } => {
            let key = RsaPublicKey { n: UintRef::new(n)?, e: UintRef::new(e)? };
            (rfc5912::RSA_ENCRYPTION, Some(Any::from(Null)), key.to_der()?)
        }
        PublicKey::Ec { curve, x, y } => (
            rfc5912::ID_EC_PUBLIC_KEY,
            Some(Any::from(curve_oid(*curve))),
            [&[4], x.as_slice(), y.as_slice()].concat(),
        ),
        PublicKey::Ed25519(bytes) => (rfc8410::ID_ED_25519, None, bytes.to_vec()),
    };
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid, parameters },
        subject_public_key: BitString::from_bytes(&bytes)?,
    })
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    n: UintRef<'a>,
    e: UintRef<'a>,
}

fn curve_oid(curve: Curve) -> ObjectIdentifier {
    match curve {
        Curve::P256 => rfc5912::SECP_256_R_1,
        Curve::P384 => rfc5912::SECP_384_R_1,
        Curve::P521 => rfc5912::SECP_521_R_1,
    }
}

fn curve(oid: ObjectIdentifier) -> Result<Curve, Error> {
    [Curve::P256, Curve::P384, Curve::P521]
        .into_iter()
        .find(|curve| curve_oid(*curve) == oid)
        .ok_or(Error::Unsupported { oid })
}

/// Bytes that are no public key of a kind that is offered; says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not DER, or not of that structure.
    #[error("must be the DER of a SubjectPublicKeyInfo and nothing after it: {0}")]
    Der(#[from] der::Error),
    /// A key type or a curve that is not offered.
    #[error("must be RSA, EC on P-256, P-384 or P-521, or Ed25519; the object identifier is {oid}")]
    Unsupported {
        /// The key type or the curve.
        oid: ObjectIdentifier,
    },
    /// The key type's parameters are missing, superfluous or of the wrong kind.
    #[error("the parameters must be NULL for RSA, a named curve for EC, absent for Ed25519")]
    Parameters,
    /// The bit string does not end with a whole byte.
    #[error("the public key must be a whole number of bytes")]
    UnusedBits,
    /// The key itself.
    #[error(transparent)]
    Key(#[from] InvalidPublicKey),
}
