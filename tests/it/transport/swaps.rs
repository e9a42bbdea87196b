//! New certificates under open connections.

use super::*;
use rcgen::ExtendedKeyUsagePurpose;
use signkeep::clock::Clock;
use std::os::unix::fs::symlink;

/// The server's own certificate, as a client of the connection has seen it.
fn seen(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap().to_vec()
}

impl Site {
    /// Looks at the files; what is good comes into force.
    fn look(&self) -> Result<(), String> {
        let fresh = self.tls.look().expect("the files have changed");
        fresh.map(|fresh| self.tls.adopt(fresh)).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn two_hundred_open_connections_stay_when_the_certificate_is_swapped_and_new_ones_see_the_new_one()
 {
    let site = Site::start().await;
    let client = site.files.client();
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(site.greet(Some(&client)).await.unwrap());
    }
    let mut caller = site.signing(&client).await;
    sign(&mut caller).await.unwrap();
    assert!(site.tls.look().is_none(), "nothing has changed yet");
    let fresh = site.files.server_ca.server();
    site.files.serve_with(&fresh);
    site.look().unwrap();
    assert!(site.tls.look().is_none());
    let new = site.greet(Some(&client)).await.unwrap();
    assert_eq!(seen(&new), der(&fresh));
    for stream in &mut open {
        assert_ne!(seen(stream), der(&fresh));
        assert!(lives(stream).await);
    }
    sign(&mut caller).await.unwrap();
    site.stop().await;
}

#[tokio::test]
async fn files_that_are_not_good_are_named_once_and_change_nothing() {
    let site = Site::start().await;
    let client = site.files.client();
    let before = seen(&site.greet(Some(&client)).await.unwrap());
    let other = site.files.server_ca.server();
    let expired = site.files.server_ca.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let (server, key, ca) = (
        site.files.path("server.pem"),
        site.files.path("server.key"),
        site.files.path("clients.pem"),
    );
    let good = [fs::read(&server).unwrap(), fs::read(&key).unwrap(), fs::read(&ca).unwrap()];
    let half = good[0][..good[0].len() / 2].to_vec();
    let changes: [(&str, &dyn Fn(), &str); 8] = [
        ("another key", &|| fs::write(&key, &other.key).unwrap(), "server.key: is not the key"),
        ("half a certificate", &|| fs::write(&server, &half).unwrap(), "server.pem: "),
        ("an expired one", &|| site.files.serve_with(&expired), "server.pem: is good from"),
        ("no key", &|| fs::write(&key, "").unwrap(), "server.key: holds no private key"),
        ("no file", &|| fs::remove_file(&server).unwrap(), "server.pem: cannot be read"),
        ("no CA", &|| fs::write(&ca, "").unwrap(), "clients.pem: holds no certificate"),
        ("no PEM", &|| fs::write(&ca, "-----BEGIN CERTIFICATE-----\n!").unwrap(), "clients.pem: "),
        (
            "a key for all to read",
            &|| fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap(),
            "chmod 600",
        ),
    ];
    for (what, change, word) in changes {
        change();
        let error = site.look().expect_err(what);
        assert!(error.contains(word), "{what}: {error}");
        assert!(site.tls.look().is_none(), "{what} is told once");
        assert_eq!(seen(&site.greet(Some(&client)).await.unwrap()), before, "{what}");
        for (file, bytes) in [&server, &key, &ca].into_iter().zip(&good) {
            fs::write(file, bytes).unwrap();
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        site.look().unwrap();
    }
    site.stop().await;
}

#[tokio::test]
async fn a_secret_whose_symbolic_link_is_swapped_is_taken_over() {
    let files = Files::new();
    let (old, new) = (files.path("old"), files.path("new"));
    for folder in [&old, &new] {
        fs::create_dir(folder).unwrap();
        let (_, key) = files.server_ca.server().write(folder, "server");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    symlink(&old, files.path("data")).unwrap();
    let mut settings = files.settings();
    settings.certificate_file = files.path("data").join("server.pem");
    settings.key_file = files.path("data").join("server.key");
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let client = site.files.client();
    let before = seen(&site.greet(Some(&client)).await.unwrap());
    symlink(&new, site.files.path("fresh")).unwrap();
    fs::rename(site.files.path("fresh"), site.files.path("data")).unwrap();
    site.look().unwrap();
    assert_ne!(seen(&site.greet(Some(&client)).await.unwrap()), before);
    site.stop().await;
}

#[tokio::test]
async fn a_client_that_is_revoked_is_cut_off_and_others_stay() {
    let files = Files::new();
    files.revoke(&[]);
    let settings = files.settings_with_crl();
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let (bad, good) = (site.files.client(), site.files.client());
    let mut cut_off = site.greet(Some(&bad)).await.unwrap();
    let mut stays = site.greet(Some(&good)).await.unwrap();
    site.files.revoke(&[&bad]);
    site.look().unwrap();
    until_closed(&mut cut_off).await;
    assert!(lives(&mut stays).await);
    let error = site.greet(Some(&bad)).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRevoked"), "{error}");
    site.greet(Some(&good)).await.unwrap();
    site.stop().await;
}

#[tokio::test]
async fn the_clients_of_a_ca_that_is_taken_away_are_cut_off() {
    let files = Files::new();
    let second = Authority::new("second");
    let both = files.client_ca.certificate() + &second.certificate();
    fs::write(files.path("clients.pem"), both).unwrap();
    let settings = files.settings();
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let client = second.client(&["spiffe://test.example/issuer"]);
    let mut cut_off = site.greet(Some(&client)).await.unwrap();
    let mut stays = site.greet(Some(&site.files.client())).await.unwrap();
    replace(&site.files.path("clients.pem"), site.files.client_ca.certificate());
    site.look().unwrap();
    until_closed(&mut cut_off).await;
    assert!(lives(&mut stays).await);
    assert!(site.greet(Some(&client)).await.is_err());
    site.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_clients_certificate() {
    let files = Files::new();
    let settings = files.settings();
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let start = u64::try_from(site.world.clock.now().as_second()).unwrap();
    let client = site.files.client_ca.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(start + 1);
    });
    let mut stream = site.greet(Some(&client)).await.unwrap();
    assert!(lives(&mut stream).await);
    site.world.clock.advance(Duration::from_secs(5));
    until_closed(&mut stream).await;
    assert!(site.greet(Some(&client)).await.is_err());
    site.stop().await;
}

#[tokio::test]
async fn a_ca_without_a_list_or_with_one_past_its_time_vouches_for_nobody_once_there_are_lists() {
    let files = Files::new();
    let second = Authority::new("second");
    let both = files.client_ca.certificate() + &second.certificate();
    fs::write(files.path("clients.pem"), both).unwrap();
    files.revoke(&[]);
    let settings = files.settings_with_crl();
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let client = second.client(&["spiffe://test.example/issuer"]);
    assert!(site.greet(Some(&client)).await.is_err());
    let worries = site.tls.worries();
    assert!(worries.iter().any(|worry| worry.text().contains("CN=second")), "{worries:?}");
    let ours = site.files.client();
    site.greet(Some(&ours)).await.unwrap();
    // Beyond 2096, when the list is past its time.
    site.world.clock.advance(Duration::from_secs(71 * 366 * 86400));
    assert!(site.greet(Some(&ours)).await.is_err());
    let worries = site.tls.worries();
    assert!(worries.iter().any(|worry| worry.text().contains("clients.crl")), "{worries:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_revocation_list_that_its_ca_did_not_sign_is_refused_and_callers_go_on() {
    let files = Files::new();
    files.revoke(&[]);
    let settings = files.settings_with_crl();
    let site = Site::start_with(files, settings, Limits::GRPC).await;
    let client = site.files.client();
    let mut open = site.greet(Some(&client)).await.unwrap();
    let forger = Authority::new("clients");
    fs::write(site.files.path("clients.crl"), forger.revocations(&[])).unwrap();
    let error = site.look().expect_err("it is forged");
    assert!(error.contains("clients.crl") && error.contains("did not sign it"), "{error}");
    assert!(lives(&mut open).await);
    site.greet(Some(&client)).await.unwrap();
    let stranger = Authority::new("between");
    let both = site.files.client_ca.revocations(&[]) + &stranger.revocations(&[]);
    fs::write(site.files.path("clients.crl"), both).unwrap();
    site.look().unwrap();
    site.greet(Some(&client)).await.unwrap();
    let worries = site.tls.worries();
    assert!(worries.iter().any(|worry| worry.text().contains("CN=between")), "{worries:?}");
    site.stop().await;
}
