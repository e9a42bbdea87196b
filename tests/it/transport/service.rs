//! The real binary with several listeners: what its configuration says holds, its files are taken
//! over on SIGHUP, and it says how its certificates are.

use super::*;
use crate::harness::eventually;
use crate::harness::http;
use crate::harness::service::Service;
use rcgen::ExtendedKeyUsagePurpose;
use rustix::process::Signal;
use serde_json::Value;
use signkeep::clock::{Clock, SystemClock};
use tokio::net::UnixStream;

const LISTENERS: &str = r#"
[[listeners.grpc]]
address = "127.0.0.1:0"
[listeners.grpc.tls]
certificate_file = "tls/server.pem"
key_file = "tls/server.key"
client_ca_file = "tls/clients.pem"

[[listeners.grpc]]
address = "unix:grpc.sock"
mode = "0600"

[[listeners.http]]
address = "127.0.0.1:0"
[listeners.http.tls]
certificate_file = "tls/server.pem"
key_file = "tls/server.key"

[[listeners.http]]
address = "unix:http.sock"
"#;

/// A service, not started, with the files of its listeners in its folder `tls`.
struct Secured {
    service: Service,
    server_ca: Authority,
    client_ca: Authority,
}

impl Secured {
    async fn new() -> Self {
        let service = Service::serve().await;
        let secured = Self {
            service,
            server_ca: Authority::new("servers"),
            client_ca: Authority::new("clients"),
        };
        fs::create_dir(secured.path("")).unwrap();
        secured.serve_with(&secured.server_ca.server());
        fs::write(secured.path("clients.pem"), secured.client_ca.certificate()).unwrap();
        let file = secured.service.path("signkeep.toml");
        let text = fs::read_to_string(&file).unwrap() + LISTENERS;
        fs::write(file, text).unwrap();
        secured
    }

    fn path(&self, name: &str) -> PathBuf {
        self.service.path("tls").join(name)
    }

    fn serve_with(&self, server: &Issued) {
        let (_, key) = server.write(&self.path(""), "server");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// An address from the file that the service has written.
    fn address(&self, face: &str, index: usize) -> String {
        let text = fs::read_to_string(self.service.path("addresses.json")).unwrap();
        let addresses: Value = serde_json::from_str(&text).unwrap();
        addresses[face][index].as_str().unwrap().to_owned()
    }

    /// The certificate that its second gRPC listener shows now.
    async fn shown(&self) -> Vec<u8> {
        let client = self.client_ca.client(&["spiffe://test.example/issuer"]);
        let config = client_config(&self.server_ca, Some(&client), &[&version::TLS13]);
        let address = self.address("grpc", 1).parse().unwrap();
        let stream = greet(address, config).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// The number of `metric` for the second gRPC listener.
    async fn metric(&self, metric: &str) -> Option<i64> {
        let text = http::get(&self.address("metrics", 0), "/metrics").await.unwrap();
        let listener = format!("grpc {}", self.address("grpc", 1));
        let line = format!("{metric}{{listener=\"{listener}\"}} ");
        let found = text.text().lines().find_map(|it| it.strip_prefix(&line).map(str::to_owned));
        found.map(|number| number.parse().unwrap())
    }

    /// Sends SIGHUP and waits until `metric` is `number`.
    async fn reload(&self, metric: &str, number: i64) {
        self.service.signal(Signal::HUP);
        eventually(&format!("{metric} is {number}"), PATIENCE, async || {
            (self.metric(metric).await == Some(number)).then_some(())
        })
        .await;
    }
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap().to_vec()
}

/// GETs `path` over an open stream.
async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn every_listener_answers_in_its_own_way_and_sockets_go_with_the_service() {
    let mut secured = Secured::new().await;
    secured.service.start().await;
    secured.shown().await;
    let sockets = [secured.service.path("grpc.sock"), secured.service.path("http.sock")];
    for (face, index, path) in [("grpc", 2, &sockets[0]), ("http", 2, &sockets[1])] {
        assert_eq!(secured.address(face, index), format!("unix:{}", path.display()));
    }
    let mode = fs::metadata(&sockets[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&sockets[0]).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert!(lives(&mut stream).await);
    let answer = get(UnixStream::connect(&sockets[1]).await.unwrap(), "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut config = client_config(&secured.server_ca, None, &[&version::TLS12]);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let address = secured.address("http", 1);
    let stream = shake(address.parse().unwrap(), Arc::new(config)).await.unwrap();
    let answer = get(stream, "/.well-known/openid-configuration").await;
    let url = format!("https://{address}/.well-known/jwks.json");
    assert!(answer.contains(&url), "{url} in {answer}");
    secured.service.stop().await;
    for socket in &sockets {
        assert!(!socket.exists(), "{}", socket.display());
    }
}

#[tokio::test]
async fn on_sighup_good_files_are_taken_over_and_bad_ones_change_nothing_and_are_told_of() {
    let mut secured = Secured::new().await;
    secured.service.start().await;
    let first = secured.shown().await;
    let failed = "signkeep_tls_reload_failed";
    let expires = "signkeep_tls_certificate_expires_seconds";
    assert_eq!(secured.metric(failed).await, Some(0));
    // 2096-01-01.
    assert_eq!(secured.metric(expires).await, Some(3_976_214_400));

    let stranger = secured.server_ca.server();
    fs::write(secured.path("server.key"), &stranger.key).unwrap();
    secured.reload(failed, 1).await;
    assert_eq!(secured.shown().await, first);
    for word in ["server.key: is not the key of the first certificate", "stays in force"] {
        eventually(&format!("the log says {word}"), PATIENCE, async || {
            secured.service.log().contains(word).then_some(())
        })
        .await;
    }

    let soon = SystemClock.now().as_second() + 5 * 86400;
    let second = secured.server_ca.issue(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let soon = Duration::from_secs(u64::try_from(soon).unwrap());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + soon;
    });
    secured.serve_with(&second);
    secured.reload(expires, soon).await;
    assert_eq!(secured.metric(failed).await, Some(0));
    assert_eq!(secured.shown().await, der(&second));
    let ready = secured.service.http("/readyz").await;
    assert_eq!(ready.status, 200, "a certificate that will expire makes nothing unready");
    let report: Value = serde_json::from_slice(&ready.body).unwrap();
    let listener = format!("grpc {}", secured.address("grpc", 1));
    assert_eq!(report["certificates"][&listener], "needs attention", "{report}");
    secured.service.is_unharmed();
    let doctor = secured.service.signkeep(&["doctor", "--config", "signkeep.toml"]).await;
    assert!(doctor.stdout.contains("warning  tls 127.0.0.1:0 (grpc)"), "{}", doctor.stdout);
}

#[tokio::test]
async fn what_cannot_be_served_with_is_refused_at_start_in_words() {
    let mut secured = Secured::new().await;
    let config = secured.service.path("signkeep.toml");
    let good = fs::read_to_string(&config).unwrap();
    let open = good.replace("address = \"unix:http.sock\"", "address = \"0.0.0.0:0\"");
    fs::write(&config, open).unwrap();
    let error = secured.service.fails_to_start().await;
    assert!(error.contains("listeners.http.2.address") && error.contains("no tls"), "{error}");
    fs::write(&config, good).unwrap();
    let key = secured.path("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = secured.service.fails_to_start().await;
    assert!(error.contains(&format!("chmod 600 {}", key.display())), "{error}");
    let doctor = secured.service.signkeep(&["doctor", "--config", "signkeep.toml"]).await;
    let line = doctor.stdout.lines().find(|line| line.contains("tls 127.0.0.1:0 (http)")).unwrap();
    assert!(line.starts_with("wrong") && line.contains("chmod 600"), "{line}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(secured.service.path("grpc.sock"), "precious").unwrap();
    let error = secured.service.fails_to_start().await;
    assert!(error.contains("grpc.sock is a file that is no socket"), "{error}");
}
