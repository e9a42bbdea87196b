//! Certificate, key, client CAs and revocation lists that belong together.

use super::error::Error;
use super::files::Files;
use super::worry::{Part, Worry, worries};
use super::{Certificates, Clients, Settings, Version};
use crate::clock::Clock;
use crate::transport::opening::Protocol;
use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig, version};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::name::Name;
use x509_cert::time::Time;
use x509_cert::{Certificate, TbsCertificate};

/// What a listener's connections are made with.
pub struct Set {
    config: Arc<ServerConfig>,
    /// None: no client certificates are asked for.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    clock: Arc<dyn Clock>,
    certificate: Part,
    crls: Vec<Part>,
    /// Client CAs without a revocation list, while there is one of others.
    without_crl: Vec<String>,
    /// Revocation lists of none of the client CAs: their files and issuers.
    unproved: Vec<(PathBuf, String)>,
    disorder: Option<String>,
}

/// What clients are checked with.
#[derive(Default)]
struct Checks {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    crls: Vec<Part>,
    without_crl: Vec<String>,
    unproved: Vec<(PathBuf, String)>,
}

impl Set {
    pub(super) fn build(
        files: &Files,
        settings: &Settings,
        protocol: Protocol,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = files.chain(&settings.certificate_file)?;
        let key = files.key(&settings.key_file)?;
        let own = chain.first().map_or(&[][..], |own| own);
        let certificate = certificate(own, &settings.certificate_file)?.1;
        let disorder = disorder(&chain, &settings.certificate_file)?;
        let Checks { verifier, crls, without_crl, unproved } = match &settings.clients {
            Some(clients) => checks(files, clients, &provider)?,
            None => Checks::default(),
        };
        let versions = match settings.min_version {
            Version::Tls12 => &[&version::TLS13, &version::TLS12][..],
            Version::Tls13 => &[&version::TLS13][..],
        };
        let wanted = verifier.clone().unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(Now(clock.clone())))
            .with_protocol_versions(versions)
            .map_err(|error| Error::new(&settings.certificate_file, error.to_string()))?
            .with_client_cert_verifier(wanted)
            .with_single_cert(chain, key)
            .map_err(|error| unfit(&error, settings))?;
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        Ok(Self { config, verifier, clock, certificate, crls, without_crl, unproved, disorder })
    }

    /// When the server's certificate ends; none: never.
    pub const fn certificate_ends(&self) -> Option<Timestamp> {
        self.certificate.until
    }

    /// What clients may take amiss about the order of the chain; none: nothing.
    pub fn disorder(&self) -> Option<&str> {
        self.disorder.as_deref()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether a client that has shown these certificates would be let in now.
    pub(super) fn admits(&self, shown: &[Vec<u8>]) -> bool {
        let Some(verifier) = &self.verifier else {
            return true;
        };
        let shown: Vec<_> = shown.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        match shown.split_first() {
            None => !verifier.client_auth_mandatory(),
            Some((own, rest)) => {
                let now = unix_time(self.clock.now());
                verifier.verify_client_cert(own, rest, now).is_ok()
            }
        }
    }

    /// The first part that is past its time, or before it.
    pub(super) fn out_of_its_time(&self, now: Timestamp) -> Option<Error> {
        let part = std::iter::once(&self.certificate)
            .chain(&self.crls)
            .find(|part| part.is_early(now) || part.is_over(now))?;
        Some(Error::new(&part.file, part.times()))
    }

    /// What someone should see to.
    pub(super) fn worries(&self, now: Timestamp) -> Vec<Worry> {
        let mut worries = worries(&self.certificate, &self.crls, &self.without_crl, now);
        worries.extend(self.unproved.iter().map(|(file, issuer)| {
            Worry::Soon(format!(
                "the revocation list in {} is of {issuer}, which is not among the client CAs, so its signature cannot be checked before a client comes: look whether it belongs in crl_files",
                file.display()
            ))
        }));
        worries
    }
}

fn checks(
    files: &Files,
    clients: &Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Checks, Error> {
    let mut roots = RootCertStore::empty();
    let mut cas = Vec::new();
    for ca in files.client_cas(&clients.ca_file)? {
        cas.push(certificate(&ca, &clients.ca_file)?.0);
        roots.add(ca).map_err(|error| {
            Error::new(&clients.ca_file, format!("holds a certificate that is no CA's: {error}"))
        })?;
    }
    let algorithms = provider.signature_verification_algorithms.all;
    let mut crls = Vec::new();
    let mut unproved = Vec::new();
    let mut issuers: Vec<Name> = Vec::new();
    let mut lists = Vec::new();
    for (file, der) in files.crls(&clients.crl_files)? {
        let list: CertificateList = CertificateList::from_der(&der).map_err(|error| {
            Error::new(file, format!("holds a revocation list that cannot be read: {error}"))
        })?;
        crls.push(Part {
            file: file.to_owned(),
            from: timestamp(&list.tbs_cert_list.this_update),
            until: list.tbs_cert_list.next_update.as_ref().map(timestamp),
        });
        match signed(&der, &list, &cas, algorithms) {
            Signer::Issuer => {}
            Signer::Other => {
                let issuer = &list.tbs_cert_list.issuer;
                return Err(Error::new(
                    file,
                    format!(
                        "holds a revocation list that says it is of {issuer}, which did not sign it: fetch it from the CA again"
                    ),
                ));
            }
            Signer::Stranger => {
                unproved.push((file.to_owned(), list.tbs_cert_list.issuer.to_string()));
            }
        }
        issuers.push(list.tbs_cert_list.issuer);
        lists.push(der);
    }
    let without_crl = cas
        .iter()
        .map(|ca| ca.tbs_certificate().subject())
        .filter(|ca| !issuers.is_empty() && !issuers.contains(ca))
        .map(Name::to_string)
        .collect();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(lists)
        .enforce_revocation_expiration();
    let builder = match clients.certificates {
        Certificates::Required => builder,
        Certificates::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => Error::new(
            clients.crl_files.first().unwrap_or(&clients.ca_file),
            format!("among crl_files is a revocation list that cannot be used: {error:?}"),
        ),
        error => Error::new(&clients.ca_file, error.to_string()),
    })?;
    Ok(Checks { verifier: Some(verifier), crls, without_crl, unproved })
}

/// Who signed a revocation list.
enum Signer {
    /// The client CA whose name it bears.
    Issuer,
    /// Somebody else, in the name of a client CA.
    Other,
    /// It bears the name of none of them: it may be that of a CA between them and a client.
    Stranger,
}

/// Looks before the list is in force, for rustls looks only while it shakes hands, and then refuses
/// every client of the CA that is named.
fn signed(
    der: &[u8],
    list: &CertificateList,
    cas: &[Certificate],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Signer {
    let mut named = cas
        .iter()
        .map(Certificate::tbs_certificate)
        .filter(|ca| *ca.subject() == list.tbs_cert_list.issuer)
        .peekable();
    if named.peek().is_none() {
        return Signer::Stranger;
    }
    let verifies = |ca: &TbsCertificate| {
        let key = ca.subject_public_key_info();
        let (key_kind, signed_how) =
            (content(&key.algorithm)?, content(&list.signature_algorithm)?);
        let (key, signature) = (key.subject_public_key.as_bytes()?, list.signature.as_bytes()?);
        let said = first_inside(der).ok()?;
        algorithms
            .iter()
            .filter(|how| how.public_key_alg_id().as_ref() == key_kind)
            .filter(|how| how.signature_alg_id().as_ref() == signed_how)
            .find_map(|how| how.verify_signature(key, said, signature).ok())
    };
    if named.any(|ca| verifies(ca).is_some()) { Signer::Issuer } else { Signer::Other }
}

/// What is inside of a SEQUENCE, as algorithms are compared.
fn content(value: &impl Encode) -> Option<Vec<u8>> {
    let der = value.to_der().ok()?;
    AnyRef::from_der(&der).ok().map(|any| any.value().to_vec())
}

/// The first element of a SEQUENCE as it was sent: what a signature is over.
fn first_inside(der: &[u8]) -> der::Result<&[u8]> {
    SliceReader::new(AnyRef::from_der(der)?.value())?.tlv_bytes()
}

/// A certificate, and how long it is good.
pub(super) fn certificate(der: &[u8], file: &Path) -> Result<(Certificate, Part), Error> {
    let certificate = Certificate::from_der(der).map_err(|error| {
        Error::new(file, format!("holds a certificate that cannot be read: {error}"))
    })?;
    let validity = certificate.tbs_certificate().validity();
    let (from, until) = (timestamp(&validity.not_before), Some(timestamp(&validity.not_after)));
    let part = Part { file: file.to_owned(), from, until };
    Ok((certificate, part))
}

/// Why certificate and key cannot be served with.
fn unfit(error: &rustls::Error, settings: &Settings) -> Error {
    let Settings { certificate_file, key_file, .. } = settings;
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::new(
            key_file,
            format!(
                "is not the key of the first certificate in {}: put the server's own certificate first, with its own key",
                certificate_file.display()
            ),
        ),
        rustls::Error::InvalidCertificate(_) => Error::new(
            certificate_file,
            format!("holds a certificate that cannot be used: {error}"),
        ),
        _ => Error::new(key_file, format!("holds a key that cannot be used: {error}")),
    }
}

/// The first place in a chain where a certificate is not followed by the one that signed it.
fn disorder(chain: &[CertificateDer<'_>], file: &Path) -> Result<Option<String>, Error> {
    let mut signer: Option<Name> = None;
    for (index, der) in chain.iter().enumerate() {
        let (certificate, _) = certificate(der, file)?;
        let tbs = certificate.tbs_certificate();
        if signer.is_some_and(|signer| signer != *tbs.subject()) {
            return Ok(Some(format!(
                "certificate {} in {} is not the one that signed certificate {index}",
                index + 1,
                file.display()
            )));
        }
        signer = Some(tbs.issuer().clone());
    }
    Ok(None)
}

fn timestamp(time: &Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn unix_time(now: Timestamp) -> UnixTime {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Our clock, as rustls asks for the time.
struct Now(Arc<dyn Clock>);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}
