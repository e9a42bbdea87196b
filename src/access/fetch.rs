//! One JWKS over HTTP: bounded in time and size, no redirects.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long everything may take, from the first packet to the last.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest JWKS that is read, in bytes.
const BODY_MAX: usize = 256 * 1024;

/// Fetches what is at one URL.
pub(super) struct Fetcher {
    url: http::Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// What was there.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// How long it may be kept, if that is said.
    pub(super) max_age: Option<Duration>,
}

impl Fetcher {
    /// `ca_file` names the authorities that are trusted; none: the system's.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let url: http::Uri =
            url.parse().map_err(|error| format!("jwks_url is not a URL: {error}"))?;
        let tls = || {
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())
        };
        let connector = match ca_file {
            // Nothing is verified over plain HTTP, which is for loopback only.
            None if url.scheme_str() == Some("http") => {
                let none = RootCertStore::empty();
                let config = tls()?.with_root_certificates(none).with_no_client_auth();
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
            None => HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|error| {
                    format!("the system's certificate authorities cannot be read: {error}; name some with jwks_ca_file")
                })?,
            Some(file) => {
                let config = tls()?.with_root_certificates(authorities(file)?).with_no_client_auth();
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
        };
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { url, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// What is at the URL now, or why it cannot be had.
    pub(super) async fn fetch(&self) -> Result<Answer, String> {
        tokio::time::timeout(TIMEOUT, self.try_fetch())
            .await
            .unwrap_or_else(|_late| Err("no answer within 5s".to_owned()))
    }

    async fn try_fetch(&self) -> Result<Answer, String> {
        let response =
            self.client.get(self.url.clone()).await.map_err(|error| with_sources(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let max_age = response
            .headers()
            .get(http::header::CACHE_CONTROL)
            .and_then(|value| value.to_str().ok())
            .and_then(max_age);
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?;
        Ok(Answer { body: body.to_bytes(), max_age })
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("jwks_ca_file {} {why}", file.display());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        store.add(certificate).map_err(|error| wrong(&error))?;
    }
    if store.is_empty() {
        return Err(wrong(&"has no certificate in it"));
    }
    Ok(store)
}

/// RFC 9111 section 5.2.2.1.
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_among_other_directives() {
        let read = |text| max_age(text).map(|age| age.as_secs());
        assert_eq!(read("public, max-age=600, must-revalidate"), Some(600));
        assert_eq!(read("s-maxage=5,max-age=\"7\""), Some(7));
        assert_eq!(read("no-store"), None);
        assert_eq!(read("max-age=soon"), None);
    }
}
