//! TLS from the client's side: whom to trust, and whom to be.

use super::super::Failure;
use clap::Args;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Whom to trust, and whom to be.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct Tls {
    /// Certificates of those who may vouch for the service, PEM. Default: the system's.
    #[arg(long, env = "SIGNKEEP_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Our own certificate, with those that lead to its CA, PEM.
    #[arg(long, env = "SIGNKEEP_CERT_FILE", value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "SIGNKEEP_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// What is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Protocol {
    /// For gRPC.
    Http2,
    /// For everything else.
    Http1,
}

impl Tls {
    /// Whether anything is said that plain connections have no use for.
    pub(super) const fn is_set(&self) -> bool {
        self.ca_file.is_some() || self.cert_file.is_some()
    }

    /// Makes connections over TLS, and for `http` URLs plain ones.
    pub(in crate::cli) fn connector(
        &self,
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<HttpsConnector<HttpConnector>, Failure> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.config()?).https_or_http();
        Ok(match protocol {
            Protocol::Http2 => builder.enable_http2().wrap_connector(tcp),
            Protocol::Http1 => builder.enable_http1().wrap_connector(tcp),
        })
    }

    fn config(&self) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(format!("TLS: {error}")))?
            .with_root_certificates(self.roots()?);
        let (Some(cert_file), Some(key_file)) = (&self.cert_file, &self.key_file) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("--cert-file", cert_file)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| unusable("--key-file", key_file, &pem(&error)))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            unusable(
                "--key-file",
                key_file,
                &format!("does not go with {}: {error}", cert_file.display()),
            )
        })
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                for certificate in certificates("--ca-file", file)? {
                    roots
                        .add(certificate)
                        .map_err(|error| unusable("--ca-file", file, &error.to_string()))?;
                }
            }
            // What cannot be read of the system's is no use to anyone; what can is enough.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(unusable(option, file, "has no certificate in it; PEM is wanted"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(option, file, &pem(&error))),
    }
}

fn unusable(option: &str, file: &Path, why: &str) -> Failure {
    Failure::usage(format!("{option} {}: {why}", file.display()))
}

/// Why a file could not be read as PEM; never what is in it.
fn pem(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "has none in it; PEM is wanted".to_owned(),
        _ => "is not PEM".to_owned(),
    }
}
