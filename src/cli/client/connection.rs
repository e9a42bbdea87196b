//! Where the service is, and how to get there: TCP, TLS or a Unix socket.

use super::super::Failure;
use super::super::failure::innermost;
use super::tls::{Protocol, Tls};
use super::{Client, Credential};
use crate::config::Span;
use crate::grpc::proto::key_service_client::KeyServiceClient;
use crate::grpc::proto::signing_service_client::SigningServiceClient;
use ::http::Uri;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest token that is sent, in bytes: headers are bounded on the other side.
const TOKEN_LEN_MAX: usize = 8 * 1024;

/// How a service is reached.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Connection {
    /// The service's gRPC address: https://HOST:PORT, unix:/PATH, or http://127.0.0.1:PORT.
    #[arg(
        long,
        env = "SIGNKEEP_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    server: String,
    #[command(flatten)]
    tls: Tls,
    /// A file with a bearer token that says who we are.
    #[arg(long, env = "SIGNKEEP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long an answer may take, e.g. 30s.
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: Span,
}

impl Connection {
    /// A service at `server`, for what has no command line of its own.
    pub(in crate::cli) fn to(server: String) -> Self {
        let timeout = Span::from_secs(5);
        Self { server, tls: Tls::default(), token_file: None, timeout }
    }

    /// Connects, or says that nobody is there.
    pub(in crate::cli) async fn open(&self) -> Result<Client, Failure> {
        let credential = self.token_file.as_deref().map(token).transpose()?;
        let channel = self.channel().await?;
        Ok(Client {
            keys: KeyServiceClient::new(channel.clone()),
            signing: SigningServiceClient::new(channel),
            timeout: self.timeout.get(),
            credential,
        })
    }

    /// Connects, for services other than Signkeep's own.
    pub(in crate::cli) async fn channel(&self) -> Result<Channel, Failure> {
        let secured = match Way::to(&self.server) {
            Some(Way::Tls) => true,
            Some(Way::Plain | Way::Unix) if self.tls.is_set() => {
                return Err(self.wrong(
                    "speaks no TLS, so certificates are of no use there; name an https:// address",
                ));
            }
            Some(Way::Plain | Way::Unix) => false,
            None => {
                return Err(self.wrong(
                    "must be https://HOST:PORT, unix:/PATH, or on this machine http://127.0.0.1:PORT",
                ));
            }
        };
        let endpoint = Endpoint::from_shared(self.server.clone())
            .map_err(|error| self.wrong(&error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let connect = async {
            if secured {
                let connector = self.tls.connector(Protocol::Http2, CONNECT_TIMEOUT)?;
                Ok(endpoint.connect_with_connector(connector).await)
            } else {
                Ok(endpoint.connect().await)
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(Ok(channel))) => Ok(channel),
            Ok(Ok(Err(error))) => Err(Failure::unreachable(&self.server, &innermost(&error))),
            Ok(Err(failure)) => Err(failure),
            Err(_late) => Err(Failure::unreachable(&self.server, "no answer within 5s")),
        }
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::usage(format!("--server {}: {why}", self.server))
    }
}

/// What a server's URL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tls,
    Plain,
    Unix,
}

impl Way {
    /// None: a URL of no kind that is spoken here. Without TLS nothing leaves the machine: a token or
    /// a payload could be read on the way.
    fn to(server: &str) -> Option<Self> {
        if server.starts_with("unix:") {
            return Some(Self::Unix);
        }
        let uri: Uri = server.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        match uri.scheme_str()? {
            "https" => Some(Self::Tls),
            "http" if is_here(host) => Some(Self::Plain),
            _ => None,
        }
    }
}

fn is_here(host: &str) -> bool {
    let loopback = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback());
    loopback || host.eq_ignore_ascii_case("localhost")
}

fn token(file: &Path) -> Result<Credential, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--token-file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_LEN_MAX {
        return Err(wrong("must hold one token of at most 8 KiB and nothing else"));
    }
    let mut header = tonic::metadata::MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| wrong("holds what cannot be a token: one line of ASCII is wanted"))?;
    header.set_sensitive(true);
    Ok(Credential(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_nothing_leaves_the_machine() {
        for here in
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://127.9.9.9"]
        {
            assert_eq!(Way::to(here), Some(Way::Plain), "{here}");
        }
        for tls in ["https://keys.example:50051", "https://127.0.0.1:1"] {
            assert_eq!(Way::to(tls), Some(Way::Tls), "{tls}");
        }
        assert_eq!(Way::to("unix:/run/signkeep.sock"), Some(Way::Unix));
        for no in
            ["http://keys.example", "http://192.0.2.1:1", "127.0.0.1:1", "ftp://127.0.0.1", ""]
        {
            assert_eq!(Way::to(no), None, "{no}");
        }
    }
}
