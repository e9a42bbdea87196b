//! The same table over real TLS, with names from certificates.

use super::table::{TABLE, ask};
use super::{Guarded, let_through, reason};
use crate::harness::access::binding;
use crate::harness::authority::{Authority, Issued};
use crate::transport::{client_config, shake};
use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::version;
use signkeep::access::{Action, Binding, Role};
use signkeep::clock::SystemClock;
use signkeep::transport::Protocol;
use signkeep::transport::tls::{Certificates, Clients, Settings, Tls, Version};
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tonic::Code;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

/// A server with TLS, and who signs what certificates.
struct Site {
    guarded: Guarded,
    servers: Authority,
    clients: Authority,
    _folder: TempDir,
}

impl Site {
    async fn by(policy: Vec<Binding>, certificates: Certificates) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let (certificate_file, key_file) = servers.server().write(folder.path(), "server");
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        let ca_file = folder.path().join("clients.pem");
        fs::write(&ca_file, clients.certificate()).unwrap();
        let settings = Settings {
            certificate_file,
            key_file,
            clients: Some(Clients { ca_file, certificates, crl_files: Vec::new() }),
            min_version: Version::Tls12,
        };
        let tls = Tls::load(settings, Protocol::Http2, Arc::new(SystemClock)).unwrap();
        Self { guarded: Guarded::with(policy, Some(tls)).await, servers, clients, _folder: folder }
    }

    /// Has everything go over a connection of this client from now on.
    fn come_as(&mut self, client: Option<&Issued>) {
        let versions = [&version::TLS13, &version::TLS12];
        let config = Arc::new(client_config(&self.servers, client, &versions));
        self.guarded.channel = connect(self.guarded.address, config);
    }
}

fn connect(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> Channel {
    let connect = move |_: Uri| {
        let config = config.clone();
        async move {
            let stream = shake(address, config).await?;
            std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
        }
    };
    Endpoint::from_static("http://signkeep").connect_with_connector_lazy(tower::service_fn(connect))
}

fn roles() -> Vec<Binding> {
    let one = |name: String, roles: &[Role]| {
        let mut one = binding(&name, "default", roles);
        one.key_sets.push("prod-*".parse().unwrap());
        one
    };
    let mut all: Vec<_> = Role::ALL
        .iter()
        .map(|role| one(format!("spiffe://test.example/*/{role}"), &[*role]))
        .collect();
    all.push(one(
        "spiffe://test.example/ns/signing-admin".to_owned(),
        &[Role::Signer, Role::Admin],
    ));
    // For whoever must bring a key set back to what it was.
    all.push(one("jwt:ci:admin".to_owned(), &[Role::Admin]));
    all
}

#[tokio::test]
async fn every_cell_of_the_table_is_as_it_stands_over_tls() {
    let mut site = Site::by(roles(), Certificates::Required).await;
    for (sub, row) in TABLE {
        let name = if sub.is_empty() { "nobody" } else { sub };
        let id = format!("spiffe://test.example/ns/{name}");
        let client = site.clients.client(&[&id]);
        site.come_as(Some(&client));
        for (action, cell) in Action::ALL.into_iter().zip(row.chars()) {
            for (key_set, is_bound) in [("default", true), ("other", false), ("nowhere", false)] {
                let outcome = ask(&site.guarded, "", action, key_set).await;
                let allowed = is_bound && cell != '.';
                assert_eq!(let_through(&outcome), allowed, "{id} {action} {key_set}: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn another_trust_domain_or_another_path_is_another_caller() {
    let mut site = Site::by(roles(), Certificates::Required).await;
    for id in [
        "spiffe://test.example.evil/ns/signer",
        "spiffe://evil/test.example/ns/signer",
        "spiffe://test.example/ns/signer/x",
        "spiffe://test.example/ns/x/signer",
        "spiffe://test.example/ns/signer2",
        "spiffe://test.example/signer",
    ] {
        let client = site.clients.client(&[id]);
        site.come_as(Some(&client));
        let refused = site.guarded.sign("", "default").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{id}");
        assert!(refused.message().contains(id), "{refused:?}");
    }
    assert_eq!(site.guarded.world.vault.signatures(), 0);
}

#[tokio::test]
async fn a_certificate_without_one_clear_name_is_nobodys_whatever_its_authority() {
    let mut site =
        Site::by(vec![binding("**", "**", &[Role::Signer])], Certificates::Required).await;
    let signer = "spiffe://test.example/ns/signer";
    let clients = &site.clients;
    let nameless = clients.issue(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for client in [
        clients.client(&[signer, "spiffe://test.example/ns/admin"]),
        clients.client(&[signer, "https://test.example/"]),
        clients.client(&["spiffe://test.example"]),
        clients.client(&["spiffe://test.example/ns/../signer"]),
        nameless,
    ] {
        site.come_as(Some(&client));
        let refused = site.guarded.sign("", "default").await.unwrap_err();
        let expected = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
        assert_eq!(reason(&refused), expected);
        assert!(refused.message().contains("client certificate"), "{refused:?}");
    }
    assert_eq!(site.guarded.world.vault.signatures(), 0);
}

#[tokio::test]
async fn hosts_and_subjects_are_callers_of_their_own_kind() {
    let policy = vec![
        binding("dns:signer.example", "default", &[Role::Signer]),
        binding("subject:CN=signer", "default", &[Role::Signer]),
    ];
    let mut site = Site::by(policy, Certificates::Required).await;
    let named = |name: &str, hosts: &[&str]| {
        site.clients.issue(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let hosts = hosts.iter().map(|host| SanType::DnsName((*host).try_into().unwrap()));
            params.subject_alt_names = hosts.collect();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    };
    let clients = [
        (named("x", &["signer.example"]), true),
        (named("x", &["first.example", "signer.example"]), true),
        (named("signer", &[]), true),
        // A better name counts alone, whatever the subject says.
        (named("signer", &["other.example"]), false),
        (named("signer.example", &[]), false),
        (named("dns:signer.example", &[]), false),
    ];
    for (at, (client, allowed)) in clients.iter().enumerate() {
        site.come_as(Some(client));
        let outcome = site.guarded.sign("", "default").await;
        assert_eq!(let_through(&outcome), *allowed, "client {at}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_token_over_tls_counts_alone_and_a_bad_one_not_at_all() {
    let policy = vec![binding("spiffe://test.example/ns/signer", "default", &[Role::Signer])];
    let mut site = Site::by(policy, Certificates::Optional).await;
    let client = site.clients.client(&["spiffe://test.example/ns/signer"]);
    site.come_as(Some(&client));
    site.guarded.sign("", "default").await.unwrap();
    let refused = site.guarded.sign("somebody", "default").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "the token narrows what the connection may");
    site.guarded.minter = crate::harness::tokens::Minter::new("k1");
    let refused = site.guarded.sign("somebody", "default").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    site.come_as(None);
    let refused = site.guarded.sign("", "default").await.unwrap_err();
    assert!(refused.message().contains("anonymous@loopback"), "{refused:?}");
}
