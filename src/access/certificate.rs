//! The names in a client certificate. Whether the certificate may be believed has been settled by
//! the handshake; here it is only read.
//!
//! A certificate that says two things is refused and not interpreted: with two SPIFFE ids, whoever
//! asked the authority for one of them could choose under which to be judged.

use super::caller::Unknown;
use der::Decode;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const SPIFFE: &str = "spiffe://";
/// Longest SPIFFE id and longest trust domain, in bytes.
const ID_LEN_MAX: usize = 2048;
const TRUST_DOMAIN_LEN_MAX: usize = 255;

/// What a certificate's holder is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NameKind {
    /// The SPIFFE id, its one URI.
    Spiffe,
    /// A host's name.
    Dns,
    /// Another URI.
    Uri,
    /// The subject (RFC 4514).
    Subject,
}

impl NameKind {
    /// Every kind, the best first.
    pub const ALL: [Self; 4] = [Self::Spiffe, Self::Dns, Self::Uri, Self::Subject];
}

/// The caller's name, and further ones of the same kind: of the first of `kinds` that the
/// certificate has.
pub(super) fn names(der: &[u8], kinds: &[NameKind]) -> Result<Vec<String>, Unknown> {
    let certificate = Certificate::from_der(der).map_err(|_| UNREADABLE)?;
    let certificate = certificate.tbs_certificate();
    let found = certificate.get_extension::<SubjectAltName>().map_err(|_| UNREADABLE)?;
    let (mut hosts, mut uris) = (Vec::new(), Vec::new());
    for name in found.map(|(_, names)| names.0).unwrap_or_default() {
        match name {
            GeneralName::DnsName(host) => hosts.push(host.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.as_str().to_owned()),
            _ => {}
        }
    }
    let spiffe = spiffe_id(&uris)?;
    let of_kind = |kind: &NameKind| -> Vec<String> {
        match kind {
            NameKind::Spiffe => spiffe.map(str::to_owned).into_iter().collect(),
            NameKind::Dns => {
                // A wildcard names no host.
                let hosts = hosts.iter().filter(|host| !host.contains('*'));
                hosts.map(|host| format!("dns:{}", host.to_ascii_lowercase())).collect()
            }
            NameKind::Uri if spiffe.is_some() => Vec::new(),
            NameKind::Uri => uris.iter().map(|uri| format!("uri:{uri}")).collect(),
            NameKind::Subject => {
                let subject = certificate.subject().to_string();
                (!subject.is_empty()).then(|| format!("subject:{subject}")).into_iter().collect()
            }
        }
    };
    kinds
        .iter()
        .map(of_kind)
        .find(|names| !names.is_empty())
        .ok_or(Unknown::Certificate("has no name that is used here (certificate_names)"))
}

const UNREADABLE: Unknown = Unknown::Certificate("cannot be read");

/// The SPIFFE id (SPIFFE-ID section 2, X509-SVID section 2), if there is one.
fn spiffe_id(uris: &[String]) -> Result<Option<&str>, Unknown> {
    let is_spiffe = |uri: &String| {
        uri.as_bytes()
            .get(.."spiffe:".len())
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe:"))
    };
    if !uris.iter().any(is_spiffe) {
        return Ok(None);
    }
    match uris {
        [id] if is_spiffe_id(id) => Ok(Some(id)),
        [_] => Err(Unknown::Certificate(
            "has a malformed SPIFFE id: it must be spiffe://, a trust domain in lower case, and a path",
        )),
        _ => Err(Unknown::Certificate(
            "has a SPIFFE id and another URI: one URI names a workload, and no more",
        )),
    }
}

fn is_spiffe_id(id: &str) -> bool {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let split = id.strip_prefix(SPIFFE).and_then(|rest| rest.split_once('/'));
    split.is_some_and(|(domain, path)| {
        (1..=TRUST_DOMAIN_LEN_MAX).contains(&domain.len())
            && domain.bytes().all(|byte| named(byte) && !byte.is_ascii_uppercase())
            && path
                .split('/')
                .all(|segment| !["", ".", ".."].contains(&segment) && segment.bytes().all(named))
            && id.len() <= ID_LEN_MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    enum San {
        Dns(&'static str),
        Uri(&'static str),
    }

    fn certificate(subject: Option<&str>, sans: &[San]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(subject) = subject {
            params.distinguished_name.push(DnType::CommonName, subject);
        }
        let sans = sans.iter().map(|san| match san {
            San::Dns(name) => SanType::DnsName((*name).try_into().unwrap()),
            San::Uri(uri) => SanType::URI((*uri).try_into().unwrap()),
        });
        params.subject_alt_names = sans.collect();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn named(subject: Option<&str>, sans: &[San]) -> Result<Vec<String>, Unknown> {
        names(&certificate(subject, sans), &NameKind::ALL)
    }

    #[test]
    fn the_first_kind_of_name_that_there_is_names_the_caller() {
        let spiffe = San::Uri("spiffe://prod.example/ns/auth/sa/issuer");
        let dns = [San::Dns("Issuer.Example"), San::Dns("b.example"), San::Uri("https://x/")];
        assert_eq!(
            named(Some("cn"), &[San::Dns("a.example"), spiffe]).unwrap(),
            ["spiffe://prod.example/ns/auth/sa/issuer"]
        );
        assert_eq!(named(Some("cn"), &dns).unwrap(), ["dns:issuer.example", "dns:b.example"]);
        assert_eq!(named(Some("cn"), &[San::Uri("https://x/")]).unwrap(), ["uri:https://x/"]);
        assert_eq!(named(Some("a, b"), &[]).unwrap(), [r"subject:CN=a\, b"]);
        let der = certificate(Some("cn"), &dns);
        assert_eq!(names(&der, &[NameKind::Subject, NameKind::Dns]).unwrap(), ["subject:CN=cn"]);
    }

    #[test]
    fn a_certificate_that_says_two_things_is_refused() {
        for second in ["spiffe://prod.example/b", "https://x/"] {
            let refused = named(None, &[San::Uri("spiffe://prod.example/a"), San::Uri(second)]);
            assert!(matches!(refused, Err(Unknown::Certificate(_))), "{second}: {refused:?}");
        }
    }

    #[test]
    fn a_certificate_without_a_name_is_refused() {
        assert!(matches!(named(None, &[]), Err(Unknown::Certificate(_))));
        assert!(matches!(named(None, &[San::Dns("*.example")]), Err(Unknown::Certificate(_))));
        let der = certificate(Some("cn"), &[]);
        assert!(matches!(names(&der, &[NameKind::Spiffe]), Err(Unknown::Certificate(_))));
        assert!(matches!(names(b"no certificate", &NameKind::ALL), Err(Unknown::Certificate(_))));
    }

    #[test]
    fn a_malformed_spiffe_id_is_refused_and_not_taken_for_another_uri() {
        for id in [
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe://Prod.example/a",
            "SPIFFE://prod.example/a",
            "spiffe:prod.example/a",
            "spiffe:///a",
            "spiffe://prod.example/a/",
            "spiffe://prod.example/a//b",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example/./b",
            "spiffe://prod.example/a?b",
            "spiffe://prod.example/a#b",
            "spiffe://prod.example/%61",
            "spiffe://user@prod.example/a",
            "spiffe://prod.example:1/a",
            "spiffe://prod.example/*",
        ] {
            let refused = named(Some("cn"), &[San::Dns("a.example"), San::Uri(id)]);
            assert!(matches!(refused, Err(Unknown::Certificate(_))), "{id}: {refused:?}");
        }
    }
}
