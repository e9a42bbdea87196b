//! The command line over TLS and over a Unix socket: whom it trusts, and whom it says it is.

use super::{Recorder, signkeep, stderr, stdout};
use crate::harness::authority::{Authority, Issued};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use signkeep::grpc::proto::key_service_server::KeyServiceServer;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Status};

/// A service that wants certificates of `clients`, shows one of `servers`, and writes down the
/// authorization headers that it is sent.
struct Secured {
    url: String,
    headers: Arc<Mutex<Vec<Option<String>>>>,
}

impl Secured {
    async fn start(servers: &Authority, clients: &Authority) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&servers.server(), clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = plain.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut inner = TcpStream::connect(behind).await.unwrap();
                    tokio::spawn(async move { copy_bidirectional(&mut stream, &mut inner).await });
                }
            }
        });
        let headers = Arc::new(Mutex::new(Vec::new()));
        let noted = headers.clone();
        let note = move |request: Request<()>| {
            let header = request.metadata().get("authorization");
            let header = header.map(|header| header.to_str().unwrap().to_owned());
            noted.lock().unwrap().push(header);
            Ok::<_, Status>(request)
        };
        let service = KeyServiceServer::with_interceptor(Recorder::default(), note);
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(plain)));
        Self { url, headers }
    }
}

fn server_config(server: &Issued, clients: &Authority) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.certificate().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let chain = vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Files of a client that may, of one that may not, and a token.
fn files(servers: &Authority, clients: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), servers.certificate()).unwrap();
    clients.client(&["spiffe://test.example/operator"]).write(folder.path(), "client");
    Authority::new("another").client(&["spiffe://test.example/x"]).write(folder.path(), "stranger");
    std::fs::write(folder.path().join("token"), "a.b.c\n").unwrap();
    folder
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// Runs a command line without blanks in its words.
async fn run(line: String) -> std::process::Output {
    signkeep(&line.split(' ').collect::<Vec<_>>()).await
}

#[tokio::test]
async fn over_tls_it_trusts_the_ca_that_it_is_given_and_shows_certificate_and_token() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let service = Secured::start(&servers, &clients).await;
    let folder = files(&servers, &clients);
    let file = |name| at(folder.path(), name);
    let (ca, certificate, key, token) =
        (file("ca.pem"), file("client.pem"), file("client.key"), file("token"));
    let known = ["keys", "list", "--server", &service.url, "--ca-file", &ca];
    let with = |more: &[&str]| [&known[..], more].concat().join(" ");

    let output = run(with(&["--cert-file", &certificate, "--key-file", &key])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("one"), "{}", stdout(&output));
    assert_eq!(*service.headers.lock().unwrap(), [None, None]);

    let all = ["--cert-file", &certificate, "--key-file", &key, "--token-file", &token];
    assert!(run(with(&all)).await.status.success());
    let sent = service.headers.lock().unwrap().last().unwrap().clone();
    assert_eq!(sent.as_deref(), Some("Bearer a.b.c"));

    for (what, more) in [
        ("no certificate", vec![]),
        ("a stranger's", vec!["--cert-file", "stranger.pem", "--key-file", "stranger.key"]),
    ] {
        let more: Vec<_> = more
            .iter()
            .map(|word: &&str| if word.starts_with("--") { (*word).to_owned() } else { file(word) })
            .collect();
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let output = run(with(&more)).await;
        assert_eq!(output.status.code(), Some(3), "{what}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn a_service_that_nobody_vouches_for_is_sent_nothing() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let service = Secured::start(&servers, &clients).await;
    let folder = files(&clients, &clients);
    let (ca, token) = (at(folder.path(), "ca.pem"), at(folder.path(), "token"));
    let mine = ["--ca-file", &ca, "--token-file", &token];
    for trust in [&mine[..], &mine[2..]] {
        let output = signkeep(&[&["keys", "list", "--server", &service.url], trust].concat()).await;
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("certificate"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("a.b.c"));
    }
    assert!(service.headers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_unix_socket_will_do_for_a_service_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("signkeep.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let service = KeyServiceServer::new(Recorder::default());
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let url = format!("unix:{}", socket.display());
    let output = signkeep(&["keys", "list", "--server", &url]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("two"));
}

#[tokio::test]
async fn what_is_wrong_with_the_way_is_said_by_its_option() {
    let folder = files(&Authority::new("servers"), &Authority::new("clients"));
    let file = |name| at(folder.path(), name);
    let (empty, folders) = (file("empty"), at(folder.path(), "."));
    std::fs::write(&empty, "").unwrap();
    let (certificate, strange, token) = (file("client.pem"), file("stranger.key"), file("token"));
    let there = "https://127.0.0.1:1";
    for (options, said) in [
        (vec!["--server", "http://keys.example:50051"], "https://HOST:PORT"),
        (vec!["--server", "http://127.0.0.1:1", "--ca-file", &certificate], "no TLS"),
        (vec!["--server", there, "--ca-file", &empty], "--ca-file"),
        (vec!["--server", there, "--ca-file", &token], "no certificate"),
        (vec!["--server", there, "--ca-file", &folders], "--ca-file"),
        (vec!["--server", there, "--cert-file", &certificate], "--key-file"),
        (
            vec!["--server", there, "--cert-file", &certificate, "--key-file", &strange],
            "does not go with",
        ),
        (vec!["--server", there, "--token-file", &empty], "--token-file"),
    ] {
        let output = signkeep(&[&["keys", "list"], &options[..]].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{options:?}: {}", stderr(&output));
    }
}
