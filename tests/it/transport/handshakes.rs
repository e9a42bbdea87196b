//! Who gets in.

use super::*;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

/// What a client that should not get in is told.
#[track_caller]
fn told(refused: io::Result<TlsStream<TcpStream>>, alert: &str) {
    let error = refused.expect_err("it got in").to_string();
    assert!(error.contains(alert), "{error}");
}

#[tokio::test]
async fn a_client_with_a_good_certificate_gets_a_signature_over_either_version() {
    let site = Site::start().await;
    let client = site.files.client();
    sign(&mut site.signing(&client).await).await.unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let config = client_config(&site.files.server_ca, Some(&client), &[version]);
        let stream = greet(site.address, config).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(version.version));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
    site.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_in_the_handshake_each_for_its_own_reason() {
    let site = Site::start().await;
    let ca = &site.files.client_ca;
    let usage = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let expired = ca.issue(|params| {
        params.extended_key_usages = usage.clone();
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let not_yet = ca.issue(|params| {
        params.extended_key_usages = usage.clone();
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    let of_a_server = ca.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let strangers = Authority::new("strangers").client(&["spiffe://test.example/issuer"]);
    // A CA of the same name is another CA all the same.
    let namesakes = Authority::new("clients").client(&["spiffe://test.example/issuer"]);
    for version in [&version::TLS12, &version::TLS13] {
        let greet = async |client| {
            let config = client_config(&site.files.server_ca, client, &[version]);
            greet(site.address, config).await
        };
        told(greet(Some(&expired)).await, "CertificateExpired");
        told(greet(Some(&not_yet)).await, "CertificateExpired");
        told(greet(Some(&of_a_server)).await, "UnsupportedCertificate");
        told(greet(Some(&strangers)).await, "UnknownCA");
        told(greet(Some(&namesakes)).await, "DecryptError");
        told(greet(None).await, "Certificate");
        greet(Some(&site.files.client())).await.unwrap();
    }
    site.stop().await;
}
