//! A certificate authority that exists for one test.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static SERIAL: AtomicU64 = AtomicU64::new(1);

/// The authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key.
pub(crate) struct Issued {
    /// PEM.
    pub(crate) certificate: String,
    /// PKCS#8, PEM.
    pub(crate) key: String,
    serial: SerialNumber,
}

impl Authority {
    /// A new one called `name`.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate, PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for 127.0.0.1 and localhost.
    pub(crate) fn server(&self) -> Issued {
        self.issue(|params| {
            params.subject_alt_names = vec![
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::DnsName("localhost".try_into().unwrap()),
            ];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A client's certificate with these URIs as its only names.
    pub(crate) fn client(&self, uris: &[&str]) -> Issued {
        self.issue(|params| {
            params.subject_alt_names =
                uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate as `shape` makes it, valid since 2020 and until 2096 unless that says otherwise.
    pub(crate) fn issue(&self, shape: impl FnOnce(&mut CertificateParams)) -> Issued {
        let serial = SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(serial.clone());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2096, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        shape(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// A list that revokes these certificates, PEM.
    pub(crate) fn revocations(&self, revoked: &[&Issued]) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2096, 1, 1),
            crl_number: SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|issued| RevokedCertParams {
                    serial_number: issued.serial.clone(),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Issued {
    /// Writes `name.pem` and `name.key` into `folder`, and says where.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}

#[test]
fn an_authority_issues_what_openssl_takes_and_revokes_what_it_issued() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("a test's own");
    let client = authority.client(&["spiffe://test.example/issuer"]);
    client.write(folder.path(), "client");
    std::fs::write(folder.path().join("ca.pem"), authority.certificate()).unwrap();
    authority.server().write(folder.path(), "server");
    let openssl = |extra: &[&str], name: &str| {
        let mut openssl = std::process::Command::new("openssl");
        openssl.current_dir(folder.path()).args(["verify", "-CAfile", "ca.pem"]);
        openssl.args(extra).arg(name).output().unwrap()
    };
    assert!(openssl(&["-purpose", "sslserver"], "server.pem").status.success());
    assert!(!openssl(&["-purpose", "sslclient"], "server.pem").status.success());
    let verify = |extra: &[&str]| openssl(extra, "client.pem");
    assert!(verify(&["-purpose", "sslclient"]).status.success());
    std::fs::write(folder.path().join("crl.pem"), authority.revocations(&[&client])).unwrap();
    let refused = verify(&["-crl_check", "-CRLfile", "crl.pem"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("revoked"));
    std::fs::write(folder.path().join("crl.pem"), authority.revocations(&[])).unwrap();
    assert!(verify(&["-crl_check", "-CRLfile", "crl.pem"]).status.success());
}
