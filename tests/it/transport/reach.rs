//! What answers where, and what does not.

use super::*;
use signkeep::clock::SystemClock;
use signkeep::transport::{Connection, Credentials, Peer, accept};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

#[tokio::test]
async fn plain_http2_on_a_tls_port_is_not_answered() {
    let site = Site::start().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    // At most an alert (content type 21), and no SETTINGS.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    site.stop().await;
}

#[tokio::test]
async fn tls_1_1_is_refused_with_its_own_alert() {
    let site = Site::start().await;
    // ClientHello of version 3.2 with one suite (RFC 4346 section 7.4.1.2), and the extensions
    // signature_algorithms and supported_groups, so that nothing but the version is amiss.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 16]);
    hello.extend([0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    assert_eq!(&answer[5..7], [2, 70], "fatal, protocol_version: {answer:?}");
    site.stop().await;
}

#[tokio::test]
async fn where_only_tls_1_3_is_spoken_1_2_is_refused() {
    let files = Files::new();
    let settings = tls::Settings { min_version: Version::Tls13, ..files.settings() };
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let client = site.files.client();
    let old = client_config(&site.files.server_ca, Some(&client), &[&version::TLS12]);
    let error = greet(site.address, old).await.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    site.greet(Some(&client)).await.unwrap();
    site.stop().await;
}

#[tokio::test]
async fn where_certificates_are_optional_none_will_do_and_a_bad_one_will_not() {
    let files = Files::new();
    let mut settings = files.settings();
    settings.clients.as_mut().unwrap().certificates = Certificates::Optional;
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    site.greet(None).await.unwrap();
    site.greet(Some(&site.files.client())).await.unwrap();
    let stranger = Authority::new("strangers").client(&["spiffe://test.example/issuer"]);
    assert!(site.greet(Some(&stranger)).await.is_err());
    site.stop().await;
}

#[tokio::test]
async fn sessions_are_not_resumed_so_every_connection_shows_its_certificate() {
    let site = Site::start().await;
    let client = site.files.client();
    for version in [&version::TLS12, &version::TLS13] {
        let config = Arc::new(client_config(&site.files.server_ca, Some(&client), &[version]));
        for _ in 0..2 {
            let mut stream = shake(site.address, config.clone()).await.unwrap();
            stream.write_all(HELLO).await.unwrap();
            stream.read_exact(&mut [0; 9]).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full), "{version:?}");
        }
    }
    site.stop().await;
}

/// Accepts HTTP/2 connections at `listener` and tells of their peers.
fn tell_of_peers(
    listener: Listener,
) -> (mpsc::UnboundedReceiver<Peer>, watch::Sender<bool>, JoinHandle<()>) {
    let (tell, peers) = mpsc::unbounded_channel();
    let (stop, stopping) = watch::channel(false);
    let served =
        tokio::spawn(accept(listener, Protocol::Http2, stopping, move |connection: Connection| {
            tell.send((*connection.peer).clone()).unwrap();
            std::future::ready(())
        }));
    (peers, stop, served)
}

#[tokio::test]
async fn a_unix_socket_says_whose_process_calls_and_is_gone_after_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let address = Address::Unix(path.clone());
    let listener = Listener::bind("grpc", &address, 0o600, Limits::GRPC).await.unwrap();
    let (mut peers, stop, served) = tell_of_peers(listener);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let peer = tokio::time::timeout(PATIENCE, peers.recv()).await.unwrap().unwrap();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let expected = Peer {
        listener: format!("grpc unix:{}", path.display()).into(),
        address: None,
        certificates: Vec::new(),
        credentials: Some(Credentials { uid, gid }),
    };
    assert_eq!(peer, expected);
    stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_peer_is_known_by_the_certificate_that_it_has_shown() {
    let files = Files::new();
    let clock = Arc::new(SystemClock);
    let tls = Tls::load(files.settings(), Protocol::Http2, clock).unwrap();
    let anywhere: Address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind("grpc", &anywhere, 0, Limits::GRPC).await.unwrap().with_tls(tls);
    let address = listener.address().tcp().unwrap();
    let name = listener.name().clone();
    assert_eq!(*name, format!("grpc {address}"));
    let (mut peers, stop, served) = tell_of_peers(listener);
    let client = files.client();
    let config = client_config(&files.server_ca, Some(&client), &[&version::TLS13]);
    let mut stream = shake(address, Arc::new(config)).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let peer = tokio::time::timeout(PATIENCE, peers.recv()).await.unwrap().unwrap();
    let certificate = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
    assert_eq!(peer.certificates, [certificate.to_vec()]);
    assert_eq!((peer.listener, peer.credentials), (name, None));
    assert_eq!(peer.address, Some(stream.get_ref().0.local_addr().unwrap()));
    stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
}
