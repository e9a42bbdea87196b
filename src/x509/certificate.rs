//! A self-signed X.509 certificate (RFC 5280) around a signature that a backend makes.
//!
//! The certificate says who the issuer is and nothing more: it is no CA, since whoever may sign raw
//! bytes with the key could otherwise issue certificates under it. Only who needs the very shape of
//! Auth0's certificates gets them as CA ([`Shape::Auth0`]). The structure is written out
//! here field by field; the builders in libraries want to hold the private key, or a stand-in for
//! one.

use crate::jose::{signature, spki};
use crate::key::{Algorithm, Digest, PublicKey, later};
use ::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use const_oid::ObjectIdentifier;
use const_oid::db::{rfc4519, rfc5280, rfc5912, rfc8410};
use der::asn1::{
    Any, AnyRef, BitStringRef, GeneralizedTime, Ia5String, Null, OctetString, SetOfVec, UtcTime,
    Utf8StringRef,
};
use der::flagset::FlagSet;
use der::{DateTime, Decode, Encode};
use jiff::Timestamp;
use sha1::{Digest as _, Sha1};
use std::time::Duration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

/// How long a certificate is valid: ten years. A key's life is ruled by its key set; the
/// certificate must only never be what ends it.
pub const VALIDITY: Duration = Duration::from_secs(3652 * 24 * 60 * 60);

/// How long one of Auth0's shape is valid.
const AUTH0_VALIDITY: Duration = Duration::from_secs(5000 * 24 * 60 * 60);

/// What a certificate says its key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// No CA; signs, and no certificates. Valid for [`VALIDITY`].
    #[default]
    EndEntity,
    /// As Auth0's: a CA that may sign certificates, valid for 5000 days.
    Auth0,
}

impl Shape {
    const fn validity(self) -> Duration {
        match self {
            Self::EndEntity => VALIDITY,
            Self::Auth0 => AUTH0_VALIDITY,
        }
    }
}

/// `ub-common-name` (RFC 5280 appendix A.1), in characters.
const COMMON_NAME_MAX: usize = 64;

/// A certificate that lacks only its signature.
#[derive(Clone, Debug)]
pub struct Draft {
    public: PublicKey,
    algorithm: Algorithm,
    to_be_signed: Vec<u8>,
}

impl Draft {
    /// A certificate for `public`, to be signed by `algorithm` with the key itself.
    ///
    /// `common_name` (the issuer's host) is subject and issuer; of a name over 64 characters the
    /// first 64 are, and the whole name stands in subjectAltName: as dNSName if it is a host name,
    /// as URI if it has a scheme. `serial` is random; its top two bits are replaced, so that it is
    /// positive and always encodes in 16 bytes. Validity starts at the second of `not_before`,
    /// which must not lie before 1970, and lasts [`VALIDITY`], at most until the end of 9999.
    pub fn new(
        public: &PublicKey,
        algorithm: Algorithm,
        common_name: &str,
        serial: [u8; 16],
        not_before: Timestamp,
    ) -> Result<Self, Error> {
        Self::of_shape(Shape::EndEntity, public, algorithm, common_name, serial, not_before)
    }

    /// The same of another shape.
    pub fn of_shape(
        shape: Shape,
        public: &PublicKey,
        algorithm: Algorithm,
        common_name: &str,
        serial: [u8; 16],
        not_before: Timestamp,
    ) -> Result<Self, Error> {
        if !public.fits(algorithm) {
            return Err(Error::Algorithm { algorithm });
        }
        if common_name.is_empty() {
            return Err(Error::CommonName);
        }
        let name = name(common_name)?;
        let subject_public_key_info = spki::info(public)?;
        let certificate = TbsCertificate {
            version: Version::V3,
            serial_number: serial_number(serial)?,
            signature: identifier(algorithm)?,
            issuer: name.clone(),
            validity: Validity::new(time(not_before)?, time(later(not_before, shape.validity()))?),
            subject: name,
            extensions: extensions(shape, &subject_public_key_info, common_name)?,
            subject_public_key_info,
        };
        Ok(Self { public: public.clone(), algorithm, to_be_signed: certificate.to_der()? })
    }

    /// What the key has to sign: the DER of the TBSCertificate, as a message.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The certificate's DER. `signature` is in JWS form, as backends return it; its length is
    /// checked, whether it verifies is not.
    pub fn finish(self, signature: &[u8]) -> Result<Vec<u8>, Error> {
        let wanted = self.public.signature_len();
        if signature.len() != wanted {
            return Err(Error::SignatureLength { given: signature.len(), wanted });
        }
        let converted;
        let signature = match &self.public {
            PublicKey::Ec { curve, .. } => {
                converted = signature::to_der(*curve, signature)?;
                converted.as_slice()
            }
            PublicKey::Rsa { .. } | PublicKey::Ed25519(_) => signature,
        };
        let certificate = Certificate {
            tbs_certificate: AnyRef::from_der(&self.to_be_signed)?,
            signature_algorithm: identifier(self.algorithm)?,
            signature: BitStringRef::from_bytes(signature)?,
        };
        Ok(certificate.to_der()?)
    }
}

/// RFC 5280 section 4.1, the part around the signed bytes.
#[derive(der::Sequence)]
struct Certificate<'a> {
    tbs_certificate: AnyRef<'a>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

/// RFC 5280 section 4.1, the signed part; the unique identifiers, which must not be used, left out.
#[derive(der::Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: RdnSequence,
    validity: Validity,
    subject: RdnSequence,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

/// `RSASSA-PSS-params` (RFC 4055 section 3.1); the trailer field has its default.
#[derive(der::Sequence)]
struct PssParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    hash: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    mask: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    salt_len: u8,
}

/// How X.509 names a JWA algorithm (RFC 4055, 5758, 8410).
fn identifier(algorithm: Algorithm) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let with_null = |oid| AlgorithmIdentifierOwned { oid, parameters: Some(Any::from(Null)) };
    let bare = |oid| AlgorithmIdentifierOwned { oid, parameters: None };
    Ok(match algorithm {
        Algorithm::Rs256 => with_null(rfc5912::SHA_256_WITH_RSA_ENCRYPTION),
        Algorithm::Rs384 => with_null(rfc5912::SHA_384_WITH_RSA_ENCRYPTION),
        Algorithm::Rs512 => with_null(rfc5912::SHA_512_WITH_RSA_ENCRYPTION),
        Algorithm::Ps256 => pss(with_null(rfc5912::ID_SHA_256), Digest::Sha256)?,
        Algorithm::Ps384 => pss(with_null(rfc5912::ID_SHA_384), Digest::Sha384)?,
        Algorithm::Ps512 => pss(with_null(rfc5912::ID_SHA_512), Digest::Sha512)?,
        Algorithm::Es256 => bare(rfc5912::ECDSA_WITH_SHA_256),
        Algorithm::Es384 => bare(rfc5912::ECDSA_WITH_SHA_384),
        Algorithm::Es512 => bare(rfc5912::ECDSA_WITH_SHA_512),
        Algorithm::EdDsa => bare(rfc8410::ID_ED_25519),
    })
}

fn pss(
    hash: AlgorithmIdentifierOwned,
    digest: Digest,
) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let salt_len = match digest {
        Digest::Sha256 => 32,
        Digest::Sha384 => 48,
        Digest::Sha512 => 64,
    };
    let parameters = PssParameters {
        mask: AlgorithmIdentifierOwned {
            oid: rfc5912::ID_MGF_1,
            parameters: Some(Any::encode_from(&hash)?),
        },
        hash,
        salt_len,
    };
    Ok(AlgorithmIdentifierOwned {
        oid: rfc5912::ID_RSASSA_PSS,
        parameters: Some(Any::encode_from(&parameters)?),
    })
}

fn serial_number(mut serial: [u8; 16]) -> Result<SerialNumber, der::Error> {
    if let Some(top) = serial.first_mut() {
        *top = (*top & 0x3f) | 0x40;
    }
    SerialNumber::new(&serial)
}

fn name(common_name: &str) -> Result<RdnSequence, der::Error> {
    let cut: String = common_name.chars().take(COMMON_NAME_MAX).collect();
    let attribute = AttributeTypeAndValue {
        oid: rfc4519::CN,
        value: Any::encode_from(&Utf8StringRef::new(&cut)?)?,
    };
    let part = RelativeDistinguishedName::from(SetOfVec::try_from(vec![attribute])?);
    Ok(RdnSequence::from(vec![part]))
}

/// UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5).
fn time(at: Timestamp) -> Result<Time, Error> {
    let seconds = u64::try_from(at.as_second()).map_err(|_| Error::Time)?;
    let date =
        DateTime::from_unix_duration(Duration::from_secs(seconds)).map_err(|_| Error::Time)?;
    Ok(match UtcTime::from_date_time(date) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_date_time(date)),
    })
}

fn extensions(
    shape: Shape,
    public: &SubjectPublicKeyInfoOwned,
    common_name: &str,
) -> Result<Extensions, der::Error> {
    let constraints = BasicConstraints { ca: shape == Shape::Auth0, path_len_constraint: None };
    let usage = KeyUsage(match shape {
        Shape::EndEntity => FlagSet::from(KeyUsages::DigitalSignature),
        Shape::Auth0 => KeyUsages::DigitalSignature | KeyUsages::KeyCertSign,
    });
    // Method 1 of RFC 5280 section 4.2.1.2: SHA-1 of the bit string without tag, length and count
    // of unused bits. It is a name here, not a protection.
    let key_id = OctetString::new(Sha1::digest(public.subject_public_key.raw_bytes()).as_slice())?;
    let mut extensions = vec![
        extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, Weight::Critical, &constraints)?,
        extension(rfc5280::ID_CE_KEY_USAGE, Weight::Critical, &usage)?,
        extension(rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER, Weight::Plain, &key_id)?,
    ];
    if let Some(name) = whole_name(common_name)? {
        let names = vec![name];
        extensions.push(extension(rfc5280::ID_CE_SUBJECT_ALT_NAME, Weight::Plain, &names)?);
    }
    Ok(extensions)
}

/// Whether software that does not know an extension must refuse the certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Critical,
    Plain,
}

fn extension(
    oid: ObjectIdentifier,
    weight: Weight,
    value: &impl Encode,
) -> Result<Extension, der::Error> {
    Ok(Extension {
        extn_id: oid,
        critical: weight == Weight::Critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

/// The name for subjectAltName, if it is too long for the subject and there is a form for it.
fn whole_name(name: &str) -> Result<Option<GeneralName>, der::Error> {
    if name.chars().count() <= COMMON_NAME_MAX {
        Ok(None)
    } else if is_host_name(name) {
        Ok(Some(GeneralName::DnsName(Ia5String::new(name)?)))
    } else if name.is_ascii() && name.contains(':') {
        Ok(Some(GeneralName::UniformResourceIdentifier(Ia5String::new(name)?)))
    } else {
        Ok(None)
    }
}

/// RFC 1123 section 2.1: labels of 1 to 63 letters, digits and hyphens, 253 characters in all.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key cannot sign by that algorithm.
    #[error("the key is not of the kind that {algorithm} signs with")]
    Algorithm {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// There is no name to put in.
    #[error("the common name must not be empty")]
    CommonName,
    /// A time that certificates cannot hold.
    #[error("the start of validity must lie between 1970 and 9999")]
    Time,
    /// The signature is not one of this key.
    #[error("a signature by this key has {wanted} bytes, not {given}")]
    SignatureLength {
        /// The length that was given.
        given: usize,
        /// The length that fits.
        wanted: usize,
    },
    /// The signature is not r‖s.
    #[error("signature: {0}")]
    Signature(#[from] signature::Error),
    /// The public key cannot be encoded.
    #[error("public key: {0}")]
    PublicKey(#[from] spki::Error),
    /// Something else cannot be encoded: a defect of ours.
    #[error("DER: {0}")]
    Der(#[from] der::Error),
}
