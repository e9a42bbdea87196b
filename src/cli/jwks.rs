//! `signkeep jwks`: what verifiers see, fetched as they fetch it.

use super::client::{Protocol, Tls};
use super::{Failure, output};
use crate::key::KeySetId;
use ::http::{StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A JWKS has a few kilobytes; whatever answers with more is not ours.
const BODY_MAX: usize = 4 << 20;

/// Prints the JWKS as verifiers see it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key set; without it the default one.
    #[arg(long, value_name = "ID")]
    key_set: Option<KeySetId>,
    /// The service's HTTP address.
    #[arg(
        long,
        env = "SIGNKEEP_HTTP_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    http_url: String,
    #[command(flatten)]
    tls: Tls,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let base = args.http_url.trim_end_matches('/');
    let url = match &args.key_set {
        Some(id) => format!("{base}/{id}/.well-known/jwks.json"),
        None => format!("{base}/.well-known/jwks.json"),
    };
    let uri: Uri = url
        .parse()
        .ok()
        .filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--http-url {base}: must be an http or https URL, e.g. http://127.0.0.1:8080"
            ))
        })?;
    let body = tokio::time::timeout(TIMEOUT, fetch(uri, &url, &args.tls))
        .await
        .map_err(|_late| unreachable(&url, "no answer within 10s"))??;
    match serde_json::from_slice(&body) {
        Ok(value) => output::json(&value),
        Err(_) => Err(Failure::new(format!("{url} answered with something that is not JSON"))),
    }
}

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::unreachable_by("--http-url", url, why)
}

async fn fetch(uri: Uri, url: &str, tls: &Tls) -> Result<Bytes, Failure> {
    let connector = tls.connector(Protocol::Http1, TIMEOUT)?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.get(uri).await.map_err(|error| unreachable(url, &error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_MAX)
        .collect()
        .await
        .map_err(|error| Failure::new(format!("{url}: the answer broke off: {error}")))?
        .to_bytes();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::NOT_FOUND => Err(Failure::new(format!("{url}: there is no such key set"))
            .mend("`signkeep key-sets list` shows what there is")),
        other => Err(Failure::new(format!("{url} answered {other}"))),
    }
}
