//! Downloads of the current key's certificate, under the paths that Auth0 has for them.
//!
//! | path | content |
//! |---|---|
//! | `/pem` | PEM, as a file |
//! | `/rawpem` | the same PEM as text, to be looked at or pasted |
//! | `/cer` | DER, as a file |
//! | `/pb7` | PKCS#7 certs-only, DER, as a file |
//! | `/fingerprint` | SHA-1 of the DER in upper-case hex with colons, as text |

use super::document::{Document, Error};
use crate::key::Key;
use crate::x509::{bundle, fingerprint, pem};

const TEXT: &str = "text/plain; charset=utf-8";

/// One certificate in every form in which it is served.
pub(super) struct Certificates {
    pub(super) pem: Document,
    pub(super) cer: Document,
    pub(super) rawpem: Document,
    pub(super) pb7: Document,
    pub(super) fingerprint: Document,
}

impl Certificates {
    /// The forms of the certificate of `key`.
    pub(super) fn of(key: &Key) -> Result<Self, Error> {
        let (der, id) = (&key.certificate, &key.key_set);
        let text = pem(der);
        let bundle = bundle::to_der(der)?;
        Ok(Self {
            pem: Document::download(
                "application/x-pem-file",
                &format!("{id}.pem"),
                text.clone().into(),
            )?,
            cer: Document::download("application/pkix-cert", &format!("{id}.cer"), der.clone())?,
            rawpem: Document::inline(TEXT, text.into())?,
            pb7: Document::download(
                "application/x-pkcs7-certificates",
                &format!("{id}.p7b"),
                bundle,
            )?,
            fingerprint: Document::inline(TEXT, fingerprint::sha1(der).into())?,
        })
    }
}
