//! The service over real TLS and real sockets: who gets in, what is swapped while others stay, and
//! what someone can take up who means harm.

mod handshakes;
mod reach;
mod service;
mod slow;
mod swaps;

use crate::harness::authority::{Authority, Issued};
use crate::harness::ring::World;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use signkeep::access::Access;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::{self, Deps, Error, Settings, proto as pb};
use signkeep::health::Health;
use signkeep::transport::tls::{Certificates, Clients, Tls, Version};
use signkeep::transport::{Address, Limits, Listener, Protocol, tls};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How HTTP/2 begins, with an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// The files of one listener, and who signs what is in them.
struct Files {
    folder: TempDir,
    server_ca: Authority,
    client_ca: Authority,
}

/// A gRPC server with TLS on a free port of loopback, with the key set `default` (ES256).
struct Site {
    files: Files,
    tls: Tls,
    world: World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Self {
            folder,
            server_ca: Authority::new("servers"),
            client_ca: Authority::new("clients"),
        };
        files.serve_with(&files.server_ca.server());
        fs::write(files.path("clients.pem"), files.client_ca.certificate()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a server's certificate and key in place.
    fn serve_with(&self, server: &Issued) {
        let (_, key) = server.write(self.folder.path(), "server");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Puts a revocation list of the clients' CA in place.
    fn revoke(&self, revoked: &[&Issued]) {
        fs::write(self.path("clients.crl"), self.client_ca.revocations(revoked)).unwrap();
    }

    fn settings(&self) -> tls::Settings {
        tls::Settings {
            certificate_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            clients: Some(Clients {
                ca_file: self.path("clients.pem"),
                certificates: Certificates::Required,
                crl_files: Vec::new(),
            }),
            min_version: Version::Tls12,
        }
    }

    /// The same with a revocation list, which must be there.
    fn settings_with_crl(&self) -> tls::Settings {
        let mut settings = self.settings();
        let clients = settings.clients.as_mut().unwrap();
        clients.crl_files = vec![self.path("clients.crl")];
        settings
    }

    /// A client's certificate as it should be.
    fn client(&self) -> Issued {
        self.client_ca.client(&["spiffe://test.example/issuer"])
    }
}

impl Site {
    async fn start() -> Self {
        let files = Files::new();
        let settings = files.settings();
        Self::start_with(files, settings, Limits::GRPC).await
    }

    async fn start_with(files: Files, settings: tls::Settings, limits: Limits) -> Self {
        let world = World::new().await;
        let life = world.life().await;
        life.create().await.unwrap();
        let clock = world.clock.clone();
        let tls = Tls::load(settings, Protocol::Http2, clock).unwrap();
        let anywhere: Address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind("grpc", &anywhere, 0, limits).await.unwrap();
        let listener = listener.with_tls(tls.clone());
        let address = listener.address().tcp().unwrap();
        let deps = Deps {
            access: Access::open(),
            keyring: life.ring.clone(),
            health: Health::default(),
            settings: Settings::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(grpc::serve(vec![listener], deps, async {
            stopped.await.ok();
        }));
        Self { files, tls, world, address, stop, served }
    }

    /// Shakes hands as `client`, and has the server say hello.
    async fn greet(&self, client: Option<&Issued>) -> io::Result<TlsStream<TcpStream>> {
        greet(self.address, self.config(client)).await
    }

    fn config(&self, client: Option<&Issued>) -> ClientConfig {
        client_config(&self.files.server_ca, client, &[&version::TLS13, &version::TLS12])
    }

    /// A client that calls.
    async fn signing(&self, client: &Issued) -> SigningServiceClient<Channel> {
        let config = Arc::new(self.config(Some(client)));
        let address = self.address;
        let connect = move |_: Uri| {
            let config = config.clone();
            async move {
                let stream = shake(address, config).await?;
                io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
            }
        };
        let endpoint = Endpoint::from_static("http://signkeep");
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap();
        SigningServiceClient::new(channel)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        let served = tokio::time::timeout(PATIENCE, self.served).await;
        served.expect("it stops").unwrap().unwrap();
    }
}

/// A signature by the key set `default`.
async fn sign(client: &mut SigningServiceClient<Channel>) -> Result<(), tonic::Status> {
    let message = pb::sign_request::Input::Message(b"hello".to_vec().into());
    let request = pb::SignRequest {
        key_set: "default".to_owned(),
        input: Some(message),
        ..pb::SignRequest::default()
    };
    client.sign(request).await.map(|_| ())
}

fn client_config(
    server_ca: &Authority,
    client: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(server_ca.certificate().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let certificate =
                CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn shake(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// Shakes hands and exchanges SETTINGS: a server that refuses a certificate says so only after the
/// client's side of a TLS 1.3 handshake is done.
async fn greet(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let greeting = async {
        let mut stream = shake(address, Arc::new(config)).await?;
        stream.write_all(HELLO).await?;
        let (kind, _, _) = frame(&mut stream).await?;
        assert_eq!(kind, 4, "SETTINGS come first");
        Ok(stream)
    };
    tokio::time::timeout(PATIENCE, greeting).await.expect("it answers or refuses")
}

/// The next frame of HTTP/2: its type, flags and payload (RFC 9113 section 4.1).
async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [_, high, low, kind, flags, ..] = head;
    let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, payload))
}

/// Asks over an open connection for a sign of life; whether one comes.
async fn lives(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let answered = async {
        stream.write_all(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00signkeep").await?;
        loop {
            let (kind, flags, payload) = frame(stream).await?;
            assert_ne!(kind, 7, "GOAWAY");
            if kind == 6 && flags & 1 == 1 && payload == b"signkeep" {
                return io::Result::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it answers or closes").is_ok()
}

/// Reads until the other side closes; how many bytes came.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> usize {
    let mut rest = Vec::new();
    // A reset is a close too.
    let _ =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    rest.len()
}

/// Writes a file in place of another at once.
fn replace(file: &Path, bytes: impl AsRef<[u8]>) {
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, bytes).unwrap();
    fs::rename(fresh, file).unwrap();
}
