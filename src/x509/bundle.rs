//! PKCS#7: a certificate in a SignedData that signs nothing ("certs-only", RFC 5652 section 5, RFC
//! 8551 section 3.8), the form in which some SAML and Windows software imports certificates.

use cms::content_info::ContentInfo;
use der::{Decode, Encode};
use x509_cert::Certificate;

/// The certs-only SignedData around one certificate's DER, as DER.
pub fn to_der(certificate: &[u8]) -> Result<Vec<u8>, Error> {
    let certificate = Certificate::from_der(certificate)?;
    Ok(ContentInfo::try_from(certificate)?.to_der()?)
}

/// The same as PEM, `PKCS7`, LF line ends.
pub fn to_pem(certificate: &[u8]) -> Result<String, Error> {
    Ok(super::armour("PKCS7", &to_der(certificate)?))
}

/// Bytes that are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the DER of an X.509 certificate and nothing after it: {0}")]
pub struct Error(#[from] der::Error);
