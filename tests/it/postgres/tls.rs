//! TLS to the server: who is at the other end, and who we are.

use crate::harness::authority::Authority;
use crate::harness::postgres::{CERTIFIED, Server};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use signkeep::store::postgres::{Check, Host, PostgresStore, Settings, Tls};
use signkeep::store::{Kind, Store};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_to_show_who_it_is_and_so_do_we_if_it_asks() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger"));
    let server = Server::over_tls(&authority).await;
    let database = server.database().await;
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    fs::write(&ca, authority.certificate()).unwrap();
    fs::write(&other, stranger.certificate()).unwrap();
    let base = Tls { check: Check::Full, ca_file: Some(ca), client: None };
    let by = |host: &str, tls: Tls| Settings {
        host: Host::Tcp(host.to_owned()),
        tls: Some(tls),
        ..database.settings()
    };
    let refused = async |settings: Settings, words: &str| {
        let error = PostgresStore::open(settings).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.message.contains(words), "{words:?} is not in {error}");
    };

    let insecure = "no secure connection";
    refused(by("localhost", Tls { ca_file: None, ..base.clone() }), insecure).await;
    refused(by("localhost", Tls { ca_file: Some(other), ..base.clone() }), insecure).await;
    refused(by("127.0.0.1", base.clone()), insecure).await;

    let issuer_alone = Tls { check: Check::Issuer, ..base.clone() };
    for settings in [by("localhost", base.clone()), by("127.0.0.1", issuer_alone)] {
        let store = PostgresStore::open(settings).await.unwrap();
        store.probe().await.unwrap();
        store.load().await.unwrap();
        let (all, secure) = database.secure_connections().await;
        assert!(all >= 3 && all == secure, "{secure} of {all} connections have TLS");
        store.close().await;
    }

    database.raw(&format!("CREATE ROLE {CERTIFIED} LOGIN SUPERUSER")).await.unwrap();
    let ours = authority.issue(|params| {
        params.distinguished_name.push(DnType::CommonName, CERTIFIED);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (certificate, key) = ours.write(folder.path(), "client");
    let certified = |tls: Tls| Settings { user: CERTIFIED.to_owned(), ..by("localhost", tls) };
    refused(certified(base.clone()), "does not let the role in").await;
    let tls = Tls { client: Some((certificate, key.clone())), ..base };
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    refused(certified(tls.clone()), "chmod 600").await;
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let store = PostgresStore::open(certified(tls)).await.unwrap();
    store.probe().await.unwrap();
    store.close().await;
}
