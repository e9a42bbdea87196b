//! What stands between a caller and a signature: nothing, or TLS with client certificates, a policy
//! and the record.

use super::Outcome;
use hyper_rustls::HttpsConnectorBuilder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint};

/// Who the load generator says it is.
const CALLER: &str = "spiffe://bench.example/issuer";

/// What stands between a caller and a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Loopback without TLS, one binding, no record of signatures.
    Open,
    /// TLS with client certificates and a policy; every signature in the record, in this sink.
    Full(Sink),
}

/// Where the record of signatures goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Store,
    File,
}

impl Guard {
    pub(crate) const ALL: [Self; 3] = [Self::Open, Self::Full(Sink::Store), Self::Full(Sink::File)];

    /// As the table names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Full(Sink::Store) => "mTLS, policy, record in the store",
            Self::Full(Sink::File) => "mTLS, policy, record in a file",
        }
    }

    /// The part of the configuration that says so; makes the files that it names in `dir`.
    pub(crate) fn configuration(self, dir: &Path) -> Outcome<String> {
        let caller = match self {
            Self::Open => "anonymous@loopback",
            Self::Full(_) => CALLER,
        };
        let policy = format!(
            "[[policy]]\ncallers = [\"{caller}\"]\nkey_sets = [\"**\"]\nroles = [\"admin\", \"signer\"]\n\n"
        );
        let listener = "[[listeners.grpc]]\naddress = \"127.0.0.1:0\"\n";
        Ok(match self {
            Self::Open => format!("[audit]\nsignatures = \"none\"\n\n{policy}{listener}"),
            Self::Full(sink) => {
                certificates(dir)?;
                let audit = match sink {
                    Sink::Store => "[audit]\nsignatures = \"all\"\n\n",
                    Sink::File => {
                        "[audit]\nsignatures = \"all\"\nsinks = \"file\"\n\n[audit.file]\npath = \"audit.jsonl\"\n\n"
                    }
                };
                format!(
                    "{audit}{policy}{listener}[listeners.grpc.tls]\ncertificate_file = \"server.pem\"\n\
                     key_file = \"server.key\"\nclient_ca_file = \"ca.pem\"\nclient_certificates = \"required\"\n\n"
                )
            }
        })
    }

    /// A connection to the gRPC listener at `address`.
    pub(crate) async fn connect(self, dir: &Path, address: &str) -> Outcome<Channel> {
        Ok(match self {
            Self::Open => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
                endpoint.tcp_nodelay(true).connect().await?
            }
            Self::Full(_) => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(client(dir)?)
                    .https_only()
                    .enable_http2()
                    .build();
                let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
                endpoint.connect_with_connector(connector).await?
            }
        })
    }
}

/// A CA, and certificates of it for the service and for the load generator.
fn certificates(dir: &Path) -> Outcome<()> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    std::fs::write(dir.join("ca.pem"), ca.pem())?;
    let issue = |name: &str, san: SanType, purpose: ExtendedKeyUsagePurpose| -> Outcome<()> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![san];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &ca)?;
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem())?;
        let file = dir.join(format!("{name}.key"));
        std::fs::write(&file, key.serialize_pem())?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    };
    let here = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    issue("server", here, ExtendedKeyUsagePurpose::ServerAuth)?;
    issue("client", SanType::URI(CALLER.try_into()?), ExtendedKeyUsagePurpose::ClientAuth)
}

fn client(dir: &Path) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(dir.join("client.pem"))?],
            PrivateKeyDer::from_pem_file(dir.join("client.key"))?,
        )?)
}
